"""Portable float maps: the disparity format of FlyingThings3D and Middlebury.

No published reader supports both: FlyingThings3D ends each header line with a space ("Pf \\n960 540 \\n-1.0\\n"), which
OpenCV rejects, and Middlebury does not. Here the start of the pixels is derived from the file size, so that both kinds
of header are read exactly, and a header with a wrong size is rejected before memory is allocated.
"""

import math
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autodisp.errors import InputError

_HEADER_BYTES = 512
_HEADER = re.compile(rb"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)(?=\s)")
_CHANNELS = {b"PF": 3, b"Pf": 1}


def read_pfm(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Reads a grey (Pf) or colour (PF) map of either byte order, top row first.

    Only the sign of the scale (the byte order) is used; its magnitude is a unit that neither publisher applies to
    disparities.

    Returns:
        (H, W) or (H, W, 3) float32, including infinite and NaN pixels.

    Raises:
        InputError: the file is missing, not a PFM, or its size does not match its header.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            height, width, channels, order, offset = _parse_header(file.read(_HEADER_BYTES), size, path)
            file.seek(offset)
            pixels = np.frombuffer(file.read(4 * width * height * channels), dtype=f"{order}f4")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.flipud(pixels.reshape(shape)).astype(np.float32, order="C")


def read_disparity_pfm(path: str | os.PathLike[str]) -> Tensor:
    """Reads a single-channel map as (1, H, W) float32, see `read_pfm`.

    Raises:
        InputError: the file is missing, damaged, or has three channels.
    """
    pixels = read_pfm(path)
    if pixels.ndim != 2:
        raise InputError(f"{path}: is a colour PFM, but a disparity has one channel")
    return torch.from_numpy(pixels)[None]


def write_pfm(path: str | os.PathLike[str], pixels: npt.NDArray[np.floating], *, trailing_spaces: bool = False) -> None:
    """Writes a little-endian map, bottom row first as required by the format.

    Args:
        path: a file in a folder that exists.
        pixels: (H, W) or (H, W, 3), stored as float32.
        trailing_spaces: ends the header lines with a space as in FlyingThings3D, which OpenCV cannot read.

    Raises:
        ValueError: the shape is wrong.
    """
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or pixels.size == 0:
        raise ValueError(f"a PFM holds (H, W) or (H, W, 3) pixels, not {pixels.shape}")
    magic = "Pf" if pixels.ndim == 2 else "PF"
    height, width = pixels.shape[:2]
    end = " \n" if trailing_spaces else "\n"
    header = f"{magic}{end}{width} {height}{end}-1.0\n".encode("ascii")
    Path(path).write_bytes(header + np.ascontiguousarray(np.flipud(pixels), dtype="<f4").tobytes())


def _parse_header(head: bytes, size: int, path: Path) -> tuple[int, int, int, str, int]:
    """Parses (height, width, channels, byte order, offset of the first pixel), checked against the file size."""
    channels = _CHANNELS.get(head[:2])
    if channels is None:
        raise InputError(f"{path}: is no PFM: it begins with {head[:2]!r}, a PFM with b'Pf' or b'PF'")
    match = _HEADER.match(head)
    if match is None or match[1] not in _CHANNELS:
        raise InputError(f"{path}: the PFM header is cut short or malformed; was the download interrupted?")
    width, height = (_dimension(token, path) for token in match.group(2, 3))
    try:
        scale = float(match[4])
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale) or scale == 0:
        raise InputError(f"{path}: the PFM scale is {match[4]!r}, it must be a number other than zero")
    offset = size - 4 * width * height * channels
    # The first pixel may begin with a white-space byte: only these forms end a header.
    end = head[match.end() : max(offset, 0)]
    if match.end() + len(end) != offset or re.fullmatch(rb"[ \t\r]*\n|[ \t\r]", end) is None:
        raise InputError(
            f"{path}: the header declares {width}x{height} with {channels} channel(s), {4 * width * height * channels} "
            f"bytes, but {size - match.end() - 1} follow it: the file is truncated or has something appended"
        )
    return height, width, channels, "<" if scale < 0 else ">", offset


def _dimension(token: bytes, path: Path) -> int:
    if re.fullmatch(rb"0*[1-9][0-9]{0,17}", token) is None:
        raise InputError(f"{path}: the PFM header has the dimension {token[:40]!r}, it must be a positive integer")
    return int(token)
