"""The picture of a predicted disparity: kept by a run, found by its report."""

import base64
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest

from autodisp.observers.picture import keep_picture
from autodisp.report import run_picture
from autodisp.report.run_picture import read_prediction


def picture(shade: int, width: int = 9) -> npt.NDArray[np.uint8]:
    return np.full((6, width, 3), shade, dtype=np.uint8)


def shown(uri: str) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = iio.imread(base64.b64decode(uri.partition(",")[2]), extension=".png")
    return pixels


def test_the_newest_is_kept(tmp_path: Path) -> None:
    for shade in (10, 20):
        keep_picture(tmp_path, "prediction", picture(shade))
    assert [path.name for path in tmp_path.iterdir()] == ["prediction.png"]
    found = read_prediction(tmp_path, [])
    assert found is not None
    assert (shown(found.uri) == 20).all()
    assert (found.width, found.height) == (9, 6)


def test_a_folder_that_is_gone_stops_no_run(tmp_path: Path) -> None:
    keep_picture(tmp_path / "gone", "prediction", picture(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"<script>alert(1)</script>", b"GIF89a"])
def test_what_is_no_picture_is_a_note(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "prediction.png").write_bytes(content)
    notes: list[str] = []
    assert read_prediction(tmp_path, notes) is None
    assert len(notes) == 1
    assert "prediction.png" in notes[0]


def test_a_picture_too_large_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_picture(tmp_path, "prediction", picture(5))
    monkeypatch.setattr(run_picture, "_MOST_PIXELS", 53)
    notes: list[str] = []
    assert read_prediction(tmp_path, notes) is None
    assert len(notes) == 1


def test_a_wide_picture_is_shown_smaller(tmp_path: Path) -> None:
    keep_picture(tmp_path, "prediction", picture(7, width=3200))
    found = read_prediction(tmp_path, [])
    assert found is not None
    assert (found.width, found.height) == (1600, 3)
    assert iio.imread(found.png, extension=".png").shape == (6, 3200, 3)


def test_no_picture(tmp_path: Path) -> None:
    notes: list[str] = []
    assert read_prediction(tmp_path, notes) is None
    assert notes == []
