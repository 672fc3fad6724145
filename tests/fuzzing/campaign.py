"""Runs many cases, each in a process that may crash, hang or fill its memory without harm to the others."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from tests.fuzzing.formats import Format
from tests.fuzzing.judge import Outcome, Watch

HANGS_AFTER = 20.0
"""Seconds without a result after which a process is ended: far above the limit of a case, since others compute too."""
_BATCH = 1024
"""Cases of one process; a fresh one now and then has fresh memory."""
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Fault:
    """A case that ended as none may."""

    format: str
    number: int
    reason: str


@dataclass
class Tally:
    """What came of the cases of one format."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    worst_seconds: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    def add(self, kind: str, number: int, outcome: Outcome) -> None:
        """Counts one."""
        self.cases += 1
        self.read += outcome.read
        self.refused += not outcome.read and outcome.fault is None
        self.worst_seconds = max(self.worst_seconds, outcome.seconds)
        if outcome.fault is not None:
            self.faults.append(Fault(kind, number, outcome.fault))


@dataclass
class _Worker:
    """A process and what it has yet to do."""

    kind: Format
    left: list[int]
    process: multiprocessing.process.BaseProcess
    results: Connection
    heard: float


def run(
    formats: Sequence[Format],
    numbers: Callable[[Format], Iterable[int]],
    folder: Path,
    *,
    workers: int = 1,
    seconds: float = 2.0,
    hangs_after: float = HANGS_AFTER,
) -> dict[str, Tally]:
    """Runs the cases.

    Args:
        formats: which.
        numbers: of the cases of a format.
        folder: for the files; exists.
        workers: processes at a time.
        seconds: of computing that a case may take.
        hangs_after: seconds of waiting for a case after which its process is ended.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a process that is forked has lost the others
    try:
        return _run(formats, numbers, folder, workers, seconds, hangs_after)
    finally:
        torch.set_num_threads(threads)


def _run(
    formats: Sequence[Format],
    numbers: Callable[[Format], Iterable[int]],
    folder: Path,
    workers: int,
    seconds: float,
    hangs_after: float,
) -> dict[str, Tally]:
    for kind in formats:
        _warm_up(kind, folder)
    tallies = {kind.name: Tally() for kind in formats}
    waiting = list(_batches(formats, numbers))
    running: list[_Worker] = []
    while waiting or running:
        while waiting and len(running) < workers:
            kind, batch = waiting.pop(0)
            running.append(_started(kind, batch, folder, seconds))
        for worker in running[:]:
            ended = _collect(worker, tallies[worker.kind.name], hangs_after)
            if ended:
                running.remove(worker)
                if worker.left:
                    waiting.insert(0, (worker.kind, worker.left))
        if running:
            wait([worker.results for worker in running], timeout=0.5)
    return tallies


def _warm_up(kind: Format, folder: Path) -> None:
    """Every good file is read, in this process, so that the others find all libraries loaded."""
    path = place_case(kind, folder / "warm", b"")
    for data in kind.good:
        path.write_bytes(data)
        kind.read(path)


def place_case(kind: Format, folder: Path, data: bytes) -> Path:
    """Writes a case."""
    path = folder / kind.name.replace(" ", "_") / kind.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _batches(
    formats: Sequence[Format], numbers: Callable[[Format], Iterable[int]]
) -> Iterator[tuple[Format, list[int]]]:
    for kind in formats:
        mine = list(numbers(kind))
        for start in range(0, len(mine), _BATCH):
            yield kind, mine[start : start + _BATCH]


def _started(kind: Format, batch: list[int], folder: Path, seconds: float) -> _Worker:
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_work, args=(kind, batch, folder, seconds, sender), daemon=True)
    process.start()
    sender.close()
    return _Worker(kind, batch, process, receiver, time.monotonic())


def _work(kind: Format, batch: list[int], folder: Path, seconds: float, results: Connection) -> None:
    """In a process of its own."""
    os.setsid()
    place = folder / f"worker.{os.getpid()}"
    path = place_case(kind, place, b"")
    watch = Watch(place, seconds=seconds)
    for number in batch:
        path.write_bytes(kind.case(number))
        results.send((number, watch.judge(kind, path)))
    results.close()
    os._exit(0)  # what libraries do at a regular exit is not what is tested


def _collect(worker: _Worker, tally: Tally, hangs_after: float) -> bool:
    """Takes what a process has said; True once it has ended."""
    try:
        while worker.results.poll():
            number, outcome = worker.results.recv()
            tally.add(worker.kind.name, number, outcome)
            worker.left = worker.left[worker.left.index(number) + 1 :]
            worker.heard = time.monotonic()
    except EOFError:
        worker.process.join()
        if worker.left:
            code = worker.process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            _lose(worker, tally, f"the interpreter crashed: {name}")
        return True
    if time.monotonic() - worker.heard > hangs_after:
        worker.process.kill()
        worker.process.join()
        _lose(worker, tally, f"hung for {hangs_after:.0f} s")
        return True
    return False


def _lose(worker: _Worker, tally: Tally, reason: str) -> None:
    """The case that a process was at."""
    number = worker.left.pop(0)
    tally.add(worker.kind.name, number, Outcome(reason, read=False, seconds=0.0))
