"""The time that the runs of a study take: as long as those like them that are done, else by a few measured steps."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, redirect_stdout
from io import StringIO
from itertools import combinations
from math import ceil
from pathlib import Path
from statistics import fmean, median

from hydra.errors import HydraException
from omegaconf import DictConfig

from autodisp.assembly.search import build_data
from autodisp.assembly.train_data import build_train_data
from autodisp.assembly.training import build_genotype, build_train_network, build_training
from autodisp.cli.hydra_errors import in_one_line
from autodisp.cli.search import measured_plan
from autodisp.cli.studied_run import PROGRAM_OF, composed
from autodisp.cli.supervision import run_console
from autodisp.commands import setting
from autodisp.config import evaluate, search, train
from autodisp.errors import InputError
from autodisp.studies.endings import Ending
from autodisp.studies.graph import Link, Run
from autodisp.studies.trials import Tuning, lasting

Kind = tuple[str, str, str]
_STEPS = 4
_OF_THE_DATA = ("task=", "dataset=", "dataset.")
_ANY_VALUE = ("seed=", "genotype=", "checkpoint=")
"""Settings that a study sets itself to values that fit, and that differ in most runs."""
_OF_THE_STUDY = ("dataset.store=",)
"""Settings of files that a plan does not write."""


def kind_of(run: Run) -> Kind:
    """Returns the program, the length of a training, and the space: runs of one kind take about as long."""
    return run.program, run.labels.get("length", ""), run.labels.get("space", "")


def time_left(
    runs: Sequence[Run],
    endings: Mapping[str, Ending],
    workers: int,
    *,
    elapsed: Mapping[str, float] | None = None,
    measured: Mapping[Kind, float] | None = None,
) -> float | None:
    """Estimates the seconds until all runs are done.

    A run takes as long as the mean of those of its kind that are done, else as what was measured, else as the mean of
    those of its program and length.

    Args:
        workers: number of runs at once.
        elapsed: seconds so far of the runs in progress, by name.
        measured: seconds of a run by kind.

    Returns:
        The estimate; None if nothing is known of a run.
    """
    exact, like = dict[Kind, list[float]](), dict[tuple[str, str], list[float]]()
    for run in runs:
        if endings[run.name].is_done:
            kind = kind_of(run)
            exact.setdefault(kind, []).append(endings[run.name].seconds)
            like.setdefault(kind[:2], []).append(endings[run.name].seconds)
    left = list[float]()
    for run in runs:
        if endings[run.name].state in ("waiting", "running"):
            kind = kind_of(run)
            known = exact.get(kind) or [one for one in ((measured or {}).get(kind),) if one is not None]
            known = known or like.get(kind[:2], [])
            if not known:
                return None
            left.append(max(0.0, fmean(known) - (elapsed or {}).get(run.name, 0.0)))
    return max([sum(left) / workers, *left], default=0.0)


def unmeasured(runs: Sequence[Run], endings: Mapping[str, Ending]) -> Iterator[Run]:
    """Yields a run of each kind of searches and trainings of which none is done."""
    known = {kind_of(run) for run in runs if endings[run.name].is_done}
    for run in runs:
        if kind_of(run) not in known and run.program != "evaluate":
            known.add(kind_of(run))
            yield run


def check_runs(runs: Sequence[Run], endings: Mapping[str, Ending]) -> None:
    """Checks the settings of the runs that are not done, and reads every dataset of their searches and trainings once.

    Composing a config takes a quarter of a second. A run is checked if two of its settings, other than seed and cells,
    were in no run before it together: a constraint is on one or two of the settings that a study varies.

    Raises:
        InputError: a setting or the data cannot be used.
    """
    seen, together, read = set[tuple[str, ...]](), set[tuple[str, ...]](), set[tuple[str, ...]]()
    for run in sorted(runs, key=lambda run: run.name):  # by their hashes: neighbours differ in many settings
        if endings[run.name].is_done:
            continue
        words = Tuning.read(_words(run)).training if run.program == "tune" else _words(run)
        settings = run.program, *(word for word in words if not word.startswith(_ANY_VALUE))
        dataset = run.program, *(word for word in words if word.startswith(_OF_THE_DATA))
        if settings in seen:
            continue
        seen.add(settings)
        pairs = {(run.program, *pair) for pair in combinations(settings, 2)}
        if pairs <= together:
            continue
        try:
            _check(run.program, words, with_data=dataset not in read)
        except InputError as error:
            text = str(error)
            raise InputError(text.removeprefix("dataset.") if text.startswith("dataset.root") else text) from None
        together |= pairs
        read.add(dataset)


def _check(program: str, words: Sequence[str], *, with_data: bool) -> None:
    program = PROGRAM_OF.get(program, program)
    try:
        tree = composed(program, words)
    except HydraException as error:
        line = in_one_line(error, program=f"autodisp-{program}")
        raise InputError(f"{line} (in autodisp-{program} {' '.join(words)})") from None
    if program == "search":
        of_search = search.parse(tree)
        if with_data:
            build_data(of_search)
    elif program == "train":
        of_training = train.parse(tree)
        build_genotype(of_training)
        if with_data:
            build_train_data(of_training)
    else:
        evaluate.parse(tree)


def measured_seconds(run: Run) -> float:
    """Measures a few steps of a run in this process and returns the seconds of the whole run; leaves no file.

    A search without early stopping, and a trial that is not pruned. Cells that are to be found are random ones.

    Raises:
        InputError: a setting or the data cannot be used.
    """
    words = _words(run)
    with redirect_stdout(StringIO()):
        if run.program == "search":
            config = search.parse(composed("search", words))
            return measured_plan(config, build_data(config))[0].total
        if run.program == "tune":
            tuning = Tuning.read(words)
            rounds = [composed("train", [*tuning.training, *lasting(steps)]) for steps in tuning.steps]
            return sum(map(_of_training, rounds))
        return _of_training(composed("train", words))


def _words(run: Run) -> list[str]:
    """Returns the words of a run before those that it needs are done, without settings of files to be written."""
    words = [
        setting(one.key, f"random:{run.labels['space']}") if isinstance(one, Link) else one for one in run.settings
    ]
    return [word for word in words if not word.startswith(_OF_THE_STUDY)]


def _of_training(tree: DictConfig) -> float:
    config = train.parse(tree)
    began = time.perf_counter()
    data = build_train_data(config)
    with (
        tempfile.TemporaryDirectory() as folder,
        run_console(config) as console,
        closing(build_training(config, data, Path(folder), console, build_train_network(config, data))) as parts,
    ):
        parts.begin()
        parts.training.network.train()
        parts.training.make_steps(1)
        before = time.perf_counter() - began
        steps = [_seconds(lambda: parts.training.make_steps(1)) for _ in range(_STEPS)]
        validation = _seconds(parts.training.validate)
    rounds = ceil(config.training.steps / config.validation.every)
    return before + config.training.steps * median(steps) + rounds * validation


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
