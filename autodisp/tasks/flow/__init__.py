"""Optical flow."""

from autodisp.tasks.flow.task import FlowTask

__all__ = ["FlowTask"]
