"""Draws a found cell as SVG, PNG or PDF: inputs on the left, output on the right, one box an operation.

Where everything lies is found in ``cell_layout``. All lengths are inches. Nothing here touches pyplot or leaves a
changed rcParams behind, and a file depends on the cell only: no date, no random ids.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyBboxPatch, Patch, PathPatch, Polygon
from matplotlib.path import Path as Outline

from autodisp.cells.genotype import Genotype, source_name
from autodisp.cells.spaces import INPUTS
from autodisp.errors import InputError
from autodisp.report.cell_layout import (
    COLLAR,
    HEAD,
    LABEL_FONT,
    VERTEX_FONT,
    Box,
    CellDrawing,
    DrawnEdge,
    Layout,
    Route,
    text_width,
)

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
_TITLE = FontProperties(family="DejaVu Sans", size=10, weight="bold")
_RC: dict[Any, Any] = {"svg.hashsalt": "autodisp", "svg.fonttype": "path", "text.usetex": False, "path.sketch": None}

_MOVE, _LINE, _CURVE = int(Outline.MOVETO), int(Outline.LINETO), int(Outline.CURVE4)
_MARGIN = 0.12


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
    layouts = [Layout(cell) for cell in cells]
    widths = [max(layout.width, text_width(cell.title, _TITLE)) for layout, cell in zip(layouts, cells, strict=True)]
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


def _paint(axes: Axes, layout: Layout, prefix: str) -> None:
    for number, route in enumerate(layout.routes):
        colour = _OUTPUT_LINE if route.operation is None else KIND_COLOURS[operation_kind(route.operation)]
        dashes = (0, (3, 2)) if route.operation in ("none", "noise") else "solid"
        for piece, points in enumerate(_pieces(layout, route, layout.ports[number])):
            line = PathPatch(points, fill=False, edgecolor=colour, linewidth=1.3, linestyle=dashes, capstyle="round")
            line.set_gid(f"{prefix}-{route.gid}-{piece}")
            axes.add_artist(line)
        tip_x, tip_y = _port(layout.boxes[route.boxes[-1]], -1, layout.ports[number][1])
        head = [(tip_x, tip_y), (tip_x - HEAD, tip_y - 0.035), (tip_x - HEAD, tip_y + 0.035)]
        axes.add_artist(Polygon(head, closed=True, facecolor=colour, edgecolor="none"))
    for box in layout.boxes:
        if box.shape != "lane":
            _paint_box(axes, box, f"{prefix}-{box.gid}")


def _port(box: Box, side: int, offset: float) -> tuple[float, float]:
    """The point on a box's left (-1) or right (+1) edge at that offset from its centre."""
    reach = (box.half_width**2 - offset**2) ** 0.5 if box.shape == "node" else box.half_width
    return box.x + side * reach, box.y + offset


def _pieces(layout: Layout, route: Route, ports: tuple[float, float]) -> list[Outline]:
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
            enter = low - COLLAR - HEAD
            middle = (x + enter) / 2
            vertices += [(middle, y), (middle, box.y + offset), (enter, box.y + offset)]
            codes += [_CURVE] * 3
            if box.shape != "lane":
                edge_x, edge_y = _port(box, -1, offset)
                vertices.append((edge_x - (0.0 if box.shape == "operation" else 0.8 * HEAD), edge_y))
                codes.append(_LINE)
        if place < len(route.boxes) - 1:
            if box.shape != "lane":
                pieces.append(([_port(box, +1, offset)], [_MOVE]))
            pieces[-1][0].append((high + COLLAR, box.y + offset))
            pieces[-1][1].append(_LINE)
    return [Outline(vertices, codes) for vertices, codes in pieces]


def _paint_box(axes: Axes, box: Box, gid: str) -> None:
    w, h = box.half_width, box.half_height
    corner, text_colour, font = (box.x - w, box.y - h), _INK, VERTEX_FONT
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
        font = LABEL_FONT
    shape.set_gid(gid)
    axes.add_artist(shape)
    text = axes.text(
        box.x, box.y, box.text, fontproperties=font, color=text_colour, ha="center", va="center_baseline",
        parse_math=box.shape == "input",
    )  # fmt: skip
    text.set_gid(f"{gid}-text")
