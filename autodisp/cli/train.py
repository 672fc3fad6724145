"""autodisp-train: trains a network of found cells in full and writes the model to a run folder."""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from autodisp import distributed
from autodisp.assembly.data import notes_on_samples, write_trained_on
from autodisp.assembly.networks import build_device
from autodisp.assembly.train_data import TrainData, build_train_data
from autodisp.assembly.training import TrainParts, build_train_network, build_training
from autodisp.cli.program import program_name
from autodisp.cli.resuming import raisable, refuse_other_files, resumed_config
from autodisp.cli.run_folder import begin_run, claimed, keep_config
from autodisp.cli.supervision import memory_settings, print_summary, run_console, supervised_run
from autodisp.commands import as_typed
from autodisp.config.train import TrainConfig, parse
from autodisp.records import start_record
from autodisp.report.next_steps import evaluation_command, prediction_command, report_command
from autodisp.report.reading import read_run
from autodisp.run_files import BEST, LAST, TRAINED_ON
from autodisp.tracking import ConsoleProgress

UNIT = "interval"
"""Name of the interval between two validations, on the console."""
MOST_NAMED = 5
"""Number of held-out samples in the summary."""


def run(tree: DictConfig) -> float | None:
    """Runs the program; returns the best validation metric."""
    with distributed.joined():
        folder = train(tree) if tree.get("resume") is None else resume(tree)
        return read_run(folder).metric if distributed.is_first() else None


def train(tree: DictConfig) -> Path:
    """Runs the training of a composed config; returns its run folder.

    Nothing is created before all checks have passed.

    Raises:
        InputError: a setting, the data or the run folder cannot be used.
    """
    with distributed.agreed():
        config = parse(tree)
        build_device(config.run.device)
        data = build_train_data(config)
    with run_console(config, unit=UNIT) as console:
        built = build_train_network(config, data)
        with claimed(Path(config.run.folder), tree, resumes_with=program_name()) as folder:
            distributed.on_first(lambda: _prepare(config, data, tree, folder))
            with supervised_run(folder, memory=_memory(config)) as stopping:
                for note in built.card.genotype.notes if built.card.genotype else ():
                    console.note(note)
                parts = build_training(config, data, folder, console, built, stopping=stopping)
                entry = config.kit.datasets[config.dataset.name]
                for note in notes_on_samples(config.dataset, entry, data.train, enlarges=True):
                    console.message(note)
                _run(config, data, parts, console)
            return folder


def _prepare(config: TrainConfig, data: TrainData, tree: DictConfig, folder: Path) -> None:
    write_trained_on(folder / TRAINED_ON, config.dataset, data.trained_on, data.held_out)
    begin_run(folder, tree, config)


def resume(tree: DictConfig, overrides: Sequence[str] | None = None) -> Path:
    """Resumes the training of a run folder from its newest state, with the overrides of the command line.

    Raises:
        InputError: there is no such run, another process uses it, or the config would change it.
    """
    folder = Path(str(tree.resume)).expanduser()
    with distributed.agreed():
        wanted, config = resumed_config(tree, folder, parse=parse, grows=_grows, overrides=overrides)
        data = build_train_data(config)
        refuse_other_files(folder, data.fingerprint)
    with supervised_run(folder, memory=_memory(config)) as stopping, run_console(config, unit=UNIT) as console:
        distributed.on_first(lambda: keep_config(folder, wanted, config))
        with distributed.agreed():
            built = build_train_network(config, data, resume=folder, warn=console.message)
            parts = build_training(config, data, folder, console, built, stopping=stopping)
        steps = parts.training.progress.steps
        end = "; all of its steps are done" if steps >= config.training.steps else ""
        console.note(f"resumed at step {steps} of {config.training.steps}{end}")
        _run(config, data, parts, console)
    return folder


def _grows(config: TrainConfig) -> dict[str, str | None]:
    """Settings that may be raised, each with the reason against it; steps that are done must not depend on them."""
    return raisable(
        "training.steps",
        {
            "schedule=cosine falls over": config.optimizer.schedule == "cosine",
            "drop-path rises over": config.training.drop_path > 0,
        },
    )


