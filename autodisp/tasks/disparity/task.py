"""Disparity estimation: multi-scale L1, cross-entropy on the matching volume, end-point error."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError
from autodisp.networks.disparity import DisparityNetwork, Head, StereoPrediction
from autodisp.networks.hourglass import Support
from autodisp.networks.matching_head import STRIDE, Matching
from autodisp.networks.refinement import RefinementNetwork
from autodisp.networks.stack import StackedDisparityNetwork
from autodisp.tasks.base import Figure, Sums, mean_over, sum_of
from autodisp.tasks.dense import DenseTask, truth_at_stride

BAD_PIXELS = (1, 2, 3)
D1_PIXELS, D1_SHARE = 3.0, 0.05
BINS = 64
"""Number of bins per pixel in the histogram of disparities."""
FARTHEST = 2**16
"""Pixels; all larger disparities share one bin."""


@dataclass(kw_only=True, eq=False)
class DisparityTask(DenseTask[StereoSample]):
    """Predicts the disparity of the left view; the loss of a level is the mean L1 in full-resolution pixels.

    Args:
        max_displacement, head, max_disparity, aggregation, groups, refinement, siamese_cells: arguments of the network.
        stages: 1 for a single network, 2 for CS, 3 for CSS; refinement stages have one more encoder cell, as
            published.
        frozen_stages: number of leading stages that are not trained.
        to_full_resolution: if True, the last refinement continues from 1/4 to full resolution.
        volume_weight: weight of the cross-entropy on the matching volume, added to the disparity loss.
        robust_scale: c, pixels: the loss of a level is the mean of c log(1 + e / c) over errors e; None for that of e.
        support: encoder cells read by the upsampling cells, see ``autodisp.networks.hourglass.Support``; for the others
            see ``DenseTask``.

    Raises:
        InputError: such a network is no longer supported.
    """

    encoder_cells: int = 6
    decoder_cells: int = 4
    max_displacement: int = 40
    head: Head = "regression"
    max_disparity: int = 192
    aggregation: int = 0
    groups: int = 0
    refinement: int = 16
    siamese_cells: int = 1
    stages: int = 1
    frozen_stages: int = 0
    to_full_resolution: bool = False
    volume_weight: float = 1.0
    robust_scale: float | None = None
    support: Support = "reduce"

    name = "disparity"
    figure = Figure("epe", "min", "px")
    unstored = DenseTask.unstored | {"frozen_stages", "volume_weight", "robust_scale"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to_full_resolution and self.support != "reduce":
            raise InputError(
                "a last stage at full resolution is no longer built for models of an earlier autodisp "
                "(support='normal'), which had another one: train all stages again, or use that version"
            )

    def build_network(self, cells: CellFactory) -> DisparityNetwork | StackedDisparityNetwork:
        """Builds the disparity network, followed by refinement networks if there is more than one stage."""
        settings = self.settings
        stages, to_full_resolution = settings.pop("stages"), settings.pop("to_full_resolution")
        first = DisparityNetwork(cells, **settings)
        if stages == 1:
            return first
        refinements = [
            RefinementNetwork(
                cells,
                channels=self.channels,
                stem_scale=self.stem_scale,
                encoder_cells=self.encoder_cells + 1,
                decoder_cells=self.decoder_cells,
                to_full_resolution=to_full_resolution and stage == stages - 1,
                support=self.support,
            )
            for stage in range(1, stages)
        ]
        return StackedDisparityNetwork(first, refinements, frozen_stages=self.frozen_stages)

    def inputs(self, batch: StereoSample) -> tuple[Tensor, ...]:
        """Returns the two views."""
        return batch.left, batch.right

    def loss(
        self, output: StereoPrediction, batch: StereoSample, level_weights: Sequence[float] | None = None
    ) -> Tensor:
        """Adds the cross-entropy of a volume to ``DenseTask.loss``; for a stack, sums over its trained stages."""
        total = super().loss(output, batch, level_weights)
        if output.matching is not None and self.volume_weight > 0:
            total = total + self.volume_weight * volume_cross_entropy(output.matching, batch)
        for stage in output.earlier:
            total = total + DisparityTask.loss(self, stage, batch, level_weights)  # not that of a derived task
        return total

    def level_loss(self, batch: StereoSample) -> Callable[[Tensor, int], Tensor]:
        """Returns the mean L1 of a level, or its robust form."""
        return lambda found, stride: masked_l1(
            found, *truth_at_stride(batch.disparity, batch.valid, stride, found.shape[-2:]), self.robust_scale
        )

    def constant(self, batches: Iterable[StereoSample]) -> float:
        """Returns the EPE in pixels of the best constant, the median of the valid disparities; NaN if there are none.

        The pixels are counted in bins of 1/64 pixel, since whole validation splits do not fit into memory. The error
        is below the width of a bin times the share of the pixels in the median's bin.
        """
        histogram = torch.zeros(2, 1, dtype=torch.float64)  # per bin: number of pixels and sum of disparities
        for batch in batches:
            values = batch.disparity[batch.valid].cpu().double()
            bins = (values * BINS).clamp(0, BINS * FARTHEST).long()
            more = torch.stack([bins.bincount().double(), bins.bincount(weights=values).double()])
            size = max(histogram.shape[1], more.shape[1])
            histogram, more = (functional.pad(table, (0, size - table.shape[1])) for table in (histogram, more))
            histogram += more
        count, total = histogram
        middle = int((count.cumsum(0) < count.sum() / 2).sum())
        median = total[middle] / count[middle]
        apart = (total[middle + 1 :] - median * count[middle + 1 :]).sum()
        apart += (median * count[:middle] - total[:middle]).sum()
        return float(apart / count.sum())

    def measure(self, output: StereoPrediction, batch: StereoSample) -> Sums:
        """Sums EPE (pixels), bad-1, bad-2, bad-3 and D1 (percent) over the valid pixels. NaN counts as wrong."""
        error = (output.disparity.detach().clamp(min=0.0) - batch.disparity).abs()
        error = torch.where(error.isnan(), float("inf"), error)
        sums = {"epe": sum_of(error, batch.valid)}
        for pixels in BAD_PIXELS:
            sums[f"bad{pixels}"] = sum_of(100.0 * (error > pixels), batch.valid)
        wrong = (error > D1_PIXELS) & (error > D1_SHARE * batch.disparity)
        sums["d1"] = sum_of(100.0 * wrong, batch.valid)
        return sums


def masked_l1(prediction: Tensor, truth: Tensor, valid: Tensor, robust_scale: float | None = None) -> Tensor:
    """Computes the mean absolute difference over the valid pixels; 0, with zero gradient, if there are none.

    All tensors are (B, 1, h, w). With a robust scale c a difference e counts as c log(1 + e / c), whose derivative is 1
    at 0 and 1/2 at c: pixels that cannot be matched, such as occluded ones, weigh less than the precision of the rest.
    """
    difference = torch.where(valid, prediction - truth, 0.0).abs()
    if robust_scale is not None:
        difference = robust_scale * torch.log1p(difference / robust_scale)
    return mean_over(difference.sum(), valid.sum())


def volume_cross_entropy(matching: Matching, batch: StereoSample) -> Tensor:
    """Computes the cross-entropy of the volume against the ground truth, interpolated between its two nearest bins.

    The ground truth of a volume cell is that of the full-resolution pixel in its middle: a mean could fall between two
    surfaces, where there is none. Pixels beyond the last bin are ignored.
    """
    logits = matching.logits
    middle = slice(STRIDE // 2, None, STRIDE)
    bottom = logits.shape[-2] * STRIDE - batch.disparity.shape[-2]
    right = logits.shape[-1] * STRIDE - batch.disparity.shape[-1]
    known = torch.where(batch.valid, batch.disparity, 0.0)  # a NaN would reach the gradient despite weight 0
    truth = functional.pad(known, (0, right, 0, bottom))[:, 0, middle, middle] / STRIDE
    valid = functional.pad(batch.valid, (0, right, 0, bottom))[:, 0, middle, middle]
    last = logits.shape[1] - 1
    valid = valid & (truth <= last)
    lower = truth.clamp(0, last).floor().clamp(max=last - 1)
    upper_share = truth.clamp(0, last) - lower
    log_shares = torch.log_softmax(logits, dim=1)
    index = lower.long().unsqueeze(1)
    at_lower = log_shares.gather(1, index).squeeze(1)
    at_upper = log_shares.gather(1, index + 1).squeeze(1)
    entropy = -(at_lower * (1 - upper_share) + at_upper * upper_share)
    return mean_over(torch.where(valid, entropy, 0.0).sum(), valid.sum())
