import itertools
import random
import re
import subprocess
import sys
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.transforms import Bbox

from autodisp.errors import InputError
from autodisp.report.cell_layout import CellDrawing, DrawnEdge
from autodisp.report.drawing import (
    KIND_COLOURS,
    cell_figure,
    cells_figure,
    draw_cell,
    draw_cells,
    operation_kind,
)

TWO = ("$c_{k-2}$", "$c_{k-1}$")
FOUR = (*TWO, "prediction", "support")
OPERATIONS = [
    *("none", "noise", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5"),
    *("sep_conv_7x7", "dil_conv_3x3", "dil_conv_5x5", "conv_1x1", "conv_3x3"),
]


def published(title: str, inputs: tuple[str, ...], words: str) -> CellDrawing:
    """A cell from the notation of the papers' tables: (operation,input)... | ..., a node between two bars."""
    edges = [
        DrawnEdge(int(source), node, operation)
        for node, part in enumerate(words.split("|"))
        for operation, source in re.findall(r"\((\w+),(\d)\)", part)
    ]
    return CellDrawing(title, inputs, words.count("|") + 1, tuple(edges))


CELLS = {
    "DARTS_V2 normal": (
        TWO,
        "(sep_conv_3x3,0)(sep_conv_3x3,1) | (sep_conv_3x3,0)(sep_conv_3x3,1) | (sep_conv_3x3,1)(skip_connect,0) | "
        "(skip_connect,0)(dil_conv_3x3,2)",
    ),
    "DARTS_V2 reduce": (
        TWO,
        "(max_pool_3x3,0)(max_pool_3x3,1) | (skip_connect,2)(max_pool_3x3,1) | (max_pool_3x3,0)(skip_connect,2) | "
        "(skip_connect,2)(max_pool_3x3,1)",
    ),
    "S1 degenerate": (
        TWO,
        "(skip_connect,1)(dil_conv_3x3,0) | (skip_connect,2)(skip_connect,0) | (skip_connect,0)(skip_connect,2) | "
        "(skip_connect,2)(skip_connect,1)",
    ),
    "AutoDispNet normal": (
        TWO,
        "(skip_connect,0)(sep_conv_5x5,1) | (sep_conv_3x3,2)(skip_connect,0) | (dil_conv_3x3,2)(dil_conv_3x3,0)",
    ),
    "AutoDispNet reduce": (
        TWO,
        "(sep_conv_5x5,1)(sep_conv_3x3,0) | (sep_conv_5x5,2)(skip_connect,0) | (skip_connect,1)(sep_conv_5x5,3)",
    ),
    "AutoDispNet upsample": (
        FOUR,
        "(sep_conv_3x3,3)(dil_conv_3x3,2)(sep_conv_3x3,1)(skip_connect,0) | (sep_conv_3x3,3)(sep_conv_3x3,4) | "
        "(sep_conv_3x3,2)(dil_conv_5x5,4)",
    ),
    "parallel edges": (TWO, "(skip_connect,0)(sep_conv_3x3,0) | (none,2)(none,2)(dil_conv_5x5,2)"),
}
NAMED = [published(title, inputs, words) for title, (inputs, words) in CELLS.items()]
SUPERNET = CellDrawing(
    "supernet", TWO, 4, tuple(DrawnEdge(s, t, "sep_conv_3x3") for t in range(4) for s in range(2 + t))
)
ODD = [
    CellDrawing("", ("a",), 1, ()),
    CellDrawing("no edge", ("a", "b"), 3, ()),
    CellDrawing("unused input and node", ("a", "b", "c"), 3, (DrawnEdge(2, 0, "none"), DrawnEdge(3, 2, "noise"))),
    CellDrawing("a $title_ longer than { its cell " * 3, ("x",), 1, (DrawnEdge(0, 0, "a_new_operation_9x9"),)),
    CellDrawing("dense", FOUR, 6, tuple(DrawnEdge(s, t, "max_pool_3x3") for t in range(6) for s in range(4 + t))),
]


def random_cell(rng: random.Random) -> CellDrawing:
    inputs, nodes = rng.choice([TWO, FOUR]), rng.randint(1, 4)
    edges = [
        DrawnEdge(rng.randrange(len(inputs) + node), node, rng.choice(OPERATIONS))
        for node in range(nodes)
        for _ in range(rng.choice([1, 2, 2, 2, 4]))
    ]
    rng.shuffle(edges)
    return CellDrawing("random", inputs, nodes, tuple(edges))


def extents(figure: Figure, pattern: str) -> dict[str, Bbox]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return {
        artist.get_gid(): artist.get_window_extent(renderer)
        for artist in figure.axes[0].get_children()
        if artist.get_gid() and re.fullmatch(pattern, artist.get_gid())
    }


def assert_nothing_overlaps(figure: Figure, labels: int) -> None:
    boxes = extents(figure, r"c\d+-(vertex-\d+|edge-\d+-.*-label)")
    texts = extents(figure, r"c\d+-(vertex-\d+|edge-\d+-.*-label)-text")
    assert sum(gid.endswith("-label") for gid in boxes) == labels
    page = Bbox([[0, 0], figure.bbox.size])
    gids, corners = list(boxes), np.array([box.extents for box in boxes.values()])
    for number, (gid, box) in enumerate(boxes.items()):
        apart = (corners[:, :2] >= box.max).any(axis=1) | (corners[:, 2:] <= box.min).any(axis=1)
        assert [gids[i] for i in np.flatnonzero(~apart)] == [gid], number
        assert holds(box, texts[f"{gid}-text"]), gid
        assert holds(page, box), gid
    assert len(lines(figure)) > 2 * labels
    round_ones = np.array(["vertex" in gid for gid in gids])
    centres, radii = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 3] - corners[:, 1]) / 2
    for gid, line in lines(figure).items():
        path = line.get_transform().transform_path(line.get_path())
        points = np.concatenate(path.to_polygons(closed_only=False))[:, None]
        # a line ends at the edge of its boxes, so it touches them by half its width
        inside = ((points > corners[:, :2] + 1.5) & (points < corners[:, 2:] - 1.5)).all(axis=-1)
        inside &= ~round_ones | (((points - centres) ** 2).sum(axis=-1) < (radii - 2) ** 2)
        assert not inside.any(), f"{gid} enters {[gids[i] for i in np.flatnonzero(inside.any(axis=0))]}"


