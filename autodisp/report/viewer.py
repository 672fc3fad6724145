"""Content of the page's viewer: the cells that the alphas preferred at each epoch, and that epoch on a curve."""

import math
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from autodisp.cells.genotype import Genotype
from autodisp.report.cells import cells_figure
from autodisp.report.curves import Panel, marked_chart, run_panels
from autodisp.report.page import PageImage, page_image
from autodisp.report.reading import Epoch, Run, thinned

MOST_FRAMES = 100


@dataclass(frozen=True)
class Viewer:
    """Frames and the drawings they point to, as plain data for the page's script."""

    frames: list[dict[str, Any]]
    drawings: list[dict[str, Any]]
    """The distinct cells: ``uri`` and ``title`` of the drawing, ``width`` and ``height``."""
    kinds: tuple[str, ...]
    chart: PageImage | None
    """The eigenvalue over the epochs, None if it was not measured."""
    first: int
    """The frame shown first: that of the found cells."""

    @property
    def data(self) -> dict[str, Any]:
        """The data for the script."""
        return {"frames": self.frames, "drawings": self.drawings}


def frames_of(run: Run) -> list[Epoch]:
    """Returns the epochs that have cells; those of a long search are thinned out."""
    return thinned([epoch for epoch in run.epochs if epoch.cells], MOST_FRAMES)


def panel_named(run: Run, name: str) -> Panel | None:
    """Returns the panel of that name, such as ``eigenvalue``; None if it has no records."""
    return next((panel for panel in run_panels(run) if panel.name == name), None)


def viewer_of(run: Run) -> Viewer | None:
    """Returns the viewer of a run; None if no cells were recorded."""
    epochs = frames_of(run)
    if not epochs:
        return None
    known: dict[Any, int] = {}
    drawings: list[dict[str, Any]] = []
    frames = []
    panel = panel_named(run, "eigenvalue")
    figure, axes = marked_chart(run, panel) if panel else (None, None)
    for epoch in epochs:
        genotype = Genotype("", epoch.cells)
        for kind in genotype.kinds:
            if (kind, epoch.cells[kind]) not in known:
                known[kind, epoch.cells[kind]] = len(drawings)
                image = page_image("", f"{kind} cell of epoch {epoch.epoch}", cells_figure(genotype, [kind]))
                drawings.append({key: getattr(image, key) for key in ("uri", "title", "width", "height")})
        cells = {kind: known[kind, epoch.cells[kind]] for kind in genotype.kinds}
        frames.append({"label": label(run, epoch), "cells": cells, **(_marker(axes, epoch) if axes else {})})
    chart = None if figure is None else page_image("", "dominant eigenvalue", figure)
    first = max((i for i, epoch in enumerate(epochs) if run.chosen and epoch.epoch <= run.chosen.epoch), default=0)
    return Viewer(frames, drawings, Genotype("", epochs[-1].cells).kinds, chart, first)


def label(run: Run, epoch: Epoch) -> str:
    """Returns an epoch in one line."""
    words = [f"epoch {epoch.epoch}"]
    if epoch.restart:
        words.append(f"after {epoch.restart} restart{'s' if epoch.restart > 1 else ''}")
    if epoch not in run.kept:
        words.append("discarded later")
    for key, name in (
        ("eigenvalue", "eigenvalue"),
        (f"valid/{run.figure.name}", run.figure.name),
        (f"valid_discrete/{run.figure.name}", "discretised"),
    ):
        if key in epoch.values:
            words.append(f"{name} {epoch.values[key]:.4g}")
    return " · ".join(words)


def _marker(axes: Axes, epoch: Epoch) -> dict[str, float]:
    """Returns the position of the epoch in the chart, in percent of its width and of its height from the top."""
    width, height = axes.figure.bbox.size
    value = epoch.values.get("eigenvalue", math.nan)
    low, high = axes.get_ylim()
    box = axes.get_window_extent()
    shown = low <= value <= high
    x, y = axes.transData.transform((epoch.epoch, value if shown else low))
    marker = {"x": x / width, "top": 1 - box.y1 / height, "bottom": 1 - box.y0 / height}
    if shown:
        marker["y"] = 1 - y / height
    return {key: round(100 * float(number), 2) for key, number in marker.items()}
