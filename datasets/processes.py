"""Applies a function to many numbers in processes of its own, any of which may die or hang without ending the whole.

concurrent.futures gives up with the first process that dies and does not say what it was at. Here each process has a
pipe of its own, so that the number it was at is known, and another process takes its place.
"""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, NamedTuple, TypeVar

import cv2
import torch

Result = TypeVar("Result")

_KILLED_FOR_MEMORY = -signal.SIGKILL


class Lost(NamedTuple):
    """No result: the process died, or had to be ended."""

    reason: str


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Sequence[int]
    deadline: float


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def apply_to_all(
    work: Callable[[int], Result], n: int, *, workers: int, chunk: int = 1, timeout: float = 120.0
) -> Generator[tuple[int, Result | Lost], None, None]:
    """Gives each number of 0 .. n - 1 with its result, in the order in which they are ready.

    Memory is bounded by what the processes need at a time; a result is handed on and forgotten.

    Args:
        work: what is done; an exception that leaves it ends its process. It and its results can be pickled.
        n: how many.
        workers: number of processes.
        chunk: numbers that a process is given at a time, more than one where each takes well below a millisecond.
        timeout: seconds that a chunk may take.
    """
    waiting: deque[Sequence[int]] = deque(range(start, min(start + chunk, n)) for start in range(0, n, chunk))
    crew = _Crew(work, timeout)
    try:
        while waiting or crew.workers:
            while waiting and len(crew.workers) < workers:
                crew.give(waiting.popleft())
            for task, results in crew.ready():
                if isinstance(results, Lost) and len(task) > 1:
                    waiting.extendleft([number] for number in reversed(task))
                elif isinstance(results, Lost):
                    yield task[0], results
                else:
                    yield from zip(task, results, strict=True)
    finally:
        crew.dismiss()


class _Crew(Generic[Result]):
    """Processes that each have a task, and idle ones."""

    def __init__(self, work: Callable[[int], Result], timeout: float) -> None:
        self._work = work
        self._timeout = timeout
        self._idle: list[tuple[BaseProcess, Connection]] = []
        self.workers: list[_Worker] = []

    def give(self, task: Sequence[int]) -> None:
        """Has a process take up a task."""
        process, connection = self._idle.pop() if self._idle else self._start()
        with suppress(OSError):  # it died while it had nothing to do, and so is found dead with this task
            connection.send(task)
        self.workers.append(_Worker(process, connection, task, time.monotonic() + self._timeout))

    def ready(self) -> Iterator[tuple[Sequence[int], Sequence[Result] | Lost]]:
        """Waits until something is done or lost, and gives it."""
        first = min(worker.deadline for worker in self.workers)
        heard = wait([worker.connection for worker in self.workers], timeout=max(0.0, first - time.monotonic()))
        for worker in list(self.workers):
            results: Sequence[Result] | Lost
            if worker.connection in heard:
                try:
                    results = worker.connection.recv()
                    self._idle.append((worker.process, worker.connection))
                except (EOFError, OSError):
                    results = self._bury(worker)
            elif time.monotonic() >= worker.deadline:
                worker.process.kill()
                self._bury(worker)
                results = Lost(f"took more than {self._timeout:g} s and was given up")
            else:
                continue
            self.workers.remove(worker)
            yield worker.task, results

    def dismiss(self) -> None:
        """Ends all processes."""
        everyone = [*self._idle, *((worker.process, worker.connection) for worker in self.workers)]
        for process, _ in everyone:
            process.kill()
        for process, connection in everyone:
            process.join()
            connection.close()

    def _start(self) -> tuple[BaseProcess, Connection]:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=_serve, args=(theirs, self._work), daemon=True)
        process.start()
        # Its end must be open in that process alone, lest its death go unnoticed.
        theirs.close()
        return process, ours

    @staticmethod
    def _bury(worker: _Worker) -> Lost:
        worker.process.join()
        worker.connection.close()
        code = worker.process.exitcode
        if code == _KILLED_FOR_MEMORY:
            return Lost("the process that read it was killed, as happens when memory runs out")
        how = f"was ended by signal {-code}" if code is not None and code < 0 else f"left with exit code {code}"
        return Lost(f"the process that read it {how}")


def _serve(connection: Connection, work: Callable[[int], Result]) -> None:
    """What a process does: it answers until its parent is gone. An interruption is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # As many processes as cores are there already, and a forked child must not use its parent's thread pools.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with suppress(EOFError, OSError):
        while True:
            connection.send([work(number) for number in connection.recv()])
