"""autodisp-export: found cells as JSON and a drawing, a trained network as ONNX and torch.export files."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from autodisp.assembly.export import build_found, build_out
from autodisp.assembly.networks import use_threads
from autodisp.atomic import refuse_overwriting, staged
from autodisp.cli.console import build_console, say
from autodisp.commands import command
from autodisp.config.checks import naming
from autodisp.config.export import ExportConfig, parse
from autodisp.export.found_cells import SPACE, Found
from autodisp.export.models import export_model
from autodisp.model_file import model_path
from autodisp.report.next_steps import training_command
from autodisp.report.reading import read_config, setting_of
from autodisp.run_files import CONFIG, GENOTYPE
from autodisp.tasks.registry import DEFAULT, KITS


def run(tree: DictConfig) -> None:
    """Runs the program on its composed config."""
    export(tree)


def export(tree: DictConfig) -> Path:
    """Exports the cells or the model of the composed config; returns the folder with the files.

    Raises:
        InputError: a setting, or the cells or the model, cannot be used.
        RunFault: a file would not compute the same as its network.
    """
    config = parse(tree)
    use_threads(config.threads)
    console, details = build_console(), build_console(quiet=config.verbosity == "quiet")
    exporting = _export_cells if config.checkpoint is None else _export_model
    return exporting(config, console, details)


def _export_model(config: ExportConfig, console: Console, details: Console) -> Path:
    checkpoint, folder = model_path(config.checkpoint), build_out(config)
    models = export_model(
        checkpoint,
        folder,
        config.formats,
        overwrite=config.overwrite,
        confidence=config.confidence,
        tell=partial(say, details),
    )
    with naming("checkpoint", str(checkpoint), choices=["shipped"]):
        for model in models:
            say(console, model.in_words())
            say(details, *(f"    {line}" for line in model.usage().splitlines()))
            if prediction := KITS[model.task].prediction:
                words = command("autodisp-predict", ("checkpoint", model.path), *prediction.example)
                say(details, f"    or: {words}")
    return folder


def _export_cells(config: ExportConfig, console: Console, details: Console) -> Path:
    found, folder = build_found(config), build_out(config)
    if not config.overwrite:
        refuse_overwriting(folder, found.files)
    with staged(folder) as stage:
        found.write(stage)
    say(
        console,
        *(f"note: {note}" for note in found.notes),
        *found.genotype.in_words().splitlines(),
        f"files: {folder}/ ({', '.join(found.files)})",
    )
    say(details, f"next:  {_training(found, folder, config.run)}")
    return folder


def _training(found: Found, folder: Path, run: str | None) -> str:
    """Returns the command that trains the cells, on the data of their run if there is one."""
    settings = read_config(Path(run) / CONFIG, []) if run is not None else {}
    if isinstance(setting_of(settings, "dataset.name"), str):
        space_file = None if found.space is None else str(folder / SPACE)
        return training_command(settings, folder / GENOTYPE, space_file=space_file)
    fitting = [name for name, kit in KITS.items() if kit.kinds == set(found.genotype.kinds)]
    images = [] if DEFAULT in fitting else [*(f"task={name}" for name in fitting[:1]), "dataset.root=PATH"]
    space = [] if found.space is None else [("space_file", folder / SPACE)]
    return command("autodisp-train", *images, ("genotype", folder / GENOTYPE), *space)
