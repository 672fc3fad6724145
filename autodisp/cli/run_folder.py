"""Where a run goes: a folder of its own, with one process at a time in it."""

import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autodisp.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
CONFIG = "config.yaml"
COMMAND = "command.txt"


def make_run_folder(folder: Path, *, key: str = "run.folder", resumes_with: str | None = None) -> Path:
    """A fresh folder for a run.

    Args:
        folder: is made, with those above it.
        key: the setting that named it.
        resumes_with: the program that goes on with a run which is there already, if any does.

    Raises:
        InputError: it holds something already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise InputError(f"{key}={folder}: cannot be used ({error.strerror}); take another one") from None
    if taken and resumes_with and (folder / CONFIG).exists() and (folder / "checkpoints").is_dir():
        raise InputError(
            f"{key}={folder}: holds a run already, and nothing of it is overwritten; go on with it by "
            f"`{resumes_with} resume={folder}`, or take another folder"
        )
    if taken:
        raise InputError(f"{key}={folder}: is not empty, and a run overwrites nothing; take another folder")
    if not usable:
        raise InputError(f"{key}={folder}: is not writable; take another one")
    return folder


def keep_command(folder: Path) -> None:
    """Leaves the command line that made a run in its folder, for whoever looks at it later."""
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    (folder / COMMAND).write_text(command + "\n", encoding="utf-8", errors="surrogateescape")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a run folder.

    The kernel forgets the lock when its owner dies, however it dies, so none is ever left behind.

    Raises:
        InputError: another process has it.
    """
    if fcntl is None:
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
            raise InputError(f"{folder}: {owner} is at work there; wait for it, or stop it first") from None
        except OSError:  # a file system without locks
            yield
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
