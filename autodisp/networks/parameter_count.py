"""How many parameters a network has, and how wide it must be to have so many: for comparisons at equal size."""

from collections.abc import Callable

import torch
from torch import nn

WIDEST = 2**16
"""Where the search for a width gives up: such a network depends on its width in no way."""


def count_parameters(network: nn.Module) -> int:
    """Of all its tensors that can be learnt, frozen ones too; a shared one counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def channels_for(parameters: int, build: Callable[[int], nn.Module], *, smallest: int = 1) -> int:
    """The number of channels at which a network comes nearest to so many parameters, the smaller of two as near.

    Networks are built on the meta device, where they take neither memory nor random numbers.

    Args:
        parameters: wanted.
        build: makes the network of that many channels; must not have fewer parameters at more channels.
        smallest: number of channels that ``build`` accepts.

    Raises:
        ValueError: the network doesn't reach that many parameters however wide.
    """

    def count(channels: int) -> int:
        with torch.device("meta"):
            return count_parameters(build(channels))

    low, high = smallest, smallest
    while count(high) < parameters:
        low, high = high, 2 * high
        if high > WIDEST:
            raise ValueError(f"{parameters} parameters are not reached at {low} channels: does the width act at all?")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    return min(low, high, key=lambda channels: abs(count(channels) - parameters))
