"""Semantic segmentation."""

from autodisp.tasks.segmentation.task import SegmentationTask, class_weights, classes_at_stride

__all__ = ["SegmentationTask", "class_weights", "classes_at_stride"]
