"""Draws a found cell as SVG, PNG or PDF: inputs on the left, output on the right, one box an operation.

The layout is that of Sugiyama, Tagawa and Toda (1981): vertices in columns by their longest path, and between two
columns of vertices one column for the operations that lead into the right one. It departs from the usual use of that
scheme in that an edge's label is itself a member of a column. Everything in a column is kept apart vertically and edges
pass a column on a lane of their own, so that neither label, vertex nor edge can lie upon another, whatever the cell.

All lengths are inches. Nothing here touches pyplot or leaves a changed rcParams behind, and a file depends on the cell
only: no date, no random ids.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path as Outline
from matplotlib.textpath import text_to_path
from scipy.optimize import linprog

from autodisp.cells.genotype import Genotype, source_name
from autodisp.cells.spaces import INPUTS
from autodisp.errors import InputError

_Shape = Literal["input", "node", "output", "operation", "lane"]

KIND_COLOURS = {
    "skip": "#D55E00",
    "separable": "#0072B2",
    "dilated": "#009E73",
    "pooling": "#B5559A",
    "convolution": "#6A51A3",
    "nothing": "#7F7F7F",
    "other": "#8C6D31",
}
"""One colour a kind of operation, told apart by colour-blind readers too (after Okabe and Ito)."""

_INK = "#22303C"
_OUTPUT_LINE = "#A9B4BE"
_FORMATS = ("svg", "png", "pdf")
_PIXELS_PER_INCH = 200
_LABEL = FontProperties(family="DejaVu Sans", size=8)
_VERTEX = FontProperties(family="DejaVu Sans", size=8.5)
_TITLE = FontProperties(family="DejaVu Sans", size=10, weight="bold")
_RC: dict[Any, Any] = {"svg.hashsalt": "autodisp", "svg.fonttype": "path", "text.usetex": False, "path.sketch": None}

_MOVE, _LINE, _CURVE = int(Outline.MOVETO), int(Outline.LINETO), int(Outline.CURVE4)
_MARGIN = 0.12
_NODE_RADIUS = 0.17
_LABEL_HALF_HEIGHT = 0.115
_COLLAR = 0.04  # straight run beside a column
_HEAD = 0.085  # and the length of an arrow head before it
_CLEARANCE = {"lane": 0.055, "operation": 0.045, "node": 0.10, "input": 0.10, "output": 0.10}


@dataclass(frozen=True)
class DrawnEdge:
    """One operation of a cell."""

    source: int
    """The vertex it reads: 0 .. inputs - 1 are the cell's inputs, inputs + k is node k."""
    target: int
    """The node it leads into, counted from 0."""
    operation: str
    """Its name as the search space spells it, such as ``sep_conv_3x3``."""


@dataclass(frozen=True)
class CellDrawing:
    """What is drawn of a cell; its output is the concatenation of all nodes."""

    title: str
    """Stands above the cell; may be empty."""
    inputs: tuple[str, ...]
    """One name an input; a pair of dollar signs encloses mathematics, as in ``$c_{k-1}$``."""
    nodes: int
    edges: tuple[DrawnEdge, ...]

    def __post_init__(self) -> None:
        """Refuses what is no cell: a ValueError names the edge."""
        if self.nodes < 1 or not self.inputs:
            raise ValueError(f"a cell has inputs and nodes, this one {len(self.inputs)} and {self.nodes}")
        for edge in self.edges:
            if not 0 <= edge.target < self.nodes:
                raise ValueError(f"{edge}: the cell has nodes 0..{self.nodes - 1}")
            if not 0 <= edge.source < len(self.inputs) + edge.target:
                raise ValueError(f"{edge}: a node reads the inputs and earlier nodes only")


def cell_drawing(genotype: Genotype, kind: str) -> CellDrawing:
    """The cell of that kind as a picture's plain data."""
    edges = tuple(
        DrawnEdge(source, target, name) for target, node in enumerate(genotype.cells[kind]) for name, source in node
    )
    inputs = tuple(source_name(kind, source) for source in range(INPUTS[kind]))
    return CellDrawing(title=kind, inputs=inputs, nodes=len(genotype.cells[kind]), edges=edges)


def draw_cell(cell: CellDrawing, path: Path) -> None:
    """Writes the picture of one cell.

    Args:
        cell: the cell.
        path: ends in .svg, .png (200 pixels per inch) or .pdf; its folder exists.

    Raises:
        InputError: the path ends in something else.
    """
    draw_cells([cell], path)


