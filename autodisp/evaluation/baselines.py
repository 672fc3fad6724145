"""The best constant, the baseline that any disparity network must beat."""

from collections.abc import Iterable

import torch

from autodisp.datasets.samples import StereoSample

_GRID = 256
_FARTHEST = 2**16


def best_constant(batches: Iterable[StereoSample]) -> float:
    """Finds the constant with the smallest EPE on these batches: the median of their valid disparities, pixels.

    Computed without storing pixels, so it is only exact to 1/512 px (up to 65536 px), and so is its EPE; for an even
    number of pixels it is the lower of the two middle values, as in training. NaN without a valid pixel.
    """
    counts = torch.zeros(0, dtype=torch.int64)
    for batch in batches:
        levels = (batch.disparity[batch.valid].double() * _GRID).round().clamp(0, _GRID * _FARTHEST).long().cpu()
        more = levels.bincount(minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    if counts.sum() == 0:
        return float("nan")
    middle = (counts.sum() + 1) // 2
    return float(torch.searchsorted(counts.cumsum(0), middle)) / _GRID
