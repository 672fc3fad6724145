"""autodisp-predict: disparity of the user's own stereo pairs."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig

from autodisp.assembly.networks import build_device
from autodisp.assembly.prediction import build_matcher, build_writer
from autodisp.cli.program import WRONG_INPUT, program_name
from autodisp.config.checks import naming, printable
from autodisp.config.predict import PredictConfig, parse
from autodisp.errors import InputError
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.outputs import PredictionWriter
from autodisp.prediction.pairs import StereoPair, find_pairs, read_pair
from autodisp.prediction.sanity import find_oddities
from autodisp.tracking import ConsoleProgress


def run(tree: DictConfig) -> None:
    """Runs the program on its composed config."""
    if predict(tree):
        sys.exit(WRONG_INPUT)


def predict(tree: DictConfig) -> list[str]:
    """Predicts the pairs of the composed config; returns messages about pairs that failed.

    Raises:
        InputError: a setting or the model cannot be used, or there is no pair at all.
    """
    config = parse(tree)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    device = build_device(config.run.device)
    with naming("left", config.left), naming("right", config.right):
        found = find_pairs(str(config.left), config.right, skip=config.out)
    writer = build_writer(config, [view for pair in found.pairs for view in (pair.left, pair.right)])
    matcher = build_matcher(config, device)
    problems = list(found.problems)
    console = ConsoleProgress()
    for problem in problems:
        _complain(problem)
    for pair in found.pairs:
        try:
            console.message(printable(_one(pair, matcher, writer)))
        except InputError as error:
            problems.append(str(error))
            _complain(str(error))
    _show_summary(config, found.pairs, problems, console)
    return problems


def _one(pair: StereoPair, matcher: StereoMatcher, writer: PredictionWriter) -> str:
    """Predicts and writes one pair; returns a line about it."""
    writer.check(pair.name)
    left, right = read_pair(pair)
    began = time.perf_counter()
    found = matcher(left, right)[0].cpu()
    seconds = time.perf_counter() - began
    disparity = found[0].numpy()
    written = writer.write(pair.name, disparity, left)
    size = f"{disparity.shape[1]}x{disparity.shape[0]}"
    middle = f"{disparity.min():.1f} to {disparity.max():.1f} px"
    if written.colours is not None:
        middle += f" (colours {written.colours[0]:.1f} to {written.colours[1]:.1f})"
    notes = "".join(f" · {note}" for note in (*written.notes, *find_oddities(left, right, found)))
    return f"{pair.name}: {size}, {middle}, {seconds:.2f} s{notes}"


def _complain(problem: str) -> None:
    print(f"{program_name()}: {printable(problem)}", file=sys.stderr)  # noqa: T201


def _show_summary(
    config: PredictConfig, pairs: Sequence[StereoPair], problems: Sequence[str], console: ConsoleProgress
) -> None:
    failed = f", {len(problems)} problem{'s' if len(problems) > 1 else ''} (above)" if problems else ""
    folder = Path(config.out).expanduser()
    files = f"; files: {folder}/" if folder.is_dir() else ""
    console.message(f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}{failed}{files}")
