"""Disparities as 16-bit grey PNG in KITTI's format: the stored value divided by 256 is in pixels, and 0 is unknown.

The KITTI benchmark does not specify values outside of the format's range. Here a valid disparity never becomes
"unknown" by rounding: below half a unit it is stored as 1 (1/256 px). A disparity above the largest value (65535/256 =
255.996 px) is stored as unknown and counted, since a saturated value would look like a measurement.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from autodisp.datasets.images import bytes_of, read_rgb
from autodisp.errors import InputError

_SCALE = 256
_LARGEST = np.iinfo(np.uint16).max
_HEADER_BYTES = 26
_PNG = b"\x89PNG\r\n\x1a\n"
_GREY = 0
_DEPTH, _COLOUR_TYPE = 24, 25
"""Offsets in the first chunk of a PNG, which is always its header."""


def read_disparity_png(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
    """Reads a disparity map.

    Returns:
        The disparity in pixels, (1, H, W) float32, exact, 0 where unknown; and the mask of known pixels, (1, H, W)
        bool.

    Raises:
        InputError: the file is missing, truncated or not a 16-bit grey PNG.
    """
    header = bytes_of(Path(path))[:_HEADER_BYTES]
    is_png = header.startswith(_PNG) and len(header) == _HEADER_BYTES
    if not is_png or header[_DEPTH] != 16 or header[_COLOUR_TYPE] != _GREY:
        found = "no PNG"
        if is_png:
            kind = "grey" if header[_COLOUR_TYPE] == _GREY else "coloured, transparent or palette"
            found = f"a {kind} PNG of {header[_DEPTH]} bits"
        raise InputError(
            f"{path}: is {found}, but a disparity is a grey PNG of 16 bits (pixels times 256, 0 = unknown): was it "
            "converted, or is it a rendering of a disparity map?"
        )
    # The image reader is strict about damaged files, and its scaling preserves every 16-bit grey level.
    grey = read_rgb(path)[:1]
    stored = (grey * _LARGEST).round()
    return stored / _SCALE, stored > 0


def write_disparity_png(path: str | os.PathLike[str], disparity: Tensor) -> int:
    """Writes a disparity map, rounded to the nearest 1/256 px.

    Args:
        path: a file in a folder that exists.
        disparity: (1, H, W) or (H, W), pixels. Negative values count as 0; NaN and infinite values are unknown.

    Returns:
        Number of finite disparities beyond 65535/256 px, which are stored as unknown.

    Raises:
        ValueError: the shape is wrong.
    """
    if disparity.ndim not in (2, 3) or (disparity.ndim == 3 and len(disparity) != 1) or disparity.numel() == 0:
        raise ValueError(f"a disparity is (1, H, W) or (H, W), not {tuple(disparity.shape)}: pick one of the batch")
    pixels = disparity.detach().to("cpu", torch.float64).reshape(disparity.shape[-2:])
    known = pixels.isfinite()
    levels = (torch.where(known, pixels, 0.0) * _SCALE).round().clamp(min=1)
    beyond = known & (levels > _LARGEST)
    stored = torch.where(known & ~beyond, levels, 0.0).numpy().astype(np.uint16)
    _, encoded = cv2.imencode(".png", stored)
    Path(path).write_bytes(encoded.tobytes())
    return int(beyond.sum())
