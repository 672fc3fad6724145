"""Pictures as files, and as SVG of the page."""

import re
from pathlib import Path
from xml.etree import ElementTree

import imageio.v3 as iio
import pytest
from matplotlib.figure import Figure

from autodisp.report.drawing import CellDrawing, DrawnEdge, cell_figure
from autodisp.report.pictures import Gallery, page_colour, svg_text

CELL = CellDrawing("normal", ("a", "b"), 2, (DrawnEdge(0, 0, "skip_connect"), DrawnEdge(1, 1, "sep_conv_3x3")))


def plot(title: str = "loss") -> Figure:
    figure = Figure(figsize=(3.0, 2.0), dpi=72)
    axes = figure.add_subplot()
    axes.plot([0, 1], [2, 3], color="#0072B2")
    axes.set_title(title, parse_math=False)
    return figure


def test_both_files_and_an_element(tmp_path: Path) -> None:
    picture = Gallery(tmp_path).add("loss", "the <loss>", plot())
    assert picture.files == ("loss.svg", "loss.png")
    assert iio.imread(tmp_path / "loss.png").shape[:2] == (320, 480)
    assert ElementTree.parse(tmp_path / "loss.svg").getroot().tag.endswith("svg")
    assert picture.width == 288
    root = ElementTree.fromstring(picture.svg)
    assert root.get("aria-label") == "the <loss>"
    assert root.get("viewBox") == "0 0 216 144"
    assert root.get("width") is None


def test_the_page_knows_every_name_once(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    parts = [gallery.add("a", "a", plot()).svg, gallery.add("b", "b", plot("sold")).svg]
    page = f"<html>{gallery.glyphs}{''.join(parts)}</html>"
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert used
    assert set(used) <= set(names)
    ElementTree.fromstring(page)


def test_pictures_of_one_name_keep_their_files(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    names = [gallery.add("a", "a", plot()).name for _ in range(3)]
    assert names == ["a", "a_2", "a_3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(gallery.files)


def test_colours_follow_the_page(tmp_path: Path) -> None:
    svg = Gallery(tmp_path).add("cell", "cell", cell_figure(CELL)).svg
    assert "var(--orange)" in svg
    assert "color-mix(in srgb, var(--blue) 18%, var(--paper))" in svg
    assert not re.findall(r"#[0-9a-fA-F]{6}\b", svg)
    assert "var(" not in (tmp_path / "cell.svg").read_text()
    assert page_colour("#0072B2") == "var(--blue)"
    assert page_colour("#123456") == "#123456"


def test_words_stay_words(tmp_path: Path) -> None:
    svg = Gallery(tmp_path).add("odd", 'a"><script>', plot('<script>alert("1")</script> & $x$')).svg
    assert "<script" not in svg
    ElementTree.fromstring(svg)


@pytest.mark.parametrize("title", ["日本", "\U0001f600"])
def test_a_letter_that_the_font_lacks_is_no_fault(tmp_path: Path, title: str) -> None:
    Gallery(tmp_path).add("x", title, plot(title))


def test_a_figure_gives_the_same_text_twice() -> None:
    assert svg_text(plot()) == svg_text(plot())
