"""autodisp-predict: disparity of the user's own stereo pairs, or classes of the pixels of single images."""

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from autodisp.assembly.networks import build_device, use_threads
from autodisp.assembly.prediction import build_model
from autodisp.cli.program import WRONG_INPUT, program_name
from autodisp.cli.supervision import run_console
from autodisp.config.checks import naming, printable
from autodisp.config.predict import PredictConfig, parse
from autodisp.config.sections import ONE_SCALE
from autodisp.errors import InputError, is_lack_of_memory
from autodisp.prediction.programs import NOTE
from autodisp.tasks.base import autocast
from autodisp.tracking import ConsoleProgress


def run(tree: DictConfig) -> None:
    """Runs the program on its composed config."""
    if predict(tree):
        sys.exit(WRONG_INPUT)


def predict(tree: DictConfig) -> list[str]:
    """Predicts the inputs of the composed config; returns messages about those that failed.

    Raises:
        InputError: a setting or the model cannot be used, or there is no input at all.
    """
    config = parse(tree)
    use_threads(config.run.threads)
    device = build_device(config.run.device)
    prediction, model = build_model(config, device)
    with naming("left", config.left), naming("right", config.right):
        found, problems = prediction.find(config)
    writer = prediction.writer(config, found)
    problems = list(problems)
    console = run_console(config)
    for problem in problems:
        _complain(problem)
    for item in found:
        try:
            with autocast(config.run.precision, device):
                line = prediction.predict(item, model, writer)
            (console.message if NOTE in line else console.note)(printable(line))
            continue
        except InputError as error:
            problem = str(error)
        except (MemoryError, RuntimeError) as error:
            if not is_lack_of_memory(error):
                raise
            problem = f"{item.name}: out of memory; take smaller images"
        problems.append(problem)
        _complain(problem)
    _show_summary(config, f"{len(found)} {prediction.item}{'s' if len(found) > 1 else ''}", problems, console)
    return problems


def _complain(problem: str) -> None:
    print(f"{program_name()}: {printable(problem)}", file=sys.stderr)  # noqa: T201


def _show_summary(config: PredictConfig, predicted: str, problems: Sequence[str], console: ConsoleProgress) -> None:
    failed = f", {len(problems)} problem{'s' if len(problems) > 1 else ''} (above)" if problems else ""
    files = f"; files: {Path(config.out)}/" if Path(config.out).is_dir() else ""
    console.message(f"{predicted}{failed}{files}")
    if config.checkpoint in (None, "shipped") and config.correction is None and config.scales == ONE_SCALE:
        console.note(
            "real images: correction=fusion is more accurate and takes about three times as long; with scales=[1,1.5] "
            "more accurate still, five times as long"
        )
