"""autodisp-train: trains a network of found cells in full and leaves the model in a run folder."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from autodisp.assembly.data import notes_on_samples, write_trained_on
from autodisp.assembly.networks import build_device
from autodisp.assembly.training import TrainData, TrainParts, build_train_data, build_training
from autodisp.cli.keeping import kept_run
from autodisp.cli.program import program_name
from autodisp.cli.resuming import resumed_config
from autodisp.cli.run_folder import claimed, keep_command, keep_config
from autodisp.cli.signals import StopSignals
from autodisp.commands import as_typed
from autodisp.config.train import TrainConfig, parse
from autodisp.records import start_record
from autodisp.report.next_steps import (
    BEST,
    LAST,
    TRAINED_ON,
    evaluation_command,
    prediction_command,
    report_command,
)
from autodisp.report.reading import read_run
from autodisp.run_files import CHECKPOINTS
from autodisp.tracking import ConsoleProgress

MOST_NAMED = 5
"""Held-out samples in the summary."""


def run(tree: DictConfig) -> float | None:
    """What the program does with its composed config; the best validation metric."""
    return read_run(train(tree) if tree.get("resume") is None else resume(tree)).metric


def train(tree: DictConfig) -> Path:
    """Runs the training that the composed config describes; the run folder.

    Nothing is created before everything that can be refused has been checked.

    Raises:
        InputError: a setting, the data or the run folder cannot be used.
    """
    config = parse(tree)
    build_device(config.run.device)
    data = build_train_data(config)
    with contextlib.ExitStack() as kept:

        def prepare() -> Path:
            folder = kept.enter_context(claimed(Path(config.run.folder), tree, resumes_with=program_name()))
            keep_command(folder)
            keep_config(folder, tree, config.dataset, config.task)
            write_trained_on(folder / TRAINED_ON, config.dataset, data.trained_on, data.held_out)
            (folder / CHECKPOINTS).mkdir()
            signals.append(kept.enter_context(kept_run(folder, memory=_memory_settings(config))))
            return folder

        signals: list[StopSignals] = []
        console = kept.enter_context(_console(config))
        parts = build_training(
            config, data, Path(config.run.folder), console, prepare=prepare,
            stopping=lambda: bool(signals and signals[0]()),
        )  # fmt: skip
        folder = parts.folder.folder
        entry = config.kit.datasets[config.dataset.name]
        for note in notes_on_samples(config.dataset, entry, data.train, enlarges=True):
            console.message(note)
        _run(config, data, parts, folder, console)
        return folder


def resume(tree: DictConfig, overrides: Sequence[str] | None = None) -> Path:
    """Goes on with the training of a run folder, from its newest state.

    Args:
        tree: the composed config, of which ``resume`` and what the command line says count.
        overrides: the words of the command line; Hydra's if None.

    Raises:
        InputError: there is no such run, another process is at work on it, or it would become another one.
    """
    folder = Path(str(tree.resume))
    wanted = resumed_config(tree, folder, parse=parse, grows=_grows, overrides=overrides)
    config = parse(wanted)
    data = build_train_data(config)
    with kept_run(folder, memory=_memory_settings(config)) as stopping, _console(config) as console:
        keep_config(folder, wanted, config.dataset, config.task)
        parts = build_training(config, data, folder, console, prepare=None, stopping=stopping)
        done = parts.training.progress.steps >= config.training.steps
        end = "; all of its steps are done" if done else ""
        console.note(f"resumed at step {parts.training.progress.steps} of {config.training.steps}{end}")
        _run(config, data, parts, folder, console)
    return folder


def _console(config: TrainConfig) -> ConsoleProgress:
    return ConsoleProgress(unit="interval", verbosity=config.run.verbosity)


def _grows(config: TrainConfig) -> dict[str, str | None]:
    """More steps, where the ones before would have been the same."""
    why_not = None
    if config.optimizer.schedule == "cosine":
        why_not = "schedule=cosine falls over all steps, so the ones done would have been others"
    elif config.training.drop_path:
        why_not = "drop-path rises over all steps, so the ones done would have been others"
    return {"training.steps": why_not}


def _memory_settings(config: TrainConfig) -> list[str]:
    """What decides how much memory a training takes."""
    names = [f"training.batch_size={config.training.batch_size}", f"parameters={config.parameters}"]
    if (channels := getattr(config.network, "channels", None)) is not None:
        names.append(f"network.channels={channels}")
    if (crop := getattr(config.dataset, "crop", None)) is not None:
        names.append(f"dataset.crop={list(crop)}")
    return names


def _run(config: TrainConfig, data: TrainData, parts: TrainParts, folder: Path, console: ConsoleProgress) -> None:
    settings, figure = parts.training.settings, parts.training.task.figure
    try:
        console.note(f"run folder: {folder} · {parts.parameters:,} parameters")
        if not parts.training.progress.steps:
            start = parts.begin()
            if (first := start.get(f"valid/{figure.name}")) is not None:
                console.note(f"before the first step: valid {figure.name} {first:.2f} {figure.unit}")
        console.start(settings.intervals, min(settings.validate_every, settings.steps))
        parts.training.run(parts.folder)
    finally:
        parts.close()
    show_summary(config, data, parts, folder)


def notes_on_evaluation(data: TrainData, folder: Path) -> list[str]:
    """Which samples were held out, and what an evaluation is on where the dataset has no other split."""
    if not data.held_out:
        return []
    shown = ", ".join([*data.held_out[:MOST_NAMED], *(["…"] if len(data.held_out) > MOST_NAMED else [])])
    count, of = len(data.held_out), len(data.held_out) + len(data.trained_on)
    if (folder / TRAINED_ON).is_file():
        measured = "that evaluation leaves the training samples out"
    else:
        measured = "that evaluation takes the training samples too"
    return [f"note:  {count} of {of} samples were held out: {shown}; {measured}"]


def notes_on_result(parts: TrainParts, folder: Path) -> list[str]:
    """What a reader of the metrics must know: that there are none, or that they are no better than a constant."""
    progress, figure = parts.training.progress, parts.training.task.figure
    if not (folder / BEST).is_file():
        return [f"note:  nothing could be validated, for no validation sample has ground truth; so there is no {BEST}"]
    constant = start_record(folder).get("constant", math.nan)
    if figure.better(progress.best, constant) or math.isnan(constant):
        return []
    return [
        f"note:  no better than the best constant answer, {constant:.2f} {figure.unit}: the network has learnt nothing "
        "that is of use; train more steps, or look at the learning rate and the data"
    ]


def show_summary(config: TrainConfig, data: TrainData, parts: TrainParts, folder: Path) -> None:
    """The small table at the end: what it became, where it lies, what to do next."""
    progress, figure = parts.training.progress, parts.training.task.figure
    start, valid = start_record(folder), f"valid/{figure.name}"
    table = Table(title=f"training of {config.task.name} on {config.dataset.name}", show_header=False)
    table.add_row("parameters", f"{parts.parameters:,}")
    table.add_row("steps", str(progress.steps))
    for key, words in (("constant", "best constant"), (valid, "before the first step")):
        if key in start:
            table.add_row(f"validation {figure.name}, {words}", _shown(start[key], figure.unit))
    if (folder / BEST).is_file():
        best = f"{_shown(progress.best, figure.unit)} (step {progress.best_step})"
        table.add_row(f"validation {figure.name}, best", best)
    table.add_row(f"validation {figure.name}, last", _shown(progress.record.get(valid, math.nan), figure.unit))
    console = Console(highlight=False, emoji=False)
    console.print(table)
    commands = [evaluation_command(asdict(config), folder)]
    if config.kit.predicts:
        commands.append(prediction_command(folder))
    models = [name for name in (BEST, LAST) if (folder / name).is_file()]
    for line in (
        *notes_on_result(parts, folder),
        f"files: {folder}/ ({', '.join([*models, 'metrics.jsonl'])})",
        f"look:  {report_command(folder)}",
        f"       {as_typed(['tensorboard', '--logdir', f'{folder}/tensorboard'])}",
        *(f"next:  {command}" for command in commands),
        *notes_on_evaluation(data, folder),
    ):
        console.print(line, markup=False, soft_wrap=True)


def _shown(value: float, unit: str) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f} {unit}"
