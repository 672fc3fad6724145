"""Reads evaluation.json: the metrics of a trained network on a test split."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodisp.report.reading import as_number, setting_of
from autodisp.run_files import EVALUATION
from autodisp.tasks.registry import KITS


@dataclass(frozen=True)
class MeasuredNetwork:
    """The metrics of a network on a test split."""

    checkpoint: Path
    """Path as on the command line, so relative to the folder of the evaluation's process."""
    dataset: str
    metrics: Mapping[str, float]
    """Finite metrics by name: EPE in pixels, accuracy in percent."""
    milliseconds: float | None = None
    """Time per image; None if it is not known."""


def read_tested(folder: Path) -> MeasuredNetwork | None:
    """Reads the evaluation in a folder; None if it has no network, is of another split, or is damaged."""
    content = _read(folder)
    checkpoint, dataset = (setting_of(content, f"about.config.{key}") for key in ("checkpoint", "dataset.name"))
    if setting_of(content, "about.split") != "test" or not isinstance(checkpoint, str) or not isinstance(dataset, str):
        return None
    metrics = _metrics(content, "network")
    speed = as_number(setting_of(content, "methods.network.images_per_second"))
    milliseconds = 1e3 / speed if speed is not None and 1e-9 < speed < math.inf else None
    return MeasuredNetwork(Path(checkpoint), dataset, metrics, milliseconds) if metrics else None


def main_metric(folder: Path) -> float | None:
    """Returns EPE or top-1 of the evaluation in a folder: of the network or, without one, of the baseline."""
    content = _read(folder)
    methods = list(found) if isinstance(found := setting_of(content, "methods"), Mapping) else []
    metrics = [_metrics(content, method) for method in ("network", *methods) if method in methods]
    return next(iter(metrics[0].values()), None) if metrics else None


def _read(folder: Path) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / EVALUATION).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _metrics(content: Mapping[str, Any], method: str) -> dict[str, float]:
    places = {(kit.task.figure.name, kit.metric_place): None for kit in KITS.values()}
    found = [(name, as_number(setting_of(content, f"methods.{method}.figures.{at}"))) for name, at in places]
    return {name: value for name, value in found if value is not None and math.isfinite(value)}


def speed(folder: Path) -> float | None:
    """Returns the milliseconds of an image in the evaluation in a folder, in the predictor alone; None if unknown."""
    method = setting_of(_read(folder), "methods.network", {})
    seconds = as_number(setting_of(method, "median_seconds"))
    return None if seconds is None else 1000 * seconds
