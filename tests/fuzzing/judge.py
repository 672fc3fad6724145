"""Reads one file and says whether what came of it may come of it.

A file is read, or an InputError names it in one line. Whatever else happens is a fault: another exception, words on the
console, a warning, something executed or written, a second too much, memory that the file does not justify.
"""

import faulthandler
import os
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodisp.errors import InputError
from tests.fuzzing.formats import Format

FREE_BYTES = 64 << 20
"""Memory that any file may ask for."""
BYTES_PER_BYTE = 40
"""Memory that a file may ask for beyond that, a byte of its own: Python's objects are that much larger than JSON."""
ADDRESS_SPACE = 1 << 30
"""What may be asked for at all before the system refuses."""
_EXHAUSTED = re.compile(r"MemoryError|allocate|bad_alloc|out of memory", re.IGNORECASE)
_EXECUTES = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen", "socket.connect",
             "ctypes.dlopen", "pickle.find_class", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate",
             "shutil.rmtree", "webbrowser.open", "os.chmod", "os.link", "os.symlink")  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    fault: str | None
    """None: all is well."""
    read: bool
    seconds: float
    """Of computing."""


class Watch:
    """Sees what a process does while a file is read; to be made in the process, which it changes for good."""

    def __init__(self, folder: Path, *, seconds: float) -> None:
        self.seconds = seconds
        self._events: list[str] = []
        self._warnings: list[str] = []
        self._watching = False
        self._console = os.open(folder / f"console.{os.getpid()}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(self._console, 1)
        os.dup2(self._console, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        warnings.resetwarnings()
        warnings.simplefilter("always")
        warnings.showwarning = self._warned  # type: ignore[assignment]
        sys.addaudithook(self._seen)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()

    def judge(self, kind: Format, path: Path) -> Outcome:
        """Reads the file."""
        said, before = os.fstat(self._console).st_size, _peak(reset=True)
        started = time.process_time()
        with self._active():
            fault, was_read = read(kind, path)
            sys.stdout.flush()
            sys.stderr.flush()
        seconds = time.process_time() - started
        grown = _peak() - before
        allowed = FREE_BYTES + BYTES_PER_BYTE * path.stat().st_size
        if fault is None and self._events:
            fault = f"did what no reader does: {self._events[0]}"
        elif fault is None and self._warnings:
            fault = f"a warning: {self._warnings[0]}"
        elif fault is None and os.fstat(self._console).st_size > said:
            fault = f"said on the console: {os.pread(self._console, 300, said)!r}"
        elif fault is None and grown > allowed:
            fault = f"took {grown >> 20} MiB for {path.stat().st_size} bytes"
        elif fault is None and seconds > self.seconds:
            fault = f"computed for {seconds:.1f} s"
        return Outcome(fault, was_read, seconds)

    @contextmanager
    def _active(self) -> Iterator[None]:
        self._events.clear()
        self._warnings.clear()
        self._watching = True
        try:
            yield
        finally:
            self._watching = False

    def _warned(self, message: Warning | str, *_: Any, **__: Any) -> None:
        if self._watching:
            self._warnings.append(str(message))

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if event in _EXECUTES or (writes and str(arguments[0]) != os.devnull):
            self._events.append(f"{event} {arguments!r}"[:300])


def read(kind: Format, path: Path) -> tuple[str | None, bool]:
    """Reads a file in this process: what was wrong with the end of it, and whether it was read."""
    try:
        kind.read(path)
    except InputError as error:
        return _wrong_refusal(error, path), False
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return f"{type(error).__name__} at {place}: {str(error)[:300]!r}", False
    return None, True


def _wrong_refusal(error: InputError, path: Path) -> str | None:
    message = str(error)
    if not message.isprintable():
        return f"the message is more than one line of text: {message[:300]!r}"
    if path.name not in message:
        return f"the message does not name the file: {message[:300]!r}"
    if len(message) > 2000:
        return f"the message has {len(message)} characters: {message[:300]!r}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (not isinstance(cause, InputError) and _EXHAUSTED.search(str(cause))):
            return f"asked for more memory than there is: {message[:300]!r}"
        cause = cause.__cause__ or cause.__context__
    return None


def _peak(*, reset: bool = False) -> int:
    """Resident bytes at most since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
