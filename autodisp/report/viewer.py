"""What the page's viewer shows: at each epoch the cells that the alphas preferred, and where on the curve that is."""

from dataclasses import dataclass
from typing import Any

from autodisp.cells.genotype import Genotype
from autodisp.report.alpha_maps import thinned
from autodisp.report.cell_layout import CellDrawing
from autodisp.report.charts import course_figure, course_panel
from autodisp.report.drawing import cell_drawing, cell_figure
from autodisp.report.pictures import Picture, page_picture
from autodisp.report.reading import Cells, Moment, Run

MOST_FRAMES = 100


@dataclass(frozen=True)
class Viewer:
    """Frames and what they point to; plain data, since it goes into the page as JSON."""

    frames: list[dict[str, Any]]
    drawings: list[dict[str, Any]]
    """Each different cell once: ``uri`` and ``title`` of its picture, ``width`` and ``height``."""
    chart: Picture | None
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


def viewer_of(run: Run) -> Viewer | None:
    """The viewer of a search; None where no cells were recorded."""
    moments = frames_of(run)
    if not moments:
        return None
    known: dict[CellDrawing, int] = {}
    drawings: list[dict[str, Any]] = []
    frames = []
    panel = course_panel(run, "eigenvalue")
    figure, axes = course_figure(run, panel) if panel else (None, None)
    for moment in moments:
        places = {}
        for kind, drawing in drawings_of(moment.cells).items():
            if drawing not in known:
                known[drawing] = len(drawings)
                title = f"{kind} cell of epoch {moment.epoch}"
                picture = page_picture("", title, cell_figure(drawing))
                size = {"width": round(picture.width), "height": round(picture.height)}
                drawings.append({"uri": picture.uri, "title": title, **size})
            places[kind] = known[drawing]
        frame: dict[str, Any] = {"label": label(run, moment), "cells": places}
        if figure is not None and axes is not None:
            frame |= _marker(figure, axes, moment)
        frames.append(frame)
    chart = None if figure is None else page_picture("", "dominant eigenvalue", figure)
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
    """Where the epoch is in the chart, in percent of its width and of its height from the top."""
    width, height = figure.bbox.size
    value = moment.values.get("eigenvalue")
    low, high = axes.get_ylim()
    box = axes.get_window_extent()
    shown = value is not None and low <= value <= high
    x, y = axes.transData.transform((moment.epoch, value if shown else low))
    marker = {"x": x / width, "top": 1 - box.y1 / height, "bottom": 1 - box.y0 / height}
    if shown:
        marker["y"] = 1 - y / height
    return {key: round(100 * float(number), 2) for key, number in marker.items()}
