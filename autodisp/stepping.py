"""The steps of a search or a training: guarded against non-finite numbers, saved at a stop, stopped between two steps.

No step waits for the device. Each optimizer steps with a flag on the device (``found_inf``, which torch's fused
optimizers support for gradient scaling): once a quantity was not finite, neither that step nor any later one moves a
parameter. The host reads the flag at every step on a CPU, and every 50 steps on a GPU. If it is set, the run is rolled
back to the first step that met a non-finite number, down to the next batch.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor, nn

from autodisp import distributed
from autodisp.checkpoints import Checkpoints
from autodisp.errors import InputError, Interrupted, RunFault, WrongSetting
from autodisp.graphs import Graphs
from autodisp.records import Record
from autodisp.run_state import BatchStream, RunState, Stateful, StepSnapshot

ALPHAS, LOSS, WEIGHTS = "gradient of the alphas", "training loss", "gradient of the weights"
QUANTITIES = (ALPHAS, LOSS, WEIGHTS)
LOOK_EVERY = 50
"""Steps between two reads of the flag on a GPU."""


class Observer(Protocol):
    """Follows a run; searches and trainings add what they report after an epoch or an interval."""

    @property
    def records(self) -> Sequence[Record]:
        """All records of the run so far, of epochs and events; after a resume also those from before it."""

    def step(self, epoch: int, step: int, metrics: Callable[[], Mapping[str, float]]) -> None:
        """Called after each step; computing the metrics waits for the device, so they are computed only when shown."""


class NotFinite(InputError):
    """A quantity of a step was NaN or infinite; the run is rolled back to the state before that step."""

    def __init__(self, quantity: str) -> None:
        super().__init__(f"the {quantity} is not finite: lower the learning rate of the weights, or look at the data")
        self.quantity = quantity


class StepGuard:
    """Skips the updates of a step that meets a non-finite number.

    Args:
        state: of the run.
        device: of the network.
        every: number of steps between two reads of the flag by the host; by default 1 on a CPU.
    """

    def __init__(self, state: RunState, device: torch.device, *, every: int | None = None) -> None:
        self.state = state
        self.every = (LOOK_EVERY if device.type == "cuda" else 1) if every is None else every
        self._snapshots: list[StepSnapshot] = []
        self._found = torch.zeros((), device=device)
        """1 once a quantity was not finite, else 0."""
        self._first = torch.zeros(2, dtype=torch.int64, device=device)
        """The quantity that was not finite first, and the snapshot of its step."""

    def begin(self, tensors: Iterable[Tensor], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Begins a step.

        Args:
            tensors: changed in place by the step before all of its numbers are known to be finite.
            optimizer: the first one to step, if there are two.
        """
        self._snapshots.append(StepSnapshot(self.state, tensors, optimizer))

    def note(self, quantity: str, values: Iterable[Tensor]) -> None:
        """Checks numbers of the current step, on the device.

        Raises:
            NotFinite: the host reads the flag at every step, and a number was not finite.
        """
        finite = torch.stack([value.isfinite().all() for value in values]).all()
        newly = (self._found == 0) & ~finite
        for entry, value in zip(self._first, (QUANTITIES.index(quantity), len(self._snapshots) - 1), strict=True):
            entry.copy_(torch.where(newly, value, entry))
        self._found = torch.maximum(self._found, (~finite).to(self._found.dtype))
        if self.every == 1:
            self._raise_if_found()

    def step(self, optimizer: torch.optim.Optimizer, *, wanted: Tensor | None = None) -> Tensor:
        """Steps the optimizer if every number was finite so far.

        Args:
            optimizer: the one to step.
            wanted: bool on the device, shape (); False skips this step too.

        Returns:
            float32 on the device, shape (): 1 if the step was made, else 0.
        """
        skips = self._found if wanted is None else torch.maximum(self._found, (~wanted).to(self._found.dtype))
        # The first step sets up the optimizer's memory, and a fused one that is skipped would leave it unset.
        remembers = bool(optimizer.state) or optimizer.defaults.get("momentum") == 0
        if remembers and all(group.get("fused") for group in optimizer.param_groups):
            optimizer.found_inf, optimizer.grad_scale = skips, None  # type: ignore[attr-defined]
            optimizer.step()
        elif not bool(skips):
            optimizer.step()
        return 1 - skips

    def end(self) -> None:
        """Ends a step.

        Raises:
            NotFinite: the flag was read at this step, and a number was not finite.
        """
        if len(self._snapshots) >= self.every:
            self.look()

    def look(self) -> None:
        """Reads the flag now, before something other than a step.

        Raises:
            NotFinite: a number was not finite; the run is rolled back to the step that met it first.
        """
        self._raise_if_found()
        self._snapshots.clear()

    def roll_back(self) -> None:
        """Rolls back the current step, if one has begun."""
        if self._snapshots:
            self._snapshots.pop().roll_back()

    def _raise_if_found(self) -> None:
        if not bool(self._found):
            return
        quantity, place = self._first.tolist()
        if place >= 0:
            self._snapshots[place].roll_back()
        self._snapshots.clear()
        self._found.zero_()
        raise NotFinite(QUANTITIES[quantity])


