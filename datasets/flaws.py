"""Counts what the file of a disparity holds that is no disparity.

The readers mask such pixels, so that nothing of them reaches a loss; a check of the data has to see them.
"""

from typing import NamedTuple, Self

from torch import Tensor


class DisparityFlaws(NamedTuple):
    """Pixels of one map."""

    non_finite: int
    """NaN or infinite, but for the value that marks an unknown pixel."""
    negative: int
    """Finite and below zero."""

    @classmethod
    def of(cls, disparity: Tensor, *, unknown: float | None = None) -> Self:
        """Counts.

        Args:
            disparity: any shape.
            unknown: what marks a pixel without a truth, if anything does.
        """
        finite = disparity.isfinite()
        odd = ~finite if unknown is None else ~finite & (disparity != unknown)
        return cls(int(odd.sum()), int((finite & (disparity < 0)).sum()))
