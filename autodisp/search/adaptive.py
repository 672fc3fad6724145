"""Answers a rising curvature with more regularization instead of a stop (DARTS-ADA; Zela et al. 2020).

Where early stopping would end the search, ADA goes back to the epoch before the rise, multiplies the weight
decay and searches on from there. The policy only names the epoch and the new weight decay; whoever runs the
search restores the whole state of that epoch (the eigenvalue history with it) and uses the new weight decay
everywhere, the unrolled step of a second-order search included.

Departs from the published code, which compares rounded logarithms for equality to see whether the cap is
reached and so walks past any cap that is not a whole number of factors away: here a weight decay at or above
the cap, up to float rounding, is not raised again, and a raise never leads beyond the cap.
"""

import math
from dataclasses import dataclass

from autodisp.errors import InputError
from autodisp.search.early_stopping import Decision

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Restart:
    """Where to take up the search again, and with which weight decay."""

    epoch: int
    """The epoch whose state is to be restored."""
    weight_decay: float
    """The weight decay from there on."""


class AdaptiveRegularization:
    """Raises the weight decay at every decision, up to a cap.

    Args:
        factor: what one decision multiplies the weight decay by.
        cap: the largest weight decay ever set; the search goes on without further restarts once it is reached.

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
        """The answer to a decision of early stopping.

        Args:
            decision: what early stopping decided.
            weight_decay: the weight decay in use when it did.

        Returns:
            The restart, or None where the weight decay has reached the cap: the search then goes on as it is.

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
