"""Applies a function to many indices in worker processes that may die or hang without aborting the rest.

concurrent.futures does not support this: its pool breaks with the first process that dies, does not report its task,
and does not end a process that hangs. Here each process has a separate pipe, which identifies its task, and is
replaced.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import NamedTuple, TypeVar

import cv2
import torch

Result = TypeVar("Result")
_LONGEST_WAIT = 3600.0
"""Seconds; the system refuses to wait for weeks."""


class Lost(NamedTuple):
    """Placeholder for a missing result: the process died, or was killed after the timeout."""

    reason: str


def cores() -> int:
    """Returns the number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def apply_to_all(
    work: Callable[[int], Result], n: int, *, workers: int, timeout: float = 120.0
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Yields each index 0 .. n - 1 with its result, in order of completion.

    Args:
        work: the function; an uncaught exception ends its process. Its results must be picklable.
        n: number of indices.
        workers: number of processes.
        timeout: seconds per index.
    """
    numbers = iter(range(n))
    idle: list[_Worker] = []
    busy: dict[Connection, tuple[_Worker, int, float]] = {}
    try:
        while True:
            for number in islice(numbers, workers - len(busy)):
                worker = idle.pop() if idle else _Worker(work)
                with suppress(OSError):  # it died while idle, which is detected on reading
                    worker.connection.send(number)
                busy[worker.connection] = worker, number, time.monotonic() + timeout
            if not busy:
                return
            first = min(deadline for _, _, deadline in busy.values())
            ready = wait(list(busy), timeout=min(max(0.0, first - time.monotonic()), _LONGEST_WAIT))
            for connection, (worker, number, deadline) in list(busy.items()):
                result: Result | Lost
                if connection in ready:
                    try:
                        result = connection.recv()
                        idle.append(worker)
                    except (EOFError, OSError):
                        result = Lost(worker.end())
                elif time.monotonic() >= deadline:
                    worker.process.kill()
                    worker.end()
                    result = Lost(f"took more than {timeout:g} s and was given up")
                else:
                    continue
                del busy[connection]
                yield number, result
    finally:
        everyone = [*idle, *(worker for worker, _, _ in busy.values())]
        for worker in everyone:
            worker.process.kill()
        for worker in everyone:
            worker.end()


class _Worker:
    """A process that receives indices and sends results over a pipe."""

    def __init__(self, work: Callable[[int], object]) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # must only be open in that process, or its death would not be detected

    def end(self) -> str:
        """Waits for the process to end and describes the cause."""
        self.process.join()
        self.connection.close()
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "the process that read it was killed, as happens when memory runs out"
        return (
            f"the process that read it {f'was ended by signal {-code}' if code < 0 else f'left with exit code {code}'}"
        )


def _serve(connection: Connection, work: Callable[[int], object]) -> None:
    """Sends results until the parent exits; the parent also handles interruptions."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # There are as many processes as cores, and a forked child must not use its parent's thread pools.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with suppress(EOFError, OSError):
        while True:
            connection.send(work(connection.recv()))
