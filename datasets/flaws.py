"""Counts impossible values in the file of a disparity.

The readers mask such pixels, so that none reaches a loss; a check of the data has to see them.
"""

from typing import NamedTuple, Self

from torch import Tensor


class DisparityFlaws(NamedTuple):
    """Pixels of one map."""

    non_finite: int
    """NaN or infinite, except for the value of an unknown pixel."""
    negative: int
    """Finite and below zero."""

    @classmethod
    def of(cls, disparity: Tensor, *, unknown: float | None = None) -> Self:
        """Counts.

        Args:
            disparity: any shape.
            unknown: the value of a pixel without ground truth, if there is one.
        """
        finite = disparity.isfinite()
        odd = ~finite if unknown is None else ~finite & (disparity != unknown)
        return cls(int(odd.sum()), int((finite & (disparity < 0)).sum()))
