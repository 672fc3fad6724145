"""Semantic segmentation."""

from autodisp.tasks.segmentation.task import SegmentationTask

__all__ = ["SegmentationTask"]
