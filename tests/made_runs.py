"""Run folders made up for the tests of the report: small, quick, and every figure known."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SPACES

NAN = math.nan


def record_of(epoch: int, *, space: str = "s2", metric: str = "accuracy", **entries: Any) -> dict[str, Any]:
    """What a search records of an epoch; the cells are others every second epoch."""
    searched = SPACES[space]
    alphas = {
        kind: [0.1 * math.sin(epoch + place) for place in range(cell.alphas)] for kind, cell in searched.cells.items()
    }
    return {
        "epoch": epoch,
        "restart": 0,
        "step": 5 * (epoch + 1),
        "learning_rate": 0.02,
        "weight_decay": 3e-4,
        "train/loss": 2.0 / (epoch + 1),
        f"train/{metric}": 40.0 + epoch,
        "valid/loss": 2.5 / (epoch + 1),
        f"valid/{metric}": 30.0 + epoch,
        f"valid_discrete/{metric}": 20.0 + epoch,
        "discretisation_drop": 10.0,
        "eigenvalue": 0.2 + 0.05 * epoch,
        "genotype": plain_cells(space, seed=epoch // 2),
        "alphas": alphas,
        **{f"entropy/{kind}": 0.69 for kind in searched.kinds},
        "parameter_free": 3 + epoch,
        "seconds": 60.0,
        "seconds_training": 45.0,
        "seconds_waiting": 0.5,
        "seconds_curvature": 5.0,
        **entries,
    }


def plain_cells(space: str, *, seed: int) -> dict[str, Any]:
    """Cells drawn from a space, as a record has them."""
    cells: dict[str, Any] = Genotype(space, SPACES[space].sample(seed)).to_json()["cells"]
    return cells


def config_of(
    *, space: str = "s2", policy: str = "none", task: str = "classification", **entries: Any
) -> dict[str, Any]:
    """The settings of a search that the report reads; ``entries`` are whole sections."""
    return {
        "seed": 0,
        "task": {"name": task},
        "dataset": {"name": "cifar10" if task == "classification" else "shapes3d"},
        "space": {"name": space, "file": None},
        "search": {"epochs": 4},
        "curvature": {"every": 1},
        "regularization": {"name": policy, "window": 3},
        "optimizer": {"weights": {"weight_decay": 3e-4}},
        **entries,
    }


def write_run(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    *,
    config: Mapping[str, Any] | None = None,
    genotype: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a run folder; ``genotype`` is what genotype.json holds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)))
    if genotype is not None:
        (folder / "genotype.json").write_text(json.dumps(genotype))
    return folder


def write_search(folder: Path, *, epochs: int = 4, finished: bool = True, **settings: Any) -> Path:
    """A search that went straight to its end, or that is still going."""
    config = config_of(**settings)
    space = config["space"]["name"]
    metric = "accuracy" if config["task"]["name"] == "classification" else "epe"
    start = {"event": "start", "constant": 10.0, f"valid/{metric}": 11.0}
    records = [record_of(epoch, space=space, metric=metric) for epoch in range(epochs)]
    genotype = None
    if finished:
        found = Genotype(space, SPACES[space].sample((epochs - 1) // 2))
        genotype = found.with_provenance(epoch=epochs - 1, seed=0, torch="2.14", dataset="cifar10").to_json()
    return write_run(folder, [start, *records], config=config, genotype=genotype)


def training_record(interval: int, **entries: Any) -> dict[str, Any]:
    """What a training records of an interval."""
    return {
        "epoch": interval,
        "step": 100 * (interval + 1),
        "learning_rate": 0.01 / (interval + 1),
        "train/loss": 1.0 / (interval + 1),
        "train/accuracy": 50.0 + interval,
        "valid/loss": 1.2 / (interval + 1),
        "valid/accuracy": 40.0 + interval,
        "seconds": 30.0,
        **entries,
    }


def write_training(folder: Path, *, intervals: int = 3, genotype: str = "darts_v2", **entries: Any) -> Path:
    """A training of classification."""
    config = {
        "seed": 0,
        "genotype": genotype,
        "task": {"name": "classification"},
        "dataset": {"name": "cifar10", "root": "/data"},
        "training": {"steps": 300},
        "optimizer": {"weight_decay": 1e-4},
        **entries,
    }
    return write_run(folder, [training_record(number) for number in range(intervals)], config=config)


def write_evaluation(
    folder: Path,
    checkpoint: str,
    *,
    top1: float | None = 91.5,
    split: str = "test",
    dataset: str = "cifar10",
    speed: float | None = None,
) -> Path:
    """What autodisp-evaluate leaves of a classification network, in part."""
    config = {"checkpoint": checkpoint, "dataset": {"name": dataset}}
    figures = {"images": 10, "accuracy": {"top1": top1, "top5": 99.0}}
    methods = {"network": {"figures": figures, "images_per_second": speed}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(
        json.dumps({"about": {"config": config, "split": split}, "methods": methods})
    )
    return folder