def _memory(config: TrainConfig) -> list[str]:
    return memory_settings(config, "training.batch_size", "parameters", "network.channels", "dataset.crop")


def _run(config: TrainConfig, data: TrainData, parts: TrainParts, console: ConsoleProgress) -> None:
    settings, figure = parts.training.settings, parts.training.task.figure
    with closing(parts):
        console.note(f"run folder: {parts.folder.folder} · {parts.parameters:,} parameters")
        if not parts.training.progress.steps:
            start = parts.begin()
            if (first := start.get(f"valid/{figure.name}")) is not None:
                console.note(f"before the first step: valid {figure.name} {first:.2f} {figure.unit}")
        console.start(settings.intervals, min(settings.validate_every, settings.steps))
        parts.training.run()
    if distributed.is_first():
        show_summary(config, data, parts)


def notes_on_evaluation(data: TrainData, folder: Path) -> list[str]:
    """Notes on the held-out samples, and on the samples of an evaluation if the dataset has no other split."""
    if not data.held_out:
        return []
    shown = ", ".join([*data.held_out[:MOST_NAMED], *(["…"] if len(data.held_out) > MOST_NAMED else [])])
    count, of = len(data.held_out), len(data.held_out) + len(data.trained_on)
    if (folder / TRAINED_ON).is_file():
        measured = "that evaluation excludes the training samples"
    else:
        measured = "that evaluation includes the training samples"
    return [f"note:  {count} of {of} samples were held out: {shown}; {measured}"]


def notes_on_result(parts: TrainParts, folder: Path, *, constant: float) -> list[str]:
    """Notes on metrics that are missing, or no better than a constant."""
    progress, figure = parts.training.progress, parts.training.task.figure
    if not (folder / BEST).is_file():
        return [f"note:  no validation sample has ground truth, so nothing was validated and there is no {BEST}"]
    if figure.better(progress.best, constant) or math.isnan(constant):
        return []
    return [
        f"note:  no better than the best constant answer, {constant:.2f} {figure.unit}: the network has learnt nothing "
        "useful; train more steps, or look at the learning rate and the data"
    ]


def show_summary(config: TrainConfig, data: TrainData, parts: TrainParts) -> None:
    """Prints a table of the result, the paths, and the next commands."""
    progress, figure, folder = parts.training.progress, parts.training.task.figure, parts.folder.folder
    start, valid = start_record(parts.folder.records), f"valid/{figure.name}"
    table = Table(title=f"training of {config.task.name} on {config.dataset.name}", show_header=False)
    table.add_row("parameters", f"{parts.parameters:,}")
    table.add_row("steps", str(progress.steps))
    for key, words in (("constant", "best constant"), (valid, "before the first step")):
        if key in start:
            table.add_row(f"validation {figure.name}, {words}", _shown(start[key], figure.unit))
    models = [name for name in (BEST, LAST) if (folder / name).is_file()]
    if BEST in models:
        best = f"{_shown(progress.best, figure.unit)} (step {progress.best_step})"
        table.add_row(f"validation {figure.name}, best", best)
    table.add_row(f"validation {figure.name}, last", _shown(progress.record.get(valid, math.nan), figure.unit))
    commands = []
    labelled = config.kit.datasets[config.dataset.name].ground_truth
    if labelled:
        commands.append(evaluation_command(asdict(config), folder))
    if config.kit.prediction:
        commands.append(prediction_command(folder, config.kit.prediction))
    print_summary(
        table,
        [
            *notes_on_result(parts, folder, constant=start.get("constant", math.nan)),
            f"files: {folder}/ ({', '.join([*models, 'metrics.jsonl'])})",
            f"look:  {report_command(folder)}",
            f"       {as_typed(['tensorboard', '--logdir', f'{folder}/tensorboard'])}",
            *(f"next:  {command}" for command in commands),
            *(notes_on_evaluation(data, folder) if labelled else []),
        ],
    )


def _shown(value: float, unit: str) -> str:
    return "unknown" if math.isnan(value) else f"{value:.2f} {unit}"
