"""Augmentation of stereo samples with a single strength, and the fixed crop for validation.

The components are those with which RobustDARTS (Zela et al. 2020) varies the strength of AutoDispNet's augmentation:
colour, noise, random crop, rescaling, occlusion patches. Their ranges are our choice, since the paper specifies none
that could be reused; they are proportional to the strength. Geometric changes are the same in both views and preserve
right x = left x - d; there is no flip, which would swap the views. Saturation, contrast, brightness and gamma are
defined as in kornia.enhance, whose functions took 20 ms per 256x512 pair on one core: here all but gamma are one affine
map of colours, and hue is a rotation about the grey axis instead of a change in HSV.
"""

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodisp.datasets.noise import gaussian_noise
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.windows import Size, WindowAugmentation, WindowCrop, pixels_of, resampled, tensor_of

Pixels = NDArray[np.float32]

_ASYMMETRY = 0.15
"""Fraction of every colour range by which the two views may differ."""


class StereoAugmentation(WindowAugmentation[StereoSample]):
    """Randomly changes window and scale, colour, occlusion patches and noise, in this order.

    At strength 1: scaling by 2^-0.2 to ``zoom``, limited by the size of the sample, and of x relative to y by 2^±0.1;
    brightness ±0.1, contrast and gamma by 2^±0.4, saturation by 2^±0.7, hue ±14 degrees, with a difference between the
    views of 15 % of that; noise with a standard deviation up to 0.02; in half of the samples, one to three rectangles
    of the right view, up to a fifth of each side, are filled with its mean colour. Disparities are multiplied by the x
    factor and, like the masks, never interpolated. Left pixels whose match lies under a patch become ``occluded``;
    pixels whose match is cut off by the window become ``out_of_frame``, even if the dataset has no such masks.
    """

    def _reframed(self, sample: StereoSample, corner: Size, window: Size, size: Size) -> StereoSample:
        return reframe(sample, corner=corner, window=window, size=size)

    def _varied(self, sample: StereoSample, rng: np.random.Generator) -> StereoSample:
        if self.scale == 0:
            return sample
        left, right = pixels_of(sample.left), pixels_of(sample.right)
        left, right = _recolour(left, right, self.scale, rng)
        occluded = _patch(right, sample, self.scale, rng)
        sigma = 0.02 * self.scale * rng.random()
        left, right = _add_noise(left, sigma, rng), _add_noise(right, sigma, rng)
        return sample._replace(left=tensor_of(left), right=tensor_of(right), occluded=occluded)


class CenterCrop(WindowCrop[StereoSample]):
    """Deterministic centre crop, see ``WindowCrop``."""

    def _cut(self, sample: StereoSample, corner: Size, window: Size) -> StereoSample:
        return reframe(sample, corner=corner, window=window, size=window)


def reframe(sample: StereoSample, *, corner: Size, window: Size, size: Size) -> StereoSample:
    """Crops the same window from all planes and resizes it; a window that is the whole sample changes nothing.

    A source position x becomes (x + 1/2) f - 1/2 - offset with f the ratio of widths in both views, and d becomes f d,
    so right x = left x - d still holds. Views are averaged or interpolated; disparity and masks use the source pixel
    that contains the centre of the new pixel.

    Args:
        sample: without a batch axis.
        corner: (y, x) of the window's first pixel.
        window: (height, width), within the sample.
        size: (height, width) afterwards.
    """
    if window == size == tuple(sample.disparity.shape[-2:]):
        return sample
    cut = StereoSample(*resampled(sample, corner, window, size))
    if window != size:
        cut = cut._replace(disparity=cut.disparity * (size[1] / window[1]))
    columns = torch.arange(size[1])
    gone = cut.out_of_frame | (cut.valid & (columns - cut.disparity < 0))
    return cut._replace(out_of_frame=gone, occluded=cut.occluded & ~gone)


def varied(first: Tensor, second: Tensor, scale: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Returns two views with the changes of colour and the noise of ``StereoAugmentation``."""
    views = _recolour(pixels_of(first), pixels_of(second), scale, rng)
    sigma = 0.02 * scale * rng.random()
    one, other = (tensor_of(_add_noise(view, sigma, rng)).contiguous() for view in views)
    return one, other


def _recolour(left: Pixels, right: Pixels, scale: float, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Returns recoloured views, with nearly the same change in both."""
    ranges = scale * np.array([0.7, 0.25, 0.4, 0.1, 0.4])
    shared, own = rng.uniform(-1, 1, 5), _ASYMMETRY * rng.uniform(-1, 1, (2, 5))
    return recolour(left, *(ranges * (shared + own[0]))), recolour(right, *(ranges * (shared + own[1])))


def recolour(view: Pixels, saturation: float, hue: float, contrast: float, brightness: float, gamma: float) -> Pixels:
    """Changes the colours of one view, in the order of the arguments.

    Args:
        view: (H, W, 3) float32 RGB in 0..1.
        saturation: log2 of the factor on the distance from grey.
        hue: radians about the grey axis.
        contrast: log2 of the factor on all channels.
        brightness: added to all channels.
        gamma: log2 of the exponent.

    Returns:
        (H, W, 3) float32, clipped to 0..1 before the exponent.
    """
    grey = np.array([0.299, 0.587, 0.114])
    saturate = 2**saturation * np.eye(3) + (1 - 2**saturation) * grey
    c, s = math.cos(hue), math.sin(hue) / math.sqrt(3)
    turn = np.array([[0, -s, s], [s, 0, -s], [-s, s, 0]]) + c * np.eye(3) + (1 - c) / 3  # Rodrigues
    mapping = np.column_stack([2**contrast * turn @ saturate, np.full(3, brightness)])
    changed = np.asarray(cv2.transform(view, mapping.astype(np.float32)), np.float32)
    np.clip(changed, 0, 1, out=changed)
    return np.asarray(cv2.pow(changed, 2**gamma, dst=changed), np.float32)


def _patch(right: Pixels, sample: StereoSample, scale: float, rng: np.random.Generator) -> Tensor:
    """Masks rectangles of the right view in place; returns the occlusion mask of the left view."""
    occluded = sample.occluded
    if rng.random() >= min(0.5 * scale, 1.0):
        return occluded
    height, width = right.shape[:2]
    largest = min(0.2 * math.sqrt(scale), 0.5)
    colour = right.mean(axis=(0, 1))
    for _ in range(int(rng.integers(1, 4))):
        h, w = (max(1, round(side * largest * rng.uniform(0.2, 1))) for side in (height, width))
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        right[y : y + h, x : x + w] = colour
        occluded = occluded | matched_within(sample, slice(y, y + h), slice(x, x + w))
    return occluded


def matched_within(sample: StereoSample, rows: slice, columns: slice) -> Tensor:
    """Returns the mask (1, H, W) of left pixels whose match lies in the frame and on the given right-view pixels.

    A pixel extends half a unit to both sides of its centre.
    """
    match = torch.arange(sample.disparity.shape[-1]) - sample.disparity
    outside = (match < columns.start - 0.5) | (match >= columns.stop - 0.5)
    within: Tensor = sample.valid & ~sample.out_of_frame & ~outside
    within[:, : rows.start] = False
    within[:, rows.stop :] = False
    return within


def _add_noise(view: Pixels, sigma: float, rng: np.random.Generator) -> Pixels:
    noisy = gaussian_noise(rng, (*view.shape[:2], 3), sigma)
    noisy += view
    return np.clip(noisy, 0, 1, out=noisy)
