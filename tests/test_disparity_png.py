"""16-bit disparity PNGs against the arrays they were made from, encoded here by another library."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodisp.datasets.disparity_png import read_disparity_png, write_disparity_png
from autodisp.errors import InputError
from tests.fuzzing.seeds import png_chunk

LEVELS = np.random.default_rng(0).integers(0, 65536, (5, 7)).astype(np.uint16)
LEVELS[0, :4] = [0, 1, 255, 65535]


def png16(levels: np.ndarray) -> bytes:
    """The format written out by hand: big-endian rows, each after a filter byte of 0."""
    height, width = levels.shape
    rows = b"".join(b"\0" + struct.pack(f">{width}H", *row) for row in levels.tolist())
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("name", ["x.png", "X.PNG"])
def test_values_are_exact(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(png16(LEVELS))
    disparity, valid = read_disparity_png(tmp_path / name)
    assert (disparity.shape, disparity.dtype, valid.dtype) == ((1, 5, 7), torch.float32, torch.bool)
    assert disparity[0].tolist() == [[level / 256 for level in row] for row in LEVELS.tolist()]
    assert valid[0].tolist() == [[level > 0 for level in row] for row in LEVELS.tolist()]


def test_every_level_survives(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    (tmp_path / "x.png").write_bytes(png16(every))
    disparity, valid = read_disparity_png(tmp_path / "x.png")
    assert disparity.flatten().tolist() == [level / 256 for level in range(65536)]
    assert write_disparity_png(tmp_path / "y.png", disparity.where(valid, math.nan)) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "y.png")), every)


@pytest.mark.parametrize(
    ("pixels", "stored"),
    [
        (1.0, 256),
        (10.5 / 256, 10),  # a tie goes to the even one
        (10.6 / 256, 11),
        (0.0, 1),
        (1e-9, 1),
        (0.4 / 256, 1),
        (-3.0, 1),
        (65535 / 256, 65535),
        (65535.4 / 256, 65535),
        (65535.6 / 256, 0),
        (1e30, 0),
        (math.inf, 0),
        (-math.inf, 0),
        (math.nan, 0),
    ],
)
def test_what_is_stored(tmp_path: Path, pixels: float, stored: int) -> None:
    lost = write_disparity_png(tmp_path / "x.png", torch.tensor([[pixels, 2.0]], dtype=torch.float64))
    picture = Image.open(tmp_path / "x.png")
    assert np.asarray(picture).tolist() == [[stored, 512]]
    assert lost == (stored == 0 and math.isfinite(pixels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_float_type_and_both_shapes(tmp_path: Path, dtype: torch.dtype) -> None:
    disparity = torch.tensor([[1.5, 2.25], [0.5, 7.0]], dtype=dtype, requires_grad=True)
    for shape in ((2, 2), (1, 2, 2)):
        write_disparity_png(tmp_path / "x.png", disparity.reshape(shape))
        assert read_disparity_png(tmp_path / "x.png")[0].tolist() == [[[1.5, 2.25], [0.5, 7.0]]]


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3), (1, 1, 3, 3), (0, 3), (1, 0, 3)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(1, H, W\)"):
        write_disparity_png(tmp_path / "x.png", torch.ones(shape))


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (Image.fromarray((LEVELS >> 8).astype(np.uint8)), "grey PNG of 8 bits"),
        (Image.fromarray(np.zeros((3, 4, 3), np.uint8)), "coloured.*of 8 bits"),
        (Image.fromarray(np.zeros((3, 4), bool)), "grey PNG of 1 bits"),
    ],
    ids=["8 bits", "rgb", "1 bit"],
)
def test_other_pictures_are_refused_by_name(tmp_path: Path, picture: Image.Image, says: str) -> None:
    picture.save(tmp_path / "x.png")
    with pytest.raises(InputError, match=f"x.png: is a {says}.*16 bits.*0 = unknown"):
        read_disparity_png(tmp_path / "x.png")


def test_what_is_no_png_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "x.tiff")
    for path in (tmp_path / "x.tiff", tmp_path / "none.png", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_disparity_png(path)


@pytest.mark.parametrize("kept", [0, 7, 20, 40, -8, -12])
def test_truncated_files_are_refused(tmp_path: Path, kept: int) -> None:
    (tmp_path / "x.png").write_bytes(png16(LEVELS)[:kept])
    with pytest.raises(InputError, match=r"x\.png"):
        read_disparity_png(tmp_path / "x.png")
