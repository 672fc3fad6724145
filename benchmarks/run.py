"""Measures a search's steps in speed and memory, prints one table and writes the figures beside it as JSON.

    python -m benchmarks.run [--quick] [--full] [--cases darts s2] [--json runs/bench.json]

Times are medians with the lowest and the highest run; where there are several implementations, their runs alternate.
All measurements are gone through twice, so that a slow minute of the machine shows as spread.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import autodisp
from benchmarks.measure import CASES, FULL_HESSIAN, IMPLEMENTATIONS, WEIGHT_STEP, serve

MOST_RUNS = 50


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    sweeps: int
    """Times that all measurements are gone through."""
    seconds: float
    """For one measurement of one implementation in one sweep."""
    least_runs: int
    """However long they take."""


THOROUGH, QUICK = Plan(sweeps=2, seconds=10.0, least_runs=2), Plan(sweeps=1, seconds=3.0, least_runs=1)


@dataclass
class Result:
    """What was measured of one action of one implementation."""

    case: str
    measurement: str
    implementation: str
    seconds: list[float] = field(default_factory=list)
    """Of each run."""
    idle_mib: float = 0.0
    """Of a process that has only loaded its libraries."""
    peak_mib: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def median(self) -> float:
        """Seconds; NaN if it never ran."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        spread = {"median": self.median, "lowest": min(self.seconds), "highest": max(self.seconds)}
        return {**asdict(self), **(spread if self.seconds else {})}


class Worker:
    """The near end of a measuring process."""

    def __init__(self, context: ForkServerContext, result: Result, *, folder: Path, threads: int) -> None:
        self.result = result
        self.pipe, far_end = context.Pipe()
        names = (result.implementation, result.case, result.measurement)
        self.process = context.Process(target=serve, args=(far_end, *names, str(folder), threads), daemon=True)
        self.process.start()
        far_end.close()

    def ready(self) -> bool:
        """Waits for the preparation; False if there is nothing to run."""
        return self._hear()[0] == "ready"

    def run(self) -> float:
        """One run; the seconds it took from here."""
        began = time.perf_counter()
        self.pipe.send(True)
        kind, *said = self._hear()
        if kind == "run":
            self.result.seconds.append(said[0])
            self.result.notes = said[1]
        return time.perf_counter() - began

    def finish(self) -> None:
        """Ends the process and keeps what it says of its memory."""
        if self.result.failure is None:
            self.pipe.send(False)
            kind, *said = self._hear()
            if kind == "done":
                self.result.idle_mib = said[0]
                self.result.peak_mib = max(self.result.peak_mib, said[1])
        self.process.join()

    def _hear(self) -> tuple[Any, ...]:
        if self.result.failure is not None:
            return ("failed",)
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except EOFError:
            self.process.join()
            message = ("failed", f"the process ended with exit code {self.process.exitcode}; out of memory?")
        if message[0] == "failed":
            self.result.failure = message[1]
        return message


def alternate(runs: Sequence[Callable[[], float]], plan: Plan) -> None:
    """Runs all in turn, A B A B, until the slowest has had its time, each equally often.

    Args:
        runs: each returns the seconds it took.
        plan: says how long and how often at least.
    """
    spent = [0.0] * len(runs)
    for turn in range(MOST_RUNS if runs else 0):
        if turn >= plan.least_runs and max(spent) >= plan.seconds:
            return
        for place, run in enumerate(runs):
            spent[place] += run()


