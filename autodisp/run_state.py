"""Everything of a run that must survive a stop or roll back, saved and restored whole.

Weights, BN buffers, alphas, both optimizers, the learning-rate schedule, the eigenvalue history, the current weight
decay, random generators, stream positions, epoch and step. What a config says is not in it: config is frozen.
"""

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from autodisp.errors import InputError

VERSION = 1
CONTENTS = frozenset({"parts", "streams", "progress", "rng"})


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


@dataclass
class Progress:
    """How far a search is and what it has learnt about itself."""

    weight_decay: float
    epochs: int = 0
    """Complete epochs; the next one has this number."""
    steps: int = 0
    restarts: int = 0
    """How often ADA rolled back."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, dominant eigenvalue), of the path that led here."""
    eigenvector: Tensor | None = None
    """Of the last measurement: where the next one starts looking."""

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

    def capture(self) -> dict[str, Any]:
        """The state as plain data and tensors. The tensors are the live ones: write or copy before training on."""
        return {
            "version": VERSION,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "streams": {name: stream.position for name, stream in self.streams.items()},
            "progress": self.progress.state_dict(),
            "rng": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Puts everything back as it was captured."""
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        for name, stream in self.streams.items():
            stream.seek(state["streams"][name])
        self.progress.load_state_dict(state["progress"])
        torch.set_rng_state(state["rng"]["cpu"])
        if state["rng"]["cuda"]:
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])


class Checkpoints:
    """The states of a run's epochs (or steps) in one folder, written so that a file is whole or absent.

    Args:
        folder: is made at the first state.
        unit: what the number of a state counts; begins its file's name.
    """

    def __init__(self, folder: Path, *, unit: str = "epoch") -> None:
        self.folder = folder
        self.unit = unit

    def path(self, epoch: int) -> Path:
        """Where that epoch's state lies."""
        return self.folder / f"{self.unit}_{epoch:04d}.pt"

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Writes the state after that epoch: temporary file, flushed to the disk, renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.path(epoch).with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path(epoch))
        sync_folder(self.folder)

    def load(self, epoch: int) -> dict[str, Any]:
        """The state after that epoch.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = self.path(epoch)
        try:
            # torch.load does not look at the archive's checksums
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is None:
                state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # a damaged pickle may end in any exception
            raise InputError(
                f"{path}: cannot be read as a checkpoint ({type(error).__name__}); is it cut off?"
            ) from None
        if damaged is not None:
            raise InputError(f"{path}: damaged, the checksum of its part '{damaged}' is wrong; copy it again")
        if not isinstance(state, dict) or state.get("version") != VERSION or not state.keys() >= CONTENTS:
            raise InputError(f"{path}: not a checkpoint of version {VERSION}, which this program reads")
        return state

    def epochs(self) -> list[int]:
        """The epochs that have a state, ascending."""
        pattern = re.compile(rf"{self.unit}_(\d{{4,}})\.pt")
        names = (pattern.fullmatch(path.name) for path in self.folder.glob(f"{self.unit}_*.pt"))
        return sorted(int(name[1]) for name in names if name)

    def keep_only(self, epochs: Iterable[int]) -> None:
        """Deletes the states of all other epochs."""
        wanted = set(epochs)
        for epoch in self.epochs():
            if epoch not in wanted:
                self.path(epoch).unlink()


def sync_folder(folder: Path) -> None:
    """Makes a renaming in that folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
