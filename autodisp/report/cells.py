"""Draws the cells of a genotype: inputs on the left, the output on the right, one labelled box per operation.

Nodes are placed in columns by their longest path from an input. Each operation has its own row and the rows of a node
are adjacent, so a line along its row crosses no box in any cell. All lengths are inches.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from autodisp.cells.genotype import Genotype, source_name
from autodisp.cells.spaces import INPUTS, NodeChoice
from autodisp.errors import InputError
from autodisp.report.figures import INK, save, style

KIND_COLOURS = {
    "skip": "#D55E00",
    "separable": "#0072B2",
    "dilated": "#009E73",
    "pooling": "#B5559A",
    "convolution": "#6A51A3",
    "nothing": "#7F7F7F",
    "other": "#8C6D31",
}
"""One colour per kind of operation, distinguishable by colour-blind readers too (after Okabe and Ito)."""

_FORMATS = ("svg", "png", "pdf")
_FONT = FontProperties(family="DejaVu Sans", size=8)
_OUTPUT_LINE = "#A9B4BE"
_SIDES: Any = ((min, -1), (max, 1))
_MARGIN, _TITLE, _GUTTER = 0.12, 0.3, 0.5
_ROW, _BAND_GAP, _LABEL, _RADIUS, _OUTPUT = 0.3, 0.14, 0.22, 0.17, 0.3
_BEND, _ARROW = 0.5, 0.34
"""Width of the gap right of a column, where lines bend into their rows, and of the gap between labels and nodes."""


def label_of(operation: str) -> str:
    """Returns the label of an operation's box: ``sep 3×3`` for ``sep_conv_3x3``."""
    words = [word for word in operation.split("_") if word]
    left_out = {"skip": "connect", "sep": "conv", "dil": "conv"}.get(words[0] if words else "")
    sizes = (word.replace("x", "×") if word.replace("x", "").isdigit() else word for word in words if word != left_out)
    return " ".join(sizes) or operation


def operation_kind(operation: str) -> str:
    """Returns the key of KIND_COLOURS of an operation, from its name."""
    if operation in ("none", "noise"):
        return "nothing"
    for sign, kind in (("skip", "skip"), ("sep_", "separable"), ("dil_", "dilated"), ("pool", "pooling")):
        if sign in operation:
            return kind
    return "convolution" if operation.startswith("conv") else "other"


def draw_cells(genotype: Genotype, path: Path, kinds: Sequence[str] | None = None) -> None:
    """Writes a drawing of the cells side by side.

    Args:
        path: ends in .svg, .png (200 pixels per inch) or .pdf; its folder exists.
        kinds: kinds of cell to draw; None: all.

    Raises:
        InputError: the path has another suffix.
    """
    if path.suffix.lower().removeprefix(".") not in _FORMATS:
        raise InputError(f"{path}: a cell is drawn as {', '.join(_FORMATS)}; give the file one of these suffixes")
    save(cells_figure(genotype, kinds), path, dpi=200)


