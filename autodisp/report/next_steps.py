"""Commands that use the result of a run, to be copied."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodisp import configs
from autodisp.commands import Word, command
from autodisp.report.reading import Run, setting_of
from autodisp.run_files import BEST, GENOTYPE, LAST, TRAINED_ON
from autodisp.tasks.kit import Prediction
from autodisp.tasks.own import OWN
from autodisp.tasks.registry import DEFAULT, KITS, dataset_entries

_ALWAYS = ("factory", "root", "exclude")
"""Settings of a dataset that are always repeated."""


def next_commands(run: Run) -> list[tuple[str, str]]:
    """Returns (purpose, command) pairs; none if the run has no usable result yet."""
    if run.kind == "search":
        export = command("autodisp-export", ("run", run.folder))
        commands = [("Export the cells as JSON and a drawing:", export)] if run.cells else []
        if run.found:
            training = training_command(run.config, run.folder / GENOTYPE)
            commands.insert(0, ("Train the found cells in full:", training))
        return commands
    if not _model(run.folder).is_file():
        return []
    entry = dataset_entries().get(str(run.setting("dataset.name")))
    commands = []
    if entry is None or entry.ground_truth:
        commands.append(("Evaluate the trained network:", evaluation_command(run.config, run.folder)))
    if (kit := KITS.get(str(run.setting("task.name")))) is not None and kit.prediction:
        commands.append(
            (f"Predict the {kit.interface.output} of your own images:", prediction_command(run.folder, kit.prediction))
        )
    export = command("autodisp-export", *task_words(run.config, DEFAULT), ("checkpoint", _model(run.folder)))
    return [*commands, ("Export it as ONNX and torch.export files:", export)]


def report_command(folder: Path) -> str:
    """Returns the command that shows a run as a page."""
    return command("autodisp-report", ("run", folder))


def training_command(config: Mapping[str, Any], genotype: Path, *, space_file: str | None = None) -> str:
    """Returns the command that trains found cells in full, on the data they were found on.

    Args:
        space_file: of their space; None for the one that the search had.
    """
    name, file = setting_of(config, "task.name"), space_file or setting_of(config, "space.file")
    words = [*task_words(config, name if isinstance(name, str) else DEFAULT), *_data(config, "train")]
    if isinstance(file, str):
        words.append(("space_file", file))
    return command("autodisp-train", *words, ("genotype", genotype))


def evaluation_command(config: Mapping[str, Any], folder: Path) -> str:
    """Returns the command that evaluates a trained network on its data at its resolution, without training samples."""
    dataset = setting_of(config, "dataset")
    if isinstance(dataset, Mapping) and (folder / TRAINED_ON).is_file():
        config = {**config, "dataset": {**dataset, "exclude": str(folder / TRAINED_ON)}}
    words = [*task_words(config, DEFAULT), ("checkpoint", _model(folder)), *_data(config, "evaluate")]
    return command("autodisp-evaluate", *words)


def prediction_command(folder: Path, prediction: Prediction) -> str:
    """Returns the command that predicts own images."""
    return command("autodisp-predict", ("checkpoint", _model(folder)), *prediction.example)


def task_words(config: Mapping[str, Any], name: str) -> list[Word]:
    """Returns the overrides that choose a task of that name, or the user-defined one in the config."""
    factory = setting_of(config, "task.factory")
    if isinstance(factory, str):
        return [("task", OWN), ("task.factory", factory)]
    return [] if name == DEFAULT else [("task", name)]


def _model(folder: Path) -> Path:
    """Returns the best model, or the last one if there is no other."""
    best, last = folder / BEST, folder / LAST
    return last if last.is_file() and not best.is_file() else best


def _data(config: Mapping[str, Any], program: str) -> list[Word]:
    """Returns the overrides that choose the dataset, and those of its settings that differ from the defaults."""
    chosen = setting_of(config, "dataset")
    if not isinstance(chosen, Mapping) or not isinstance(name := chosen.get("name"), str):
        return []
    words: list[Word] = [("dataset", name)]
    words += [(f"dataset.{key}", chosen[key]) for key in _ALWAYS if isinstance(chosen.get(key), str)]
    usual, entry = _defaults(program, name), dataset_entries().get(name)
    keys = () if entry is None else (*entry.identity, *(entry.training_identity if program == "train" else ()))
    for key in dict.fromkeys(keys):
        if key in usual and chosen.get(key, usual[key]) != usual[key]:
            words.append((f"dataset.{key}", chosen[key]))
    return words


def _defaults(program: str, dataset: str) -> Mapping[str, Any]:
    """Returns the program's default settings of a dataset; empty for one that the program does not have."""
    known = configs.groups(program)["dataset"]
    return configs.settings(program, "dataset", dataset) if dataset in known else {}
