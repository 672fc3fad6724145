"""Weights of losses that are sums over levels of resolution."""

from collections.abc import Sequence

SMALLEST_LEVEL_WEIGHT = 1 / 16


def level_weights_at(strides: Sequence[int]) -> tuple[float, ...]:
    """Returns the level weights of the FlowNet family: 1/16 at 1/64, 1/32 and 1/16, then 1/8, 1/4, 1/2 and 1.

    They are divided by the weight of the finest level, so that the scale of the loss (and with it the effect of
    learning rate, clipping and volume weight) does not depend on the resolution at which a network ends.

    Args:
        strides: strides of the levels, coarse to fine.
    """
    weights = [max(1 / stride, SMALLEST_LEVEL_WEIGHT) for stride in strides]
    return tuple(weight / weights[-1] for weight in weights)


def fitted_level_weights(strides: Sequence[int], given: Sequence[float] | None) -> tuple[float, ...]:
    """Returns one weight per level: those given, or else those of ``level_weights_at``.

    Args:
        strides: strides of the levels, coarse to fine.
        given: coarse to fine, at least one; fewer levels use the last ones, more repeat the first.
    """
    if given is None:
        return level_weights_at(strides)
    repeated = [given[0]] * (len(strides) - len(given))
    return (*repeated, *given[-len(strides) :])
