"""Image classification."""

from autodisp.tasks.classification.task import ClassificationTask

__all__ = ["ClassificationTask"]
