"""Draws the cells of a genotype: inputs on the left, the output on the right, one labelled box per operation.

Nodes stand in columns by their longest path from an input. Each operation has a row of its own and the rows of a node
lie together, so a line that runs along its row crosses no box on its way, whatever the cell. All lengths are inches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, PathPatch
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
_MARGIN, _TITLE, _GUTTER = 0.12, 0.3, 0.5
_ROW, _BAND_GAP, _LABEL, _RADIUS, _OUTPUT = 0.3, 0.14, 0.22, 0.17, 0.3
_BEND, _ARROW = 0.5, 0.34
"""Width of the gap right of a column, where lines bend into their rows, and of the gap between labels and nodes."""


@dataclass(frozen=True)
class _Edge:
    operation: str
    source: int
    target: int
    """Both count inputs and nodes together."""
    row: float
    """Its y."""
    port: float
    """The y at which it enters its target."""


class _Layout:
    """Positions in one cell from (0, 0) to (width, height), y downwards."""

    def __init__(self, kind: str, nodes: Sequence[NodeChoice]) -> None:
        self.names = [source_name(kind, source) for source in range(INPUTS[kind] + len(nodes))]
        self.inputs = INPUTS[kind]
        self.level = [0] * self.inputs
        for node in nodes:
            self.level.append(1 + max((self.level[source] for _, source in node), default=0))
        self._place_rows(nodes)
        self._place_columns()

    def _place_rows(self, nodes: Sequence[NodeChoice]) -> None:
        bands = [max(_ROW * len(node), 2 * _RADIUS) for node in nodes]
        rows = sum(bands) + _BAND_GAP * (len(bands) - 1)
        self.height = max(rows, 0.44 * self.inputs)
        self.y = [self.height * (place + 0.5) / self.inputs for place in range(self.inputs)]
        self.edges: list[_Edge] = []
        top = (self.height - rows) / 2
        for number, (node, band) in enumerate(zip(nodes, bands, strict=True)):
            middle = top + band / 2
            for place, (operation, source) in enumerate(sorted(node, key=lambda choice: choice[1])):
                offset = place - (len(node) - 1) / 2
                port = middle + offset * _RADIUS / max(1, len(node) - 1)
                row = middle + _ROW * offset
                self.edges.append(_Edge(operation, source, self.inputs + number, row, port))
            self.y.append(middle)
            top += band + _BAND_GAP

    def _place_columns(self) -> None:
        levels = max(self.level)
        self.input_width = max(_width(name) for name in self.names[: self.inputs])
        labels = [
            max((_width(label_of(e.operation)) for e in self.edges if self.level[e.target] == level), default=0.0)
            for level in range(1, levels + 1)
        ]
        steps = [self.input_width, *(_BEND + label + _ARROW + 2 * _RADIUS for label in labels)]
        self.right = list(accumulate(steps))
        """Right end of each column of nodes; the first is that of the inputs."""
        self.label_left = [right + _BEND for right in self.right[:-1]]
        self.label_right = [left + label for left, label in zip(self.label_left, labels, strict=True)]
        self.width = self.right[-1] + _BEND + _OUTPUT


def label_of(operation: str) -> str:
    """The words in an operation's box: ``sep 3×3`` for ``sep_conv_3x3``."""
    words = [word for word in operation.split("_") if word]
    left_out = {"skip": "connect", "sep": "conv", "dil": "conv"}.get(words[0] if words else "")
    sizes = (word.replace("x", "×") if word.replace("x", "").isdigit() else word for word in words if word != left_out)
    return " ".join(sizes) or operation


def operation_kind(operation: str) -> str:
    """The key of KIND_COLOURS of an operation, from its name."""
    if operation in ("none", "noise"):
        return "nothing"
    for sign, kind in (("skip", "skip"), ("sep_", "separable"), ("dil_", "dilated"), ("pool", "pooling")):
        if sign in operation:
            return kind
    return "convolution" if operation.startswith("conv") else "other"


