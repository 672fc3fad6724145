"""Images of class maps: colours, overlay, and the panel of an evaluation."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from autodisp.datasets.samples import IGNORED

Image = npt.NDArray[np.uint8]
_BITS = 8


def palette() -> Image:
    """Returns a colour per class index, (256, 3), as in the PNGs of PASCAL VOC: bit 3 k + c of the index, reversed.

    Neighbouring indices have clearly different colours, index 0 is black and ``IGNORED`` nearly white.
    """
    indices = np.arange(256)
    bits = indices[:, None] >> np.arange(24) & 1  # (256, 24), the lowest bit first
    channels = bits.reshape(256, _BITS, 3)
    colours = (channels << np.arange(_BITS - 1, -1, -1)[:, None]).sum(axis=1)
    return np.asarray(colours, np.uint8)


PALETTE = palette()


def colour_classes(classes: npt.NDArray[np.uint8]) -> Image:
    """Colours a class map (H, W); returns (H, W, 3)."""
    return np.asarray(PALETTE[classes])


def overlay(image: Tensor, classes: npt.NDArray[np.uint8]) -> Image:
    """Blends an image with the colours of its class map, half and half.

    Args:
        image: (3, H, W), RGB in 0..1.
        classes: (H, W).

    Returns:
        (H, W, 3).
    """
    blended = (pixels_of(image) + colour_classes(classes)) / 2
    return np.asarray(np.rint(blended), np.uint8)


def panel(image: Tensor, truth: Tensor, logits: Tensor) -> Image:
    """Draws image, ground truth, prediction and error next to each other.

    The error is white where the class is wrong and black where it is right; ignored pixels are grey.

    Args:
        image: (3, H, W), RGB in 0..1.
        truth: (H, W).
        logits: (classes, H, W).

    Returns:
        (H, 4 W, 3).
    """
    actual, found = truth.cpu().numpy(), predicted(logits)
    error = np.where(actual == IGNORED, 128, np.where(actual == found, 0, 255))
    return side_by_side(image, colour_classes(actual), colour_classes(found), error)


def predicted(logits: Tensor) -> npt.NDArray[np.uint8]:
    """Returns the most likely class of each pixel, (H, W), for logits (classes, H, W)."""
    return np.asarray(logits.detach().argmax(dim=0).cpu().numpy(), np.uint8)


def side_by_side(image: Tensor, truth: Image, prediction: Image, error: npt.NDArray[Any]) -> Image:
    """Lays out an image (3, H, W) in 0..1, two coloured ones (H, W, 3) and grey values (H, W): (H, 4 W, 3)."""
    views = (np.rint(pixels_of(image)), truth, prediction, np.stack([error] * 3, axis=-1))
    return np.asarray(np.concatenate(views, axis=1), np.uint8)


def pixels_of(image: Tensor) -> npt.NDArray[np.float32]:
    """Converts an image (3, H, W) in 0..1 to (H, W, 3) in 0..255."""
    return np.asarray(255 * image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy(), np.float32)
