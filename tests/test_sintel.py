"""Sintel stereo on files written here in the official format."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from autodisp.datasets.sintel import Sintel
from autodisp.errors import InputError
from tests.image_files import put, rgb
from tests.made_data import colours

HEIGHT, WIDTH = 6, 9
TOPS = ("clean_left", "clean_right", "final_left", "final_right", "disparities", "occlusions", "outofframe")
FRAMES = ("alley_1/frame_0001", "alley_1/frame_0002", "market_5/frame_0001")


def content(top: str, frame: str) -> np.ndarray:
    pixels = colours(top + frame)
    return (pixels[..., 0] > 180) * np.uint8(255) if top in TOPS[5:] else pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for top in TOPS:
        for frame in FRAMES:
            put(tmp_path / "training" / top / f"{frame}.png", content(top, frame))
    return tmp_path


@pytest.mark.parametrize("render_pass", ["clean", "final"])
def test_every_frame_has_its_own_parts(root: Path, render_pass: str) -> None:
    data = Sintel(root, render_pass=render_pass)
    assert tuple(data.names) == FRAMES
    assert list(data.groups) == ["alley_1", "alley_1", "market_5"]
    assert data.has_occlusion
    assert len(data) == 3
    for frame, sample in zip(FRAMES, data, strict=True):
        torch.testing.assert_close(sample.left, rgb(content(f"{render_pass}_left", frame)), rtol=1e-7, atol=0)
        torch.testing.assert_close(sample.right, rgb(content(f"{render_pass}_right", frame)), rtol=1e-7, atol=0)
        assert torch.equal(sample.occluded[0], torch.tensor(content("occlusions", frame) == 255))
        assert torch.equal(sample.out_of_frame[0], torch.tensor(content("outofframe", frame) == 255))
        assert sample.valid.all()
        assert sample.valid.shape == (1, HEIGHT, WIDTH)


def test_the_disparity_code_is_exact(root: Path) -> None:
    sample = Sintel(root)[0]
    assert sample.disparity.dtype == torch.float32
    stored = content("disparities", FRAMES[0]).tolist()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            red, green, blue = stored[y][x]
            # At most 10 + 14 bits: no rounding in float32.
            assert float(sample.disparity[0, y, x]) == (red * 65536 + green * 256 + blue) / 16384


@pytest.mark.parametrize("top", ["clean_left", "clean_right", "disparities", "occlusions", "outofframe"])
def test_a_missing_file_is_named(root: Path, top: str) -> None:
    (root / "training" / top / "alley_1" / "frame_0002.png").unlink()
    with pytest.raises(InputError, match=f"1 of 3.*training/{top}/alley_1/frame_0002.png missing"):
        Sintel(root)


def test_the_other_pass_may_be_absent(root: Path) -> None:
    (root / "training" / "final_left").rename(root / "training" / "away")
    assert len(Sintel(root)) == 3
    with pytest.raises(InputError, match=r"training/final_left.*sintel\.is\.tue\.mpg\.de.*shapes3d"):
        Sintel(root, render_pass="final")


@pytest.mark.parametrize(
    ("top", "pixels", "says"),
    [
        ("clean_right", np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), "10x6.*9x6"),
        ("disparities", np.zeros((HEIGHT + 2, WIDTH, 3), np.uint8), "9x8.*9x6"),
        ("outofframe", np.zeros((HEIGHT, WIDTH - 1), np.uint8), "8x6.*9x6"),
        ("disparities", np.zeros((HEIGHT, WIDTH), np.uint8), "RGB"),
    ],
)
def test_files_that_do_not_fit_are_named_when_read(root: Path, top: str, pixels: np.ndarray, says: str) -> None:
    path = root / "training" / top / "alley_1" / "frame_0002.png"
    iio.imwrite(path, pixels)
    data = Sintel(root)
    with pytest.raises(InputError, match=f"{path}.*{says}"):
        data[1]


def test_wrong_settings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cleanpass.*clean, final"):
        Sintel(tmp_path, render_pass="cleanpass")
    for root in (None, tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"dataset\.root.*training/clean_left.*shapes3d"):
            Sintel(root)
    (tmp_path / "training" / "clean_left" / "alley_1").mkdir(parents=True)
    with pytest.raises(InputError, match="no frame"):
        Sintel(tmp_path)