def draw_cells(cells: Sequence[CellDrawing], path: Path) -> None:
    """Writes several cells side by side into one picture; see :func:`draw_cell`."""
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _FORMATS:
        raise InputError(f"{path}: a cell is drawn as {', '.join(_FORMATS)}; give the file one of these suffixes")
    dates: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    with mpl.rc_context(_RC):
        cells_figure(cells).savefig(path, format=suffix, dpi=_PIXELS_PER_INCH, metadata=dates[suffix])


def cell_figure(cell: CellDrawing) -> Figure:
    """The picture of one cell as a figure, for TensorBoard."""
    return cells_figure([cell])


def cells_figure(cells: Sequence[CellDrawing]) -> Figure:
    """The picture of several cells side by side as a figure.

    Each artist's gid says what it is: ``c0-vertex-2``, ``c0-edge-5-sep_conv_3x3-label``, with the cell's place first.

    Raises:
        ValueError: there is no cell.
    """
    if not cells:
        raise ValueError("no cell to draw")
    layouts = [_Layout(cell) for cell in cells]
    widths = [max(layout.width, _text_width(cell.title, _TITLE)) for layout, cell in zip(layouts, cells, strict=True)]
    head = 0.28 if any(cell.title for cell in cells) else 0.0
    body = max(layout.height for layout in layouts)
    gutter = 0.45
    size = (sum(widths) + gutter * (len(cells) - 1) + 2 * _MARGIN, body + head + 2 * _MARGIN)
    figure = Figure(figsize=size, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    left = _MARGIN
    for place, (cell, layout, width) in enumerate(zip(cells, layouts, widths, strict=True)):
        centre = left + width / 2
        if cell.title:
            axes.text(
                centre, _MARGIN, cell.title, fontproperties=_TITLE, color=_INK, ha="center", va="top", parse_math=False
            )
        layout.move(centre - layout.width / 2, _MARGIN + head + (body - layout.height) / 2)
        _paint(axes, layout, f"c{place}")
        left += width + gutter
    return figure


def operation_kind(operation: str) -> str:
    """The key of KIND_COLOURS that an operation belongs to, read off its name."""
    if operation in ("none", "noise"):
        return "nothing"
    for sign, kind in (("skip", "skip"), ("sep_", "separable"), ("dil_", "dilated"), ("pool", "pooling")):
        if sign in operation:
            return kind
    return "convolution" if operation.startswith("conv") else "other"


def _label(operation: str) -> str:
    words = [word for word in operation.split("_") if word]
    if words[:1] == ["skip"]:
        words = [word for word in words if word != "connect"]
    if words[:1] in (["sep"], ["dil"]):
        words = [word for word in words if word != "conv"]
    sizes = (word.replace("x", "×") if word.replace("x", "").isdigit() else word for word in words)
    return " ".join(sizes) or operation


def _text_width(text: str, font: FontProperties, may_be_math: bool = False) -> float:
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, may_be_math and is_math_text(text))
    return float(points) / 72


@dataclass
class _Box:
    """A vertex, an operation's label, or the lane on which an edge passes a column; x, y are its centre."""

    shape: _Shape
    column: int
    half_width: float
    half_height: float
    text: str
    gid: str
    x: float = 0.0
    y: float = 0.0


@dataclass
class _Route:
    """The boxes that one edge visits from left to right, one a column, as indices into the layout's boxes."""

    operation: str | None
    gid: str
    boxes: list[int] = field(default_factory=list)


