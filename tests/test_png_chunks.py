"""PNGs written by other libraries are passed on whole; damage that decoders overlook is seen."""

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from autodisp.datasets.png_chunks import PngHeader, read_chunks

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray = PIXELS, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (encoded(), PngHeader(30, 40, 8, 2)),
        (encoded(PIXELS[..., 0]), PngHeader(30, 40, 8, 0)),
        (encoded(PIXELS[..., 0] > 99), PngHeader(30, 40, 1, 0)),
        (encoded(np.dstack([PIXELS, PIXELS[..., 0]])), PngHeader(30, 40, 8, 6)),
        (cv2.imencode(".png", PIXELS.astype(np.uint16))[1].tobytes(), PngHeader(30, 40, 16, 2)),
    ],
)
def test_the_header_and_the_pixels_are_kept(data: bytes, header: PngHeader) -> None:
    found, bare = read_chunks(data)
    assert found == header
    before, after = (np.asarray(Image.open(io.BytesIO(png))) for png in (data, bare))
    assert np.array_equal(before, after)


def test_only_what_makes_pixels_is_kept() -> None:
    text = PngInfo()
    text.add_text("comment", "x" * 500)
    plain = read_chunks(encoded())[1]
    assert read_chunks(encoded(pnginfo=text, dpi=(72, 72)) + b"appended")[1] == plain
    palette = Image.fromarray(PIXELS).quantize(8)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes(8))
    bare = Image.open(io.BytesIO(read_chunks(buffer.getvalue())[1]))
    assert "transparency" not in bare.info
    assert np.array_equal(np.asarray(bare.convert("RGB")), np.asarray(palette.convert("RGB")))


def at(data: bytes, name: bytes, offset: int, value: int) -> bytes:
    place = data.index(name) + offset
    return data[:place] + bytes([value]) + data[place + 1 :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (encoded()[:8], "is truncated"),
        (encoded()[:-1], "is truncated"),
        (encoded()[:-12], "is truncated"),
        (at(encoded(), b"IDAT", 30, 0xAA), r"a checksum in it \(IDAT\) is wrong"),
        (at(encoded(), b"IHDR", 5, 0xAA), r"a checksum in it \(IHDR\) is wrong"),
        (at(encoded(), b"IDAT", -4, 0xFF), "is truncated"),
        (encoded()[:8] + encoded()[33:], "does not begin with its header"),
    ],
)
def test_damage_is_told(data: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_chunks(data)


def of_size(width: int, height: int, depth: int, colour: int, body: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("depth", "colour", "row"), [(1, 0, 125), (8, 0, 1000), (8, 2, 3000), (16, 6, 8000)])
def test_the_emptiest_picture_passes_and_none_that_claims_more(depth: int, colour: int, row: int) -> None:
    blank = of_size(1000, 4000, depth, colour, bytes(4000 * (1 + row)))
    assert read_chunks(blank)[0] == PngHeader(1000, 4000, depth, colour)
    allowed = 1032 * len(of_size(1, 1, depth, colour, b"")) // row
    with pytest.raises(ValueError, match="claims 1000x"):
        read_chunks(of_size(1000, allowed + 40, depth, colour, b""))
