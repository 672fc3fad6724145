"""Pictures against the arrays they were made from."""

import io
import zlib
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from autodisp.datasets.images import read_mask, read_rgb, read_rgb8, write_png
from autodisp.errors import InputError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16)


def as_tensor(pixels: np.ndarray, full_scale: float) -> torch.Tensor:
    rgb = np.stack([pixels] * 3, -1) if pixels.ndim == 2 else pixels[..., :3]
    return torch.tensor(rgb.astype(np.float64) / full_scale).permute(2, 0, 1).float()


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "ppm", "tiff", "webp"])
def test_rgb_of_eight_bits(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RGB).save(tmp_path / f"x.{suffix}", lossless=True)  # which only WebP takes
    read = read_rgb(tmp_path / f"x.{suffix}")
    assert read.dtype == torch.float32
    assert read.is_contiguous()
    torch.testing.assert_close(read, as_tensor(RGB, 255), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (Image.fromarray(GREY), GREY),
        (Image.fromarray(np.dstack([RGB, RGB[..., :1]])), RGB),
        (Image.fromarray(np.dstack([GREY, GREY[::-1]])), GREY),
        (Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
        (Image.fromarray(GREY).convert("P"), GREY),
    ],
    ids=["grey", "rgba", "grey+alpha", "one bit", "palette"],
)
def test_other_modes_become_rgb(tmp_path: Path, stored: Image.Image, expected: np.ndarray) -> None:
    stored.save(tmp_path / "x.png")
    torch.testing.assert_close(read_rgb(tmp_path / "x.png"), as_tensor(expected, 255), rtol=1e-7, atol=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_keep_their_precision(tmp_path: Path, channels: int) -> None:
    pixels = np.dstack([DEEP, DEEP[..., :1]])[..., :channels]
    stored = pixels[..., 0] if channels == 1 else pixels[..., [2, 1, 0, 3][:channels]]
    cv2.imwrite(str(tmp_path / "x.png"), stored)
    expected = pixels[..., 0] if channels == 1 else pixels
    torch.testing.assert_close(read_rgb(tmp_path / "x.png"), as_tensor(expected, 65535), rtol=1e-7, atol=0)


def test_sixteen_bit_tiff_is_scaled_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "x.tiff")
    torch.testing.assert_close(read_rgb(tmp_path / "x.tiff"), as_tensor(DEEP[..., 0], 65535), rtol=1e-7, atol=0)


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bit_tiff_of_either_byte_order(tmp_path: Path, mode: str) -> None:
    grey = DEEP[..., 0]
    stored = grey.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    Image.frombytes(mode, grey.shape[::-1], stored).save(tmp_path / "x.tiff")
    torch.testing.assert_close(read_rgb(tmp_path / "x.tiff"), as_tensor(grey, 65535), rtol=1e-7, atol=0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_and_tiff_are_turned_like_others(tmp_path: Path, orientation: int) -> None:
    turned = Image.Exif()
    turned[0x112] = orientation
    for name in ("shallow.png", "x.tiff"):
        Image.fromarray(RGB).save(tmp_path / name, exif=turned)
    _, plain = cv2.imencode(".png", 257 * RGB[..., ::-1].astype(np.uint16))
    block = b"eXIf" + turned.tobytes().removeprefix(b"Exif\0\0")
    chunk = (len(block) - 4).to_bytes(4, "big") + block + zlib.crc32(block).to_bytes(4, "big")
    (tmp_path / "deep.png").write_bytes(plain.tobytes()[:33] + chunk + plain.tobytes()[33:])  # behind the header
    for upright in (False, True):
        shallow = read_rgb(tmp_path / "shallow.png", upright=upright)
        for name in ("deep.png", "x.tiff"):
            torch.testing.assert_close(read_rgb(tmp_path / name, upright=upright), shallow)


@pytest.mark.parametrize(("largest", "stored"), [(65535, [0, 300, 65535]), (1023, [0, 511, 1023])])
def test_deep_pgm_is_scaled_by_its_own_maximum(tmp_path: Path, largest: int, stored: list[int]) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5\n3 1\n%d\n" % largest + np.array(stored, ">u2").tobytes())
    expected = torch.tensor(stored, dtype=torch.float64) / largest
    torch.testing.assert_close(read_rgb(tmp_path / "x.pgm")[1, 0].double(), expected, rtol=0, atol=1 / 65535)


def test_rgb8_is_exact_and_refuses_what_would_be_converted(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(RGB).save(path)
    assert read_rgb8(path).dtype == np.uint8
    assert np.array_equal(read_rgb8(path), RGB)
    for other in (GREY, np.dstack([RGB, GREY])):
        Image.fromarray(other).save(path)
        with pytest.raises(InputError, match=r"x\.png.*RGB"):
            read_rgb8(path)
    cv2.imwrite(str(path), DEEP)
    with pytest.raises(InputError, match=r"x\.png.*uint16"):
        read_rgb8(path)


def test_mask(tmp_path: Path) -> None:
    mask = np.array([[0, 255, 128], [127, 1, 254]], np.uint8)
    expected = [[[False, True, True], [False, False, True]]]
    for name, stored in {"grey": mask, "rgb": np.dstack([mask] * 3), "bit": mask > 127}.items():
        Image.fromarray(stored).save(tmp_path / f"{name}.png")
        assert read_mask(tmp_path / f"{name}.png").tolist() == expected
        assert read_mask(tmp_path / f"{name}.png").dtype == torch.bool


def test_written_pictures_are_rounded_and_clamped(tmp_path: Path) -> None:
    picture = torch.tensor([-0.5, 0.0, 0.49 / 255, 0.51 / 255, 1.0, 3.0]).reshape(1, 1, 6).expand(3, 1, 6)
    write_png(tmp_path / "x.png", picture)
    assert iio.imread(tmp_path / "x.png")[0, :, 2].tolist() == [0, 0, 0, 1, 255, 255]
    write_png(tmp_path / "y.png", as_tensor(RGB, 255))
    assert np.array_equal(iio.imread(tmp_path / "y.png"), RGB)
    write_png(tmp_path / "m.png", torch.tensor([[[True, False]]]))
    assert iio.imread(tmp_path / "m.png").tolist() == [[255, 0]]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    if kind == "png16":
        return cv2.imencode(".png", noise.astype(np.uint16) * 257)[1].tobytes()
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["png", "png16", "webp", "jpeg"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.95])
def test_truncated_pictures_are_named_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, kept: float
) -> None:
    data = encoded(kind)
    path = tmp_path / f"half.{kind}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=f"half.{kind}"):
        read_rgb(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["png", "png16"])
