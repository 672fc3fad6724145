"""Figures as files and as images of a page, and the image that a run kept."""

import base64
from pathlib import Path
from xml.etree import ElementTree

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.figure import Figure

from autodisp.observers.picture import keep_picture
from autodisp.report.curves import Chart, empty_chart
from autodisp.report.figures import svg_uri
from autodisp.report.page import Gallery
from autodisp.report.run_image import read_image


def plot(title: str = "loss") -> Figure:
    figure, axes = empty_chart(title)
    axes.plot([0, 1], [2, 3], color="#0072B2")
    return figure


def svg_of(uri: str) -> str:
    header, _, content = uri.partition(",")
    assert header == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_a_figure_becomes_two_files_and_an_image(tmp_path: Path) -> None:
    image = Gallery(tmp_path).add(Chart("loss", "the <loss>", plot()))
    assert iio.imread(tmp_path / "loss.png").shape[:2] == (464, 688)
    assert ElementTree.parse(tmp_path / "loss.svg").getroot().tag.endswith("svg")
    assert (image.width, image.height) == (413, 278)
    svg = svg_of(image.uri)
    assert ElementTree.fromstring(svg).get("viewBox") == "0 0 309.6 208.8"
    assert ">loss</text>" in svg, "its words are text"
    assert "sans-serif" in svg
    assert "#ffffff" not in svg, "it has no background"
    assert "#ffffff" in (tmp_path / "loss.svg").read_text()


def test_figures_of_one_name_keep_their_files_which_depend_on_the_content_only(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path)
    images = [gallery.add(Chart(name, "a", plot())) for name in ("a", "a", "a_b", "a")]
    assert [image.name for image in images] == ["a", "a_2", "a_b", "a_3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(gallery.files)
    assert images[0].uri == images[1].uri
    for suffix in ("svg", "png"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"a_2.{suffix}").read_bytes()


@pytest.mark.parametrize("title", ['<script>alert("1")</script> & $x_{$', "日本", "\U0001f600"])
def test_text_stays_text_with_and_without_glyphs(title: str) -> None:
    svg = svg_of(svg_uri(plot(title)))
    assert "<script" not in svg
    ElementTree.fromstring(svg)


def shaded(shade: int, width: int = 9) -> npt.NDArray[np.uint8]:
    return np.full((6, width, 3), shade, dtype=np.uint8)


def test_the_newest_image_of_a_run_is_kept(tmp_path: Path) -> None:
    notes: list[str] = []
    assert read_image(tmp_path, notes) is None
    assert notes == []
    for shade in (10, 20):
        keep_picture(tmp_path, "prediction", shaded(shade))
    assert [path.name for path in tmp_path.iterdir()] == ["prediction.png"]
    found = read_image(tmp_path, notes)
    assert found is not None
    assert (iio.imread(base64.b64decode(found.uri.partition(",")[2]), extension=".png") == 20).all()
    assert (found.width, found.height) == (9, 6)


def test_a_wide_image_is_shown_smaller(tmp_path: Path) -> None:
    keep_picture(tmp_path, "prediction", shaded(7, width=3200))
    found = read_image(tmp_path, [])
    assert found is not None
    assert (found.width, found.height) == (1600, 3)
    assert iio.imread(found.png, extension=".png").shape == (6, 3200, 3)


def test_a_folder_that_is_gone_stops_no_run(tmp_path: Path) -> None:
    keep_picture(tmp_path / "gone", "prediction", shaded(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<script>alert(1)</script>", b"GIF89a"])
def test_a_file_that_is_no_image_is_a_note(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prediction.png").write_bytes(content)
    notes: list[str] = []
    assert read_image(tmp_path, notes) is None
    assert len(notes) == 1
    assert "prediction.png" in notes[0]
