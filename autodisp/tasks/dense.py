"""Tasks whose network is an encoder and a decoder of cells with a prediction at each level of resolution."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.tasks.base import StoredTask

SMALLEST_LEVEL_WEIGHT = 1 / 16
Batch = TypeVar("Batch")


@dataclass(kw_only=True, eq=False)
class DenseTask(StoredTask, Generic[Batch]):
    """Base of such tasks; the fields besides ``level_weights`` are arguments of the network.

    Args:
        channels, stem_scale, encoder_cells, decoder_cells: arguments of the network.
        level_weights: weights of the levels, coarse to fine, see ``fitted_level_weights``.

    Raises:
        ValueError: level_weights is empty.
    """

    channels: int
    stem_scale: float = 1.0
    encoder_cells: int
    decoder_cells: int
    level_weights: Sequence[float] | None = None

    kinds: ClassVar[tuple[str, ...]] = ("normal", "reduce", "upsample")
    unstored: ClassVar[frozenset[str]] = frozenset({"level_weights"})

    def __post_init__(self) -> None:
        if self.level_weights is not None:
            if not self.level_weights:
                raise ValueError("level_weights is empty: give one weight per level, coarse to fine")
            self.level_weights = tuple(self.level_weights)

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the bottleneck, including padding."""
        stride = 8 * 2 ** (self.encoder_cells // 2)
        return -(-height // stride), -(-width // stride)

    def loss(self, output: Any, batch: Batch, level_weights: Sequence[float] | None = None) -> Tensor:
        """Computes the weighted sum of the levels' losses; the finest one is taken at full resolution.

        Pixels without ground truth contribute nothing, and the loss of a batch without any is zero. ``level_weights``,
        coarse to fine, replace the task's own.
        """
        loss_at = self.level_loss(batch)
        weights = fitted_level_weights(output.strides, self.level_weights if level_weights is None else level_weights)
        total = weights[-1] * loss_at(output[0], 1)
        for level, stride, weight in zip(output.levels[:-1], output.strides[:-1], weights[:-1], strict=True):
            total = total + weight * loss_at(level, stride)
        return total

    def level_loss(self, batch: Batch) -> Callable[[Tensor, int], Tensor]:
        """Returns the loss of a prediction (B, C, h, w) of the batch and its stride, 1 at full resolution."""
        raise NotImplementedError


def fitted_level_weights(strides: Sequence[int], given: Sequence[float] | None) -> tuple[float, ...]:
    """Returns one weight per level: those given, or else those of the FlowNet family.

    The latter are 1/16 at 1/64, 1/32 and 1/16, then 1/8, 1/4, 1/2 and 1, divided by the weight of the finest level, so
    that the scale of the loss (and with it the effect of learning rate, clipping and volume weight) does not depend on
    the resolution at which a network ends.

    Args:
        strides: strides of the levels, coarse to fine.
        given: coarse to fine, at least one, the last for the prediction at full resolution; fewer levels use the last
            ones, more repeat the first.
    """
    if given is None:
        weights = [max(1 / stride, SMALLEST_LEVEL_WEIGHT) for stride in strides]
        return tuple(weight / weights[-1] for weight in weights)
    repeated = [given[0]] * (len(strides) - len(given))
    return (*repeated, *given[-len(strides) :])


def truth_at_stride(truth: Tensor, valid: Tensor, stride: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Downsamples the ground truth to a level: the mean of the valid pixels in each block, values not rescaled.

    Args:
        truth: (B, C, H, W).
        valid: (B, 1, H, W).
        stride: stride of the level; 1 returns the ground truth itself.
        size: (h, w) of the level, which may include padding beyond H and W.

    Returns:
        ground truth (B, C, h, w) and validity (B, 1, h, w).
    """
    if stride == 1:
        return truth, valid
    bottom, right = size[0] * stride - truth.shape[-2], size[1] * stride - truth.shape[-1]
    known = functional.pad(valid.to(truth.dtype), (0, right, 0, bottom))
    values = functional.pad(torch.where(valid, truth, 0.0), (0, right, 0, bottom))
    share = functional.avg_pool2d(known, stride)
    mean = functional.avg_pool2d(values, stride) / share.clamp(min=0.5 / stride**2)
    return mean, share > 0


def mean_by_sample(error: Tensor, valid: Tensor) -> Tensor:
    """Averages the errors (B, 1, H, W) of each sample over its valid pixels.

    Returns:
        (B,) float64; infinite if an error is not finite, NaN without valid pixels.
    """
    error = torch.where(error.isfinite(), error.detach().double(), torch.inf)
    return torch.where(valid, error, 0.0).flatten(1).sum(1) / valid.flatten(1).sum(1)
