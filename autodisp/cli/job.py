"""The function that Hydra calls with a composed config: once for a plain run, once per job for a sweep (-m).

A job of a sweep has its own folder, and a failed job does not end the others. It may run in a process of a launcher
(joblib, submitit), to which the command line is pickled. Its outcome is written to a file next to its folder, and read
from there by the process that started the sweep: see ``sweeping``.
"""

import hashlib
import json
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from autodisp import torchrun
from autodisp.cli.program import GAVE_WAY, INTERRUPTED, WRONG_INPUT, explained, program_name, wrong_input_leaves
from autodisp.cli.run_folder import holds_run, template_of
from autodisp.cli.signals import EXIT_CODES
from autodisp.errors import InputError, RunFault

FOLDERS = {"search": "run.folder", "train": "run.folder", "evaluate": "out", "check": "out", "predict": "out"}
"""Setting with the output folder of each program; other programs write into the folder of a given run."""
RECORD = ".job.json"
"""Suffix of the file with the outcome of a job, appended to the name of the job's folder."""
EARLIER = ".earlier"
"""Appended to the names of these files while the sweep is repeated."""
_LONGEST_LABEL = 100
_NOT_IN_NAMES = re.compile(r"[^\w.@+%=,-]+", re.ASCII)
"""Slashes and characters that are hard to type."""


@dataclass
class JobOutcome:
    """Outcome of a job of a sweep."""

    job: int
    """Number of the job, from 1."""
    varies: Sequence[str]
    """The settings in which it differs from the other jobs, as on a command line."""
    folder: str | None
    """Its folder, if it has created one."""
    exit_code: int = 0
    """Exit code as of a plain run."""
    metric: float | None = None
    """Metric of the program; None if it has none, or it is not finite."""
    message: str = ""
    """Reason of a failure, in one line."""
    settings: str = field(default="", compare=False)
    """Hash of its settings, by which the same job of a repeated sweep is known."""

    @property
    def ending(self) -> str:
        """The outcome in words."""
        if self.exit_code:
            return f"exit code {self.exit_code}"
        return "done" if self.metric is None else f"done, {self.metric:.5g}"


@dataclass(frozen=True)
class JobPlace:
    """Number and folder of a job in its sweep."""

    sweep: Path
    """The folder of the sweep."""
    job: int
    """From 1."""
    jobs: int | None
    """Number of jobs; None if the sweeper decides on it."""
    varies: Sequence[str]
    """See ``JobOutcome``."""

    @property
    def name(self) -> str:
        """Number and varied settings, without characters unsuitable for the name of a folder."""
        label = ",".join(word.lstrip("+~") for word in self.varies)
        label = _NOT_IN_NAMES.sub("-", label.replace("'", "").replace('"', ""))[:_LONGEST_LABEL]
        return f"{self.job}_{label}" if label else str(self.job)

    @property
    def record(self) -> Path:
        """The file with the outcome."""
        return self.sweep / f"{self.name}{RECORD}"

    @property
    def title(self) -> str:
        """Prefix of lines about the job."""
        return f"job {self.job}" if self.jobs is None else f"job {self.job} of {self.jobs}"

    def folder(self, tree: DictConfig, key: str) -> Path:
        """Returns the folder of the job: inside that of the sweep, or the one named by the user.

        If the user's name does not contain every varied setting, each job gets its own folder inside it.
        """
        template = template_of(tree, key)
        if "${now:" in template:
            return self.sweep / self.name
        given = Path(str(OmegaConf.select(tree, key))).expanduser()
        keys = [word.lstrip("+~").partition("=")[0] for word in self.varies]
        return given if all(_is_named(other, template) for other in keys if other != key) else given / self.name


def _is_named(key: str, template: str) -> bool:
    numbered = any(f"hydra:job.{name}}}" in template for name in ("num", "id", "override_dirname"))
    return numbered or re.search(rf"\${{(hydra:runtime\.choices\.)?{re.escape(key)}[.}}]", template) is not None


