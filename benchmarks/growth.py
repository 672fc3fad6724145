"""Growth of the time and memory of a weight step with batch, width, cells, image area and alphas.

    python -m benchmarks.growth [--json runs/growth.json]

Prints a table, and writes the figures as JSON and a log-log plot beside it. The exponent is the
slope between the last two points: what a further doubling would cost.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import measure
from benchmarks.run import machine

RUNS = 3
IMAGES = ("task=classification", "space=s2", "network.channels=8", "network.layers=5", "search.batch_size=16")
STEREO = ("experiment=demo", "dataset.length=20")
AXES: dict[str, tuple[tuple[str, ...], dict[float, tuple[str, ...]]]] = {
    "batch": (IMAGES, {n: (f"search.batch_size={n}",) for n in (8, 16, 32, 64)}),
    "channels": (IMAGES, {n: (f"network.channels={n}",) for n in (4, 8, 16, 32)}),
    "cells": (IMAGES, {n: (f"network.layers={n}",) for n in (4, 8, 16)}),
    "alphas": (IMAGES, {56: ("space=s2",), 84: ("space=s3",), 224: ("space=darts",)}),
    "pixels (stereo)": (
        STEREO,
        {
            height * width: (f"dataset.height={height}", f"dataset.width={width}", "dataset.crop=null")
            for height, width in ((128, 256), (192, 384), (256, 512), (384, 768))
        },
    ),
}
"""Settings of each axis, and the overrides of each of its points."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    axis: str
    value: float
    seconds: float
    memory: float
    """MiB above a process that has only loaded its libraries."""


def measure_point(axis: str, value: float, overrides: Sequence[str], threads: int) -> Point:
    """Measures a weight step in a process of its own; the median of a few runs."""
    case = measure.Case((*overrides, *measure.STILL))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process, tempfile.TemporaryDirectory() as folder:
        name = measure.WEIGHT_STEP
        idle = process.submit(measure.prepare, "autodisp", case, name, Path(folder), threads).result()
        runs = [process.submit(measure.run).result() for _ in range(RUNS)]
    return Point(axis, value, statistics.median(seconds for seconds, _, _ in runs), runs[-1][2] - idle)


def exponents(points: Sequence[Point]) -> tuple[float, float]:
    """Returns the exponents of time and memory along the axis, between the last two points."""
    before, last = sorted(points, key=lambda point: point.value)[-2:]
    length = math.log(last.value / before.value)
    return math.log(last.seconds / before.seconds) / length, math.log(last.memory / before.memory) / length


def table_of(points: Sequence[Point]) -> Table:
    """Returns a table with a row per point, and the exponents at the end of each axis."""
    table = Table(title="a weight step", box=box.SIMPLE_HEAD)
    for name in ("axis", "value", "ms", "MiB", "time ~ value^", "memory ~ value^"):
        table.add_column(name, justify="left" if name == "axis" else "right")
    for axis in dict.fromkeys(point.axis for point in points):
        of_axis = [point for point in points if point.axis == axis]
        for point in of_axis:
            fitted = [f"{x:.2f}" for x in exponents(of_axis)] if point is of_axis[-1] else []
            table.add_row(axis, f"{point.value:g}", f"{1000 * point.seconds:.0f}", f"{point.memory:.0f}", *fitted)
    return table


def draw(points: Sequence[Point], path: Path) -> None:
    """Draws time and memory along each axis relative to its first point, log-log."""
    figure, sides = plt.subplots(1, 2, figsize=(10, 4.5), sharey=True)
    for side, (name, of) in zip(sides, (("time", "seconds"), ("memory", "memory")), strict=True):
        for axis in dict.fromkeys(point.axis for point in points):
            line = [point for point in points if point.axis == axis]
            first = line[0]
            side.loglog(
                [point.value / first.value for point in line],
                [getattr(point, of) / getattr(first, of) for point in line],
                marker="o",
                label=axis,
            )
        side.plot([1, 16], [1, 16], color="grey", linestyle=":", label="proportional")
        side.set(title=f"{name} of a weight step", xlabel="times the first value")
    sides[0].set_ylabel("times the first")
    sides[0].legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path("runs/growth.json"), help="where to write (%(default)s)")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES), metavar="AXIS")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (%(default)s)")
    options = parser.parse_args(arguments)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    points = [
        measure_point(axis, value, (*AXES[axis][0], *overrides), options.threads)
        for axis in options.axes
        for value, overrides in AXES[axis][1].items()
    ]
    figures = {"machine": machine(options.threads), "points": [asdict(point) for point in points]}
    options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    draw(points, options.json.with_suffix(".png"))
    Console(width=100).print(table_of(points))
    Console().print(f"figures and plot: {options.json}, {options.json.with_suffix('.png')}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
