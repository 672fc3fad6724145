"""Optical flow: multi-scale end-point error, and the outliers of KITTI."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from autodisp.cells.cell import CellFactory
from autodisp.datasets.samples import FlowSample
from autodisp.networks.flow import FlowNetwork, FlowPrediction
from autodisp.tasks.base import Figure, Sums, mean_over, means, pool, sum_of
from autodisp.tasks.disparity import truth_at_stride
from autodisp.tasks.levels import fitted_level_weights

BAD_PIXELS = (1, 3)
FL_PIXELS, FL_SHARE = 3.0, 0.05
"""Thresholds of KITTI's outliers: an error above both, in pixels and as a share of the vector's length."""
SMOOTH = 1e-3
"""Pixels; added in quadrature to the end-point error in the loss, whose second derivative would not exist at 0."""
_GRID, _FARTHEST = 16, 2048


class FlowTask:
    """Predicts the optical flow of the first of two images.

    Args:
        channels, stem_scale, encoder_cells, decoder_cells, max_displacement: arguments of the network.
        level_weights: weights of the levels, coarse to fine, see ``autodisp.tasks.levels.fitted_level_weights``.

    Attributes:
        settings: constructor arguments that rebuild the same network.

    Raises:
        ValueError: level_weights is empty.
    """

    name = "flow"
    kinds: tuple[str, ...] = ("normal", "reduce", "upsample")
    figure = Figure("epe", "min", "px")

    def __init__(
        self,
        *,
        channels: int,
        stem_scale: float = 1.0,
        encoder_cells: int = 4,
        decoder_cells: int = 3,
        max_displacement: int = 4,
        level_weights: Sequence[float] | None = None,
    ) -> None:
        if level_weights is not None and not level_weights:
            raise ValueError("level_weights is empty: give one weight per level, coarse to fine")
        self.settings: dict[str, Any] = {
            "channels": channels,
            "stem_scale": stem_scale,
            "encoder_cells": encoder_cells,
            "decoder_cells": decoder_cells,
            "max_displacement": max_displacement,
        }
        self.level_weights = None if level_weights is None else tuple(level_weights)

    def build_network(self, cells: CellFactory) -> FlowNetwork:
        """Builds stems, correlation, encoder and decoder."""
        return FlowNetwork(cells, **self.settings)

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the bottleneck, including padding."""
        stride = 8 * 2 ** (self.settings["encoder_cells"] // 2)
        return -(-height // stride), -(-width // stride)

    def inputs(self, batch: FlowSample) -> tuple[Tensor, ...]:
        """Returns the two images."""
        return batch.first, batch.second

    def loss(self, output: FlowPrediction, batch: FlowSample, level_weights: Sequence[float] | None = None) -> Tensor:
        """Computes the weighted sum of the levels' end-point errors in pixels; the finest is at full resolution.

        The end-point error of a vector is the Euclidean norm of its difference from the ground truth, as in the
        multi-scale loss of NVIDIA's flownet2-pytorch with the norm L2, which averages the ground truth over the blocks
        of a level too. Invalid pixels contribute nothing; occluded ones do. ``level_weights``, coarse to fine, replace
        the task's own.
        """
        given = self.level_weights if level_weights is None else tuple(level_weights)
        weights = fitted_level_weights(output.strides, given)
        total = weights[-1] * _end_point(output.flow, batch.flow, batch.valid)
        for level, stride, weight in zip(output.levels[:-1], output.strides[:-1], weights[:-1], strict=True):
            truth, valid = truth_at_stride(batch.flow, batch.valid, stride, level.shape[-2:])
            total = total + weight * _end_point(level, truth, valid)
        return total

    def constant(self, batches: Iterable[FlowSample]) -> float:
        """Returns the EPE in pixels of ``best_constant``; NaN without ground truth. Iterates twice."""
        constant, sums = best_constant(batches), Sums()
        for batch in batches:
            pool(sums, flow_sums(constant.to(batch.flow).expand_as(batch.flow), batch))
        return means(sums).get("epe", float("nan"))

    def measure(self, output: FlowPrediction, batch: FlowSample) -> Sums:
        """Sums the metrics, see ``flow_sums``."""
        return flow_sums(output.flow, batch)


def flow_sums(flow: Tensor, batch: FlowSample) -> Sums:
    """Sums EPE (pixels), Fl, bad-1 and bad-3 (percent) over the valid pixels, for a flow (B, 2, H, W).

    Fl counts errors above 3 pixels and 5 % of the vector's length, as KITTI does. NaN counts as wrong.
    """
    error = torch.linalg.vector_norm(flow.detach() - batch.flow, dim=1, keepdim=True)
    error = torch.where(error.isnan(), float("inf"), error)
    wrong = (error > FL_PIXELS) & (error > FL_SHARE * torch.linalg.vector_norm(batch.flow, dim=1, keepdim=True))
    bad = {f"bad{pixels}": sum_of(100.0 * (error > pixels), batch.valid) for pixels in BAD_PIXELS}
    return {"epe": sum_of(error, batch.valid), "fl": sum_of(100.0 * wrong, batch.valid), **bad}


def best_constant(batches: Iterable[FlowSample]) -> Tensor:
    """Returns the median of each component over the valid pixels, (2, 1, 1), to 1/16 px; NaN without ground truth.

    The vector with the smallest EPE is the geometric median, for which there is no closed form.
    """
    middle = _GRID * _FARTHEST
    counts = torch.zeros(2, 2 * middle + 1, dtype=torch.int64)
    for batch in batches:
        vectors = batch.flow.movedim(1, 0)[:, batch.valid[:, 0]].cpu().double()
        bins = (vectors * _GRID).round().clamp(-middle, middle).long() + middle
        counts += torch.stack([component.bincount(minlength=2 * middle + 1) for component in bins])
    half = counts.sum(1, keepdim=True) / 2
    found = (counts.cumsum(1) < half).sum(1, dtype=torch.float64) / _GRID - _FARTHEST
    return torch.where(half[:, 0] > 0, found, torch.nan)[:, None, None]


def _end_point(flow: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Computes the mean norm over the valid pixels; 0, with zero gradient, if there are none."""
    squared = torch.where(valid, flow - truth, 0.0).square().sum(dim=1, keepdim=True)
    error = torch.where(valid, (squared + SMOOTH**2).sqrt(), 0.0)
    return mean_over(error.sum(), valid.sum())
