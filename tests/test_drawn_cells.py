"""Drawings of cells: nothing overlaps, everything is joined, and files depend on the cells only."""

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
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox

from autodisp.cells.genotype import Genotype, load
from autodisp.cells.spaces import INPUTS, SPACES
from autodisp.errors import InputError
from autodisp.report.cells import KIND_COLOURS, cells_figure, draw_cells, label_of, operation_kind

OPERATIONS = sorted({name for space in SPACES.values() for cell in space.cells.values() for edge in cell.edges
                     for name in edge.operations})  # fmt: skip


def one(kind: str, *nodes: list[tuple[str, int]]) -> Genotype:
    return Genotype("", {kind: tuple(map(tuple, nodes))})


def supernet(nodes: int, kind: str) -> Genotype:
    return one(kind, *([("sep_conv_3x3", source) for source in range(INPUTS[kind] + node)] for node in range(nodes)))


CELLS = {
    "darts": load("darts_v2"),
    "autodispnet": load("autodispnet"),
    "supernet": supernet(4, "normal"),
    "dense": supernet(6, "upsample"),
    "parallel edges": one("normal", [("skip_connect", 0), ("skip_connect", 0)], [("none", 2), ("none", 2)]),
    "node without edges": one("upsample", [], [("none", 4)], []),
    "unknown operation": one("reduce", [("a_new_operation_9x9", 0)]),
}


def random_cells(rng: random.Random) -> Genotype:
    cells = {}
    for kind, inputs in INPUTS.items():
        cells[kind] = tuple(
            tuple((rng.choice(OPERATIONS), rng.randrange(inputs + node)) for _ in range(rng.choice([1, 2, 2, 4])))
            for node in range(rng.randint(1, 4))
        )
    return Genotype("", cells)


def extents(figure: Figure, pattern: str) -> dict[str, Bbox]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    artists = {str(artist.get_gid()): artist for artist in figure.axes[0].get_children() if artist.get_gid()}
    return {gid: artist.get_window_extent(renderer) for gid, artist in artists.items() if re.fullmatch(pattern, gid)}


def lines(figure: Figure) -> dict[str, np.ndarray]:
    """Points on each line, in pixels."""
    found = {}
    for patch in figure.axes[0].patches:
        if re.search(r"-(concat-\d+|in|out)$", gid := str(patch.get_gid())):
            path = patch.get_transform().transform_path(patch.get_path())
            line, *_ = path.to_polygons(closed_only=False)  # without the head of an arrow
            found[gid] = Outline(line).interpolated(20).vertices
    return found


BOXES = r"\w+-(input-\d|node-\d|output|edge-\d+-[a-z0-9_]+)"


def assert_nothing_overlaps(figure: Figure) -> None:
    boxes, texts = extents(figure, BOXES), extents(figure, f"{BOXES}-text")
    page = Bbox([[0, 0], figure.bbox.size])
    for (gid, box), (other, second) in itertools.combinations(boxes.items(), 2):
        assert not box.padded(-0.5).overlaps(second.padded(-0.5)), (gid, other)
    for gid, box in boxes.items():
        assert box.padded(1).containsx(texts[f"{gid}-text"].x0), gid
        assert box.padded(1).containsx(texts[f"{gid}-text"].x1), gid
        assert Bbox.intersection(page, box).bounds == pytest.approx(box.bounds), gid
    for line, points in lines(figure).items():
        for gid, box in boxes.items():
            inside = ((points > box.min + 2) & (points < box.max - 2)).all(axis=1)
            assert not inside.any(), f"{line} enters {gid}"


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_boxes_keep_apart_and_lines_pass_between_them(name: str) -> None:
    assert_nothing_overlaps(cells_figure(CELLS[name]))