def draw_cells(genotype: Genotype, path: Path, kinds: Sequence[str] | None = None) -> None:
    """Writes a drawing of the cells side by side.

    Args:
        genotype: the cells.
        path: ends in .svg, .png (200 pixels per inch) or .pdf; its folder exists.
        kinds: those to draw; None: all.

    Raises:
        InputError: the path ends in something else.
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
    layouts = {kind: _Layout(kind, genotype.cells[kind]) for kind in kinds}
    body = max(layout.height for layout in layouts.values())
    width = sum(layout.width for layout in layouts.values()) + _GUTTER * (len(layouts) - 1) + 2 * _MARGIN
    size = (width, body + _TITLE + 2 * _MARGIN)
    with style():
        figure = Figure(figsize=size, facecolor="white")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
        axes.set_axis_off()
        left = _MARGIN
        for kind, layout in layouts.items():
            top = _MARGIN + _TITLE + (body - layout.height) / 2
            axes.text(left + layout.width / 2, _MARGIN, kind, ha="center", va="top", fontweight="bold", color=INK)
            _Painter(axes, layout, kind, left, top).paint()
            left += layout.width + _GUTTER
    return figure


def _width(text: str) -> float:
    """The width of a box around the text."""
    return max(0.4, float(TextPath((0, 0), text, prop=_FONT).get_extents().width) / 72 + 0.16)


class _Painter:
    """Paints one cell with its upper left corner at (left, top)."""

    def __init__(self, axes: Axes, layout: _Layout, kind: str, left: float, top: float) -> None:
        self.axes, self.layout, self.kind = axes, layout, kind
        self.left, self.top = left, top

    def paint(self) -> None:
        layout = self.layout
        end = layout.right[-1] + _BEND
        for number, y in enumerate(layout.y[layout.inputs :]):
            self._line([(layout.right[layout.level[layout.inputs + number]], y), (end, y)], _OUTPUT_LINE,
                       f"concat-{number}", arrow=True)  # fmt: skip
        for number, edge in enumerate(layout.edges):
            self._edge(edge, f"edge-{number}-{edge.operation}")
        for number, (name, y) in enumerate(zip(layout.names, layout.y, strict=True)):
            if number < layout.inputs:
                box = (0.0, y - 0.15, layout.input_width, 0.3)
                self._box(box, name, f"input-{number}", facecolor="#DCE6EF", rounding=0.15)
            else:
                box = (layout.right[layout.level[number]] - 2 * _RADIUS, y - _RADIUS, 2 * _RADIUS, 2 * _RADIUS)
                self._box(box, name, f"node-{number - layout.inputs}", facecolor="white", rounding=_RADIUS)
        nodes = layout.y[layout.inputs :]
        low, high = min(*nodes, layout.height / 2 - 0.25) - 0.1, max(*nodes, layout.height / 2 + 0.25) + 0.1
        self._box((end, low, _OUTPUT, high - low), "output", "output", facecolor=INK, rounding=0.0, color="white",
                  rotation=90)  # fmt: skip

    def _edge(self, edge: _Edge, gid: str) -> None:
        layout = self.layout
        colour = KIND_COLOURS[operation_kind(edge.operation)]
        dashes: Any = (0, (3, 2)) if operation_kind(edge.operation) == "nothing" else "solid"
        column = layout.level[edge.target]
        start, left, right = layout.right[layout.level[edge.source]], *self._label_span(edge)
        points = [(start, layout.y[edge.source]), (start + _BEND, edge.row), (left, edge.row)]
        self._line(points, colour, f"{gid}-in", linestyle=dashes)
        entry = layout.right[column] - _RADIUS - (_RADIUS**2 - (edge.port - layout.y[edge.target]) ** 2) ** 0.5
        points = [(layout.label_right[column - 1], edge.row), (entry, edge.port)]
        points = [(right, edge.row), *points]
        self._line(points, colour, f"{gid}-out", linestyle=dashes, arrow=True)
        tint = tuple(0.86 + 0.14 * part for part in mpl.colors.to_rgb(colour))
        box = (left, edge.row - _LABEL / 2, right - left, _LABEL)
        self._box(box, label_of(edge.operation), gid, facecolor=tint, edgecolor=colour, rounding=0.05)

    def _label_span(self, edge: _Edge) -> tuple[float, float]:
        column = self.layout.level[edge.target] - 1
        middle = (self.layout.label_left[column] + self.layout.label_right[column]) / 2
        half = _width(label_of(edge.operation)) / 2
        return middle - half, middle + half

    def _line(self, points: Sequence[tuple[float, float]], colour: str, gid: str, *, arrow: bool = False,
              linestyle: Any = "solid") -> None:  # fmt: skip
        """Joins points, by an S-bend where y changes."""
        vertices, codes = [points[0]], [Outline.MOVETO]
        for (x0, y0), (x1, y1) in pairwise(points):
            middle = (x0 + x1) / 2
            vertices += [(middle, y0), (middle, y1), (x1, y1)] if y0 != y1 else [(x1, y1)]
            codes += [Outline.CURVE4] * 3 if y0 != y1 else [Outline.LINETO]
        path = Outline([(self.left + x, self.top + y) for x, y in vertices], codes)
        look: dict[str, Any] = {"edgecolor": colour, "linewidth": 1.3, "linestyle": linestyle}
        line = (
            FancyArrowPatch(
                path=path, arrowstyle="-|>", mutation_scale=7, shrinkA=0, shrinkB=0, facecolor=colour, **look
            )
            if arrow
            else PathPatch(path, fill=False, **look)
        )
        line.set_gid(f"{self.kind}-{gid}")
        self.axes.add_artist(line)

    def _box(self, box: tuple[float, float, float, float], words: str, gid: str, *, facecolor: Any, rounding: float,
             edgecolor: str = INK, color: str = INK, rotation: float = 0) -> None:  # fmt: skip
        x, y, width, height = self.left + box[0], self.top + box[1], box[2], box[3]
        shape = f"round,pad=0,rounding_size={rounding}" if rounding else "square,pad=0"
        patch = FancyBboxPatch((x, y), width, height, shape, facecolor=facecolor, edgecolor=edgecolor, linewidth=1.1)
        patch.set_gid(f"{self.kind}-{gid}")
        self.axes.add_artist(patch)
        text = self.axes.text(
            x + width / 2, y + height / 2, words, ha="center", va="center_baseline" if not rotation else "center",
            rotation=rotation, fontproperties=_FONT, color=color,
        )  # fmt: skip
        text.set_gid(f"{self.kind}-{gid}-text")
