"""Increases regularization instead of stopping when the curvature rises (DARTS-ADA; Zela et al. 2020).

Where early stopping would end the search, ADA returns to the epoch before the rise, multiplies the weight decay, and
continues from there. The policy only gives the epoch and the new weight decay; the search restores the whole state of
that epoch, including the eigenvalue history, and uses the new weight decay everywhere, including the unrolled step of
a second-order search.

Departs from the published code, which tests the cap by equality of rounded logarithms and so exceeds any cap that is
not a whole number of factors away: here the weight decay never exceeds the cap, and is not raised once it has reached
it, up to rounding.
"""

import math
from dataclasses import dataclass

from autodisp.errors import InputError
from autodisp.search.early_stopping import Decision

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Restart:
    """The epoch to restart from, and the new weight decay."""

    epoch: int
    """Epoch whose state is restored."""
    weight_decay: float
    """Weight decay from then on."""


class AdaptiveRegularization:
    """Raises the weight decay at every decision, up to a cap.

    Args:
        factor: multiplies the weight decay at each decision.
        cap: largest weight decay; once reached, the search continues without further restarts.

    Raises:
        InputError: the factor does not raise anything, or the cap is not a positive number.
    """

    def __init__(self, *, factor: float = 10.0, cap: float = 3e-2) -> None:
        if not 1 < factor < math.inf:
            raise InputError(f"adaptive regularization: factor is {factor}, must be finite and above 1: use 10")
        if not 0 < cap < math.inf:
            raise InputError(f"adaptive regularization: cap is {cap}, must be finite and above 0: use 0.03")
        self.factor = factor
        self.cap = cap

    def next(self, decision: Decision, weight_decay: float) -> Restart | None:
        """Turns a decision of early stopping into a restart, given the current weight decay.

        Returns:
            The restart, or None if the weight decay has reached the cap, in which case the search continues.

        Raises:
            InputError: the weight decay is not a positive number; no factor raises 0.
        """
        if not 0 < weight_decay < math.inf:
            raise InputError(
                f"adaptive regularization: weight decay is {weight_decay}, must be finite and above 0, since it is "
                f"multiplied by {self.factor:g}: start from 3e-4, or use regularization=es"
            )
        if self._reaches_cap(weight_decay):
            return None
        raised = weight_decay * self.factor
        return Restart(decision.returned_epoch, self.cap if self._reaches_cap(raised) else raised)

    def _reaches_cap(self, weight_decay: float) -> bool:
        return weight_decay >= self.cap * (1 - _ROUNDING)
