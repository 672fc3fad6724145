"""Parameter counts, and the width at which a network has a given count, for comparisons at equal size."""

from collections.abc import Callable

from torch import nn

from autodisp.networks.unbuilt import unbuilt

WIDEST = 2**16
"""Largest width tried; beyond it the parameter count does not depend on the width."""


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, including frozen ones; shared tensors are counted once."""
    return sum(parameter.numel() for parameter in network.parameters())


def channels_for(parameters: int, build: Callable[[int], nn.Module], *, smallest: int = 1) -> int:
    """The number of channels whose parameter count is closest to ``parameters``; the smaller one on a tie.

    Networks are built on the meta device, without memory or random numbers.

    Args:
        parameters: target count.
        build: returns the network for a number of channels; its parameter count must not decrease with it.
        smallest: smallest number of channels that ``build`` accepts.

    Raises:
        ValueError: no width reaches the target count.
    """

    def count(channels: int) -> int:
        with unbuilt():
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
