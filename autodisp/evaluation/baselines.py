"""The best constant, the baseline that any disparity network must beat."""

from collections.abc import Iterable

import torch
from torch import Tensor

from autodisp.datasets.samples import StereoSample

_GRID = 256
_FARTHEST = 2**16


class BestConstant:
    """Predicts one disparity everywhere, the baseline that any network must beat.

    Args:
        disparity: pixels.
    """

    def __init__(self, disparity: float) -> None:
        self.disparity = disparity

    @classmethod
    def of(cls, batches: Iterable[StereoSample]) -> "BestConstant":
        """Finds the constant with the smallest EPE on these batches: the median of their valid disparities.

        Computed without storing pixels, so it is only exact to 1/512 px (up to 65536 px), and so is its EPE; for an
        even number of pixels it is the lower of the two middle values, as in training. NaN without a valid pixel.
        """
        counts = torch.zeros(0, dtype=torch.int64)
        for batch in batches:
            levels = (batch.disparity[batch.valid].double() * _GRID).round().clamp(0, _GRID * _FARTHEST).long().cpu()
            more = levels.bincount(minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
        if counts.sum() == 0:
            return cls(float("nan"))
        middle = (counts.sum() + 1) // 2
        return cls(float(torch.searchsorted(counts.cumsum(0), middle)) / _GRID)

    def __call__(self, batch: StereoSample) -> Tensor:
        """Returns the constant as (B, 1, H, W), on the batch's device."""
        return torch.full_like(batch.disparity, self.disparity)
