"""Reads and writes the pictures of the datasets: PNG, WebP, JPEG and what else Pillow decodes.

imageio's Pillow plug-in does the work because it refuses truncated files without writing to stderr. It
reduces 16-bit colour to 8 bits, so OpenCV decodes the PNGs of that depth. A PNG that has lost no more than its
end mark decodes in full; it is refused all the same, since it comes from an interrupted copy.
"""

import io
import os
from pathlib import Path
from typing import Any, cast

import cv2
import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autodisp.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xae\x42\x60\x82"
# Pillow clips these to 255 on their way to RGB instead of scaling them.
_UNCONVERTED = ("I", "F")
_PGM = (b"P2", b"P5")


def read_rgb(path: str | os.PathLike[str]) -> Tensor:
    """Reads a picture of 8 or 16 bits a channel; grey becomes RGB, an alpha channel is dropped.

    Returns:
        (3, H, W) float32 in 0..1.

    Raises:
        InputError: the file is missing, truncated or no picture.
    """
    pixels, _ = _decode(Path(path))
    full_scale = np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / full_scale)


def read_rgb8(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Reads a picture whose three 8-bit channels are data rather than colour, so nothing may be converted.

    Returns:
        (H, W, 3) uint8, exactly as stored.

    Raises:
        InputError: the file is missing, truncated or not plain 8-bit RGB.
    """
    pixels, mode = _decode(Path(path))
    if mode != "RGB" or pixels.dtype != np.uint8:
        raise InputError(f"{path}: is a {pixels.dtype} {mode} picture, but data needs three 8-bit channels (RGB)")
    return pixels.astype(np.uint8, copy=False)


def read_mask(path: str | os.PathLike[str]) -> Tensor:
    """Reads a black-and-white mask; the first channel counts.

    Returns:
        (1, H, W) bool, True where the picture is brighter than half of its range.

    Raises:
        InputError: the file is missing, truncated or no picture.
    """
    pixels, _ = _decode(Path(path))
    return torch.from_numpy(np.ascontiguousarray(pixels[None, :, :, 0] > np.iinfo(pixels.dtype).max // 2))


def write_png(path: str | os.PathLike[str], picture: Tensor) -> None:
    """Writes an 8-bit PNG.

    Args:
        path: a file in a folder that exists.
        picture: (3, H, W) float in 0..1, clamped and rounded to the nearest of 256 levels; or (1, H, W) bool,
            written in grey as 0 and 255.
    """
    levels = (picture.float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    iio.imwrite(Path(path), levels.squeeze(2).numpy(), plugin="pillow", extension=".png")


def _decode(path: Path) -> tuple[npt.NDArray[np.uint8 | np.uint16], str]:
    """Gives (H, W, 3) RGB of 8 or 16 bits and Pillow's name of the stored mode."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error
    is_png = data.startswith(_PNG)
    if is_png and _PNG_END not in data[-(1 << 16) :]:
        raise InputError(f"{path}: the PNG is truncated; was the copy or download interrupted?")
    try:
        # One open file for both: asking a PNG for its metadata decodes it.
        with cast(Any, iio.imopen(io.BytesIO(data), "r", plugin="pillow")) as file:
            mode = str(file.metadata(index=0)["mode"])
            convert = {} if mode.startswith(_UNCONVERTED) else {"mode": "RGB"}
            pixels = file.read(index=0, **convert)
    except Exception as error:  # Pillow's decoders raise whatever the malformed bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: is no readable picture ({reason}); is it damaged or of another format?") from error
    if mode == "I" and data.startswith(_PGM):
        pixels = pixels.astype(np.uint16)  # Pillow scales more than 8 bits to 16 and keeps them in 32
    if pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: is a picture of {pixels.dtype} (Pillow's mode {mode}): save it with 8 or 16 bits")
    if is_png and data[24] == 16:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if decoded is None:
            raise InputError(f"{path}: is no readable 16-bit PNG; is it damaged?")
        pixels = decoded[..., ::-1]
    return (np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels), mode
