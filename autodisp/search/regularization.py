"""What a search does with its eigenvalue history: nothing, stop (DARTS-ES) or restart with more decay (DARTS-ADA)."""

from collections.abc import Sequence
from dataclasses import dataclass

from autodisp.search.adaptive import AdaptiveRegularization, Restart
from autodisp.search.early_stopping import Decision, EarlyStopping


@dataclass(frozen=True)
class Stop:
    """The search ends and returns that epoch's genotype."""

    decision: Decision


@dataclass(frozen=True)
class RollBack:
    """The search goes on from that epoch's state with a larger weight decay."""

    decision: Decision
    restart: Restart


class Regularization:
    """The policies of one run, put together.

    Args:
        early_stopping: judges the history, or None to never judge.
        adaptive: answers its decisions with restarts; None stops instead.
    """

    def __init__(
        self, early_stopping: EarlyStopping | None = None, adaptive: AdaptiveRegularization | None = None
    ) -> None:
        self.early_stopping = early_stopping
        self.adaptive = adaptive

    def answer(
        self, history: Sequence[tuple[int, float]], *, last_epoch: int, weight_decay: float
    ) -> Stop | RollBack | None:
        """What to do after the newest eigenvalue; None is to go on."""
        decision = self.early_stopping.decide(history, last_epoch) if self.early_stopping else None
        if decision is None:
            return None
        if self.adaptive is None:
            return Stop(decision)
        restart = self.adaptive.next(decision, weight_decay)
        return RollBack(decision, restart) if restart else None

    def returnable(self, history: Sequence[tuple[int, float]], epoch: int) -> set[int]:
        """The epochs whose state a later answer may ask for, given the epochs complete so far.

        A bounded number, however long the run: those within reach of the next decision, and the newest measured one
        before them for the case that the one to return to was not measured.
        """
        if self.adaptive is None or self.early_stopping is None:
            return {epoch}
        rule = self.early_stopping
        oldest_target = epoch + 1 - rule.every * (rule.window // 2 + rule.delta)
        measured = [known for known, _ in history if known >= rule.start_epoch]
        before = [known for known in measured if known <= oldest_target]
        return {epoch, *before[-1:], *(known for known in measured if known > oldest_target)}
