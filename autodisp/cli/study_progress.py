"""Progress of a study on the console: runs done, running and failed, and the time left."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from autodisp.cli.console import say
from autodisp.cli.study_plan import time_left
from autodisp.studies.endings import Ending
from autodisp.studies.graph import Run
from autodisp.tracking import in_time

_LINE_SECONDS = 60.0


class StudyProgress:
    """A bar on a terminal; elsewhere a line when a run ends, and every minute."""

    def __init__(self, console: Console, runs: Sequence[Run]) -> None:
        self._console = console
        self._runs = runs
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("runs", total=len(runs))
        self._told: dict[str, str] | None = None
        self._last = time.monotonic()
        self._began: dict[str, float] = {}
        """When each run was first seen in progress."""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Prints a line."""
        say(self._console, text)

    def show(self, endings: Mapping[str, Ending], workers: int) -> None:
        """Shows the state of all runs."""
        now = time.monotonic()
        for name, ending in endings.items():
            if ending.state == "running":
                self._began.setdefault(name, now)
        counts = Counter(ending.state for ending in endings.values())
        elapsed = {name: now - began for name, began in self._began.items()}
        left = time_left(self._runs, endings, max(1, workers), elapsed=elapsed)
        words = f"{counts['done']} done, {counts['running']} running, {counts['failed']} failed"
        words += f", {in_time(left)} left" if left else ""
        words += "" if workers else ", no worker has joined yet"
        self._bar.update(self._task, completed=counts["done"] + counts["failed"] + counts["not run"], description=words)
        states: dict[str, str] = {
            name: ending.state for name, ending in endings.items() if ending.state in ("done", "failed")
        }
        for name in states.keys() - (states if self._told is None else self._told).keys():
            ending = endings[name]
            metric = "" if ending.metric is None else f", {ending.metric:.5g}"
            self.note(f"{name}: {ending.message or ending.state}{metric}, {in_time(ending.seconds)}  ({words})")
            self._last = time.monotonic()
        if not self._console.is_terminal and time.monotonic() - self._last > _LINE_SECONDS:
            self.note(words)
            self._last = time.monotonic()
        self._told = states