def test_a_flipped_bit_in_a_png_is_seen(tmp_path: Path, kind: str) -> None:
    """Pillow's decoder passes over a wrong checksum of the pixels, its verify() does not."""
    data = bytearray(encoded(kind))
    data[data.index(b"IDAT") + 2000] ^= 1
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.png: .*checksum"):
        read_rgb(tmp_path / "x.png")


@pytest.mark.parametrize("lost", [8, 12, 13])
def test_a_png_without_its_end_mark_is_truncated(tmp_path: Path, lost: int) -> None:
    (tmp_path / "x.png").write_bytes(encoded("png")[:-lost])
    with pytest.raises(InputError, match=r"x\.png: is not a readable image"):
        read_rgb(tmp_path / "x.png")


def test_names_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.ones((3, 4), np.float32)).save(tmp_path / "float.tiff")
    for name in ("none.png", "text.png", "float.tiff", "."):
        with pytest.raises(InputError, match=str((tmp_path / name).resolve())):
            read_rgb((tmp_path / name).resolve())


def test_nothing_is_said_of_odd_but_whole_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    torch.testing.assert_close(
        read_rgb(tmp_path / "palette.png"), as_tensor(np.asarray(palette.convert("RGB")), 255), rtol=1e-7, atol=0
    )
    data = cv2.imencode(".png", DEEP[..., ::-1])[1].tobytes()
    (tmp_path / "deep.png").write_bytes(data + b"appended")
    torch.testing.assert_close(read_rgb(tmp_path / "deep.png"), as_tensor(DEEP, 65535), rtol=1e-7, atol=0)
    assert capfd.readouterr() == ("", "")


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("autodisp.datasets.images.Image.open", fails)
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"a\.png: is too large for the memory; is it damaged, or can it be"):
        read_rgb(tmp_path / "a.png")


def test_formats_that_run_programs_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with Image.open(path) as picture:
        assert picture.format == "EPS"
    with pytest.raises(InputError, match=r"x\.png: is not a readable image: none of PNG, JPEG, "):
        read_rgb(path)


def test_a_large_frame_of_one_colour_is_read(tmp_path: Path) -> None:
    frame = np.zeros((2160, 3840), np.uint8)
    for suffix, options in (
        ("png", {}),
        ("webp", {"lossless": True}),
        ("jpg", {}),
        ("tiff", {"compression": "tiff_deflate"}),
    ):
        Image.fromarray(frame).convert("RGB").save(tmp_path / f"x.{suffix}", **options)
        assert read_rgb(tmp_path / f"x.{suffix}").shape == (3, 2160, 3840)
