"""Learning rates and level weights as functions of the step; no state, no torch."""

import bisect
import math
from collections.abc import Callable, Sequence

Factor = Callable[[int], float]
"""Factor of the base learning rate as a function of the steps done."""


def constant() -> Factor:
    """Constant factor of 1."""
    return lambda step: 1.0


def cosine(steps: int, *, floor: float = 0.0) -> Factor:
    """Half a cosine from 1 to the floor over that many steps (Loshchilov and Hutter 2017, without restarts).

    Args:
        steps: at least 1; later steps stay at the floor.
        floor: the last factor.
    """
    return lambda step: floor + (1 - floor) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


def milestones(at: Sequence[int], *, factor: float = 0.5) -> Factor:
    """Step schedule, multiplied by the factor at each milestone, as in the FlowNet family: 0.5 at 300, 400 and 500 k.

    Args:
        at: steps done, ascending, from which on the factor applies.
        factor: above 0.
    """
    return lambda step: factor ** bisect.bisect_right(at, step)


def warmed_up(schedule: Factor, steps: int) -> Factor:
    """The schedule after a linear warm-up over the first steps."""
    return lambda step: schedule(step) * min(1.0, (step + 1) / steps) if steps else schedule(step)


LevelSchedule = Sequence[tuple[int, Sequence[float]]]
"""(steps done, weights of the levels from there on), ascending, the first at step 0."""


def levels_at(schedule: LevelSchedule, step: int) -> tuple[float, ...]:
    """Returns the weights of the levels, coarse to fine, at that step (Mayer et al. 2016: coarse levels first)."""
    place = bisect.bisect_right([start for start, _ in schedule], step) - 1
    return tuple(schedule[place][1])
