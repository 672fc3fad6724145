"""Everything of a run that must survive a stop or roll back, saved and restored whole.

Weights, BN buffers, alphas, both optimizers, the learning-rate schedule, the eigenvalue history, the current weight
decay, random generators, stream positions, epoch and step. What a config says is not in it: config is frozen.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from autodisp.errors import InputError

VERSION = 3
"""Raised whenever the same config would go on as another run: with another network, loss or order of draws."""
CONTENTS = frozenset({"version", "parts", "streams", "progress", "rng", "records"})


class Stateful(Protocol):
    """Modules, optimizers, schedulers."""

    def state_dict(self) -> Any:
        """Its state, by reference."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Takes a state over."""
        ...


class Positioned(Protocol):
    """A stream of batches."""

    @property
    def position(self) -> int:
        """Batches consumed."""
        ...

    def seek(self, position: int) -> None:
        """Goes on from there."""
        ...


class BatchStream(Positioned, Protocol):
    """An endless sequence of batches that a loop reads."""

    waited: float
    """Seconds spent in ``next`` so far."""

    def next(self) -> Any:
        """The next batch."""
        ...

    def at(self, position: int) -> Any:
        """Reads the batch at a position; the stream stays where it is."""
        ...


@dataclass
class Progress:
    """How far a search is and what it has learnt about itself."""

    weight_decay: float
    epochs: int = 0
    """Complete epochs; the next one has this number."""
    step: int = 0
    """Complete steps of the epoch now running."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Of its loss and figures so far."""
    steps: int = 0
    """Of all epochs."""
    restarts: int = 0
    """How often ADA rolled back."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, dominant eigenvalue), of the path that led here."""
    eigenvector: Tensor | None = None
    """Of the last measurement: where the next one starts looking."""
    genotypes: dict[int, str] = field(default_factory=dict)
    """The cells of every epoch of that path, as JSON."""
    selection: dict[str, Any] = field(default_factory=dict)
    """What the selection has found out since the newest epoch, as plain data and tensors."""

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data and tensors."""
        return {**vars(self), "history": [list(pair) for pair in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        history = [(int(epoch), float(value)) for epoch, value in state_dict["history"]]
        vars(self).update({**state_dict, "history": history})


class RunState:
    """Captures and restores the state of all parts of a run.

    Args:
        parts: by name; each gives and takes a ``state_dict``.
        streams: by name; their positions are kept.
        progress: of the run.
    """

    def __init__(self, *, parts: dict[str, Stateful], streams: dict[str, Positioned], progress: Stateful) -> None:
        self.parts = parts
        self.streams = streams
        self.progress = progress

    def capture(self, *, records: int = 0) -> dict[str, Any]:
        """The state as plain data and tensors. The tensors are the live ones: write or copy before training on.

        Args:
            records: in metrics.jsonl at this moment; later ones are cut off when the run goes on from here.
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
        """Puts everything back as it was captured.

        Raises:
            InputError: it is the state of another network, or of another kind of run.
        """
        try:
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            self.seek(state["streams"])
            self.progress.load_state_dict(state["progress"])
            restore_random(state["rng"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(
                f"the checkpoint's state does not fit this run ({first}); it belongs to another network, task or "
                "optimizer: resume with the config it was written under"
            ) from None

    def positions(self) -> dict[str, int]:
        """Of the streams."""
        return {name: stream.position for name, stream in self.streams.items()}

    def seek(self, positions: Mapping[str, int]) -> None:
        """Moves the streams."""
        for name, stream in self.streams.items():
            stream.seek(positions[name])


class Moment:
    """What one step changes before its update is made, to be put back if the step is not to be.

    Costs no synchronisation: tensors are copied where they are.

    Args:
        state: of the run; its progress holds what changes during a step as attributes that are replaced, not moved.
        tensors: that the step changes in place, such as alphas and running statistics.
        optimizer: whose step comes first and is to be taken back too, if any.
    """

    def __init__(
        self, state: RunState, tensors: Iterable[Tensor], optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        self.state = state
        self.progress = dict(vars(state.progress))
        self._positions = state.positions()
        self._random = random_states()
        self._tensors: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            self._tensors.setdefault(tensor.dtype, []).append(tensor.detach())
        # one copy a dtype: a network has hundreds of buffers, and a GPU call costs more than they do
        self._copies = {
            dtype: torch.cat([tensor.reshape(-1) for tensor in several]) for dtype, several in self._tensors.items()
        }
        self._optimizer = optimizer
        self._memory = {
            parameter: {name: value.clone() if isinstance(value, Tensor) else value for name, value in entries.items()}
            for parameter, entries in (optimizer.state.items() if optimizer is not None else ())
        }

    def put_back(self) -> None:
        """Makes it so again."""
        for dtype, several in self._tensors.items():
            copies = self._copies[dtype].split([tensor.numel() for tensor in several])
            for tensor, copy in zip(several, copies, strict=True):
                tensor.copy_(copy.view(tensor.shape))
        if self._optimizer is not None:
            self._optimizer.state.clear()
            self._optimizer.state.update(self._memory)
        vars(self.state.progress).update(self.progress)
        self.state.seek(self._positions)
        restore_random(self._random)


def random_states() -> dict[str, Any]:
    """Of torch's generators."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random(states: Mapping[str, Any]) -> None:
    """Puts torch's generators back."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