class SteppedRun(ABC):
    """Base of a search and a training.

    Args:
        parts: of the state, by name, without the gradient scaler.
        streams: of training batches, by name.
        progress: what the run has reached; its attributes are replaced, not mutated.
        device: of the network.
        precision: of the forward passes whose weights are trained: float32, bfloat16 or float16.
        checkpoints: where the states are saved.
        observer: follows the run.
        stopping: returns True to save the state and stop; called after each step.
        graphs: the recorded computations; by default everything is run.
    """

    def __init__(
        self,
        *,
        parts: Mapping[str, Stateful],
        streams: Mapping[str, BatchStream],
        progress: Stateful,
        device: torch.device,
        precision: str,
        checkpoints: Checkpoints,
        observer: Observer,
        stopping: Callable[[], bool],
        graphs: Graphs | None = None,
    ) -> None:
        # Scales only float16, whose small gradients would vanish.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.state = RunState(parts={**parts, "scaler": self.scaler}, streams=dict(streams), progress=progress)
        self.guard = StepGuard(self.state, device, every=1 if self.scaler.is_enabled() else None)
        self.device = device
        self.graphs = graphs or Graphs()
        self.checkpoints = checkpoints
        self._stopping = stopping
        self._observer = observer

    def stopping(self) -> bool:
        """Returns True if the run is to stop, in one of its processes."""
        return distributed.any_of(self._stopping())

    @abstractmethod
    def step(self) -> None:
        """Makes one step, between ``guard.begin`` and ``guard.end``."""

    @abstractmethod
    def save_step(self) -> None:
        """Saves the state after the newest step; does nothing at the beginning of a run."""

    @abstractmethod
    def advice(self, found: NotFinite) -> str:
        """Explains in one line where a step met a non-finite number, and the remedy."""

    def captured(self) -> dict[str, Any]:
        """The current state, see ``RunState.capture``."""
        return self.state.capture(records=len(self._observer.records))

    def next_batch(self, stream: BatchStream) -> Any:
        """Reads the next batch of a stream.

        Raises:
            InputError, RunFault: it could not be read, in this process or in another one.
        """
        with distributed.agreed():
            return stream.next()

    def make_steps(self, count: int) -> None:
        """Makes steps; on a failure or a stop, saves the state before the step that was not made.

        Raises:
            Interrupted: the run is to stop.
            WrongSetting: a number was not finite.
            InputError: a sample could not be read.
            RunFault: a loader's worker died.
        """
        try:
            for left in reversed(range(count)):
                self.step()
                if self.stopping() and left:
                    self.guard.look()
                    self.save_step()
                    raise Interrupted
            self.guard.look()
        except NotFinite as found:
            self._refuse(found)
        except (InputError, RunFault):
            self.guard.roll_back()
            try:
                self.guard.look()
            except NotFinite as found:  # in an earlier step, after which the host had not read the flag yet
                self._refuse(found)
            self.save_step()
            raise

    def _refuse(self, found: NotFinite) -> NoReturn:
        self.save_step()
        raise WrongSetting(self.advice(found)) from None

    @contextmanager
    def step_saved(self) -> Iterator[None]:
        """Saves the state after the newest step if the block fails, so that a resumed run repeats no step."""
        try:
            yield
        except Exception:
            self.save_step()
            raise

    def descend(
        self,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[Tensor],
        *,
        clip: float,
        wanted: Tensor | None = None,
        dense: bool = True,
        statistics: Iterable[Tensor] = (),
    ) -> Tensor:
        """Moves weights once along their clipped gradients, which the scaled loss has left in them.

        Among several processes, the gradient is the mean of theirs.

        Args:
            loss: of the batch, without graph.
            optimizer: of the weights.
            parameters: those whose gradients are clipped together.
            clip: largest norm of the gradient.
            wanted: see ``StepGuard.step``.
            dense: False if operations with a weight of zero did not run: their parameters have a gradient of zero.
            statistics: buffers of the network, replaced by their mean over the processes.

        Returns:
            See ``StepGuard.step``; a step of float16 gradients that overflowed, which the scaler leaves out, is 1.
        """
        for parameter in () if dense else parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        value = loss.clone()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        distributed.mean_([value, *gradients, *(buffer for buffer in statistics if buffer.is_floating_point())])
        self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        self.guard.note(LOSS, [value])
        if not self.scaler.is_enabled():
            self.guard.note(WEIGHTS, [norm])
            return self.guard.step(optimizer, wanted=wanted)
        if wanted is None or bool(wanted):
            self.scaler.step(optimizer)
            self.scaler.update()
        made = torch.ones((), device=self.device)
        return made if wanted is None else made * wanted


def advance(schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    """Steps a schedule without torch's warning if the optimizer has not stepped yet in this process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
        schedule.step()
