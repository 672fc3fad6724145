"""Semantic segmentation."""

from autodisp.tasks.segmentation.task import SegmentationTask, classes_at_stride

__all__ = ["SegmentationTask", "classes_at_stride"]
