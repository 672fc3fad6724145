"""Optical flow."""

from autodisp.tasks.flow.task import FlowTask, best_constant, flow_sums

__all__ = ["FlowTask", "best_constant", "flow_sums"]
