"""Pictures as files, and as images of the page."""

import base64
from pathlib import Path
from xml.etree import ElementTree

import imageio.v3 as iio
import pytest
from matplotlib.figure import Figure

from autodisp.report.pictures import Gallery, page_picture


def plot(title: str = "loss") -> Figure:
    figure = Figure(figsize=(3.0, 2.0), dpi=72)
    axes = figure.add_subplot()
    axes.plot([0, 1], [2, 3], color="#0072B2")
    axes.set_title(title, parse_math=False)
    return figure


def svg_of(uri: str) -> str:
    header, _, content = uri.partition(",")
    assert header == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_both_files_and_an_image(tmp_path: Path) -> None:
    picture = Gallery(tmp_path).add("loss", "the <loss>", plot())
    assert picture.files == ("loss.svg", "loss.png")
    assert iio.imread(tmp_path / "loss.png").shape[:2] == (320, 480)
    assert ElementTree.parse(tmp_path / "loss.svg").getroot().tag.endswith("svg")
    assert (picture.width, picture.height) == (288, 192)
    svg = svg_of(picture.uri)
    assert ElementTree.fromstring(svg).get("viewBox") == "0 0 216 144"
    assert ">loss</text>" in svg, "its words are text"
    assert "#ffffff" not in svg, "it has no ground"
    assert "#ffffff" in (tmp_path / "loss.svg").read_text()


def test_pictures_of_one_name_keep_their_files(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    names = [gallery.add(name, "a", plot()).name for name in ("a", "a", "a_b", "a")]
    assert names == ["a", "a_2", "a_b", "a_3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(gallery.files)


def test_words_stay_words() -> None:
    svg = svg_of(page_picture("odd", "odd", plot('<script>alert("1")</script> & $x$')).uri)
    assert "<script" not in svg
    ElementTree.fromstring(svg)


@pytest.mark.parametrize("title", ["日本", "\U0001f600"])
def test_a_letter_that_the_font_lacks_is_no_fault(tmp_path: Path, title: str) -> None:
    Gallery(tmp_path).add("x", title, plot(title))


def test_a_figure_gives_the_same_files_twice(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    first, second = gallery.add("a", "a", plot()), gallery.add("a", "a", plot())
    assert first.uri == second.uri
    for one, other in zip(first.files, second.files, strict=True):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()