def measure_all(
    plan: Plan, cases: Iterable[str], implementations: Sequence[str], *, full: bool, folder: Path, threads: int
) -> list[Result]:
    """Everything that the implementations offer, in the order of the cases and their measurements."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure"])
    groups = [
        [Result(case, measurement, name) for name in implementations]
        for case in cases
        for measurement in (*CASES[case].measurements, *([FULL_HESSIAN] if full and case_searches(case) else []))
    ]
    for sweep in range(plan.sweeps):
        for group in groups:
            if sweep and group[0].measurement == FULL_HESSIAN:
                continue  # takes minutes, and as many products as it has rows whatever happens
            sys.stderr.write(f"sweep {sweep + 1}/{plan.sweeps}  {group[0].case}: {group[0].measurement}\n")
            workers = [Worker(context, result, folder=folder, threads=threads) for result in group]
            offered = [worker for worker in workers if worker.ready()]
            alternate([worker.run for worker in offered], plan)
            for worker in offered:
                worker.finish()
    return [result for group in groups for result in group if result.seconds or result.failure]


def case_searches(case: str) -> bool:
    """Whether the case has a search, and so a Hessian."""
    return WEIGHT_STEP in CASES[case].measurements


def table_of(results: Sequence[Result], title: str) -> Table:
    """One row a measurement; the cost in weight steps of the same case and implementation beside the time."""
    table = Table(title=title, caption="memory: peak above a process that has only loaded its libraries")
    several = len({result.implementation for result in results}) > 1
    names = ["case", "measurement", *(["implementation"] if several else [])]
    for name in names:
        table.add_column(name)
    for name in ("median", "lowest – highest", "runs", "weight steps", "memory", ""):
        table.add_column(name, justify="right")
    steps = {(r.case, r.implementation): r.median for r in results if r.measurement == WEIGHT_STEP}
    before = None
    for result in results:
        if before not in (None, result.case):
            table.add_section()
        shown = [result.case if result.case != before else "", result.measurement]
        before = result.case
        figures = _figures(result, steps.get((result.case, result.implementation)))
        table.add_row(*shown, *([result.implementation] if several else []), *figures)
    return table


def _figures(result: Result, weight_step: float | None) -> list[str]:
    if not result.seconds:
        return ["failed", "", "", "", "", ""]
    notes = ", ".join(f"{value:.4g} {name}" for name, value in result.notes.items() if name != "eigenvalue")
    return [
        in_words(result.median),
        f"{in_words(min(result.seconds))} – {in_words(max(result.seconds))}",
        str(len(result.seconds)),
        f"{result.median / weight_step:.2g}" if weight_step else "",
        f"{result.peak_mib - result.idle_mib:.0f} MiB",
        notes,
    ]


def in_words(seconds: float) -> str:
    """A time with three digits."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def machine(threads: int) -> dict[str, Any]:
    """What the figures depend on beside the code."""
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "autodisp": autodisp.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; leaves with exit code 2 and one line where they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measures speed and memory.")
    parser.add_argument("--quick", action="store_true", help="few runs of everything, in three minutes")
    parser.add_argument("--full", action="store_true", help="the full Hessian as well, which takes minutes")
    parser.add_argument("--json", type=Path, default=Path("runs/bench.json"), help="where to write (%(default)s)")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="(all)", metavar="CASE")
    parser.add_argument(
        "--implementations", nargs="+", choices=list(IMPLEMENTATIONS), default=list(IMPLEMENTATIONS), metavar="NAME"
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
    """The program; exit code 1 if a measurement failed."""
    options = parse_arguments(arguments)
    about = machine(options.threads)
    results = measure_all(
        QUICK if options.quick else THOROUGH,
        dict.fromkeys(options.cases),
        list(dict.fromkeys(options.implementations)),
        full=options.full,
        folder=options.json.parent,
        threads=options.threads,
    )
    data = {"machine": about, "results": [result.as_json() for result in results]}
    options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    threads = f"{options.threads} thread{'s' if options.threads > 1 else ''}"
    console = Console()
    console.print(table_of(results, f"{about['processor']}, {threads}, torch {about['torch']}"))
    console.print(f"figures of every run: {options.json}")
    failed = [result for result in results if result.failure]
    for result in failed:
        sys.stderr.write(f"{result.implementation}, {result.case}, {result.measurement}: {result.failure}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