@pytest.mark.slow
def test_nothing_overlaps_in_random_cells() -> None:
    rng = random.Random(0)
    for _ in range(8):
        assert_nothing_overlaps(cells_figure(random_cells(rng)))


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_lines_join_source_label_and_target_from_left_to_right(name: str) -> None:
    for kind, nodes in CELLS[name].cells.items():
        figure = cells_figure(CELLS[name], [kind])
        boxes, drawn = extents(figure, BOXES), lines(figure)
        vertices = [
            *(f"{kind}-input-{i}" for i in range(INPUTS[kind])),
            *(f"{kind}-node-{i}" for i in range(len(nodes))),
        ]
        edges = [(name, source, f"{kind}-node-{node}") for node, choices in enumerate(nodes)
                 for name, source in sorted(choices, key=lambda choice: choice[1])]  # fmt: skip
        ends = [(f"{kind}-concat-{i}", f"{kind}-node-{i}", f"{kind}-output") for i in range(len(nodes))]
        for number, (operation, source, target) in enumerate(edges):
            label = f"{kind}-edge-{number}-{operation}"
            ends += [(f"{label}-in", vertices[source], label), (f"{label}-out", label, target)]
        assert len(drawn) == len(ends)
        for line, start, end in ends:
            first, last = drawn[line][0], drawn[line][-1]
            assert boxes[start].padded(3).contains(*first), line
            assert boxes[end].padded(5).contains(*last), line  # the point of an arrow
            assert boxes[start].x1 < boxes[end].x0


@pytest.mark.parametrize(
    ("operation", "kind", "words"),
    [
        ("skip_connect", "skip", "skip"),
        ("sep_conv_7x7", "separable", "sep 7×7"),
        ("dil_conv_5x5", "dilated", "dil 5×5"),
        ("max_pool_3x3", "pooling", "max pool 3×3"),
        ("conv_1x1", "convolution", "conv 1×1"),
        ("none", "nothing", "none"),
        ("noise", "nothing", "noise"),
        ("something_else", "other", "something else"),
        ("_", "other", "_"),
    ],
)
def test_an_operation_has_the_colour_of_its_kind_and_readable_words(operation: str, kind: str, words: str) -> None:
    assert (operation_kind(operation), label_of(operation)) == (kind, words)
    axes = cells_figure(one("normal", [(operation, 1)])).axes[0]
    for patch in axes.patches:
        if operation in str(patch.get_gid()):
            assert to_hex(patch.get_edgecolor()).upper() == KIND_COLOURS[kind]
    assert words in [text.get_text() for text in axes.texts]
    assert len(set(KIND_COLOURS.values())) == len(KIND_COLOURS)


def test_inputs_and_nodes_are_named_as_in_the_words() -> None:
    texts = {text.get_text() for text in cells_figure(load("autodispnet"), ["upsample"]).axes[0].texts}
    assert {"in0", "in3", "n0", "n2", "output", "upsample"} <= texts


@pytest.mark.slow
def test_files_depend_on_the_cells_only(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    script = (
        "import sys, pathlib\n"
        "from autodisp.cells.genotype import load\n"
        "from autodisp.report.cells import draw_cells\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "for name in ('other.svg', 'other.png', 'other.pdf'): draw_cells(load('autodispnet'), folder / name)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    for suffix in ("svg", "png", "pdf"):
        draw_cells(load("autodispnet"), tmp_path / f"one.{suffix}")
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"other.{suffix}").read_bytes()
    assert dict(mpl.rcParams) == settings


def test_an_svg_names_its_parts_and_a_png_is_large_enough_to_print(tmp_path: Path) -> None:
    for suffix in ("SVG", "png"):
        draw_cells(CELLS["supernet"], tmp_path / f"cell.{suffix}")
    content = (tmp_path / "cell.SVG").read_text()
    assert len(re.findall(r'id="normal-edge-\d+-sep_conv_3x3"', content)) == 14
    image = cv2.imread(str(tmp_path / "cell.png"))
    assert image.shape[1] > 1200
    assert 0.02 < (image < 128).any(axis=-1).mean() < 0.5


def test_other_formats_and_no_cell_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cell\.jpeg: .*svg, png, pdf"):
        draw_cells(CELLS["supernet"], tmp_path / "cell.jpeg")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no cell"):
        cells_figure(Genotype("", {}))