class _Layout:
    """Where everything of one cell lies; from (0, 0) to (width, height), y downwards."""

    def __init__(self, cell: CellDrawing) -> None:
        self.boxes: list[_Box] = []
        self.routes: list[_Route] = []
        self._add_vertices(cell)
        self._add_routes(cell)
        columns = 1 + max(box.column for box in self.boxes)
        self.columns: list[list[int]] = [
            [i for i, box in enumerate(self.boxes) if box.column == column] for column in range(columns)
        ]
        links = [link for route in self.routes for link in pairwise(route.boxes)]
        _Ordering(self.columns, links).improve()
        if self.columns[0].index(0) > self.columns[0].index(len(cell.inputs) - 1):
            for column in self.columns:
                column.reverse()
        self.ports = self._fan()
        self._place_vertically()
        self._place_horizontally(links)

    def _add_vertices(self, cell: CellDrawing) -> None:
        level = [0] * len(cell.inputs)
        for node in range(cell.nodes):
            level.append(1 + max((level[edge.source] for edge in cell.edges if edge.target == node), default=0))
        for name in cell.inputs:
            self._add("input", 0, name, f"vertex-{len(self.boxes)}")
        for node in range(cell.nodes):
            self._add("node", 2 * level[len(cell.inputs) + node], f"n{node}", f"vertex-{len(self.boxes)}")
        self._add("output", 2 * max(level) + 1, "output", f"vertex-{len(self.boxes)}")

    def _add_routes(self, cell: CellDrawing) -> None:
        inputs, output = len(cell.inputs), len(self.boxes) - 1
        for number, edge in sorted(enumerate(cell.edges), key=lambda item: (item[1].source, item[1].target, item[0])):
            route = self._add_route(edge.source, inputs + edge.target, edge.operation, f"edge-{number}")
            label = self._add("operation", self.boxes[inputs + edge.target].column - 1, edge.operation, route.gid)
            route.boxes += [label, inputs + edge.target]
        for node in range(inputs, output):
            self._add_route(node, output, None, f"concat-{node - inputs}").boxes.append(output)

    def _add_route(self, source: int, target: int, operation: str | None, gid: str) -> _Route:
        last = self.boxes[target].column - (0 if operation is None else 1)
        lanes = [self._add("lane", column, "", "") for column in range(self.boxes[source].column + 1, last)]
        self.routes.append(_Route(operation, gid if operation is None else f"{gid}-{operation}", [source, *lanes]))
        return self.routes[-1]

    def _add(self, shape: _Shape, column: int, text: str, gid: str) -> int:
        if shape == "operation":
            text, gid = _label(text), f"{gid}-label"
            size = (_text_width(text, _LABEL) / 2 + 0.07, _LABEL_HALF_HEIGHT)
        elif shape == "lane":
            size = (0.0, 0.0)
        elif shape == "node":
            size = (max(_NODE_RADIUS, _text_width(text, _VERTEX) / 2 + 0.06),) * 2
        else:
            size = (max(0.2, _text_width(text, _VERTEX, may_be_math=shape == "input") / 2 + 0.09), 0.16)
        self.boxes.append(_Box(shape, column, *size, text, gid))
        return len(self.boxes) - 1

    def _fan(self) -> list[tuple[float, float]]:
        """For each route how far off the centre of its first and of its last box it starts and ends."""
        place = {i: p for column in self.columns for p, i in enumerate(column)}
        ports = [[0.0, 0.0] for _ in self.routes]
        for side, beside in ((0, 1), (-1, -2)):
            at_box: dict[int, list[int]] = {}
            for number, route in enumerate(self.routes):
                at_box.setdefault(route.boxes[side], []).append(number)
            for box, numbers in at_box.items():
                numbers.sort(key=lambda n: place[self.routes[n].boxes[beside]])
                step = min(0.07, 1.3 * self.boxes[box].half_height / max(1, len(numbers) - 1))
                for rank, number in enumerate(numbers):
                    ports[number][side] = step * (rank - (len(numbers) - 1) / 2)
        return [(start, end) for start, end in ports]

    def _place_vertically(self) -> None:
        """Lanes as straight and vertices as central as the distances within the columns allow: a linear programme.

        Each wish is the absolute value of a linear form in the heights, as in Gansner et al. (1993).
        """
        wishes: list[tuple[float, dict[int, float], float]] = []
        beside: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for route, (start, end) in zip(self.routes, self.ports, strict=True):
            for place, (a, b) in enumerate(pairwise(route.boxes)):
                shift = (start if place == 0 else 0.0) - (end if place == len(route.boxes) - 2 else 0.0)
                lanes = sum(self.boxes[i].shape == "lane" for i in (a, b))
                weight = 0.3 if self.boxes[b].shape == "output" else (0.3, 1.5, 6.0)[lanes]
                wishes.append((weight, {a: 1.0, b: -1.0}, shift))
                beside.setdefault((a, +1), []).append((b, shift))
                beside.setdefault((b, -1), []).append((a, -shift))
        for (i, _), others in beside.items():
            if len(others) > 1:
                share = {j: 0.0 for j, _ in others}
                for j, _ in others:
                    share[j] -= 1 / len(others)
                wishes.append((1.0, {i: 1.0, **share}, sum(shift for _, shift in others) / len(others)))
        wishes += [(0.2, {column[0]: 1.0, column[-1]: -1.0}, 0.0) for column in self.columns if len(column) > 1]
        for box, y in zip(self.boxes, _least_absolute(len(self.boxes), wishes, self._distances()), strict=True):
            box.y = y
        top = min(box.y - box.half_height for box in self.boxes)
        for box in self.boxes:
            box.y -= top
        self.height = max(box.y + box.half_height for box in self.boxes)

    def _distances(self) -> list[tuple[int, int, float]]:
        """(upper, lower, at least so far apart) for neighbours in a column."""
        reach = [box.half_height + _CLEARANCE[box.shape] for box in self.boxes]
        return [
            (upper, lower, reach[upper] + reach[lower]) for column in self.columns for upper, lower in pairwise(column)
        ]

    def _place_horizontally(self, links: Sequence[tuple[int, int]]) -> None:
        x = 0.0
        self.bounds: list[tuple[float, float]] = []
        for number, column in enumerate(self.columns):
            half = max((self.boxes[i].half_width for i in column), default=0.0)
            self.bounds.append((x, x + 2 * half))
            for i in column:
                self.boxes[i].x = x + half
            climbs = (abs(self.boxes[a].y - self.boxes[b].y) for a, b in links if self.boxes[a].column == number)
            x += 2 * half + 2 * _COLLAR + _HEAD + 0.12 + 0.25 * min(max(climbs, default=0.0), 1.2)
        self.width = self.bounds[-1][1]

    def move(self, dx: float, dy: float) -> None:
        """Shifts everything."""
        for box in self.boxes:
            box.x += dx
            box.y += dy
        self.bounds = [(low + dx, high + dx) for low, high in self.bounds]


