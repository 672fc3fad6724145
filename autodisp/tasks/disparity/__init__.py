"""Disparity estimation."""

from autodisp.tasks.disparity.task import (
    BAD_PIXELS,
    BINS,
    D1_PIXELS,
    D1_SHARE,
    DisparityTask,
    masked_l1,
    volume_cross_entropy,
)

__all__ = ["BAD_PIXELS", "BINS", "D1_PIXELS", "D1_SHARE", "DisparityTask", "masked_l1", "volume_cross_entropy"]