def holds(outer: Bbox, inner: Bbox) -> bool:
    return bool((outer.min <= inner.min).all() and (inner.max <= outer.max).all())


def lines(figure: Figure) -> dict[str, PathPatch]:
    named = ((artist.get_gid() or "", artist) for artist in figure.axes[0].patches)
    return {gid: artist for gid, artist in named if re.search(r"-(edge|concat)-.*-\d$", gid)}


@pytest.mark.parametrize("cell", [*NAMED, SUPERNET, *ODD], ids=lambda cell: cell.title[:24])
def test_labels_and_vertices_keep_apart_and_lines_pass_between_them(cell: CellDrawing) -> None:
    assert_nothing_overlaps(cell_figure(cell), len(cell.edges))


@pytest.mark.slow
def test_nothing_overlaps_in_random_cells() -> None:
    rng = random.Random(0)
    for _ in range(10):
        cells = [random_cell(rng) for _ in range(20)]
        assert_nothing_overlaps(cells_figure(cells), sum(len(cell.edges) for cell in cells))


@pytest.mark.parametrize("cell", [*NAMED, SUPERNET], ids=lambda cell: cell.title)
def test_everything_runs_from_left_to_right(cell: CellDrawing) -> None:
    figure = cell_figure(cell)
    vertices = extents(figure, r"c0-vertex-\d+")
    labels = extents(figure, r"c0-edge-.*-label")
    last = len(cell.inputs) + cell.nodes
    for number, edge in enumerate(cell.edges):
        label = labels[f"c0-edge-{number}-{edge.operation}-label"]
        source, target = vertices[f"c0-vertex-{edge.source}"], vertices[f"c0-vertex-{len(cell.inputs) + edge.target}"]
        assert source.x1 < label.x0
        assert label.x1 < target.x0
    for vertex in range(last):
        assert vertices[f"c0-vertex-{vertex}"].x1 < vertices[f"c0-vertex-{last}"].x0
    first = max(vertices[f"c0-vertex-{i}"].x1 for i in range(len(cell.inputs)))
    assert all(first < vertices[f"c0-vertex-{i}"].x0 for i in range(len(cell.inputs), last))


