"""Sparsification: errors over the most confident pixels, for every density.

Pixels are not stored but counted in bins of equal confidence, 64 per unit of its log-odds, so that bins are fine near 0
and 1. Within a bin the order is that of chance: a density that cuts through it takes a proportional part of its sums.
"""

import torch
from torch import Tensor

_LARGEST = 17.0
"""Log-odds of the last bins; float32 has no confidence nearer to 1."""
_PER_UNIT = 64
_BINS = 2 + 2 * round(_LARGEST * _PER_UNIT)
"""The first is for a confidence of 0 alone."""


class Sparsification:
    """Sums of errors by confidence.

    Args:
        columns: number of sums of a pixel; the first must be its count.
    """

    def __init__(self, columns: int) -> None:
        self._sums = torch.zeros(_BINS, columns, dtype=torch.float64)

    @property
    def pixels(self) -> float:
        """Number of pixels."""
        return float(self._sums[:, 0].sum())

    @property
    def graded(self) -> bool:
        """True if there are more than two confidences, such as known and unknown."""
        return int((self._sums[:, 0] > 0).sum()) > 2

    def update(self, confidence: Tensor, values: Tensor) -> None:
        """Adds pixels.

        Args:
            confidence: (N,), 0..1; NaN counts as 0.
            values: (N, columns) to be summed.
        """
        odds = torch.logit(confidence.detach().double().cpu().nan_to_num(0.0)).clamp(-_LARGEST, _LARGEST)
        place = 1 + ((odds + _LARGEST) * _PER_UNIT).round().long()
        place = torch.where(confidence.cpu() > 0, place, 0)
        self._sums.index_add_(0, place, values.double().cpu())

    def at(self, density: float) -> tuple[Tensor, float]:
        """Sums over the most confident pixels, a share of ``density`` in 0..1.

        Returns:
            The sums (columns,), and the smallest confidence among these pixels; zeros and 1 without a pixel.
        """
        falling = self._sums.flip(0)
        counts = falling[:, 0]
        before = counts.cumsum(0) - counts
        part = ((density * self.pixels - before) / counts.clamp(min=1.0)).clamp(0.0, 1.0)
        part = torch.where(counts > 0, part, 0.0)
        used = part.nonzero()
        last = _BINS - 1 - int(used.max()) if len(used) else _BINS
        confidence = torch.sigmoid(torch.tensor((last - 1) / _PER_UNIT - _LARGEST, dtype=torch.float64))
        return (part.unsqueeze(1) * falling).sum(0), float(confidence) if last else 0.0
