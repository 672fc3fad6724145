"""Heat maps of the weights of the operations, one per edge: a row per operation, a column per epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.special import softmax
from torch import Tensor

from autodisp.cells.genotype import source_name
from autodisp.cells.spaces import INPUTS, CellSpace
from autodisp.report.figures import INK, plain, style
from autodisp.report.reading import Run, thinned

MOST_COLUMNS = 160
_LEAST_RANGE = 0.01
"""Smallest range of the colours, so that minor differences of weights are not exaggerated."""
_ACROSS = 3
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EdgeMap:
    """The weights on one edge."""

    edge: str
    """Such as ``in0 → n1``."""
    operations: tuple[str, ...]
    weights: Weights
    """(operations, epochs), in 0..1; NaN where not recorded."""


def alpha_maps(run: Run) -> dict[str, tuple[list[EdgeMap], list[int]]]:
    """Returns the maps and the epochs of their columns for every kind of cell whose alphas and space are known.

    Epochs are in the order they were run, those that a roll-back discarded included; a long run is thinned out. Weights
    that are not recorded are the softmax of the alphas.
    """
    found = {}
    for kind, cell in (run.space.cells if run.space else {}).items():
        epochs = thinned(
            [epoch for epoch in run.epochs if len(epoch.alphas.get(kind, ())) == cell.alphas], MOST_COLUMNS
        )
        if epochs:
            recorded = all(len(epoch.weights.get(kind, ())) == cell.alphas for epoch in epochs)
            rows = [epoch.weights[kind] if recorded else epoch.alphas[kind] for epoch in epochs]
            places = np.cumsum([len(edge.operations) for edge in cell.edges])[:-1]
            edges: list[Weights] = np.split(np.array(rows, dtype=np.float64).T, places)
            found[kind] = (
                edge_maps(kind, cell, edges if recorded else list(map(_softmax, edges))),
                [epoch.epoch for epoch in epochs],
            )
    return found


def edge_maps(kind: str, cell: CellSpace, weights: Sequence[Weights]) -> list[EdgeMap]:
    """Names the weights of each edge, (operations, epochs), in the order of ``cell.edges``."""
    named = [(edge, target) for target, node in enumerate(cell.nodes) for edge in node]
    return [
        EdgeMap(
            f"{source_name(kind, edge.source)} → {source_name(kind, INPUTS[kind] + target)}", edge.operations, values
        )
        for (edge, target), values in zip(named, weights, strict=True)
    ]


def _softmax(alphas: Weights) -> Weights:
    """Softmax over the operations; NaN in epochs with non-finite alphas."""
    known = np.isfinite(alphas).all(axis=0)
    weights: Weights = np.where(known, softmax(np.where(known, alphas, 0.0), axis=0), np.nan)
    return weights


def colour_limits(maps: Sequence[EdgeMap]) -> tuple[float, float]:
    """Returns the weights of the first and the last colour."""
    values = np.concatenate([edge.weights[np.isfinite(edge.weights)] for edge in maps])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    more = max(0.0, _LEAST_RANGE - (high - low)) / 2
    return low - more, high + more


def maps_figure(kind: str, maps: Sequence[EdgeMap], epochs: Sequence[int]) -> Figure:
    """Draws the edges of a cell on one scale of colours; without ``epochs``, each weight of one column in digits."""
    rows = -(-len(maps) // _ACROSS)
    height = 0.35 + 0.14 * max(len(edge.operations) for edge in maps)
    colours = mpl.colormaps["viridis"].with_extremes(bad="#808080")
    places = sorted({0, len(epochs) // 2, len(epochs) - 1}) if epochs else []
    low, high = colour_limits(maps)
    with style(axes_grid=False, font_size=7):
        figure = Figure(figsize=(10.0, height * rows + 0.75), layout="constrained", facecolor="white", dpi=72)
        all_axes = figure.subplots(rows, _ACROSS, squeeze=False)
        for axes in all_axes.flat[len(maps) :]:
            axes.set_axis_off()
        for axes, edge in zip(all_axes.flat, maps, strict=False):
            values = np.ma.masked_invalid(edge.weights)
            image = axes.imshow(values, cmap=colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
            axes.set_title(edge.edge, fontsize=7.5)
            axes.set_yticks(range(len(edge.operations)), map(plain, edge.operations), fontsize=6)
            axes.set_xticks(places, [str(epochs[place]) for place in places])
            axes.tick_params(length=2)
            for row, weight in enumerate(edge.weights[:, 0] if not epochs else ()):
                colour = INK if weight > (low + high) / 2 else "white"
                axes.text(0, row, f"{weight:.2f}", ha="center", va="center", fontsize=6, color=colour)
        figure.colorbar(image, ax=all_axes, shrink=min(1.0, 2.0 / (height * rows)), label="weight")
        figure.suptitle(f"weights of the operations: {kind} cell", fontsize=9, fontweight="bold")
    return figure


def weights_figure(kind: str, cell: CellSpace, weights: Tensor) -> Figure:
    """Draws the weights of one epoch.

    Args:
        weights: (edges, operations of an edge), in 0..1; an edge with fewer operations fills the beginning of its row.
    """
    rows = weights.detach().double().cpu().numpy()
    edges = [row[: len(edge.operations), None] for row, edge in zip(rows, cell.edges, strict=True)]
    return maps_figure(kind, edge_maps(kind, cell, edges), [])