def test_a_label_is_joined_to_its_source_and_target() -> None:
    for cell in [*NAMED, SUPERNET]:
        figure = cell_figure(cell)
        vertices, labels = extents(figure, r"c0-vertex-\d+"), extents(figure, r"c0-edge-.*-label")
        drawn = lines(figure)
        for number, edge in enumerate(cell.edges):
            name = f"c0-edge-{number}-{edge.operation}"
            ends = []
            for piece in (0, 1):
                line = drawn[f"{name}-{piece}"]
                ends.append(line.get_transform().transform(line.get_path().vertices[[0, -1]]))
            for point, box in (
                (ends[0][0], vertices[f"c0-vertex-{edge.source}"]),
                (ends[0][1], labels[f"{name}-label"]),
                (ends[1][0], labels[f"{name}-label"]),
                (ends[1][1], vertices[f"c0-vertex-{len(cell.inputs) + edge.target}"]),
            ):
                # in pixels, 100 an inch; the arrow head stands between the line's end and the vertex
                assert box.x0 - 9 < point[0] < box.x1 + 2
                assert box.y0 < point[1] < box.y1


@pytest.mark.parametrize("operations", [("skip_connect", "sep_conv_3x3"), ("sep_conv_3x3", "sep_conv_3x3")])
def test_parallel_edges_are_both_seen(operations: tuple[str, str]) -> None:
    figure = cell_figure(CellDrawing("", TWO, 1, tuple(DrawnEdge(0, 0, operation) for operation in operations)))
    upper, lower = (lines(figure)[f"c0-edge-{number}-{operation}-0"] for number, operation in enumerate(operations))
    ends = [line.get_transform().transform(line.get_path().vertices[-1]) for line in (upper, lower)]
    assert abs(ends[0][1] - ends[1][1]) > 20
    image = rendered(figure).astype(int)
    for operation in operations:
        colour = 255 * np.array(to_rgb(KIND_COLOURS[operation_kind(operation)]))
        assert (np.abs(image - colour).max(axis=-1) < 6).sum() > 100


def rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("skip_connect", "skip"),
        ("sep_conv_7x7", "separable"),
        ("dil_conv_5x5", "dilated"),
        ("max_pool_3x3", "pooling"),
        ("avg_pool_3x3", "pooling"),
        ("conv_1x1", "convolution"),
        ("conv_3x3", "convolution"),
        ("none", "nothing"),
        ("noise", "nothing"),
        ("something_else", "other"),
    ],
)
def test_an_operation_has_the_colour_of_its_kind(operation: str, kind: str) -> None:
    assert operation_kind(operation) == kind
    figure = cell_figure(CellDrawing("", TWO, 1, (DrawnEdge(1, 0, operation),)))
    artists = {artist.get_gid(): artist for artist in figure.axes[0].patches}
    for part in ("label", "0", "1"):
        assert to_hex(artists[f"c0-edge-0-{operation}-{part}"].get_edgecolor()).upper() == KIND_COLOURS[kind]


def test_the_kinds_have_colours_of_their_own() -> None:
    assert len(set(KIND_COLOURS.values())) == len(KIND_COLOURS)


def test_inputs_nodes_and_output_have_shapes_of_their_own() -> None:
    figure = cell_figure(SUPERNET)
    artists = {artist.get_gid(): artist for artist in figure.axes[0].patches}
    looks = [(type(artists[f"c0-vertex-{i}"]), artists[f"c0-vertex-{i}"].get_facecolor()) for i in (0, 2, 6)]
    assert len(set(looks)) == 3


