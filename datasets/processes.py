"""Applies a function to many numbers in processes of its own, any of which may die or hang without ending the whole.

concurrent.futures gives up with the first process that dies, does not say what it was at, and ends none that hangs.
Here each process has a pipe of its own, so that the number it was at is known, and another process takes its place.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple, TypeVar

import cv2
import torch

Result = TypeVar("Result")

_KILLED_FOR_MEMORY = -signal.SIGKILL


class Lost(NamedTuple):
    """No result: the process died, or had to be ended."""

    reason: str


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def apply_to_all(
    work: Callable[[int], Result], n: int, *, workers: int, timeout: float = 120.0
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Gives each number of 0 .. n - 1 with its result, in the order in which they are ready.

    Memory is bounded by what the processes need at a time; a result is handed on and forgotten.

    Args:
        work: what is done; an exception that leaves it ends its process. Its results can be pickled.
        n: how many.
        workers: number of processes.
        timeout: seconds that a number may take.
    """
    waiting = iter(range(n))
    idle: list[tuple[BaseProcess, Connection]] = []
    busy: dict[Connection, tuple[BaseProcess, int, float]] = {}
    try:
        while True:
            for number in islice(waiting, workers - len(busy)):
                process, connection = idle.pop() if idle else _start(work)
                with suppress(OSError):  # it died while it had nothing to do, and so is found dead with this number
                    connection.send(number)
                busy[connection] = process, number, time.monotonic() + timeout
            if not busy:
                return
            first = min(deadline for _, _, deadline in busy.values())
            heard = wait(list(busy), timeout=max(0.0, first - time.monotonic()))
            for connection, (process, number, deadline) in list(busy.items()):
                result: Result | Lost
                if connection in heard:
                    try:
                        result = connection.recv()
                        idle.append((process, connection))
                    except (EOFError, OSError):
                        result = Lost(_cause(process, connection))
                elif time.monotonic() >= deadline:
                    process.kill()
                    _cause(process, connection)
                    result = Lost(f"took more than {timeout:g} s and was given up")
                else:
                    continue
                del busy[connection]
                yield number, result
    finally:
        everyone = [*idle, *((process, connection) for connection, (process, _, _) in busy.items())]
        for process, _ in everyone:
            process.kill()
        for process, connection in everyone:
            _cause(process, connection)


def _start(work: Callable[[int], Result]) -> tuple[BaseProcess, Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()  # it must be open in that process alone: otherwise its death would go unnoticed
    return process, ours


def _cause(process: BaseProcess, connection: Connection) -> str:
    """Waits for the end of a process and describes it."""
    process.join()
    connection.close()
    code = process.exitcode
    if code == _KILLED_FOR_MEMORY:
        return "the process that read it was killed, as happens when memory runs out"
    how = f"was ended by signal {-code}" if code is not None and code < 0 else f"left with exit code {code}"
    return f"the process that read it {how}"


def _serve(connection: Connection, work: Callable[[int], Result]) -> None:
    """Answers until the parent is gone. An interruption is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # As many processes as cores are there already, and a forked child must not use its parent's thread pools.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with suppress(EOFError, OSError):
        while True:
            connection.send(work(connection.recv()))
