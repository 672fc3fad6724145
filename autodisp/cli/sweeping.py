"""Begins a sweep (-m) and reports its outcome.

The exit code is 0 if all jobs are done, that of the signal if one stopped a job, else 1 if a job ended with 1 or has no
outcome, else 2.
"""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from autodisp.atomic import missing, remove_empty
from autodisp.cli.job import EARLIER, RECORD, JobOutcome, outcomes, told, unresolved
from autodisp.cli.program import GAVE_WAY, INTERRUPTED, WRONG_INPUT, program_name, wrong_input_leaves
from autodisp.cli.signals import EXIT_CODES
from autodisp.commands import as_typed, command, setting
from autodisp.errors import InputError, RunFault

_AT_HOME = ("JoblibLauncher", "LocalLauncher")
"""Launchers that run jobs in other processes of the same terminal."""
_OF_HYDRA = "multirun.yaml"
_OWN = (InputError, RunFault, HydraException, OmegaConfBaseException, OSError)
_SEVERITY = (0, WRONG_INPUT, GAVE_WAY, *EXIT_CODES)
"""Exit codes in ascending severity."""


@dataclass
class _Begun:
    """The sweep of this process."""

    folder: Path | None = None
    made: Sequence[Path] = field(default_factory=list)
    """The folders that it created, the innermost first."""
    launched: bool = False
    """True if its jobs run in processes of their own."""


_SWEEP = _Begun()


class Sweep(Callback):
    """Called by Hydra before the first job (hydra.callbacks)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Records the folder of the sweep.

        Ctrl-C reaches every process of a terminal. The processes of launchers save their states and exit on their own,
        and must not be killed in the meantime: this process ignores SIGINT from here on, and so do its children outside
        of their jobs.

        Raises:
            SystemExit: a run is to be resumed.
        """
        with wrong_input_leaves():
            for word in unresolved(config.hydra.overrides.task):
                if word.startswith("resume="):
                    raise InputError(
                        f"{word}: a run is resumed without -m; the rest of a sweep is run by its own command "
                        "and hydra.sweep.dir=FOLDER"
                    )
        _SWEEP.folder = Path(config.hydra.sweep.dir)
        _SWEEP.made = missing(_SWEEP.folder)
        for record in _SWEEP.folder.glob(f"*{RECORD}"):
            record.replace(record.with_name(record.name + EARLIER))
        launcher = str(config.hydra.launcher._target_)
        _SWEEP.launched = not launcher.endswith("BasicLauncher")
        if launcher.endswith(_AT_HOME):
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def reported() -> Iterator[None]:
    """Prints the outcomes at the end of a sweep and exits with its code; does nothing for a plain run."""
    _SWEEP.folder = None
    before = signal.getsignal(signal.SIGINT)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        if _SWEEP.folder is None:
            raise
        error = raised
    finally:
        signal.signal(signal.SIGINT, before)
    if _SWEEP.folder is None:
        return
    ended, (constant, jobs) = outcomes(_SWEEP.folder), told(sys.argv)
    missed = sorted({*range(1, (jobs or 0) + 1)} - {outcome.job for outcome in ended})
    codes = [outcome.exit_code for outcome in ended] + [GAVE_WAY for _ in missed]
    if isinstance(error, KeyboardInterrupt):
        codes.append(INTERRUPTED)
    if ended:
        print("\n".join(_summary(_SWEEP.folder, ended, missed, again=jobs is not None)), flush=True)  # noqa: T201
    _tidy(_SWEEP, ended)
    if not missed and not {*codes} & {*EXIT_CODES}:  # else the rest of the jobs may still be known to be done
        for record in _SWEEP.folder.glob(f"*{RECORD}{EARLIER}"):
            record.unlink()
    stopped = _SWEEP.launched and bool({*codes} & {*EXIT_CODES})
    if error is not None and not stopped and not isinstance(error, KeyboardInterrupt | SystemExit):
        if isinstance(error, _OWN) or not _SWEEP.launched:
            raise error
        words = str(error).strip().splitlines() or [""]
        raise RunFault(f"the launcher gave up: {type(error).__name__}: {words[0]}") from error
    if isinstance(error, SystemExit) and not ended:
        raise error
    if not codes:
        swept = [word for word in sys.argv[1:] if "=" in word and word.partition("=")[0] not in constant]
        raise InputError(f"{' '.join(swept)}: gives no job; write values, such as seed=0,1")
    if any(codes):
        sys.exit(max(codes, key=_SEVERITY.index))


def _summary(folder: Path, ended: Sequence[JobOutcome], missed: Sequence[int], *, again: bool) -> list[str]:
    """Lines with the outcomes and the next command; ``again``: True if a new sweep would have the same jobs."""
    done, jobs, program = sum(not outcome.exit_code for outcome in ended), len(ended) + len(missed), program_name()
    lines = [f"sweep: {done} of {jobs} jobs done"]
    for outcome in ended:
        why = outcome.message and f": {outcome.message}"
        varies = outcome.varies and f" ({' '.join(outcome.varies)})"
        lines.append(f"  job {outcome.job}{varies or ''}: {outcome.ending}{why}")
    lines += [f"  job {job}: no end is recorded; it was not started, was killed, or is still running" for job in missed]
    if any(outcome.folder for outcome in ended):
        lines.append(f"files: {folder}/")
        if program in ("autodisp-search", "autodisp-train"):
            lines += [f"look:  {command('autodisp-report', ('runs', folder))}"] if done else []
            words = [word for word in sys.argv[1:] if not word.startswith("hydra.sweep.dir=")]
            rest = as_typed([program, *words, setting("hydra.sweep.dir", folder)])
            lines += [f"next:  {rest}"] if again and done < jobs else []
    return lines


def _tidy(sweep: _Begun, ended: Sequence[JobOutcome]) -> None:
    """Removes the folder of a sweep whose jobs left no files, and an empty one of submitit."""
    assert sweep.folder is not None
    remove_empty([sweep.folder / ".submitit" / "%j"])
    left = any(outcome.folder for outcome in ended) or any(path.is_dir() for path in sweep.folder.glob("*"))
    if sweep.folder in sweep.made and not left:
        for path in (*sweep.folder.glob(f"*{RECORD}"), sweep.folder / _OF_HYDRA):
            path.unlink(missing_ok=True)
        remove_empty(sweep.made)
