"""What can be done with a run, as commands to be copied."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodisp.report.reading import Run, setting_of


def next_commands(run: Run) -> list[tuple[str, str]]:
    """(what for, command) pairs; none where nothing of the run can be used yet."""
    if run.kind == "search":
        return _of_search(run) if run.cells else []
    return _of_training(run) if (run.folder / "best.safetensors").is_file() else []


def report_command(folder: Path) -> str:
    """What shows a run as a page."""
    return shlex.join(["autodisp-report", f"run={folder}"])


def training_command(config: Mapping[str, Any], genotype: Path, *, space_file: str | None = None) -> str:
    """What trains found cells in full, on the data they were found on.

    Args:
        config: of the search, as plain data.
        genotype: the file with the cells.
        space_file: of their space; None for the one that the search had.
    """
    words = ["autodisp-train"]
    name, file = setting_of(config, "task.name"), space_file or setting_of(config, "space.file")
    if isinstance(name, str) and name != "disparity":
        words.append(f"task={name}")
    words += _data(config)
    if isinstance(file, str):
        words.append(f"space_file={file}")
    return shlex.join([*words, f"genotype={genotype}"])


def evaluation_command(config: Mapping[str, Any], folder: Path) -> str:
    """What measures a trained network on the data it was trained on, at the resolution it was trained at.

    Args:
        config: of the training, as plain data.
        folder: of the training.
    """
    halved = ["dataset.half_resolution=true"] if setting_of(config, "dataset.half_resolution") is True else []
    return shlex.join(["autodisp-evaluate", _checkpoint(folder), *_data(config), *halved])


def prediction_command(folder: Path) -> str:
    """What a trained disparity network is for."""
    return shlex.join(["autodisp-predict", _checkpoint(folder), "left=left.png", "right=right.png"])


def _of_search(run: Run) -> list[tuple[str, str]]:
    export = shlex.join(["autodisp-export", f"run={run.folder}"])
    commands = [("Export the cells as JSON and a drawing:", export)]
    if run.found:
        training = training_command(run.config, run.folder / "genotype.json")
        commands.insert(0, ("Train the found cells in full:", training))
    return commands


def _of_training(run: Run) -> list[tuple[str, str]]:
    commands = [("Evaluate the trained network:", evaluation_command(run.config, run.folder))]
    if run.setting("task.name") == "disparity":
        commands.append(("Predict the disparity of a pair of your own:", prediction_command(run.folder)))
    export = shlex.join(["autodisp-export", _checkpoint(run.folder)])
    return [*commands, ("Export it as ONNX and torch.export files:", export)]


def _checkpoint(folder: Path) -> str:
    return f"checkpoint={folder / 'best.safetensors'}"


def _data(config: Mapping[str, Any]) -> list[str]:
    words = []
    for key, name in (
        ("dataset.name", "dataset"),
        ("dataset.factory", "dataset.factory"),
        ("dataset.root", "dataset.root"),
        ("dataset.exclude", "dataset.exclude"),
    ):
        value = setting_of(config, key)
        if isinstance(value, str):
            words.append(f"{name}={value}")
    return words