def _least_absolute(
    count: int, wishes: Sequence[tuple[float, dict[int, float], float]], distances: Sequence[tuple[int, int, float]]
) -> list[float]:
    """Minimises the sum of weight * |form . y + constant| where y[lower] - y[upper] >= distance; the minimiser."""
    rows: list[dict[int, float]] = []
    limits: list[float] = []
    for number, (_, form, constant) in enumerate(wishes):
        for sign in (1.0, -1.0):
            rows.append({**{i: sign * c for i, c in form.items()}, count + number: -1.0})
            limits.append(-sign * constant)
    for upper, lower, distance in distances:
        rows.append({upper: 1.0, lower: -1.0})
        limits.append(-distance)
    matrix = np.zeros((len(rows), count + len(wishes)))
    for number, row in enumerate(rows):
        matrix[number, list(row)] = list(row.values())
    cost = [0.0] * count + [weight for weight, _, _ in wishes]
    bounds = [(None, None)] * count + [(0.0, None)] * len(wishes)
    solution = linprog(cost, A_ub=matrix, b_ub=limits, bounds=bounds, method="highs")
    if solution.x is None:
        raise RuntimeError(f"no layout found: {solution.message}")
    return [float(y) for y in solution.x[:count]]


class _Ordering:
    """The vertical order within columns that lets few edges cross: barycentres, then swaps of neighbours."""

    def __init__(self, columns: list[list[int]], links: Iterable[tuple[int, int]]) -> None:
        self.columns = columns
        self.gaps: list[list[tuple[int, int]]] = [[] for _ in columns]
        column_of = {i: c for c, column in enumerate(columns) for i in column}
        for a, b in links:
            self.gaps[column_of[a]].append((a, b))

    def improve(self) -> None:
        """Reorders the columns in place."""
        best, fewest = [list(column) for column in self.columns], self._crossings()
        for sweep in range(12):
            self._sweep(rightwards=sweep % 2 == 0)
            self._swap_neighbours()
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(column) for column in self.columns], crossings
        self.columns[:] = best

    def _sweep(self, rightwards: bool) -> None:
        count = len(self.columns)
        for c in range(1, count) if rightwards else range(count - 2, -1, -1):
            links = [(b, a) for a, b in self.gaps[c - 1]] if rightwards else self.gaps[c]
            place = {i: p for p, i in enumerate(self.columns[c - 1 if rightwards else c + 1])}
            own = {i: p for p, i in enumerate(self.columns[c])}
            seen: dict[int, list[int]] = {}
            for mine, other in links:
                seen.setdefault(mine, []).append(place[other])
            self.columns[c].sort(key=lambda i: sum(seen[i]) / len(seen[i]) if i in seen else own[i])

    def _swap_neighbours(self) -> None:
        for c, column in enumerate(self.columns):
            for p in range(len(column) - 1):
                before = self._crossings_beside(c)
                column[p], column[p + 1] = column[p + 1], column[p]
                if self._crossings_beside(c) >= before:
                    column[p], column[p + 1] = column[p + 1], column[p]

    def _crossings(self) -> int:
        return sum(self._crossings_in(gap) for gap in range(len(self.columns) - 1))

    def _crossings_beside(self, column: int) -> int:
        return sum(self._crossings_in(gap) for gap in (column - 1, column) if 0 <= gap < len(self.columns) - 1)

    def _crossings_in(self, gap: int) -> int:
        place = {i: p for c in (gap, gap + 1) for p, i in enumerate(self.columns[c])}
        ends = sorted((place[a], place[b]) for a, b in self.gaps[gap])
        return sum(b > d for n, (a, b) in enumerate(ends) for c, d in ends[n + 1 :] if a < c)


