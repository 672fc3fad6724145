"""One process at a time in a run folder, and whether there is one."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autodisp.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"

_HELD: set[Path] = set()
"""By this process, which would lose its lock by closing the file a second time."""


class Taken(InputError):
    """A folder that another run has, or had."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder.

    The kernel forgets the lock when its owner dies, however it dies, so none is ever left behind. Entered again by the
    process that has it, it changes nothing.

    Raises:
        Taken: another process has it.
        InputError: the folder cannot be written to.
    """
    if fcntl is None or is_held(folder):
        yield
        return
    try:
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}); take another folder") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(200).strip() or "another process"
            raise Taken(f"{folder}: {owner} is at work there; wait for it, or stop it first") from None
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        held = folder.resolve()
        _HELD.add(held)
        try:
            yield
        finally:
            _HELD.discard(held)


def is_held(folder: Path) -> bool:
    """Whether this process has the lock of a folder."""
    return folder.resolve() in _HELD


def at_work(folder: Path) -> bool | None:
    """Whether a process of this machine is at work in a run folder; None where that cannot be known."""
    if is_held(folder):
        return True
    path = folder / LOCK
    if fcntl is None or path.is_symlink() or not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if not file.read(200).rstrip().endswith(f" on {socket.gethostname()}"):
                return None
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # the kernel forgets it when the file is closed
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
