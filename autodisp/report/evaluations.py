"""Reads what autodisp-evaluate left: how good a trained network is on the test split."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodisp.report.curves import as_number
from autodisp.report.reading import setting_of
from autodisp.run_files import EVALUATION
from autodisp.tasks.registry import KITS

_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network on a test split."""

    checkpoint: Path
    """As the evaluation was told, so seen from where it ran."""
    dataset: str
    figures: Mapping[str, float]
    """Finite ones, by the name of the task's figure: EPE in pixels, accuracy in percent."""


def read_tested(folder: Path) -> MeasuredNetwork | None:
    """The evaluation in a folder; None where it is of no network, of another split, or damaged."""
    if (content := _read(folder)) is None:
        return None
    about: Mapping[str, Any] = setting_of(content, "about", {})
    checkpoint, dataset = (setting_of(about, f"config.{key}") for key in ("checkpoint", "dataset.name"))
    if setting_of(about, "split") != "test" or not isinstance(checkpoint, str) or not isinstance(dataset, str):
        return None
    figures = _figures(content, "network")
    return MeasuredNetwork(Path(checkpoint), dataset, figures) if figures else None


def main_metric(folder: Path) -> float | None:
    """EPE or top-1 of the evaluation in a folder: of the network or, where there is none, of the baseline."""
    content = _read(folder)
    methods = setting_of(content or {}, "methods", {})
    figures = [_figures(content or {}, method) for method in ("network", *methods) if method in methods]
    return next(iter(figures[0].values()), None) if figures else None


def _read(folder: Path) -> Mapping[str, Any] | None:
    path = folder / EVALUATION
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _figures(content: Mapping[str, Any], method: str) -> dict[str, float]:
    places = {kit.task.figure.name: kit.metric_place for kit in KITS.values()}
    found = {name: as_number(setting_of(content, f"methods.{method}.figures.{at}")) for name, at in places.items()}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
