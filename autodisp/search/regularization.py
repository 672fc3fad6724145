"""Policies on the eigenvalue history: none, early stopping (DARTS-ES), restart with more weight decay (DARTS-ADA)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autodisp.search.adaptive import AdaptiveRegularization, Restart
from autodisp.search.early_stopping import Decision, EarlyStopping


@dataclass(frozen=True)
class Stop:
    """The search ends and returns the genotype of an epoch."""

    decision: Decision


@dataclass(frozen=True)
class RollBack:
    """The search resumes from the state of an epoch with a larger weight decay."""

    decision: Decision
    restart: Restart


@dataclass(eq=False)
class Regularization:
    """Combines the policies of a run.

    Args:
        early_stopping: the stopping rule; None to run to the end.
        adaptive: turns its decisions into restarts; None to stop.
    """

    early_stopping: EarlyStopping | None = None
    adaptive: AdaptiveRegularization | None = None

    def answer(
        self, history: Sequence[tuple[int, float]], *, last_epoch: int, weight_decay: float
    ) -> Stop | RollBack | None:
        """The action after the newest eigenvalue; None to continue."""
        decision = self.early_stopping.decide(history, last_epoch) if self.early_stopping else None
        if decision is None:
            return None
        if self.adaptive is None:
            return Stop(decision)
        restart = self.adaptive.next(decision, weight_decay)
        return RollBack(decision, restart) if restart else None

    def returnable(self, history: Sequence[tuple[int, float]], epoch: int, *, weight_decay: float) -> set[int]:
        """The epochs whose state a decision at this epoch or later may restore, once this epoch is complete.

        Each restart may return as far back as early stopping compares, counted from the epoch restored by the previous
        restart; if that epoch has no known eigenvalue, to the newest earlier one that has.

        Args:
            history: (epoch, eigenvalue) pairs of the current path.
            epoch: the newest complete epoch.
            weight_decay: the current one. It bounds the number of remaining restarts and so the number of epochs.
        """
        if self.adaptive is None or self.early_stopping is None:
            return {epoch}
        rule = self.early_stopping
        known = [
            measured
            for measured, value in history
            if measured >= rule.start_epoch and not math.isnan(value) and value != -math.inf
        ]
        reach = rule.every * (rule.window // 2 + rule.delta)
        oldest, decided = epoch + 1, epoch
        while restart := self.adaptive.next(Decision(decided, decided - reach, math.nan, math.nan), weight_decay):
            before = [measured for measured in known if measured <= restart.epoch]
            if not before:
                return {epoch, *known}
            if before[-1] == oldest:
                break
            oldest, decided, weight_decay = before[-1], before[-1] + 1, restart.weight_decay
        return {epoch, *(measured for measured in known if measured >= oldest)}
