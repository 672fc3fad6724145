"""The alphas of a search over its course: for each edge of a cell the weight of each operation, as a heat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from torch import Tensor

from autodisp.cells.genotype import source_name
from autodisp.cells.spaces import INPUTS, CellSpace
from autodisp.report.curves import RC
from autodisp.report.reading import Moment, Run

COLOUR_MAP = "viridis"
MOST_COLUMNS = 160
_LEAST_RANGE = 0.01
"""Of weights: smaller differences are none to look at."""
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EdgeMap:
    """The weights on one edge."""

    edge: str
    """Such as ``in0 → n1``."""
    operations: tuple[str, ...]
    weights: Weights
    """(operations, moments), in 0..1; NaN where not recorded."""


@dataclass(frozen=True)
class CellMaps:
    """The edges of one kind of cell."""

    kind: str
    edges: tuple[EdgeMap, ...]
    epochs: tuple[int, ...]
    """Of the columns."""

    @property
    def limits(self) -> tuple[float, float]:
        """The weights that have the first and the last colour: all there are lie between."""
        known = [edge.weights[np.isfinite(edge.weights)] for edge in self.edges]
        values = np.concatenate(known)
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
        more = max(0.0, _LEAST_RANGE - (high - low)) / 2
        return low - more, high + more


def alpha_maps(run: Run) -> list[CellMaps]:
    """The maps of every kind of cell of the run, empty where alphas or their space are not known.

    Columns are the moments in the order in which they came, those that a roll-back undid among them; a long run's are
    thinned out.
    """
    space = run.space
    if space is None:
        return []
    found = []
    for kind in space.kinds:
        cell = space.cells[kind]
        fitting = [moment for moment in run.moments if len(moment.alphas.get(kind, ())) == cell.alphas]
        if fitting:
            found.append(_cell_maps(kind, cell, thinned(fitting, MOST_COLUMNS)))
    return found


def thinned(moments: Sequence[Moment], most: int) -> list[Moment]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(moments) <= most:
        return list(moments)
    return [moments[place] for place in np.linspace(0, len(moments) - 1, most).round().astype(int)]


def _cell_maps(kind: str, cell: CellSpace, moments: Sequence[Moment]) -> CellMaps:
    table = np.array([moment.alphas[kind] for moment in moments], dtype=np.float64)
    edges, start = [], 0
    for target, node in enumerate(cell.nodes):
        for edge in node:
            alphas = table[:, start : start + len(edge.operations)]
            start += len(edge.operations)
            edges.append(EdgeMap(edge_name(kind, edge.source, target), edge.operations, _softmax(alphas).T))
    return CellMaps(kind, tuple(edges), tuple(moment.epoch for moment in moments))


def edge_name(kind: str, source: int, target: int) -> str:
    """An edge in words; the target counts nodes from 0."""
    return f"{source_name(kind, source)} → {source_name(kind, INPUTS[kind] + target)}"


def _softmax(alphas: Weights) -> Weights:
    """Along the last axis; NaN where the alphas are not finite."""
    known = np.isfinite(alphas).all(axis=1, keepdims=True)
    shifted = np.where(known, alphas, 0.0)
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    weights: Weights = np.where(known, powers / powers.sum(axis=1, keepdims=True), np.nan)
    return weights


def maps_figure(maps: CellMaps) -> Figure:
    """All edges of a cell in one picture."""
    across = 3
    rows = -(-len(maps.edges) // across)
    height = 0.35 + 0.14 * max(len(edge.operations) for edge in maps.edges)
    colours = mpl.colormaps[COLOUR_MAP].with_extremes(bad="#808080")
    rc: dict[Any, Any] = {**RC, "axes.grid": False, "font.size": 7}
    with mpl.rc_context(rc):
        figure = Figure(figsize=(10.0, height * rows + 0.75), layout="constrained", facecolor="white", dpi=72)
        all_axes = figure.subplots(rows, across, squeeze=False)
        for number, axes in enumerate(all_axes.flat):
            if number >= len(maps.edges):
                axes.set_axis_off()
                continue
            edge = maps.edges[number]
            image = axes.imshow(
                np.ma.masked_invalid(edge.weights), cmap=colours, vmin=maps.limits[0], vmax=maps.limits[1],
                aspect="auto", interpolation="nearest",
            )  # fmt: skip
            axes.set_title(edge.edge, fontsize=7.5)
            axes.set_yticks(range(len(edge.operations)), edge.operations, fontsize=6, parse_math=False)
            places = sorted({0, len(maps.epochs) // 2, len(maps.epochs) - 1})
            axes.set_xticks(places, [str(maps.epochs[place]) for place in places])
            axes.tick_params(length=2)
        figure.colorbar(image, ax=all_axes, shrink=min(1.0, 2.0 / (height * rows)), label="weight")
        figure.suptitle(f"weights of the operations over the epochs: {maps.kind} cell", fontsize=9, fontweight="bold")
    return figure


def weights_figure(kind: str, cell: CellSpace, weights: Tensor) -> Figure:
    """The weights of one moment as a table: a row an edge, a column an operation, empty where an edge lacks it.

    Args:
        kind: of the cell.
        cell: its space.
        weights: (edges, operations of an edge), in 0..1.
    """
    edges = [(edge_name(kind, edge.source, target), edge) for target, node in enumerate(cell.nodes) for edge in node]
    operations = sorted({name for _, edge in edges for name in edge.operations})
    table = np.full((len(edges), len(operations)), np.nan)
    figure = Figure(figsize=(1.4 + 0.62 * len(operations), 1.2 + 0.3 * len(edges)), layout="constrained")
    axes = figure.add_subplot()
    for row, ((_, edge), values) in enumerate(zip(edges, weights.tolist(), strict=True)):
        for operation, value in zip(edge.operations, values, strict=False):
            column = operations.index(operation)
            table[row, column] = value
            colour = "white" if value > 0.6 else "#22303C"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_facecolor("#DADDE0")
    axes.imshow(np.ma.masked_invalid(table), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(operations)), operations, rotation=40, ha="right", fontsize=8, parse_math=False)
    axes.set_yticks(range(len(edges)), [name for name, _ in edges], fontsize=8, parse_math=False)
    return figure
