"""Prediction at several sizes of the views, joined by confidence: ``scales=[1,1.5]``.

The matching volume of a network has steps of several pixels. Enlarged views therefore resolve finer structures, but
their nearest surfaces may exceed its range; for reduced views it is the other way round.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.errors import InputError
from autodisp.prediction.image_models import in_unit_range
from autodisp.prediction.inference import StereoMatcher, WrappedMatcher

AGREEMENT = 3.0
"""Pixels within which two disparities are of one surface."""
_WITHIN = 0.9
"""Share of the range of a scale that is used, since what lies beyond the range is predicted near its end."""
_LEAST = 1e-6
"""Lower bound of the confidences, so that the weights never sum to zero."""


class MultiScaleMatcher(WrappedMatcher):
    """Calls a network on the views at several sizes, and joins the disparities by ``join``.

    Args:
        matcher: of a network; without a confidence all of its disparities count the same.
        scales: factors of height and width.

    Raises:
        InputError: there is no factor, or one is not positive and finite.
    """

    def __init__(self, matcher: StereoMatcher, scales: Sequence[float]) -> None:
        super().__init__(matcher)
        self.scales = sorted(float(scale) for scale in scales)
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise InputError(f"scales={self.scales}: must be factors above 0, at least one, such as [1,1.5]")

    @property
    def max_disparity(self) -> float:
        """See ``StereoMatcher``; the range of the smallest scale."""
        return self.matcher.max_disparity / self.scales[0]

    def _matched(self, left: Tensor, right: Tensor, *, confident: bool = False) -> Tensor:
        found = torch.stack([self._at(scale, left, right) for scale in self.scales])
        disparities, confidences = found[:, :, :1], found[:, :, 1:] if self.has_confidence else torch.ones_like(found)
        ends = _WITHIN * self.matcher.max_disparity / found.new_tensor(self.scales)
        usable = disparities[0] <= ends.view(-1, 1, 1, 1, 1)
        usable[0] = True
        disparity, confidence = join(disparities, confidences, usable)
        return torch.cat([disparity, confidence], dim=1) if confident else disparity

    def _at(self, scale: float, left: Tensor, right: Tensor) -> Tensor:
        """Returns the disparity at one size, in pixels of the views, and its confidence where the network has one."""
        height, width = left.shape[-2:]
        size = max(round(scale * height), 1), max(round(scale * width), 1)
        if size != (height, width):
            left, right = (_resized(view.to(self.device), size) for view in (left, right))
        found = self.matcher._matched(left, right, confident=self.has_confidence)
        # An interpolation would mix the disparities of both sides of an edge.
        found = functional.interpolate(found, (height, width), mode="nearest-exact")
        found[:, :1] *= width / size[1]
        return found


def join(disparities: Tensor, confidences: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Joins several disparities of each pixel: their mean on the surface with the largest sum of confidences.

    Args:
        disparities, confidences: (N, B, 1, H, W), pixels and 0..1.
        usable: (N, B, 1, H, W) bool; at least one of each pixel.

    Returns:
        The disparity (B, 1, H, W), weighted by confidence, not finite where one of the N is not; and its confidence,
        the sum on the surface divided by the number of usable disparities.
    """
    weights = confidences.clamp(min=_LEAST) * usable
    joined, largest = disparities[0], torch.zeros_like(disparities[0])
    for each, counts in zip(disparities, usable, strict=True):
        on_surface = weights * ((disparities - each).abs() <= AGREEMENT) * counts
        total = on_surface.sum(dim=0)
        mean = (on_surface * disparities).sum(dim=0) / total
        joined = torch.where(total > largest, mean, joined)
        largest = torch.maximum(total, largest)
    return joined, largest / usable.sum(dim=0)


def _resized(view: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes (B, C, H, W) of any dtype; returns float32 in 0..1."""
    view = in_unit_range(view.contiguous())  # twice as fast in this layout
    return functional.interpolate(view, size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
