"""Disparity estimation."""

from autodisp.tasks.disparity.task import DisparityTask

__all__ = ["DisparityTask"]
