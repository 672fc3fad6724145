"""Augmentation of flow samples with a single strength, and the fixed crop for validation."""

import numpy as np
import torch

from autodisp.datasets.flow_files import outside
from autodisp.datasets.samples import FlowSample
from autodisp.datasets.stereo_transforms import varied
from autodisp.datasets.windows import Size, WindowAugmentation, WindowCrop, resampled

_MIRRORED, _UPSIDE_DOWN = 0.5, 0.1
"""Probabilities of a flip at strength 1 and above."""


class FlowAugmentation(WindowAugmentation[FlowSample]):
    """Randomly changes window and scale, mirrors, and changes colours and adds noise, in this order.

    Window, scale, colours and noise are those of ``stereo_transforms.StereoAugmentation``, nearly the same in both
    images. At strength s a sample is mirrored with probability 0.5 min(s, 1), and turned upside down with 0.1
    min(s, 1). Vectors are scaled and mirrored with the images, and never interpolated. Pixels whose match is cut off by
    the window become ``unmatched``, even if the dataset does not know such pixels.
    """

    def _reframed(self, sample: FlowSample, corner: Size, window: Size, size: Size) -> FlowSample:
        return reframe(sample, corner, window, size)

    def _varied(self, sample: FlowSample, rng: np.random.Generator) -> FlowSample:
        share = min(self.scale, 1.0)
        for axis, probability in ((2, _MIRRORED), (1, _UPSIDE_DOWN)):
            if rng.random() < share * probability:
                sample = flipped(sample, axis)
        if self.scale == 0:
            return sample
        first, second = varied(sample.first, sample.second, self.scale, rng)
        return sample._replace(first=first, second=second)


class CenterCrop(WindowCrop[FlowSample]):
    """Deterministic centre crop, see ``WindowCrop``."""

    def _cut(self, sample: FlowSample, corner: Size, window: Size) -> FlowSample:
        return reframe(sample, corner, window, window)


def reframe(sample: FlowSample, corner: Size, window: Size, size: Size) -> FlowSample:
    """Crops the same window from all planes and resizes it; a window that is the whole sample changes nothing.

    A position x becomes (x + 1/2) f - 1/2 - offset with f the ratio of widths, y alike, and a vector is multiplied by
    both ratios.
    """
    if window == size == tuple(sample.flow.shape[-2:]):
        return sample
    cut = FlowSample(*resampled(sample, corner, window, size))
    ratios = torch.tensor([size[1] / window[1], size[0] / window[0]])[:, None, None]
    flow = cut.flow * ratios
    return cut._replace(flow=flow, unmatched=cut.unmatched | (cut.valid & outside(flow)))


def flipped(sample: FlowSample, axis: int) -> FlowSample:
    """Mirrors all planes along axis 2 (left and right) or 1 (top and bottom)."""
    turned = FlowSample(*(plane.flip(axis) for plane in sample))
    sign = torch.tensor([-1.0, 1.0] if axis == 2 else [1.0, -1.0])[:, None, None]
    return turned._replace(flow=turned.flow * sign)