def _paint(axes: Axes, layout: _Layout, prefix: str) -> None:
    for number, route in enumerate(layout.routes):
        colour = _OUTPUT_LINE if route.operation is None else KIND_COLOURS[operation_kind(route.operation)]
        dashes = (0, (3, 2)) if route.operation in ("none", "noise") else "solid"
        for piece, points in enumerate(_pieces(layout, route, layout.ports[number])):
            line = PathPatch(points, fill=False, edgecolor=colour, linewidth=1.3, linestyle=dashes, capstyle="round")
            line.set_gid(f"{prefix}-{route.gid}-{piece}")
            axes.add_artist(line)
        tip_x, tip_y = _port(layout.boxes[route.boxes[-1]], -1, layout.ports[number][1])
        head = [(tip_x, tip_y), (tip_x - _HEAD, tip_y - 0.035), (tip_x - _HEAD, tip_y + 0.035)]
        axes.add_artist(Polygon(head, closed=True, facecolor=colour, edgecolor="none"))
    for box in layout.boxes:
        if box.shape != "lane":
            _paint_box(axes, box, f"{prefix}-{box.gid}")


def _port(box: _Box, side: int, offset: float) -> tuple[float, float]:
    """The point on a box's left (-1) or right (+1) edge at that offset from its centre."""
    reach = (box.half_width**2 - offset**2) ** 0.5 if box.shape == "node" else box.half_width
    return box.x + side * reach, box.y + offset


def _pieces(layout: _Layout, route: _Route, ports: tuple[float, float]) -> list[Outline]:
    """The lines of an edge: one up to its label and one from there, or one in all where it has no label.

    Straight across a column, an S-bend from one column to the next.
    """
    start, end = ports
    pieces: list[tuple[list[tuple[float, float]], list[int]]] = []
    for place, index in enumerate(route.boxes):
        box = layout.boxes[index]
        low, high = layout.bounds[box.column]
        offset = start if place == 0 else end if place == len(route.boxes) - 1 else 0.0
        if place > 0:
            vertices, codes = pieces[-1]
            x, y = vertices[-1]
            enter = low - _COLLAR - _HEAD
            middle = (x + enter) / 2
            vertices += [(middle, y), (middle, box.y + offset), (enter, box.y + offset)]
            codes += [_CURVE] * 3
            if box.shape != "lane":
                edge_x, edge_y = _port(box, -1, offset)
                vertices.append((edge_x - (0.0 if box.shape == "operation" else 0.8 * _HEAD), edge_y))
                codes.append(_LINE)
        if place < len(route.boxes) - 1:
            if box.shape != "lane":
                pieces.append(([_port(box, +1, offset)], [_MOVE]))
            pieces[-1][0].append((high + _COLLAR, box.y + offset))
            pieces[-1][1].append(_LINE)
    return [Outline(vertices, codes) for vertices, codes in pieces]


def _paint_box(axes: Axes, box: _Box, gid: str) -> None:
    w, h = box.half_width, box.half_height
    corner, text_colour, font = (box.x - w, box.y - h), _INK, _VERTEX
    shape: Patch
    if box.shape == "node":
        shape = Circle((box.x, box.y), w, facecolor="white", edgecolor=_INK, linewidth=1.3)
    elif box.shape == "output":
        shape = FancyBboxPatch(corner, 2 * w, 2 * h, "square,pad=0", facecolor=_INK, edgecolor=_INK, linewidth=1.3)
        text_colour = "white"
    elif box.shape == "input":
        style = f"round,pad=0,rounding_size={h}"
        shape = FancyBboxPatch(corner, 2 * w, 2 * h, style, facecolor="#DCE6EF", edgecolor=_INK, linewidth=1.0)
    else:
        colour = KIND_COLOURS[operation_kind(gid.split("-", 3)[3].removesuffix("-label"))]
        style = "round,pad=0,rounding_size=0.05"
        tint = tuple(0.86 + 0.14 * part for part in mpl.colors.to_rgb(colour))
        shape = FancyBboxPatch(corner, 2 * w, 2 * h, style, facecolor=tint, edgecolor=colour, linewidth=1.0)
        font = _LABEL
    shape.set_gid(gid)
    axes.add_artist(shape)
    text = axes.text(
        box.x, box.y, box.text, fontproperties=font, color=text_colour, ha="center", va="center_baseline",
        parse_math=box.shape == "input",
    )  # fmt: skip
    text.set_gid(f"{gid}-text")
