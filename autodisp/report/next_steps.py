"""What can be done with a run, as commands to be copied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodisp import configs
from autodisp.commands import Word, command
from autodisp.report.reading import Run, setting_of
from autodisp.run_files import GENOTYPE
from autodisp.tasks.own import OWN
from autodisp.tasks.registry import DEFAULT, KITS

BEST, LAST = "best.safetensors", "last.safetensors"
"""Models of a training; there is no best one where nothing could be validated."""
TRAINED_ON = "trained_on.txt"
"""A list of the samples of a training that held others of the same split out."""
_WHERE = ("factory", "root", "exclude")
"""Settings of a dataset that are always said."""
_WHAT = ("render_pass", "layout", "size", "half_resolution")
_DIFFERING = {
    "train": (*_WHAT, "subsets", "official_exclusions", "height", "width", "max_disparity"),
    "evaluate": _WHAT,
}
"""Those that say what the data is, and not how much of it is taken at a time; said where they differ, by program."""
_DIFFERING_OF_OWN = {"train": ("crop",), "evaluate": ("max_disparity",)}
"""More of them for a reader of the user's own, of whose data nothing is known."""


def next_commands(run: Run) -> list[tuple[str, str]]:
    """(what for, command) pairs; none where nothing of the run can be used yet."""
    if run.kind == "search":
        return _of_search(run) if run.cells else []
    return _of_training(run) if _model(run.folder).is_file() else []


def report_command(folder: Path) -> str:
    """What shows a run as a page."""
    return command("autodisp-report", ("run", folder))


def training_command(config: Mapping[str, Any], genotype: Path, *, space_file: str | None = None) -> str:
    """What trains found cells in full, on the data they were found on.

    Args:
        config: of the search, as plain data.
        genotype: the file with the cells.
        space_file: of their space; None for the one that the search had.
    """
    name, file = setting_of(config, "task.name"), space_file or setting_of(config, "space.file")
    words = task_words(config, name if isinstance(name, str) else DEFAULT)
    words += _data(config, "train")
    if isinstance(file, str):
        words.append(("space_file", file))
    return command("autodisp-train", *words, ("genotype", genotype))


def task_words(config: Mapping[str, Any], name: str) -> list[Word]:
    """The words that choose a task of that name, or the one of the user's own that the config names."""
    factory = setting_of(config, "task.factory")
    if isinstance(factory, str):
        return [("task", OWN), ("task.factory", factory)]
    return [] if name == DEFAULT else [("task", name)]


def evaluation_command(config: Mapping[str, Any], folder: Path) -> str:
    """What measures a trained network on its data at the resolution it was trained at, and on no training sample.

    Args:
        config: of the training, as plain data.
        folder: of the training.
    """
    dataset = setting_of(config, "dataset")
    if isinstance(dataset, Mapping) and (folder / TRAINED_ON).is_file():
        config = {**config, "dataset": {**dataset, "exclude": str(folder / TRAINED_ON)}}
    return command("autodisp-evaluate", *task_words(config, DEFAULT), _checkpoint(folder), *_data(config, "evaluate"))


def prediction_command(folder: Path) -> str:
    """What a trained disparity network is for."""
    return command("autodisp-predict", _checkpoint(folder), "left=left.png", "right=right.png")


def _of_search(run: Run) -> list[tuple[str, str]]:
    export = command("autodisp-export", ("run", run.folder))
    commands = [("Export the cells as JSON and a drawing:", export)]
    if run.found:
        training = training_command(run.config, run.folder / GENOTYPE)
        commands.insert(0, ("Train the found cells in full:", training))
    return commands


def _of_training(run: Run) -> list[tuple[str, str]]:
    commands = [("Evaluate the trained network:", evaluation_command(run.config, run.folder))]
    if (kit := KITS.get(str(run.setting("task.name")))) is not None and kit.predicts:
        commands.append((f"Predict the {kit.interface.output} of a pair of your own:", prediction_command(run.folder)))
    export = command("autodisp-export", *task_words(run.config, DEFAULT), _checkpoint(run.folder))
    return [*commands, ("Export it as ONNX and torch.export files:", export)]


def _model(folder: Path) -> Path:
    """The best model, or the last one where only that is there."""
    best, last = folder / BEST, folder / LAST
    return last if last.is_file() and not best.is_file() else best


def _checkpoint(folder: Path) -> Word:
    return "checkpoint", _model(folder)


def _data(config: Mapping[str, Any], program: str) -> list[Word]:
    """The words that choose the dataset and what of its settings differs from the program's own."""
    chosen = setting_of(config, "dataset")
    if not isinstance(chosen, Mapping) or not isinstance(name := chosen.get("name"), str):
        return []
    words: list[Word] = [("dataset", name)]
    words += [(f"dataset.{key}", chosen[key]) for key in _WHERE if isinstance(chosen.get(key), str)]
    usual = _usual(program, name)
    for key in (*_DIFFERING[program], *(_DIFFERING_OF_OWN[program] if "factory" in chosen else ())):
        if key in usual and chosen.get(key, usual[key]) != usual[key]:
            words.append((f"dataset.{key}", chosen[key]))
    return words


def _usual(program: str, dataset: str) -> Mapping[str, Any]:
    """The settings of a dataset that a program takes by itself; empty for one that does not come with it."""
    known = configs.groups(program)["dataset"]
    return configs.settings(program, "dataset", dataset) if dataset in known else {}
