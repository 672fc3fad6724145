"""Lock of a run folder, which one process at a time can hold."""

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
"""Folders locked by this process, which would lose a lock by closing its file a second time."""


class Taken(InputError):
    """A folder that another run uses or has used."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder.

    The kernel releases the lock when its owner dies for any reason, so no stale lock is left behind. Entering it again
    in the process that holds it has no effect.

    Raises:
        Taken: another process holds the lock.
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
            raise Taken(f"{folder}: in use by {owner}; wait for it to finish, or stop it first") from None
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
    """Returns True if this process holds the lock of a folder."""
    return folder.resolve() in _HELD


def at_work(folder: Path) -> bool | None:
    """Returns True if a process of this machine uses a run folder; None if that is unknown."""
    if is_held(folder):
        return True
    path = folder / LOCK
    if fcntl is None or path.is_symlink() or not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if not file.read(200).rstrip().endswith(f" on {socket.gethostname()}"):
                return None
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released when the file is closed
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
