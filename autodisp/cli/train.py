"""autodisp-train: trains a network of found cells in full and leaves the model in a run folder."""

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from autodisp.build.data import TEST_SPLITS
from autodisp.build.networks import build_device
from autodisp.build.training import TrainParts, build_train_data, build_training
from autodisp.cli.keeping import kept_run
from autodisp.cli.program import program_name
from autodisp.cli.resuming import resumed_config
from autodisp.cli.run_folder import claimed, keep_command, keep_config
from autodisp.cli.signals import StopSignals
from autodisp.config.train import TrainConfig, parse
from autodisp.report.next_steps import evaluation_command, prediction_command, report_command
from autodisp.report.reading import read_run
from autodisp.tracking import ConsoleProgress


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
            keep_config(folder, tree, config.dataset)
            (folder / "checkpoints").mkdir()
            signals.append(kept.enter_context(kept_run(folder, memory=_memory_settings(config))))
            return folder

        signals: list[StopSignals] = []
        console = kept.enter_context(_console(config))
        parts = build_training(
            config, data, Path(config.run.folder), console, prepare=prepare,
            stopping=lambda: bool(signals and signals[0]()),
        )  # fmt: skip
        _run(config, parts, parts.folder.folder, console)
        return parts.folder.folder


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
        keep_config(folder, wanted, config.dataset)
        parts = build_training(config, data, folder, console, prepare=None, stopping=stopping)
        done = parts.training.progress.steps >= config.training.steps
        end = "; all of its steps are done" if done else ""
        console.note(f"resumed at step {parts.training.progress.steps} of {config.training.steps}{end}")
        _run(config, parts, folder, console)
    return folder


def _console(config: TrainConfig) -> ConsoleProgress:
    return ConsoleProgress(unit="interval", verbosity=config.run.verbosity)  # type: ignore[arg-type]


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


def _run(config: TrainConfig, parts: TrainParts, folder: Path, console: ConsoleProgress) -> None:
    settings = parts.training.settings
    try:
        console.note(f"run folder: {folder} · {parts.parameters:,} parameters")
        console.start(settings.intervals, min(settings.validate_every, settings.steps))
        parts.training.run(parts.folder)
    finally:
        parts.close()
    show_summary(config, parts, folder)


def notes_on_evaluation(config: TrainConfig) -> list[str]:
    """What to say of an evaluation where the dataset has one split only."""
    if config.task.name != "disparity" or config.dataset.name in TEST_SPLITS:
        return []
    return [f"note:  {config.dataset.name} has one split with a truth, so that evaluation takes the training pairs too"]


def show_summary(config: TrainConfig, parts: TrainParts, folder: Path) -> None:
    """The small table at the end: what it became, where it lies, what to do next."""
    progress, figure = parts.training.progress, parts.training.task.figure
    valid = f"valid/{figure.name}"
    table = Table(title=f"training of {config.task.name} on {config.dataset.name}", show_header=False)
    table.add_row("parameters", f"{parts.parameters:,}")
    table.add_row("steps", str(progress.steps))
    table.add_row(f"validation {figure.name}, best", f"{progress.best:.2f} {figure.unit} (step {progress.best_step})")
    table.add_row(f"validation {figure.name}, last", f"{progress.record.get(valid, float('nan')):.2f} {figure.unit}")
    console = Console(highlight=False)
    console.print(table)
    commands = [evaluation_command(asdict(config), folder)]
    if config.task.name == "disparity":
        commands.append(prediction_command(folder))
    for line in (
        f"files: {folder}/ (best.safetensors, last.safetensors, metrics.jsonl)",
        f"look:  {report_command(folder)}",
        f"       tensorboard --logdir {folder}/tensorboard",
        *(f"next:  {command}" for command in commands),
        *notes_on_evaluation(config),
    ):
        console.print(line, markup=False, soft_wrap=True)
