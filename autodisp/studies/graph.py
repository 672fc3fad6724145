"""The graph of a study: runs of the programs, and which of them need files of others.

A run is named by a hash of its settings, so that a study that is begun again finds what is done.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path

from autodisp.commands import setting
from autodisp.studies.endings import Ending, read_ending

RUNS = "runs"
"""Folder of the runs inside that of a study."""
MACHINE = ("run.", "dataset.root", "dataset.store")
"""Settings that do not change results."""


@dataclass(frozen=True)
class Link:
    """A setting whose value is a file of another run.

    Args:
        key: the setting.
        runs: one run, or several of which the one with the best metric is meant.
        file: its path inside the folder of that run.
        largest: True if the largest metric is the best.
        owners: the run that has the file, for each of ``runs``; empty: they have it themselves.
    """

    key: str
    runs: tuple["Run", ...]
    file: str
    largest: bool = False
    owners: tuple["Run", ...] = ()

    def chosen(self, endings: Mapping[str, Ending]) -> "Run":
        """Returns the run that has the file, once all are done; one without a metric counts as the worst."""
        sign = -1.0 if self.largest else 1.0
        metrics = [endings[run.name].metric for run in self.runs]
        known = [(sign * value, place) for place, value in enumerate(metrics) if value is not None]
        return (self.owners or self.runs)[min(known)[1] if known else 0]


@dataclass(frozen=True)
class Run:
    """A call of a program.

    Args:
        program: its name, without autodisp-.
        settings: words of its command line, and links; of several for one setting the last counts.
        labels: what the run is for the study, such as its space and seed.
    """

    program: str
    settings: tuple[str | Link, ...]
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        last = {_key(one): one for one in self.settings}
        object.__setattr__(self, "settings", tuple(last.values()))

    @property
    def name(self) -> str:
        """The name of its folder: the program and a hash of the settings in any order.

        Those of the machine, and the folders of the data, do not count.
        """
        told = sorted(json.dumps(_told(one)) for one in self.settings if not _key(one).startswith(MACHINE))
        return f"{self.program}-{hashlib.sha256(' '.join(told).encode()).hexdigest()[:12]}"

    @property
    def needs(self) -> tuple["Run", ...]:
        """The runs whose files it needs."""
        return tuple(run for one in self.settings if isinstance(one, Link) for run in (*one.runs, *one.owners))

    def words(self, study: Path, endings: Mapping[str, Ending]) -> list[str]:
        """Returns the words of its command line, without the folder of the run."""
        return [
            setting(one.key, study / RUNS / one.chosen(endings).name / one.file) if isinstance(one, Link) else one
            for one in self.settings
        ]


def _key(one: str | Link) -> str:
    return one.key if isinstance(one, Link) else one.partition("=")[0].lstrip("+~")


def _told(one: str | Link) -> str | list[str]:
    return one if isinstance(one, str) else [one.key, *(run.name for run in (*one.runs, *one.owners)), one.file]


def in_order(runs: Iterable[Run]) -> Iterator[Run]:
    """Yields the runs and those that they need, each once, what is needed first."""
    known: dict[str, Run] = {}
    needs: dict[str, list[str]] = {}
    waiting = list(runs)
    while waiting:
        run = waiting.pop(0)
        if known.setdefault(run.name, run) is run:
            needs[run.name] = [other.name for other in run.needs]
            waiting += run.needs
    for name in TopologicalSorter(needs).static_order():
        yield known[name]


def endings_of(runs: Iterable[Run], study: Path) -> dict[str, Ending]:
    """Returns the endings of the runs so far, by name; a run that is in progress, or was killed, waits."""
    endings = {run.name: read_ending(study / RUNS / run.name) for run in runs}
    return {
        name: replace(ending, state="waiting") if ending.state == "running" else ending
        for name, ending in endings.items()
    }
