"""Saved states of a run: written atomically, checked when read, and only as many as needed.

A state is written to a temporary file, flushed to the disk and renamed; then the folder is flushed. The file is a
plain ``torch.save`` archive, in which every part has a CRC-32. Torch does not check it, so it is checked here.
Nothing in it is executed (``weights_only``), and no part is compressed.
"""

import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from autodisp import distributed
from autodisp.atomic import leftovers, replacing
from autodisp.errors import InputError, RunFault, UnusableState, causes, first_line, in_one_line
from autodisp.run_state import CONTENTS, VERSION

_NAME = r"_(\d{4,})(?:_at_(\d{6,}))?\.pt"


class OtherVersion(UnusableState):
    """An intact state of a run that this version would not resume as the same run."""


class Place(NamedTuple):
    """Position of a state in its run; positions sort in the order of the run."""

    number: int
    """Complete epochs (or steps)."""
    step: int = 0
    """Steps into the next epoch."""


class Checkpoints:
    """The states of a run's epochs (or steps) in one folder.

    Args:
        folder: created at the first state; its parent exists.
        unit: what the number of a state counts; prefix of its file's name.
    """

    def __init__(self, folder: Path, *, unit: str = "epoch") -> None:
        self.folder = folder
        self.unit = unit
        self._pattern = re.compile(re.escape(unit) + _NAME)

    def path(self, epoch: int, step: int = 0) -> Path:
        """Path of the state after that epoch, or after that many steps into the next one."""
        return self.folder / (f"{self.unit}_{epoch:04d}" + (f"_at_{step:06d}" if step else "") + ".pt")

    def save(self, epoch: int, state: dict[str, Any], *, step: int = 0) -> None:
        """Writes the state after that epoch, or after that many steps into the next one.

        Among several processes, which have the same state, the first one writes it and the others wait.

        Raises:
            RunFault: it cannot be written; an earlier file of that name is untouched.
        """
        distributed.on_first(lambda: self._save(state, self.path(epoch, step)))

    def _save(self, state: dict[str, Any], path: Path) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
            with replacing(path, lasting=True) as temporary:
                _write(state, temporary)
        except OSError as error:
            raise RunFault(f"{path}: cannot be written ({error.strerror or error})") from error

    def load(self, epoch: int) -> dict[str, Any]:
        """Reads the state after that epoch.

        Raises:
            InputError: the file is missing or damaged.
        """
        return read_checkpoint(self.path(epoch))

    def newest(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """Returns the newest state that can be read; None if there is none.

        Args:
            warn: called with one line for each damaged state that is skipped.

        Raises:
            UnusableState: there are states, but none of them can be read.
        """
        paths = [path for _, path in sorted(self._states(), reverse=True)]
        for path in paths:
            try:
                return read_checkpoint(path)
            except OtherVersion:
                raise
            except InputError as error:
                warn(f"{error}; the state before it is taken")
        if paths:
            raise UnusableState(
                f"{self.folder}: none of its {len(paths)} states can be read; put one back from a copy, or start the "
                "run again in another folder"
            )
        return None

    def epochs(self) -> list[int]:
        """Returns the epochs that have a state after them, ascending."""
        return sorted(place.number - 1 for place, _ in self._states() if not place.step)

    def keep_only(self, epochs: Iterable[int]) -> None:
        """Deletes all other states, the newest first, and leftovers of interrupted writing.

        In that order, a run killed in between keeps all states that its newest one needs. Among several processes,
        the first one deletes them.
        """
        if not distributed.is_first():
            return
        wanted = {Place(epoch + 1) for epoch in epochs}
        for place, path in sorted(self._states(), reverse=True):
            if place not in wanted:
                path.unlink(missing_ok=True)
        for path in leftovers(self.folder, f"{self.unit}_*.pt"):
            path.unlink(missing_ok=True)

    def _states(self) -> list[tuple[Place, Path]]:
        found = []
        for path in self.folder.glob(f"{self.unit}_*.pt"):
            if name := self._pattern.fullmatch(path.name):
                found.append((Place(int(name[1]), int(name[2])) if name[2] else Place(int(name[1]) + 1), path))
        return found


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads the state in a file.

    Raises:
        InputError: the file is missing, damaged or not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise InputError(f"{path}: not a checkpoint, which holds no compressed parts")
            damaged = archive.testzip()
        if damaged is not None:
            raise InputError(f"{path}: damaged, the checksum of its part {damaged!r} is wrong; copy it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about a pickle protocol that only occurs in damaged files
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise any exception
        raise InputError(f"{path}: cannot be read as a checkpoint ({type(error).__name__}); is it cut off?") from None
    if not isinstance(state, dict) or not state.keys() >= CONTENTS:
        raise InputError(f"{path}: not a checkpoint of version {VERSION}, which this program reads")
    if state["version"] != VERSION:
        raise OtherVersion(
            f"{path}: a state of version {in_one_line(state['version'])}, but this autodisp resumes those of version "
            f"{VERSION}: resume the run with the autodisp that wrote it, or start another run"
        )
    return state


def _write(state: dict[str, Any], path: Path) -> None:
    """Writes a state; raises an OSError with the reason of a failure."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch wraps the errors of its writer
        raise OSError(_reason(error, path)) from error


def _reason(error: Exception, temporary: Path) -> str:
    """Returns the reason why a file could not be written, which torch's writer often omits."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    try:
        with temporary.open("ab") as file:
            file.write(b" " * (1 << 16))
            file.flush()
    except OSError as again:
        return again.strerror or type(again).__name__
    return first_line(error)
