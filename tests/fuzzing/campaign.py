"""Runs many cases, in processes that may crash, hang or fill their memory without harm to the others."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autodisp.datasets.processes import Lost, apply_to_all
from tests.fuzzing.formats import Format
from tests.fuzzing.judge import Outcome, Watch

HANGS_AFTER = 20.0
"""Seconds without a result after which a process is ended: far above the limit of a case, since others compute too."""


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
class _Cases:
    """Judges single cases; each process that does sets up a watch of its own."""

    kind: Format
    numbers: Sequence[int]
    folder: Path
    seconds: float
    watch: Watch | None = None

    def __call__(self, index: int) -> Outcome:
        place = self.folder / f"worker.{os.getpid()}"
        path = place_case(self.kind, place, self.kind.case(self.numbers[index]))
        if self.watch is None:
            self.watch = Watch(place, seconds=self.seconds)
        return self.watch.judge(self.kind, path)


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
    tallies = {kind.name: Tally() for kind in formats}
    for kind in formats:
        path = place_case(kind, folder / "warm", b"")
        for data in kind.good:  # so that the processes find all libraries loaded
            path.write_bytes(data)
            kind.read(path)
        cases = _Cases(kind, list(numbers(kind)), folder, seconds)
        for index, found in apply_to_all(cases, len(cases.numbers), workers=workers, timeout=hangs_after):
            outcome = Outcome(found.reason, read=False, seconds=0.0) if isinstance(found, Lost) else found
            tallies[kind.name].add(kind.name, cases.numbers[index], outcome)
    return tallies


def place_case(kind: Format, folder: Path, data: bytes) -> Path:
    """Writes a case."""
    path = folder / kind.name.replace(" ", "_") / kind.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
