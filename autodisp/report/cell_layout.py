"""Where everything of a drawn cell lies: vertices, the labels of operations, and the edges between them.

The layout is that of Sugiyama, Tagawa and Toda (1981): vertices in columns by their longest path, and between two
columns of vertices one column for the operations that lead into the right one. It departs from the usual use of that
scheme in that an edge's label is itself a member of a column. Everything in a column is kept apart vertically and edges
pass a column on a lane of their own, so that neither label, vertex nor edge can lie upon another, whatever the cell.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from matplotlib.cbook import is_math_text
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from scipy.optimize import linprog

_Shape = Literal["input", "node", "output", "operation", "lane"]

LABEL_FONT = FontProperties(family="DejaVu Sans", size=8)
VERTEX_FONT = FontProperties(family="DejaVu Sans", size=8.5)
_NODE_RADIUS = 0.17
_LABEL_HALF_HEIGHT = 0.115
COLLAR = 0.04  # straight run beside a column
HEAD = 0.085  # and the length of an arrow head before it
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


def _label(operation: str) -> str:
    words = [word for word in operation.split("_") if word]
    if words[:1] == ["skip"]:
        words = [word for word in words if word != "connect"]
    if words[:1] in (["sep"], ["dil"]):
        words = [word for word in words if word != "conv"]
    sizes = (word.replace("x", "×") if word.replace("x", "").isdigit() else word for word in words)
    return " ".join(sizes) or operation


def text_width(text: str, font: FontProperties, may_be_math: bool = False) -> float:
    """The width of a text in inches; a pair of dollar signs may enclose mathematics."""
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, may_be_math and is_math_text(text))
    return float(points) / 72


@dataclass
class Box:
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
class Route:
    """The boxes that one edge visits from left to right, one a column, as indices into the layout's boxes."""

    operation: str | None
    gid: str
    boxes: list[int] = field(default_factory=list)


class Layout:
    """Where everything of one cell lies; from (0, 0) to (width, height), y downwards."""

    def __init__(self, cell: CellDrawing) -> None:
        self.boxes: list[Box] = []
        self.routes: list[Route] = []
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

    def _add_route(self, source: int, target: int, operation: str | None, gid: str) -> Route:
        last = self.boxes[target].column - (0 if operation is None else 1)
        lanes = [self._add("lane", column, "", "") for column in range(self.boxes[source].column + 1, last)]
        self.routes.append(Route(operation, gid if operation is None else f"{gid}-{operation}", [source, *lanes]))
        return self.routes[-1]

    def _add(self, shape: _Shape, column: int, text: str, gid: str) -> int:
        if shape == "operation":
            text, gid = _label(text), f"{gid}-label"
            size = (text_width(text, LABEL_FONT) / 2 + 0.07, _LABEL_HALF_HEIGHT)
        elif shape == "lane":
            size = (0.0, 0.0)
        elif shape == "node":
            size = (max(_NODE_RADIUS, text_width(text, VERTEX_FONT) / 2 + 0.06),) * 2
        else:
            size = (max(0.2, text_width(text, VERTEX_FONT, may_be_math=shape == "input") / 2 + 0.09), 0.16)
        self.boxes.append(Box(shape, column, *size, text, gid))
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
            x += 2 * half + 2 * COLLAR + HEAD + 0.12 + 0.25 * min(max(climbs, default=0.0), 1.2)
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
