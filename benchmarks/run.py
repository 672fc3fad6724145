"""Measures the speed and memory of the steps of a search, prints a table, and writes the numbers as JSON.

    python -m benchmarks.run [--quick] [--full] [--cases darts s2] [--json runs/bench.json]

Times are medians with the lowest and the highest run. The runs of several implementations alternate, and everything is
measured twice, so that a slow minute of the machine widens the range instead of shifting the result.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

import autodisp
from autodisp.search import measuring
from benchmarks import measure

MOST_RUNS = 50
WIDTH = 160
"""Of the table where the output is no terminal."""


@dataclass(frozen=True)
class Plan:
    """Extent of the measurements."""

    sweeps: int
    """Number of times that everything is measured."""
    seconds: float
    """Duration of one action in one sweep."""
    least_runs: int
    """Smallest number of runs, however long they take."""
    without: tuple[str, ...] = ()
    """Measurements to leave out."""


THOROUGH = Plan(sweeps=2, seconds=5.0, least_runs=1)
QUICK = Plan(
    sweeps=1,
    seconds=2.0,
    least_runs=1,
    without=(measure.EPOCH, "alpha, exact", measure.DIFFERENCES, measure.CHECKPOINT),
)


@dataclass
class Result:
    """The measurements of one action of one implementation."""

    case: str
    measurement: str
    implementation: str
    seconds: list[float] = field(default_factory=list)
    """Duration of each run."""
    memory: float = 0.0
    """Peak above a process that has only loaded its libraries, MiB."""
    notes: dict[str, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def median(self) -> float:
        """Seconds; NaN if it never ran."""
        return statistics.median(self.seconds) if self.seconds else float("nan")


class Worker:
    """A process that measures one action."""

    def __init__(self, process: ProcessPoolExecutor, result: Result) -> None:
        self.process = process
        self.result = result
        self.idle = 0.0
        self.failed = False

    def prepare(self, folder: str, threads: int) -> bool:
        """Prepares the action; returns False if the implementation has none, or it failed."""
        names = (self.result.implementation, self.result.case, self.result.measurement)
        try:
            self.idle = self.process.submit(measure.prepare, *names, Path(folder), threads).result()
        except measure.NotOffered:
            return False
        except Exception as error:
            self._fail(error)
            return False
        return True

    def run(self) -> float:
        """Runs the action once; returns the seconds that passed in this process."""
        if self.failed:
            return 0.0
        began = time.perf_counter()
        try:
            seconds, notes, peak = self.process.submit(measure.run).result()
        except Exception as error:
            self._fail(error)
        else:
            self.result.seconds.append(seconds)
            self.result.notes = dict(notes)
            self.result.memory = max(self.result.memory, peak - self.idle)
        return time.perf_counter() - began

    def _fail(self, error: Exception) -> None:
        self.failed = True
        self.result.failure = "".join(traceback.format_exception(error))


def alternate(runs: Sequence[Callable[[], float]], plan: Plan) -> None:
    """Runs all in turn, A B A B, each equally often, until the slowest has had its time.

    Args:
        runs: each returns its duration in seconds.
        plan: the duration, and the smallest number of runs.
    """
    spent = [0.0] * len(runs)
    for turn in range(MOST_RUNS if runs else 0):
        if turn >= plan.least_runs and max(spent) >= plan.seconds:
            return
        for place, run in enumerate(runs):
            spent[place] += run()


def measure_all(
    plan: Plan, cases: Iterable[str], implementations: Iterable[str], *, full: bool, threads: int, disk: Path
) -> list[Result]:
    """Measures all actions of the implementations, in the order of the cases and their measurements.

    Args:
        plan: extent of the measurements.
        cases, implementations: names of the measured ones.
        full: measure the full Hessian too, in the first sweep only, since it takes minutes.
        threads: number of torch's threads.
        disk: a folder on the disk that checkpoints are written to.
    """
    groups = [
        [Result(case, measurement, name) for name in implementations]
        for case in cases
        for measurement in (*measure.CASES[case].measurements, measure.FULL_HESSIAN)
        if measurement not in plan.without
        if measurement != measure.FULL_HESSIAN or (full and measure.EIGENVALUE in measure.CASES[case].measurements)
    ]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    for sweep in range(plan.sweeps):
        for group in groups:
            if sweep and group[0].measurement == measure.FULL_HESSIAN:
                continue
            sys.stderr.write(f"[{sweep + 1}/{plan.sweeps}] {group[0].case}: {group[0].measurement}\n")
            with ExitStack() as stack:
                ready = []
                for result in group:
                    process = ProcessPoolExecutor(max_workers=1, mp_context=context)
                    worker = Worker(stack.enter_context(process), result)
                    if worker.prepare(stack.enter_context(tempfile.TemporaryDirectory(dir=disk)), threads):
                        ready.append(worker.run)
                alternate(ready, plan)
    return [result for group in groups for result in group if result.seconds or result.failure]


def table_of(results: Sequence[Result], title: str) -> Table:
    """Returns a table with a row per result, and its cost in weight steps of the same case and implementation.

    An action whose process died in one sweep keeps the numbers of the other.
    """
    caption = "steps: time in weight steps · MiB: peak above a process that has only loaded its libraries · †: failed"
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    several = len({result.implementation for result in results}) > 1
    for name in ("case", "measurement", *(["by"] if several else [])):
        table.add_column(name, no_wrap=True)
    for name in ("median", "range", "runs", "steps", "MiB", *(["times faster", "of its MiB"] if several else [])):
        table.add_column(name, justify="right", no_wrap=True)
    steps = {(r.case, r.implementation): r.median for r in results if r.measurement == measure.WEIGHT_STEP}
    textbooks = [r for r in results if r.implementation.startswith("textbook") and r.seconds]
    textbook = {(r.case, r.measurement): r for r in sorted(textbooks, key=lambda r: -r.median)}
    for result, before in zip(results, [None, *results], strict=False):
        notes = ", ".join(f"{value:.3g} {name}" for name, value in result.notes.items())
        table.add_row(
            result.case if before is None or before.case != result.case else "",
            (f"{result.measurement} ({notes})" if notes else result.measurement) + (" †" if result.failure else ""),
            *([result.implementation] if several else []),
            *_figures(result, steps.get((result.case, result.implementation))),
            *_ratios(result, textbook.get((result.case, result.measurement))),
        )
    return table


def _figures(result: Result, weight_step: float | None) -> list[str]:
    if not result.seconds:
        return ["failed", "", "", "", ""]
    factor, unit = (1000, "ms") if result.median < 1 else (1, "s")
    times = (factor * seconds for seconds in (result.median, min(result.seconds), max(result.seconds)))
    median, lowest, highest = (f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in times)
    in_steps = f"{result.median / weight_step:.2g}" if weight_step else ""
    return [f"{median} {unit}", f"{lowest}–{highest}", str(len(result.seconds)), in_steps, f"{result.memory:.0f}"]


def _ratios(result: Result, textbook: Result | None) -> list[str]:
    """Returns the speed-up over the faster of the textbooks, and the share of its memory."""
    if textbook is None or textbook is result or not result.seconds:
        return []
    part = f"{result.memory / textbook.memory:.2f}" if textbook.memory else ""
    return [f"{textbook.median / result.median:.3g}", part]


def machine(threads: int) -> dict[str, Any]:
    """Returns facts on which the numbers depend besides the code."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        **measuring.machine(torch.device("cpu")),
        "threads": threads,
        "autodisp": autodisp.__version__,
    }


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options; exits with 2 if they are wrong."""
    names = list(measure.IMPLEMENTATIONS)
    cases = list(measure.CASES)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measures speed and memory.")
    parser.add_argument("--quick", action="store_true", help="few runs of most of it: under three minutes")
    parser.add_argument("--full", action="store_true", help="the full Hessian as well, which takes minutes")
    parser.add_argument("--json", type=Path, default=Path("runs/bench.json"), help="where to write (%(default)s)")
    parser.add_argument(
        "--cases", nargs="+", choices=cases, default=cases, help=f"some of {', '.join(cases)}", metavar="C"
    )
    parser.add_argument(
        "--implementations", nargs="+", choices=names, default=names, help="default: all", metavar="NAME"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (%(default)s)")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error(f"--threads {options.threads}: must be at least 1")
    if options.json.is_dir():
        parser.error(f"--json {options.json}: is a folder; name a file")
    try:
        options.json.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--json {options.json}: its folder cannot be made ({error.strerror}); name another file")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns exit code 1 if a measurement failed."""
    options = parse_arguments(arguments)
    about = machine(options.threads)
    results = measure_all(
        QUICK if options.quick else THOROUGH,
        list(dict.fromkeys(options.cases)),
        list(dict.fromkeys(options.implementations)),
        full=options.full,
        threads=options.threads,
        disk=options.json.parent,
    )
    figures = [{**asdict(result), "median": result.median if result.seconds else None} for result in results]
    options.json.write_text(json.dumps({"machine": about, "results": figures}, indent=1) + "\n", encoding="utf-8")
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table_of(results, f"{about['processor']}, threads: {options.threads}, torch {about['torch']}"))
    console.print(f"every run, and the machine: {options.json}", soft_wrap=True)
    failures = [result for result in results if result.failure]
    for result in failures:
        sys.stderr.write(f"{result.case}, {result.measurement}, {result.implementation} failed:\n{result.failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
