"""Batch normalisation by the statistics of the whole batch, of which each process has a share.

Unlike ``torch.nn.SyncBatchNorm``, which is for GPUs and has no second derivative, it works on every device and under
double backward, as curvature and exact second-order gradients need.
"""

from typing import Any

import torch
from torch import Tensor, nn

from autodisp import distributed


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose batch is that of all processes; their shares have equal sizes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalises (B, C, H, W)."""
        if not self.training or distributed.world() == 1:
            return super().forward(input)
        mean = _mean(input.mean((0, 2, 3), keepdim=True))
        centred = input - mean
        variance = _mean(centred.square().mean((0, 2, 3), keepdim=True))
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._track(mean.detach().flatten(), variance.detach().flatten(), input.numel() // input.shape[1])
        normalised = centred * (variance + self.eps).rsqrt()
        if not self.affine:
            return normalised
        return normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Updates the running statistics as ``nn.BatchNorm2d`` does, with the unbiased variance of all values."""
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        values = count * distributed.world()
        self.running_mean.lerp_(mean, share)  # type: ignore[union-attr]
        self.running_var.lerp_(variance * values / max(values - 1, 1), share)  # type: ignore[union-attr]


class _Mean(torch.autograd.Function):
    """The mean over the processes; its gradient is the mean of the gradients, by the same function."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return distributed.mean([value])[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _mean(gradients[0])


def _mean(value: Tensor) -> Tensor:
    result: Tensor = _Mean.apply(value)
    return result


def synchronise(network: nn.Module) -> nn.Module:
    """Replaces every ``nn.BatchNorm2d`` in a network by a synchronised one with the same parameters and buffers."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _replacement(child))
    return network


def _replacement(norm: nn.BatchNorm2d) -> SynchronisedBatchNorm:
    other = SynchronisedBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats, device="meta"
    )
    other._parameters.update(norm._parameters)
    other._buffers.update(norm._buffers)
    return other.train(norm.training)
