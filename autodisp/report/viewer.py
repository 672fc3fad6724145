"""What the page's viewer shows: at each epoch the cells that the alphas preferred, and where on the curve that is."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from autodisp.cells.genotype import Genotype
from autodisp.report.alpha_maps import thinned
from autodisp.report.charts import eigenvalue_figure, eigenvalue_panel
from autodisp.report.drawing import CellDrawing, cell_drawing, cell_figure
from autodisp.report.pictures import Gallery, svg_text
from autodisp.report.reading import Cells, Moment, Run

MOST_FRAMES = 100


@dataclass(frozen=True)
class Viewer:
    """Frames and what they point to; plain data, since it goes into the page as JSON."""

    frames: list[dict[str, Any]]
    drawings: list[dict[str, Any]]
    """Each different cell once: ``svg`` and its natural ``width``."""
    chart: Markup | None
    """The eigenvalue over the epochs, None where none was measured."""
    first: int
    """The frame to begin with: that of the cells that were found."""

    @property
    def data(self) -> dict[str, Any]:
        """For the page's script."""
        return {"frames": self.frames, "drawings": self.drawings}


def drawings_of(cells: Cells) -> dict[str, CellDrawing]:
    """Each kind of cell as a drawing."""
    genotype = Genotype("", cells)
    return {kind: cell_drawing(genotype, kind) for kind in genotype.kinds}


def frames_of(run: Run) -> list[Moment]:
    """The moments that a long search is told by: those that have cells, thinned out."""
    return thinned([moment for moment in run.moments if moment.cells], MOST_FRAMES)


def viewer_of(run: Run, gallery: Gallery) -> Viewer | None:
    """The viewer of a search; None where no cells were recorded."""
    moments = frames_of(run)
    if not moments:
        return None
    known: dict[CellDrawing, int] = {}
    drawings: list[dict[str, Any]] = []
    frames = []
    panel = eigenvalue_panel(run)
    figure, axes = eigenvalue_figure(run, panel) if panel else (None, None)
    for moment in moments:
        places = {}
        for kind, drawing in drawings_of(moment.cells).items():
            if drawing not in known:
                known[drawing] = len(drawings)
                picture = cell_figure(drawing)
                width, height = 96 * picture.get_size_inches()
                svg = gallery.inline(svg_text(picture), f"{kind} cell of epoch {moment.epoch}")
                drawings.append({"svg": str(svg), "width": round(width), "height": round(height)})
            places[kind] = known[drawing]
        frame: dict[str, Any] = {"label": label(run, moment), "cells": places}
        if figure is not None and axes is not None:
            frame |= _marker(figure, axes, moment)
        frames.append(frame)
    chart = None if figure is None else gallery.inline(svg_text(figure), "dominant eigenvalue")
    chosen = run.chosen
    first = max((i for i, moment in enumerate(moments) if chosen and moment.epoch <= chosen.epoch), default=0)
    same = [i for i, moment in enumerate(moments) if moment is chosen]
    return Viewer(frames, drawings, chart, same[0] if same else first)


def label(run: Run, moment: Moment) -> str:
    """An epoch in a line."""
    words = [f"epoch {moment.epoch}"]
    if moment.restart:
        words.append(f"after {moment.restart} restart{'s' if moment.restart > 1 else ''}")
    if moment not in run.kept:
        words.append("undone later")
    for key, name in (
        ("eigenvalue", "eigenvalue"),
        (f"valid/{run.figure.name}", run.figure.name),
        (f"valid_discrete/{run.figure.name}", "discretised"),
    ):
        if key in moment.values:
            words.append(f"{name} {moment.values[key]:.4g}")
    return " · ".join(words)


def _marker(figure: Any, axes: Any, moment: Moment) -> dict[str, float]:
    """Where the epoch is in the SVG, whose unit is a point and whose y goes down."""
    scale, height = 72 / figure.dpi, figure.get_size_inches()[1] * 72
    value = moment.values.get("eigenvalue")
    low, high = axes.get_ylim()
    box = axes.get_window_extent()
    shown = value is not None and low <= value <= high
    x, y = axes.transData.transform((moment.epoch, value if shown else low))
    marker = {"x": x * scale, "top": height - box.y1 * scale, "bottom": height - box.y0 * scale}
    if shown:
        marker["y"] = height - y * scale
    return {key: round(float(number), 2) for key, number in marker.items()}