@dataclass
class Job:
    """Calls a program, named without autodisp-, with its composed config."""

    program: str
    module: str
    words: list[str] = field(default_factory=lambda: list(sys.argv))
    """Command line of the user; a launcher's process has another one."""
    process: int = field(default_factory=os.getpid)
    """Process started by the user."""

    def __call__(self, tree: DictConfig) -> float:
        """Runs the program; returns its metric, for Hydra's sweepers, or NaN.

        Raises:
            InputError: the job of an optimizing sweeper failed, or has no finite metric; such a sweeper counts
                exceptions.
            RunFault: likewise.
        """
        with wrong_input_leaves():
            _refuse_processes(self.program, tree)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return self._in_sweep(tree)
        with wrong_input_leaves():
            outcome = self._run(tree)
        if outcome[0]:
            sys.exit(outcome[0])
        return outcome[1]

    def _run(self, tree: DictConfig) -> tuple[int, float]:
        """Runs the program; returns exit code and metric."""
        metric = import_module(self.module).run(tree)
        found = WRONG_INPUT if self.program == "check" and metric else 0
        return found, math.nan if metric is None else float(metric)

    def _in_sweep(self, tree: DictConfig) -> float:
        sys.argv[:] = self.words
        place, key = self.place(), FOLDERS.get(self.program)
        folder = place.folder(tree, key) if key else None
        place.record.unlink(missing_ok=True)
        outcome = JobOutcome(place.job, place.varies, str(folder) if folder else None)
        if _was_interrupted(place.sweep):
            outcome.exit_code, outcome.message = INTERRUPTED, "not begun"
        else:
            print(f"{place.title}: {' '.join(place.varies) or 'the only one'}", flush=True)  # noqa: T201
            with self._interruptible():
                self._attempt(tree, place, folder, outcome)
        if folder is not None and not folder.is_dir():
            outcome.folder = None
        with suppress(OSError):  # a full disk, which the job has reported
            place.record.write_text(json.dumps(asdict(outcome)) + "\n", encoding="utf-8")
        print(f"{place.title}: {outcome.ending}", flush=True)  # noqa: T201
        if outcome.exit_code in EXIT_CODES:
            self._hand_on(outcome.exit_code)
        if outcome.metric is not None:
            return outcome.metric
        if str(HydraConfig.get().sweeper._target_).endswith("BasicSweeper"):
            return math.nan  # an exception would end the sweep with its batch
        kind = InputError if outcome.exit_code == WRONG_INPUT else RunFault
        raise kind(f"{place.title}: {outcome.message or 'has no finite metric'}")

    def _attempt(self, tree: DictConfig, place: JobPlace, folder: Path | None, outcome: JobOutcome) -> None:
        try:
            if folder is not None:
                outcome.settings = _hash_of(tree)
                if "resume" not in tree and not tree.get("overwrite") and folder.is_dir() and _was_done(place, outcome):
                    return
                OmegaConf.update(tree, FOLDERS[self.program], str(folder))
                if "resume" in tree and holds_run(folder):
                    tree.resume = str(folder)
            outcome.exit_code, metric = self._run(tree)
            outcome.metric = metric if math.isfinite(metric) else None
        except KeyboardInterrupt:
            outcome.exit_code, outcome.message = INTERRUPTED, "interrupted"
        except SystemExit as left:
            if not isinstance(left.code, int) or left.code not in (WRONG_INPUT, GAVE_WAY, *EXIT_CODES):
                raise  # a launcher's own
            outcome.exit_code = left.code
            outcome.message = "stopped" if left.code in EXIT_CODES else "see above"
        except BrokenPipeError:
            raise
        except Exception as error:
            if (ending := explained(error)) is None:
                traceback.print_exc()
                ending = GAVE_WAY, f"{type(error).__name__}: {error}".splitlines()[0]
            outcome.exit_code, outcome.message = ending
            print(f"{program_name()}: {place.title}: {outcome.message}", file=sys.stderr, flush=True)  # noqa: T201

    def place(self) -> JobPlace:
        """Number and folder of the current job."""
        hydra = HydraConfig.get()
        constant, jobs = told(self.words)
        overrides: Any = hydra.overrides.task
        varies = [word for word in unresolved(overrides) if word.partition("=")[0] not in constant]
        return JobPlace(Path(hydra.sweep.dir), int(hydra.job.num) + 1, jobs, varies)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Lets SIGINT through during a job; otherwise a launcher's process ignores it, see ``sweeping.Sweep``."""
        if os.getpid() == self.process or signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            yield
            return
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _hand_on(self, exit_code: int) -> None:
        """Ends the sweep after a stopped job, or calls the launcher's handler of that signal.

        On preemption, submitit requeues the job and exits.
        """
        if os.getpid() == self.process:
            sys.exit(exit_code)
        handler = signal.getsignal(exit_code - 128)
        if callable(handler) and handler is not signal.default_int_handler:
            handler(exit_code - 128, None)


