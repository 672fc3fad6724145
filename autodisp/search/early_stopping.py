"""Stops a search when the curvature of the validation loss takes off (DARTS-ES; Zela et al. 2020).

The policy reads the history of dominant eigenvalues as (epoch, eigenvalue) pairs and answers with a
decision. It holds no state: the same history always gives the same answer, so a run that was stopped, or
that ADA rolled back to an earlier epoch, only has to hand over the history it restored.

Two forms of the rule are known, and both smooth the history with the same sliding mean:

* ``ratio``, as the authors' code has it: newest average / average four measurements before > 1.3;
* ``paper``, as the text has it: earlier average / newest average < 0.75, five measurements apart.

Departures from the published code, none of which shows on a complete history of positive values:

* Places are counted in epochs, ``every`` apart. A missing measurement leaves its place unknown instead of
  moving all the others, and a measurement between the places (the last epoch of a run that was prolonged
  later) is passed over.
* NaN and -inf are unknown, like a missing measurement: left out of the averages around them, and never a
  reason to stop at their own epoch. +inf is a curvature that ran away: it stops the search wherever the
  average before was finite.
* Where the earlier average is not positive there is no scale to measure growth by, and no finite value
  stops the search. (The quotient of two negative averages would call a falling curvature a rising one.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from autodisp.errors import InputError

Rule = Literal["ratio", "paper"]

_PUBLISHED: dict[str, tuple[int, float]] = {"ratio": (4, 1.3), "paper": (5, 1 / 0.75)}


@dataclass(frozen=True)
class Decision:
    """A search that should stop, or go back."""

    decided_epoch: int
    """The epoch whose eigenvalue gave the decision."""
    returned_epoch: int
    """The epoch before the rise, whose architecture or state is to be used instead."""
    earlier_average: float
    """Mean eigenvalue around the returned epoch."""
    newest_average: float
    """Mean eigenvalue ``delta`` measurements later."""

    @property
    def ratio(self) -> float:
        """How many times the newest average is the earlier one; infinite where the earlier one is not positive."""
        return self.newest_average / self.earlier_average if self.earlier_average > 0 else math.inf


class EarlyStopping:
    """The stopping rule over a history of dominant eigenvalues.

    Args:
        window: measurements in one local average, odd, so that the average has a middle epoch to belong to.
        start_epoch: no epoch before this one is ever returned.
        delta: measurements between the two averages compared; 4 for ``ratio`` and 5 for ``paper`` if None.
        factor: growth over ``delta`` measurements that is too much; 1.3 for ``ratio`` and 4/3 for ``paper``
            (which is its 0.75, upside down) if None.
        every: epochs between two measurements.
        rule: ``ratio`` tests newest / earlier > factor, ``paper`` tests earlier / newest < 1 / factor.

    Raises:
        InputError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        window: int = 5,
        start_epoch: int = 10,
        delta: int | None = None,
        factor: float | None = None,
        every: int = 2,
        rule: Rule = "ratio",
    ) -> None:
        if rule not in _PUBLISHED:
            raise InputError(f"early stopping: rule is {rule!r}, must be one of {', '.join(_PUBLISHED)}")
        published_delta, published_factor = _PUBLISHED[rule]
        self.window = window
        self.start_epoch = start_epoch
        self.delta = published_delta if delta is None else delta
        self.factor = published_factor if factor is None else factor
        self.every = every
        self.rule = rule
        self._half = window // 2
        if window < 1 or window % 2 == 0:
            raise InputError(
                f"early stopping: window is {window}, must be odd and positive, since an average belongs to its "
                "middle epoch: use 3 or 5"
            )
        if start_epoch < 0:
            raise InputError(f"early stopping: start_epoch is {start_epoch}, must be 0 or more: use 10")
        if self.delta < 1:
            raise InputError(f"early stopping: delta is {self.delta}, must be 1 or more: use {published_delta}")
        if not 1 < self.factor < math.inf:
            raise InputError(
                f"early stopping: factor is {self.factor}, must be a finite growth above 1: use {published_factor:.4g}"
            )
        if every < 1:
            raise InputError(f"early stopping: every is {every}, must be 1 epoch or more: use 2")

    @property
    def earliest_decision(self) -> int:
        """The first epoch that can give a decision when epoch 0 is measured: a shorter search never stops early."""
        return self.every * (math.ceil(self.start_epoch / self.every) + self._half + self.delta)

    def decide(self, history: Sequence[tuple[int, float]], last_epoch: int) -> Decision | None:
        """Judges the newest pair of the history.

        Args:
            history: (epoch, dominant eigenvalue) in ascending order of epochs, from the start of the run (or
                from its first measurement) to the epoch to be judged.
            last_epoch: the last epoch of the search (epochs - 1), where nothing is left to stop.

        Returns:
            The decision to stop at this epoch, or None to go on. Its ``returned_epoch`` is the middle of the
            earlier average, ``every * (window // 2 + delta)`` epochs back; where that epoch is unknown, the
            newest known one between it and ``start_epoch``.

        Raises:
            ValueError: the epochs do not ascend; a roll-back must also roll back the history.
        """
        known = _known(history)
        if not history or history[-1][0] not in known:
            return None
        epoch = history[-1][0]
        target = epoch - self.every * (self._half + self.delta)
        if epoch >= last_epoch or target < self.start_epoch:
            return None
        newest = self._average(known, epoch)
        earlier = self._average(known, epoch - self.every * self.delta)
        if newest is None or earlier is None or not self._rises(earlier, newest):
            return None
        returnable = [measured for measured in known if self.start_epoch <= measured <= target]
        return Decision(epoch, max(returnable), earlier, newest) if returnable else None

    def local_average(self, history: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
        """The smoothed history, for a plot.

        Returns:
            (epoch, average) pairs in the order of the history: each average with the epoch it belongs to,
            the middle of its window. There is none until more than half a window is known.

        Raises:
            ValueError: the epochs do not ascend.
        """
        known = _known(history)
        averages = ((epoch - self.every * self._half, self._average(known, epoch)) for epoch, _ in history)
        return [(epoch, average) for epoch, average in averages if average is not None]

    def _average(self, known: Mapping[int, float], epoch: int) -> float | None:
        places = (epoch - self.every * place for place in range(self.window))
        values = [known[place] for place in places if place in known]
        return sum(values) / len(values) if len(values) > self._half else None

    def _rises(self, earlier: float, newest: float) -> bool:
        if math.isinf(newest) or earlier <= 0:
            return math.isinf(newest) and not math.isinf(earlier)
        if self.rule == "paper":
            return newest > 0 and earlier / newest < 1 / self.factor
        return newest / earlier > self.factor


def _known(history: Sequence[tuple[int, float]]) -> dict[int, float]:
    for (before, _), (epoch, _) in pairwise(history):
        if epoch <= before:
            raise ValueError(
                f"eigenvalue history goes from epoch {before} to epoch {epoch}, must ascend: "
                "restore the history together with the state it belongs to"
            )
    return {epoch: value for epoch, value in history if not math.isnan(value) and value != -math.inf}
