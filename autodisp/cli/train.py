"""autodisp-train: trains a network of found cells in full and leaves the model in a run folder."""

import shlex
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from autodisp.build.networks import build_device
from autodisp.build.training import TrainParts, build_train_data, build_training
from autodisp.cli.program import run_program, wrong_input_leaves
from autodisp.cli.run_folder import make_run_folder
from autodisp.config.train import TrainConfig, parse
from autodisp.errors import InputError
from autodisp.tracking import ConsoleProgress


@hydra.main(config_path="pkg://autodisp.configs.train", config_name="train", version_base="1.3")
def _hydra_main(tree: DictConfig) -> None:
    with wrong_input_leaves():
        if tree.get("resume") is None:
            train(tree)
        else:
            resume(tree, list(HydraConfig.get().overrides.task))


def train(tree: DictConfig) -> Path:
    """Runs the training that the composed config describes; the run folder.

    Nothing is created before everything that can be refused has been checked.

    Raises:
        InputError: a setting, the data or the run folder cannot be used.
    """
    config = parse(tree)
    build_device(config.run.device)
    folder = Path(config.run.folder)
    data = build_train_data(config)
    with ConsoleProgress(unit="interval") as console:
        parts = build_training(config, data, folder, console, prepare=lambda: _prepare(folder, tree))
        return _run(config, parts, folder, console)


def _prepare(folder: Path, tree: DictConfig) -> None:
    make_run_folder(folder)
    OmegaConf.save(tree, folder / "config.yaml", resolve=True)


def resume(tree: DictConfig, overrides: list[str]) -> Path:
    """Goes on with the training of a run folder, from its newest checkpoint.

    Args:
        tree: the composed config, of which ``resume`` and ``run`` count.
        overrides: what the command line said.

    Raises:
        InputError: there is no such run, or the command line wants another config than it has.
    """
    folder = Path(str(tree.resume))
    stored = _stored_config(folder)
    for text in overrides:
        key = text.lstrip("+").partition("=")[0]
        if key != "resume" and not (key.startswith("run.") and key != "run.folder"):
            raise InputError(
                f"{text}: resume={folder} goes on with the config of that run, in its folder; beside it only "
                "run.device, run.workers and run.threads may be given"
            )
        if key != "resume":
            OmegaConf.update(stored, key, OmegaConf.select(tree, key))
    config = parse(stored)
    data = build_train_data(config)
    with ConsoleProgress(unit="interval") as console:
        parts = build_training(config, data, folder, console, prepare=None)
        console.message(f"resumed at step {parts.training.progress.steps} of {config.training.steps}")
        return _run(config, parts, folder, console)


def _stored_config(folder: Path) -> DictConfig:
    """What ``_prepare`` left there."""
    try:
        stored = OmegaConf.load(folder / "config.yaml")
    except Exception as error:  # OSError, or whatever YAML makes of a damaged file
        raise InputError(
            f"resume={folder}: its config.yaml cannot be read ({type(error).__name__}); name the folder of a training"
        ) from None
    if not isinstance(stored, DictConfig):
        raise InputError(f"resume={folder}: its config.yaml is a list; name the folder of a training")
    return stored


def _run(config: TrainConfig, parts: TrainParts, folder: Path, console: ConsoleProgress) -> Path:
    settings = parts.training.settings
    try:
        console.message(f"run folder: {folder} · {parts.parameters:,} parameters")
        console.start(settings.intervals, min(settings.validate_every, settings.steps))
        parts.training.run(parts.folder)
    finally:
        parts.close()
    show_summary(config, parts, folder)
    return folder


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
    for line in (
        f"files: {folder}/ (best.safetensors, last.safetensors, metrics.jsonl)",
        f"look:  tensorboard --logdir {folder}/tensorboard",
        *(f"next:  {command}" for command in next_commands(config, folder)),
    ):
        console.print(line, markup=False, soft_wrap=True)


def next_commands(config: TrainConfig, folder: Path) -> list[str]:
    """What a trained model is good for."""
    checkpoint = f"checkpoint={folder}/best.safetensors"
    words = ["autodisp-evaluate", checkpoint, f"dataset={config.dataset.name}"]
    if getattr(config.dataset, "root", None) is not None:
        words.append(f"dataset.root={config.dataset.root}")
    commands = [shlex.join(words)]
    if config.task.name == "disparity":
        commands.append(shlex.join(["autodisp-predict", checkpoint, "left=left.png", "right=right.png"]))
    return commands


def main() -> None:
    """The program's entry point."""
    run_program(_hydra_main)
