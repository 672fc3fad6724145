"""Reads and writes the images of the datasets: PNG, JPEG, WebP, PPM, BMP and TIFF.

Images are decoded by Pillow because it rejects truncated files and wrong checksums. It reduces 16-bit colour to 8 bits,
so such PNGs are decoded by OpenCV. Other formats of Pillow are not opened at all: one of them (EPS) runs a program.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from autodisp.errors import InputError, in_one_line

_FORMATS = ("PNG", "JPEG", "WEBP", "PPM", "BMP", "TIFF")
# Pillow clips these to 255 in the conversion to RGB instead of scaling them.
_UNCONVERTED = ("I", "F")
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_PGM = (b"P2", b"P5")
_ORIENTATION = 0x112
"""EXIF tag."""
_PNG_DEPTH = 24
"""Offset of the byte with the number of bits per channel."""


def read_rgb(path: str | os.PathLike[str], *, upright: bool = False) -> Tensor:
    """Reads an image with 8 or 16 bits per channel; grey is converted to RGB, an alpha channel is dropped.

    Args:
        path: of the image.
        upright: turns the image as its EXIF orientation says; False returns the pixels as stored.

    Returns:
        (3, H, W) float32 in 0..1.

    Raises:
        InputError: the file is missing, truncated or not an image.
    """
    pixels, _ = _decode(Path(path), upright=upright)
    full_scale = np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / full_scale)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Reads (height, width) from the header of an image; None if it cannot be read."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as image:
            warnings.simplefilter("ignore")
            return image.height, image.width
    except Exception:  # Pillow's decoders may raise any exception on malformed bytes
        return None


def read_rgb8(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads an image whose three 8-bit channels are data rather than colour, without any conversion.

    Returns:
        (H, W, 3) uint8, exactly as stored.

    Raises:
        InputError: the file is missing, truncated or not plain 8-bit RGB.
    """
    pixels, mode = _decode(Path(path))
    if mode != "RGB" or pixels.dtype != np.uint8:
        raise InputError(f"{path}: is a {pixels.dtype} {mode} image, but data needs three 8-bit channels (RGB)")
    return pixels.astype(np.uint8, copy=False)


def read_mask(path: str | os.PathLike[str]) -> Tensor:
    """Reads a black-and-white mask from the first channel.

    Returns:
        (1, H, W) bool, True where the image is brighter than half of its range.

    Raises:
        InputError: the file is missing, truncated or not an image.
    """
    pixels, _ = _decode(Path(path))
    return torch.from_numpy(np.ascontiguousarray(pixels[None, :, :, 0] > np.iinfo(pixels.dtype).max // 2))


def read_classes(path: str | os.PathLike[str]) -> Tensor:
    """Reads a class map from a PNG: the index of each pixel if it has a palette, the value if it is 8-bit grey.

    Returns:
        (H, W) uint8, exactly as stored.

    Raises:
        InputError: the file is missing, truncated or of another kind.
    """
    path = Path(path)
    with _opened(path, ("PNG",), "no PNG") as (image, data):
        mode, pixels = image.mode, np.array(image)
    if mode != "P" and (mode != "L" or data[_PNG_DEPTH] != 8):
        raise InputError(
            f"{path}: is an image of Pillow's mode {mode}, but a class map needs a palette or 8-bit grey; convert its "
            "colours into class indices"
        )
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.uint8))


def write_png(path: str | os.PathLike[str], picture: Tensor) -> None:
    """Writes an 8-bit PNG.

    Args:
        path: a file in a folder that exists.
        picture: image (3, H, W) float in 0..1, clamped and rounded to the nearest of 256 levels; or mask (1, H, W)
            bool, written in grey as 0 and 255.
    """
    levels = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    iio.imwrite(Path(path), levels.squeeze(2).numpy(), plugin="pillow", extension=".png")


def bytes_of(path: Path) -> bytes:
    """Reads a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error


@contextmanager
def _opened(path: Path, formats: tuple[str, ...], doubt: str) -> Iterator[tuple[Image.Image, bytes]]:
    """Opens an image, yields it with the bytes of its file, and names the file in any error of decoding."""
    data = bytes_of(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata
            with Image.open(io.BytesIO(data), formats=formats) as image:
                image.verify()  # verifies the checksums of a PNG; afterwards the image must be opened again
            with Image.open(io.BytesIO(data), formats=formats) as image:
                yield image, data
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not a readable image: none of {', '.join(formats)}, or a damaged one") from None
    except MemoryError:
        raise InputError(f"{path}: is too large for the memory; is it damaged, or can it be made smaller?") from None
    except Exception as error:  # Pillow's decoders may raise any exception on malformed bytes
        reason = in_one_line(error) or type(error).__name__
        raise InputError(f"{path}: is not a readable image ({reason}); is it truncated, or {doubt}?") from error


def _decode(path: Path, *, upright: bool = False) -> tuple[npt.NDArray[np.uint8 | np.uint16], str]:
    """Decodes (H, W, 3) RGB of 8 or 16 bits, by Pillow if it is right; returns it with Pillow's name of its mode."""
    with _opened(path, _FORMATS, "of another format") as (image, data):
        mode, turned = image.mode, image
        with suppress(Exception):  # damaged EXIF data; the image itself may be sound
            if upright:
                turned = ImageOps.exif_transpose(image)
            elif image.format == "TIFF":
                turned = _as_stored(image)
        pixels: npt.NDArray[Any] = np.array(turned if mode.startswith(_UNCONVERTED) else turned.convert("RGB"))
        if image.format == "PNG" and data[_PNG_DEPTH] == 16 and mode not in _SIXTEEN_BITS:
            pixels = _decode_by_opencv(data, upright=upright)
    if mode == "I" and data.startswith(_PGM):
        pixels = pixels.astype(np.uint16)  # Pillow scales more than 8 bits to 16 and keeps them in 32
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # a TIFF may be big-endian
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: is an image of {pixels.dtype} (Pillow's mode {mode}): save it with 8 or 16 bits")
    return (np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels), mode


def _as_stored(image: Image.Image) -> Image.Image:
    """Undoes the orientation of a TIFF, which Pillow applies while loading it."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    image.load()
    image.getexif()[_ORIENTATION] = {6: 8, 8: 6}.get(orientation, orientation)  # all others are their own inverse
    return ImageOps.exif_transpose(image)


def _decode_by_opencv(data: bytes, *, upright: bool) -> npt.NDArray[Any]:
    """Decodes the RGB of a PNG that Pillow has decoded without error."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if decoded is None:
        raise ValueError("OpenCV cannot decode it")
    return np.asarray(decoded[..., ::-1])
