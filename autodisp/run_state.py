"""State of a run that must survive a stop or a roll-back, saved and restored as a whole.

Weights, BN buffers, alphas, both optimizers, the learning-rate schedule, the eigenvalue history, the current weight
decay, random generators, stream positions, epoch and step. The config is not part of it, since it never changes.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from autodisp.errors import UnusableState, first_line

VERSION = 3
"""Increased when the same config would resume differently: with another network, loss or order of random draws."""
CONTENTS = frozenset({"version", "parts", "streams", "progress", "rng", "records"})


class Stateful(Protocol):
    """Modules, optimizers, schedulers."""

    def state_dict(self) -> Any:
        """The state, by reference."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Restores a state."""


class BatchStream(Protocol):
    """An endless sequence of batches that a loop reads."""

    waited: float
    """Seconds spent in ``next`` so far."""

    @property
    def position(self) -> int:
        """Batches consumed."""

    def seek(self, position: int) -> None:
        """Moves to that position."""

    def next(self) -> Any:
        """The next batch."""

    def at(self, position: int) -> Any:
        """Reads the batch at a position without moving the stream."""


class RunState:
    """Captures and restores the state of all parts of a run and the positions of its streams."""

    def __init__(self, *, parts: dict[str, Stateful], streams: dict[str, BatchStream], progress: Stateful) -> None:
        self.parts = parts
        self.streams = streams
        self.progress = progress

    def capture(self, *, records: int = 0) -> dict[str, Any]:
        """Returns the state as plain data and tensors. Tensors are not copied: write or copy them before the next step.

        Args:
            records: number of records in metrics.jsonl now; later ones are cut off when the run resumes from here.
        """
        return {
            "version": VERSION,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "streams": self.positions(),
            "progress": self.progress.state_dict(),
            "rng": random_states(),
            "records": records,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores everything as it was captured.

        Raises:
            UnusableState: the state is of another network, or of another kind of run.
        """
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            self.seek(state["streams"])
            self.progress.load_state_dict(state["progress"])
            restore_random(state["rng"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise UnusableState(
                f"the checkpoint's state does not fit this run ({first_line(error)}); it belongs to another network, "
                "task or optimizer: resume with the config it was written under"
            ) from None

    def positions(self) -> dict[str, int]:
        """Returns the positions of the streams."""
        return {name: stream.position for name, stream in self.streams.items()}

    def seek(self, positions: Mapping[str, int]) -> None:
        """Moves the streams to positions."""
        for name, stream in self.streams.items():
            stream.seek(positions[name])


class StepSnapshot:
    """Copy of everything that a step changes before its update is made, so that the step can be rolled back.

    Costs no synchronisation: tensors are copied on their device.

    Args:
        state: of the run; its progress holds what changes during a step as attributes that are replaced, not mutated.
        tensors: changed in place by the step, such as alphas and running statistics.
        optimizer: the one whose step is to be rolled back too, if any.
    """

    def __init__(
        self, state: RunState, tensors: Iterable[Tensor], optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        self.state = state
        self._progress = dict(vars(state.progress))
        self._positions = state.positions()
        self._random = random_states()
        self._tensors: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            self._tensors.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
        # one copy per dtype: a network has hundreds of small buffers, and launching a copy costs more than the copy
        self._copies = {
            kind: torch.cat([tensor.reshape(-1) for tensor in tensors]) for kind, tensors in self._tensors.items()
        }
        self._optimizer = optimizer
        self._memory = {
            parameter: {name: value.clone() if isinstance(value, Tensor) else value for name, value in entries.items()}
            for parameter, entries in (optimizer.state.items() if optimizer is not None else ())
        }

    def roll_back(self) -> None:
        """Restores the snapshot."""
        for kind, tensors in self._tensors.items():
            copies = self._copies[kind].split([tensor.numel() for tensor in tensors])
            for tensor, copy in zip(tensors, copies, strict=True):
                tensor.copy_(copy.view(tensor.shape))
        if self._optimizer is not None:
            self._optimizer.state.clear()
            self._optimizer.state.update(self._memory)
        vars(self.state.progress).update(self._progress)
        self.state.seek(self._positions)
        restore_random(self._random)


def random_states() -> dict[str, Any]:
    """Returns the states of torch's generators, on a GPU that of the current device."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def restore_random(states: Mapping[str, Any]) -> None:
    """Restores the states of torch's generators."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"]:
        torch.cuda.set_rng_state(states["cuda"][0])
