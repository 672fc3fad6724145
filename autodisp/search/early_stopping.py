"""Stops a search when the curvature of the validation loss rises (DARTS-ES; Zela et al. 2020).

The policy maps the history of dominant eigenvalues, as (epoch, eigenvalue) pairs, to a decision. It has no state, so a
resumed run, or one that ADA rolled back, only has to pass the restored history.

The rule has two forms, both of which smooth the history with the same sliding mean:

* ``ratio``, in the authors' code: newest average / average four measurements before > 1.3;
* ``paper``, in the text: earlier average / newest average < 0.75, five measurements apart.

Departures from the published code, none of which has an effect on a complete history of positive values:

* Positions are counted in epochs, ``every`` apart. A missing measurement is unknown and does not shift the others; a
  measurement between the positions (the last epoch of a run that was later extended) is ignored.
* NaN and -inf are unknown, like a missing measurement: excluded from the averages, and no reason to stop at their
  epoch. +inf stops the search if the earlier average is finite.
* If the earlier average is not positive, no finite value stops the search. (The quotient of two negative averages would
  turn a falling curvature into a rising one.)
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
    """The decision to stop a search, or to return to an earlier epoch."""

    decided_epoch: int
    """Epoch whose eigenvalue triggered the decision."""
    returned_epoch: int
    """Epoch before the rise, whose architecture or state is used instead."""
    earlier_average: float
    """Mean eigenvalue around the returned epoch."""
    newest_average: float
    """Mean eigenvalue ``delta`` measurements later."""

    @property
    def ratio(self) -> float:
        """Newest average over earlier average; infinite if the earlier one is not positive."""
        return self.newest_average / self.earlier_average if self.earlier_average > 0 else math.inf


class EarlyStopping:
    """The stopping rule over a history of dominant eigenvalues.

    Args:
        window: number of measurements in a local average; odd, so that the average has a middle epoch.
        start_epoch: earliest epoch that may be returned.
        delta: number of measurements between the compared averages; 4 for ``ratio`` and 5 for ``paper`` if None.
        factor: largest growth over ``delta`` measurements; 1.3 for ``ratio`` and 4/3 for ``paper``
            (the inverse of its 0.75) if None.
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
                f"early stopping: window is {window}, must be odd and positive, since an average is assigned to its "
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
        """The first epoch that can trigger a decision if epoch 0 is measured; a shorter search never stops early."""
        return self.every * (math.ceil(self.start_epoch / self.every) + self._half + self.delta)

    def decide(self, history: Sequence[tuple[int, float]], last_epoch: int) -> Decision | None:
        """Applies the rule to the newest pair of the history.

        Args:
            history: (epoch, dominant eigenvalue) in ascending order of epochs, from the start of the run (or
                from its first measurement) to the current epoch.
            last_epoch: the last epoch of the search (epochs - 1), which never stops.

        Returns:
            The decision to stop at this epoch, or None to continue. Its ``returned_epoch`` is the middle of the
            earlier average, ``every * (window // 2 + delta)`` epochs back; if that epoch is unknown, the
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
            (epoch, average) pairs in the order of the history; the epoch is the middle of the window. An average needs
            more than half a window of known values.

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
