"""Optical flow: multi-scale end-point error, and the outliers of KITTI."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from autodisp.cells.cell import CellFactory
from autodisp.datasets.samples import FlowSample
from autodisp.networks.flow import FlowNetwork, FlowPrediction
from autodisp.tasks.base import Figure, Sums, mean_over, means, pool, sum_of
from autodisp.tasks.dense import DenseTask, truth_at_stride

BAD_PIXELS = (1, 3)
FL_PIXELS, FL_SHARE = 3.0, 0.05
"""Thresholds of KITTI's outliers: an error above both, in pixels and as a share of the vector's length."""
SMOOTH = 1e-3
"""Pixels; added in quadrature to the end-point error in the loss, whose second derivative would not exist at 0."""
_GRID, _FARTHEST = 16, 2048


@dataclass(kw_only=True, eq=False)
class FlowTask(DenseTask[FlowSample]):
    """Predicts the optical flow of the first of two images.

    The loss of a level is the mean end-point error in pixels. That of a vector is the Euclidean norm of its difference
    from the ground truth, as in the multi-scale loss of NVIDIA's flownet2-pytorch with the norm L2, which averages the
    ground truth over the blocks of a level too. Occluded pixels count.

    Args:
        max_displacement: argument of the network; for the others see ``DenseTask``.
    """

    encoder_cells: int = 4
    decoder_cells: int = 3
    max_displacement: int = 4

    name = "flow"
    figure = Figure("epe", "min", "px")

    def build_network(self, cells: CellFactory) -> FlowNetwork:
        """Builds stems, correlation, encoder and decoder."""
        return FlowNetwork(cells, **self.settings)

    def inputs(self, batch: FlowSample) -> tuple[Tensor, ...]:
        """Returns the two images."""
        return batch.first, batch.second

    def level_loss(self, batch: FlowSample) -> Callable[[Tensor, int], Tensor]:
        """Returns the mean end-point error of a level."""

        def end_point(flow: Tensor, stride: int) -> Tensor:
            truth, valid = truth_at_stride(batch.flow, batch.valid, stride, flow.shape[-2:])
            squared = torch.where(valid, flow - truth, 0.0).square().sum(dim=1, keepdim=True)
            error = torch.where(valid, (squared + SMOOTH**2).sqrt(), 0.0)
            return mean_over(error.sum(), valid.sum())

        return end_point

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
