"""The exponential moving average of a network's weights."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class MovingAverage(nn.Module):
    """A copy of a network whose parameters are averaged over the steps of its training.

    After n steps they are d^(n-1) w_1 + (1 - d) sum over k from 2 to n of d^(n-k) w_k. Buffers, such as running
    statistics, are those of the network. Unlike torch's ``AveragedModel``, which has the same state dict, it skips
    a step without synchronising with the device.

    Args:
        network: on its device.
        decay: d, from 0 to below 1.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)
        self.decay = decay
        device = next(network.parameters()).device
        self.register_buffer("n_averaged", torch.zeros((), dtype=torch.int64, device=device))

    @torch.no_grad()
    def update(self, network: nn.Module, made: Tensor) -> None:
        """Adds the weights after a step.

        Args:
            network: the trained network.
            made: 1 if the step counts, 0 to leave the average unchanged; shape (), on the device.
        """
        share = torch.where(self.n_averaged > 0, 1 - self.decay, 1.0) * made
        _blend(self.module.parameters(), network.parameters(), share)
        _blend(self.module.buffers(), network.buffers(), made)
        self.n_averaged += made.to(torch.int64)


def _blend(averages: Iterable[Tensor], values: Iterable[Tensor], share: Tensor) -> None:
    """Moves each average to (1 - share) average + share value, by a few calls per dtype; exact for shares 0 and 1."""
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for average, value in zip(averages, values, strict=True):
        into = groups.setdefault(average.dtype, ([], []))
        into[0].append(average.detach())
        into[1].append(value.detach())
    for dtype, (mine, theirs) in groups.items():
        torch._foreach_mul_(mine, (1 - share).to(dtype))
        torch._foreach_add_(mine, torch._foreach_mul(theirs, share.to(dtype)))
