"""Windows of samples with two views, the same in all planes: random ones with a strength, and the fixed middle.

The ranges of zoom and stretch are our choice, proportional to the strength.
"""

import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from autodisp.errors import InputError

Sample = TypeVar("Sample", bound=tuple[Any, ...])
"""A named tuple of planes (C, H, W), which begins with the two views."""
Size = tuple[int, int]
"""Height and width, or row and column."""

_STRONGEST = 4.0
_ZOOM = (-0.2, 0.4)
_STRETCH = 0.1
"""Ranges of zoom and x/y stretch as powers of two."""


class Augmentation:
    """Base of the augmentations with a single strength.

    Args:
        scale: the strength, 0..4; 0 only leaves the random crop, 1 is the default, 2 the strongest of the published
            experiments.
        crop: (height, width) of the result; None keeps the size of the sample. A smaller sample of two views is
            enlarged to it, preserving its aspect ratio.

    Raises:
        InputError: a value is out of range.
    """

    def __init__(self, *, scale: float, crop: Size | None) -> None:
        check_strength(scale)
        check_crop(crop)
        self.scale = float(scale)
        self.crop = crop


class WindowAugmentation(Augmentation, Generic[Sample]):
    """Draws a random window; subclasses cut and resize it in ``_reframed`` and change its content in ``_varied``.

    Args:
        scale, crop: see ``Augmentation``.
        zoom: the largest enlargement at strength 1; None for 1.32.
    """

    def __init__(self, *, scale: float, crop: Size | None, zoom: float | None = None) -> None:
        super().__init__(scale=scale, crop=crop)
        self.zooms = (_ZOOM[0], _ZOOM[1] if zoom is None else math.log2(zoom))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Returns a new sample, without a batch axis; the input is not modified."""
        height, width = sample[0].shape[-2:]
        size = self.crop or (height, width)
        sample = self._reframed(sample, *random_window((height, width), size, self.scale, self.zooms, rng), size)
        sample = self._varied(sample, rng)
        return type(sample)(*(plane.contiguous() for plane in sample))

    def _reframed(self, sample: Sample, corner: Size, window: Size, size: Size) -> Sample:
        """Crops the window at the corner from all planes and resizes it, with the values that depend on it."""
        raise NotImplementedError

    def _varied(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Changes the content of the window."""
        raise NotImplementedError


class WindowCrop(Generic[Sample]):
    """Deterministic centre crop; a smaller sample is padded at the bottom and on the right.

    Padding repeats the border of the views and is invalid. Samples are not resized, so that a validation metric is in
    pixels of the data.

    Args:
        crop: (height, width); None leaves samples unchanged.

    Raises:
        InputError: a side is not positive.
    """

    def __init__(self, *, crop: Size | None) -> None:
        check_crop(crop)
        self.crop = crop

    def __call__(self, sample: Sample) -> Sample:
        """Crops a sample without a batch axis."""
        height, width = sample[0].shape[-2:]
        corner, window, missing = middle_window((height, width), self.crop or (height, width))
        return type(sample)(*padded(self._cut(sample, corner, window), missing))

    def _cut(self, sample: Sample, corner: Size, window: Size) -> Sample:
        """Crops the window at the corner from all planes."""
        raise NotImplementedError


def check_crop(crop: Size | None) -> None:
    """Raises an InputError if the crop is not two positive sides or None."""
    if crop is not None and (len(crop) != 2 or min(crop) < 1):
        raise InputError(f"crop is {tuple(crop)}: must be (height, width), both positive, or null for the whole image")


def check_strength(scale: float) -> None:
    """Raises an InputError if the strength of an augmentation is out of range."""
    if not 0 <= scale <= _STRONGEST:
        raise InputError(f"augmentation.scale={scale}: must be in 0 .. {_STRONGEST:g}; 0 is none, 1 the default")


def random_window(
    size: Size, to: Size, scale: float, zooms: tuple[float, float], rng: np.random.Generator
) -> tuple[Size, Size]:
    """Draws a window with the zoom and stretch of the strength; returns its corner and its size.

    Args:
        size: (height, width) of the sample.
        to: (height, width) to which the window will be resized.
        scale: the strength.
        zooms: range of the zoom at strength 1, as powers of two.
        rng: source of all random numbers.
    """
    (height, width), (to_height, to_width) = size, to
    stretch = 2 ** (scale * rng.uniform(-_STRETCH, _STRETCH) / 2)
    least = max(to_width / width / stretch, to_height / height * stretch)
    zoom = max(2 ** (scale * rng.uniform(*zooms)), least)
    window = (
        min(max(round(to_height / zoom * stretch), 1), height),
        min(max(round(to_width / zoom / stretch), 1), width),
    )
    y, x = (int(rng.integers(0, whole - part + 1)) for whole, part in zip((height, width), window, strict=True))
    return (y, x), window


def enlargement(size: Size, crop: Size | None) -> float:
    """Returns the minimum enlargement of an image before cropping, without stretch; 1 if it is large enough.

    Args:
        size: (height, width) of the image.
        crop: (height, width) of the crop; None for whole images.
    """
    return 1.0 if crop is None else max(1.0, crop[0] / size[0], crop[1] / size[1])


def middle_window(size: Size, to: Size) -> tuple[Size, Size, Size]:
    """Returns corner and size of the window in the middle, and the rows and columns that it lacks of ``to``."""
    (height, width), (to_height, to_width) = size, to
    corner = (max((height - to_height) // 2, 0), max((width - to_width) // 2, 0))
    window = (min(height, to_height), min(width, to_width))
    return corner, window, (to_height - window[0], to_width - window[1])


def padded(planes: Sequence[Tensor], missing: Size) -> list[Tensor]:
    """Pads planes (C, H, W) at the bottom and on the right: the two views with their border, the others with zeros."""
    sides = (0, missing[1], 0, missing[0])
    views = (functional.pad(view, sides, mode="replicate") for view in planes[:2])
    return [plane.contiguous() for plane in (*views, *(functional.pad(plane, sides) for plane in planes[2:]))]


def resampled(planes: Sequence[Tensor], corner: Size, window: Size, size: Size) -> list[Tensor]:
    """Crops a window from planes (C, H, W) and resizes it: the two views smoothly, the others to the nearest pixel.

    The values of the others are not rescaled; see ``reframe`` for the arguments.
    """
    (y, x), (height, width) = corner, window
    cut = [plane[:, y : y + height, x : x + width] for plane in planes]
    if window == size:
        return cut
    smooth = cv2.INTER_AREA if size[0] <= height and size[1] <= width else cv2.INTER_LINEAR
    views = [_resize_plane(view, size, smooth) for view in cut[:2]]
    return [*views, *(_resize_plane(plane, size, cv2.INTER_NEAREST_EXACT) for plane in cut[2:])]


def _resize_plane(plane: Tensor, size: Size, interpolation: int) -> Tensor:
    stored = plane.to(torch.uint8) if plane.dtype == torch.bool else plane
    resized = cv2.resize(pixels_of(stored), (size[1], size[0]), interpolation=interpolation)
    return tensor_of(resized.reshape(*size, -1)).to(plane.dtype)


def pixels_of(plane: Tensor) -> NDArray[Any]:
    """Converts (C, H, W) to contiguous (H, W, C)."""
    return np.ascontiguousarray(plane.permute(1, 2, 0).numpy())


def tensor_of(pixels: NDArray[Any]) -> Tensor:
    """Converts (H, W, C) to (C, H, W) without copying."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