def _refuse_processes(program: str, tree: DictConfig) -> None:
    """Refuses several processes where a program cannot share its work among them."""
    count = torchrun.processes()
    if count == 1:
        return
    if program not in ("search", "train"):
        raise InputError(f"torchrun: autodisp-{program} works in one process, not {count}; start it by its name")
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise InputError(f"torchrun: its {count} processes share one run; start each job of a sweep (-m) by itself")
    if tree.get("plan"):
        raise InputError(f"plan=true: measures one process, not {count}; leave torchrun out")


def unresolved(overrides: Any) -> list[str]:
    """Returns the overrides of a command line, with ${...} unresolved."""
    return [str(word) for word in OmegaConf.to_container(overrides, resolve=False) or ()]


def told(words: Sequence[str]) -> tuple[set[str], int | None]:
    """Returns the constant settings and the number of jobs of a sweep, from its command line.

    Args:
        words: arguments of the command line, the program first.

    Returns:
        The settings that are the same in all jobs, and the number of jobs, or None if the sweeper decides on it.
    """
    given = get_args_parser().parse_args(words[1:]).overrides
    overrides = {one.get_key_element(): one for one in OverridesParser.create().parse_overrides(given)}
    constant = {key for key, one in overrides.items() if not one.is_sweep_override()}
    if any(re.match(r"\+*hydra[./]sweeper(?!\.max_batch_size)", key) for key in overrides):
        return constant, None
    try:
        swept = [one for one in overrides.values() if one.is_sweep_override()]
        return constant, math.prod(len(list(one.sweep_string_iterator())) for one in swept)
    except Exception:  # an interval or a pattern, whose values are chosen by the sweeper
        return constant, None


def outcomes(sweep: Path) -> list[JobOutcome]:
    """Returns the outcomes of the finished jobs of a sweep."""
    found = []
    for path in sweep.glob(f"*{RECORD}"):
        with suppress(OSError, ValueError, TypeError):
            found.append(JobOutcome(**json.loads(path.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda outcome: outcome.job)


def _hash_of(tree: DictConfig) -> str:
    """Hashes all settings; unresolved, since the name of the output folder may contain the time."""
    settings = json.dumps(OmegaConf.to_container(tree, resolve=False), sort_keys=True, default=str)
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


def _was_done(place: JobPlace, outcome: JobOutcome) -> bool:
    """Completes the outcome of a job that an earlier sweep of the same command has done; False if there is none."""
    with suppress(OSError, ValueError, TypeError):
        file = place.record.with_name(place.record.name + EARLIER)
        earlier = JobOutcome(**json.loads(file.read_text(encoding="utf-8")))
        # A check that finds problems is done too.
        if earlier.settings == outcome.settings and (not earlier.exit_code or earlier.metric is not None):
            outcome.exit_code, outcome.metric, outcome.message = earlier.exit_code, earlier.metric, "earlier"
            return True
    return False


def _was_interrupted(sweep: Path) -> bool:
    return any(outcome.exit_code == INTERRUPTED for outcome in outcomes(sweep))
