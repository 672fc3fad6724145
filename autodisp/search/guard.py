"""Keeps a step that meets a non-finite number from moving anything, without waiting for the device.

Each optimizer steps with a flag on the device (``found_inf``, which torch's fused optimizers know from gradient
scaling): once something was not finite, neither that step nor any later one moves a parameter. The host looks at the
flag at every step on a CPU, and on a GPU so rarely that nobody waits; what it then finds is the step at which it
began, and that step's moment is put back: the run stands where it stood before, down to the next batch.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from autodisp.errors import InputError
from autodisp.run_state import Moment, RunState

ALPHAS, LOSS, WEIGHTS = "gradient of the alphas", "training loss", "gradient of the weights"
QUANTITIES = (ALPHAS, LOSS, WEIGHTS)
LOOK_EVERY = 50
"""Steps, on a GPU."""


class NotFinite(InputError):
    """A quantity of a step was NaN or infinite; the run stands as it stood before that step."""

    def __init__(self, quantity: str) -> None:
        super().__init__(f"the {quantity} is not finite: lower the learning rate of the weights, or look at the data")
        self.quantity = quantity


class StepGuard:
    """Watches over the steps of a search.

    Args:
        state: of the run.
        device: of the network.
        every: after how many steps the host looks; by default at each on a CPU.
    """

    def __init__(self, state: RunState, device: torch.device, *, every: int | None = None) -> None:
        self.state = state
        self.every = (LOOK_EVERY if device.type == "cuda" else 1) if every is None else every
        self._moments: list[Moment] = []
        self._found = torch.zeros((), device=device)
        """0, or 1 once anything was not finite."""
        self._first = torch.zeros(2, dtype=torch.int64, device=device)
        """Which quantity that was, and in which of the moments."""

    def begin(self, tensors: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> None:
        """A step begins.

        Args:
            tensors: that it moves in place before all of it is known to be finite.
            optimizer: the first of its two to step.
        """
        self._moments.append(Moment(self.state, tensors, optimizer))

    def note(self, quantity: str, values: Iterable[Tensor]) -> None:
        """Looks at numbers of the present step, on the device.

        Raises:
            NotFinite: the host looks at every step, and something was not finite.
        """
        finite = torch.stack([value.isfinite().all() for value in values]).all()
        newly = (self._found == 0) & ~finite
        for entry, value in zip(self._first, (QUANTITIES.index(quantity), len(self._moments) - 1), strict=True):
            entry.copy_(torch.where(newly, value, entry))
        self._found = torch.maximum(self._found, (~finite).to(self._found.dtype))
        if self.every == 1:
            self._look()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets the optimizer step if everything was finite so far."""
        if optimizer.defaults.get("fused") and optimizer.state:
            optimizer.found_inf, optimizer.grad_scale = self._found, None  # type: ignore[attr-defined]
            optimizer.step()
        elif not bool(self._found):  # a first step sets up its memory, and a fused one would leave it unset
            optimizer.step()

    def end(self, *, last: bool = False) -> None:
        """A step is done.

        Args:
            last: the host looks now: something else is to follow.

        Raises:
            NotFinite: it is time to look, and something was not finite.
        """
        if last or len(self._moments) >= self.every:
            self._look()
            self._moments.clear()

    def take_back(self) -> None:
        """Puts back the moment at which the present step began, if one has."""
        if self._moments:
            self._moments.pop().put_back()

    def _look(self) -> None:
        if not bool(self._found):
            return
        quantity, place = self._first.tolist()
        if place >= 0:
            self._moments[place].put_back()
        self._moments.clear()
        self._found.zero_()
        raise NotFinite(QUANTITIES[quantity])