@pytest.mark.parametrize(
    ("operation", "words"),
    [("sep_conv_3x3", "sep 3×3"), ("max_pool_3x3", "max pool 3×3"), ("skip_connect", "skip"), ("conv_1x1", "conv 1×1")],
)
def test_labels_are_readable(operation: str, words: str) -> None:
    figure = cell_figure(CellDrawing("", TWO, 1, (DrawnEdge(1, 0, operation),)))
    (text,) = (t for t in figure.axes[0].texts if t.get_gid() == f"c0-edge-0-{operation}-label-text")
    assert text.get_text() == words
    assert text.get_fontsize() >= 8


@pytest.mark.slow
def test_files_depend_on_the_cell_only(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    script = (
        "import sys, pathlib\n"
        "from autodisp.report.drawing import *\n"
        "cell = CellDrawing('t', ('a', 'b'), 1, (DrawnEdge(0, 0, 'skip_connect'), DrawnEdge(1, 0, 'none')))\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "for name in ('other.svg', 'other.png', 'other.pdf'): draw_cell(cell, folder / name)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    cell = CellDrawing("t", ("a", "b"), 1, (DrawnEdge(0, 0, "skip_connect"), DrawnEdge(1, 0, "none")))
    for suffix in ("svg", "png", "pdf"):
        draw_cell(cell, tmp_path / f"one.{suffix}")
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
    assert b"<dc:date>" not in (tmp_path / "one.svg").read_bytes()
    assert dict(mpl.rcParams) == settings


def test_an_svg_names_what_it_shows(tmp_path: Path) -> None:
    draw_cell(SUPERNET, tmp_path / "cell.SVG")
    content = (tmp_path / "cell.SVG").read_text()
    assert content.count('id="c0-edge-') == 14 * 4  # two lines, a box and its text each
    assert 'id="c0-edge-13-sep_conv_3x3-label"' in content


def test_a_png_is_large_enough_to_print(tmp_path: Path) -> None:
    draw_cell(SUPERNET, tmp_path / "cell.png")
    image = cv2.imread(str(tmp_path / "cell.png"))
    assert image.shape[1] > 1200
    assert 0.02 < (image < 128).any(axis=-1).mean() < 0.5


def test_cells_stand_side_by_side(tmp_path: Path) -> None:
    figure = cells_figure(NAMED[3:6])
    spans = [
        (min(box.x0 for box in found.values()), max(box.x1 for box in found.values()))
        for found in (extents(figure, rf"c{i}-.*") for i in range(3))
    ]
    assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))
    titles = [t for t in figure.axes[0].texts if t.get_gid() is None]
    assert [t.get_text() for t in titles] == [cell.title for cell in NAMED[3:6]]
    renderer = FigureCanvasAgg(figure).get_renderer()
    ends = [(t.get_window_extent(renderer).x0, t.get_window_extent(renderer).x1) for t in titles]
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ends))
    draw_cells(NAMED[3:6], tmp_path / "cells.svg")
    assert (tmp_path / "cells.svg").stat().st_size > 0


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cell\.jpeg: .*svg, png, pdf"):
        draw_cell(SUPERNET, tmp_path / "cell.jpeg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("inputs", "nodes", "edge", "message"),
    [
        (TWO, 2, DrawnEdge(0, 2, "none"), r"nodes 0\.\.1"),
        (TWO, 2, DrawnEdge(0, -1, "none"), r"nodes 0\.\.1"),
        (TWO, 2, DrawnEdge(2, 0, "none"), "earlier nodes"),
        (TWO, 2, DrawnEdge(-1, 0, "none"), "earlier nodes"),
        ((), 1, DrawnEdge(0, 0, "none"), "inputs and nodes"),
        (TWO, 0, DrawnEdge(0, 0, "none"), "inputs and nodes"),
    ],
)
def test_what_is_no_cell_is_refused(inputs: tuple[str, ...], nodes: int, edge: DrawnEdge, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellDrawing("", inputs, nodes, (edge,))
    with pytest.raises(ValueError, match="no cell"):
        cells_figure([])
