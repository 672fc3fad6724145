"""autodisp-evaluate: the table of metrics of a model, of a baseline, or of both."""

from dataclasses import asdict
from pathlib import Path

import torch
from omegaconf import DictConfig

import autodisp
from autodisp.assembly.evaluation import build_evaluation_data, build_predictors, run_evaluation, write_pictures
from autodisp.assembly.networks import build_device, use_threads
from autodisp.cli.console import build_console, say
from autodisp.cli.run_folder import claimed
from autodisp.config.checks import printable
from autodisp.config.evaluate import parse
from autodisp.evaluation.tables import print_table, write_csv, write_json
from autodisp.report.evaluations import main_metric
from autodisp.run_files import EVALUATION


def run(tree: DictConfig) -> float | None:
    """Runs the program; returns EPE or top-1 of the network or, without one, of the baseline."""
    return main_metric(evaluate(tree))


def evaluate(tree: DictConfig) -> Path:
    """Evaluates the model or the baseline of the composed config; returns the folder with the metrics.

    Raises:
        InputError: a setting, the data, the model or the folder cannot be used.
    """
    config = parse(tree)
    device = build_device(config.run.device)
    use_threads(config.run.threads)
    data = build_evaluation_data(config)
    predictors, model = build_predictors(config, data, device)
    with claimed(Path(config.out), tree, key="out") as folder:
        results, worst = run_evaluation(data, predictors, device, pictures=config.pictures, kit=config.kit)
        versions = {"autodisp": autodisp.__version__, "torch": torch.__version__}
        console = build_console()
        try:  # printed first in case the disk is full; the files are written even if the pipe is closed
            print_table(results, console, title=f"{config.dataset.name}, {data.split} split")
        finally:
            pictures = write_pictures(folder, worst, data.names, config.kit.worst)
            about = {"config": asdict(config), "split": data.split, "pictures": pictures, **versions}
            write_json(folder / EVALUATION, results, about=about)
            write_csv(folder / "evaluation.csv", results)
    details = build_console(quiet=config.run.verbosity == "quiet")
    for method, shown in pictures.items():
        first, kit = shown[0], config.kit.worst
        error = kit.shown.format(first[kit.metric]) if kit is not None else ""
        say(details, f"{method}: worst on {printable(first['sample'])}, {error} ({first['picture']})")
    notes = (*data.notes(), *config.kit.notes_on_evaluation(config, results, model))
    say(console, *(f"note:  {note}" for note in notes))
    files = [EVALUATION, "evaluation.csv", *(["worst_*.png"] if pictures else [])]
    say(details, f"files: {folder}/ ({', '.join(files)})")
    return folder
