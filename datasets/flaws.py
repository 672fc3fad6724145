"""Counts impossible values in a disparity file.

The readers mask such pixels, so that they do not reach a loss; a check of the data reports them.
"""

from typing import NamedTuple, Self

from torch import Tensor


class DisparityFlaws(NamedTuple):
    """Numbers of flawed pixels in one disparity map."""

    non_finite: int
    """NaN or infinite, except for the marker of unknown pixels."""
    negative: int
    """Finite and below zero."""

    @classmethod
    def of(cls, disparity: Tensor, *, unknown: float | None = None) -> Self:
        """Counts the flawed pixels.

        Args:
            disparity: any shape.
            unknown: the marker of pixels without ground truth, if there is one.
        """
        finite = disparity.isfinite()
        odd = ~finite if unknown is None else ~finite & (disparity != unknown)
        return cls(int(odd.sum()), int((finite & (disparity < 0)).sum()))