def cells_figure(genotype: Genotype, kinds: Sequence[str] | None = None) -> Figure:
    """Draws the cells side by side.

    The gid of an artist, which is the id of its SVG element, names what it shows, such as ``normal-node-2`` or
    ``normal-edge-5-sep_conv_3x3``; edges are counted from 0 in the order of node and source.

    Raises:
        ValueError: there is no cell.
    """
    kinds = genotype.kinds if kinds is None else kinds
    if not kinds:
        raise ValueError("no cell to draw")
    cells = [_Cell(kind, genotype.cells[kind]) for kind in kinds]
    body = max(cell.height for cell in cells)
    size = (
        sum(cell.width for cell in cells) + _GUTTER * (len(cells) - 1) + 2 * _MARGIN,
        body + _TITLE + 2 * _MARGIN,
    )
    with style():
        figure = Figure(figsize=size, facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
        axes.set_axis_off()
        left = _MARGIN
        for cell in cells:
            axes.text(left + cell.width / 2, _MARGIN, cell.kind, ha="center", va="top", fontweight="bold", color=INK)
            cell.paint(axes, left, _MARGIN + _TITLE + (body - cell.height) / 2)
            left += cell.width + _GUTTER
    return figure


def _width(text: str) -> float:
    """Returns the width of a box around the text."""
    return max(0.4, float(TextPath((0, 0), text, prop=_FONT).get_extents().width) / 72 + 0.16)


class _Cell:
    """One cell laid out from (0, 0) to (width, height), y downwards; vertices are inputs and nodes together."""

    def __init__(self, kind: str, nodes: Sequence[NodeChoice]) -> None:
        self.kind, self.inputs = kind, INPUTS[kind]
        self.names = [source_name(kind, vertex) for vertex in range(self.inputs + len(nodes))]
        self.level = [0] * self.inputs
        for node in nodes:
            self.level.append(1 + max((self.level[source] for _, source in node), default=0))
        bands = [max(_ROW * len(node), 2 * _RADIUS) for node in nodes]
        rows = sum(bands) + _BAND_GAP * (len(bands) - 1)
        self.height = max(rows, 0.44 * self.inputs)
        self.y = [self.height * (place + 0.5) / self.inputs for place in range(self.inputs)]
        self.edges: list[tuple[str, int, int, float]] = []
        """Operation, source, target, and y relative to the target, in rows."""
        top = (self.height - rows) / 2
        for node, band in zip(nodes, bands, strict=True):
            target = len(self.y)
            self.y.append(top + band / 2)
            for place, (operation, source) in enumerate(sorted(node, key=lambda choice: choice[1])):
                self.edges.append((operation, source, target, place - (len(node) - 1) / 2))
            top += band + _BAND_GAP
        labels = [0.0] * max(self.level)
        for operation, _, target, _ in self.edges:
            column = self.level[target] - 1
            labels[column] = max(labels[column], _width(label_of(operation)))
        self.input_width = max(_width(name) for name in self.names[: self.inputs])
        steps = [self.input_width, *(_BEND + label + _ARROW + 2 * _RADIUS for label in labels)]
        self.right = list(accumulate(steps))
        """Right end of the column of each level."""
        self.labels = [(x + _BEND, x + _BEND + label) for x, label in zip(self.right, labels, strict=False)]
        self.width = self.right[-1] + _BEND + _OUTPUT

    def paint(self, axes: Axes, left: float, top: float) -> None:
        """Adds the cell to the axes, with its upper left corner there."""
        self.axes, self.left, self.top = axes, left, top
        end = self.right[-1] + _BEND
        nodes = list(enumerate(zip(self.names, self.level, self.y, strict=True)))
        for vertex, (_, level, y) in nodes[self.inputs :]:
            self._line([(self.right[level], y), (end, y)], f"concat-{vertex - self.inputs}", _OUTPUT_LINE, arrow=True)
        for number, edge in enumerate(self.edges):
            self._edge(f"edge-{number}-{edge[0]}", *edge)
        for vertex, (name, level, y) in nodes:
            if vertex < self.inputs:
                self._box((0.0, y - 0.15, self.input_width, 0.3), name, f"input-{vertex}", "#DCE6EF", rounding=0.15)
            else:
                box = (self.right[level] - 2 * _RADIUS, y - _RADIUS, 2 * _RADIUS, 2 * _RADIUS)
                self._box(box, name, f"node-{vertex - self.inputs}", "white", rounding=_RADIUS)
        low, high = (bound(*self.y[self.inputs :], self.height / 2 + side * 0.25) for bound, side in _SIDES)
        self._box((end, low - 0.1, _OUTPUT, high - low + 0.2), "output", "output", INK, color="white", rotation=90)

    def _edge(self, gid: str, operation: str, source: int, target: int, offset: float) -> None:
        colour = KIND_COLOURS[operation_kind(operation)]
        dashes: Any = (0, (3, 2)) if operation_kind(operation) == "nothing" else "solid"
        start, (left, right) = self.right[self.level[source]], self.labels[self.level[target] - 1]
        y = self.y[target] + _ROW * offset
        port = _RADIUS * offset / (2 * max(abs(edge[3]) for edge in self.edges if edge[2] == target) or 1)
        entry = self.right[self.level[target]] - _RADIUS - (_RADIUS**2 - port**2) ** 0.5
        half = _width(label_of(operation)) / 2
        box = ((left + right) / 2 - half, y - _LABEL / 2, 2 * half, _LABEL)
        self._line([(start, self.y[source]), (start + _BEND, y), (box[0], y)], f"{gid}-in", colour, dashes)
        way = [(box[0] + box[2], y), (right, y), (entry, self.y[target] + port)]
        self._line(way, f"{gid}-out", colour, dashes, arrow=True)
        tint = tuple(0.86 + 0.14 * part for part in mpl.colors.to_rgb(colour))
        self._box(box, label_of(operation), gid, tint, edgecolor=colour, rounding=0.05)

    def _line(
        self,
        points: Sequence[tuple[float, float]],
        gid: str,
        colour: str,
        dashes: Any = "solid",
        *,
        arrow: bool = False,
    ) -> None:
        """Joins points, by an S-bend where y changes."""
        vertices, codes = [points[0]], [Outline.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(points):
            middle = (x0 + x1) / 2
            vertices += [(middle, y0), (middle, y1), (x1, y1)]
            codes += [Outline.CURVE4] * 3
        path = Outline([(self.left + x, self.top + y) for x, y in vertices], codes)
        line = FancyArrowPatch(
            path=path, arrowstyle="-|>" if arrow else "-", mutation_scale=7, shrinkA=0, shrinkB=0, facecolor=colour,
            edgecolor=colour, linewidth=1.3, linestyle=dashes,
        )  # fmt: skip
        line.set_gid(f"{self.kind}-{gid}")
        self.axes.add_artist(line)

    def _box(
        self, box: tuple[float, float, float, float], words: str, gid: str, facecolor: Any, *, edgecolor: str = INK,
        color: str = INK, rounding: float = 0.0, rotation: float = 0.0,
    ) -> None:  # fmt: skip
        x, y, width, height = self.left + box[0], self.top + box[1], box[2], box[3]
        shape = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
        patch = FancyBboxPatch((x, y), width, height, shape, facecolor=facecolor, edgecolor=edgecolor, linewidth=1.1)
        patch.set_gid(f"{self.kind}-{gid}")
        self.axes.add_artist(patch)
        text = self.axes.text(
            x + width / 2, y + height / 2, words, ha="center", va="center" if rotation else "center_baseline",
            rotation=rotation, fontproperties=_FONT, color=color,
        )  # fmt: skip
        text.set_gid(f"{self.kind}-{gid}-text")
