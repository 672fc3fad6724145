"""Writes evaluations of one or more methods on the same data: as a terminal table, as JSON and as CSV.

EPE is in pixels, all other metrics in percent. A metric without any sample (NaN) is a dash on the terminal, null in
JSON and an empty field in CSV.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from autodisp.evaluation.runner import Evaluation

Row = dict[str, str | int | float]


class Figures(Protocol):
    """The metrics of an evaluation of any task."""

    def as_dict(self) -> dict[str, Any]:
        """Converts to plain data; NaN stays NaN."""

    def rows(self) -> Iterator[Row]:
        """Yields table rows by column: text, integers, and metrics as ``NAME_px`` and ``NAME_percent``.

        Rows with the same ``average`` are adjacent.
        """


Evaluations = Mapping[str, Evaluation[Any]]
"""Evaluations on the same data by method name, such as sgbm, with metrics as ``Figures``."""

_MIB = 2**20
_TITLES = {"epe": "EPE", "d1": "D1", "fl": "Fl", "iou": "IoU"}
_NOTHING = "–"
_WORDS = ("region", "class")
_BY = {"pixels": "pixel", "images": "image"}


def print_table(evaluations: Evaluations, console: Console, *, title: str = "") -> None:
    """Prints the metrics of each method, with its speed and memory below.

    Fits 80 columns, which is also the width that rich assumes for a pipe. The column for non-finite predictions is only
    shown if there are any.
    """
    console.print(_table(evaluations, title))
    for method, evaluation in evaluations.items():
        console.print(Text(_cost(method, evaluation)))


def write_json(
    path: str | os.PathLike[str], evaluations: Evaluations, *, about: Mapping[str, Any] | None = None
) -> None:
    """Writes all results, including the confusion matrix, as one strict JSON object.

    ``about`` is plain data on the evaluation (dataset, checkpoint, date, ...).
    """
    methods = {
        method: {
            "figures": evaluation.figures.as_dict(),
            "images": evaluation.images,
            "seconds": evaluation.seconds,
            "images_per_second": evaluation.images_per_second,
            "median_seconds": evaluation.median_seconds,
            "peak_memory_bytes": evaluation.peak_memory,
            "memory_of": evaluation.memory_of,
        }
        for method, evaluation in evaluations.items()
    }
    units = {"epe": "pixels", "all others": "percent"}
    content = _strict({"about": dict(about or {}), "units": units, "methods": methods})
    Path(path).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike[str], evaluations: Evaluations) -> None:
    """Writes the rows of the table, unrounded, with the speed and memory of the method in the last columns."""
    rows: list[Row] = []
    for method, evaluation in evaluations.items():
        cost: Row = {
            "images_per_second": evaluation.images_per_second,
            "peak_memory_mib": evaluation.peak_memory / _MIB,
            "memory_of": evaluation.memory_of,
        }
        rows += [{"method": method, **row, **cost} for row in evaluation.figures.rows()]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: "" if value != value else value for name, value in row.items()})  # NaN


def _table(evaluations: Evaluations, title: str) -> Table:
    sections: dict[str, list[Row]] = {}
    for method, evaluation in evaluations.items():
        for row in map(dict, evaluation.figures.rows()):
            heading = f"{method} (by {_BY[str(row.pop('average'))]})" if "average" in row else method
            sections.setdefault(heading, []).append(row)
    everything = [row for rows in sections.values() for row in rows]
    omitted = set() if any(row.get("not_finite") for row in everything) else {"not_finite"}
    columns = [column for column in (everything[0] if everything else ()) if column not in omitted]
    table = Table(title=escape(title) or None, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.collapse_padding = True
    for column in columns:
        words = column in _WORDS
        table.add_column(_heading(column), justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for heading, rows in sections.items():
        table.add_row(Text(heading, style="bold"))
        for row in rows:
            table.add_row(*(_shown(column, row[column]) for column in columns))
        table.add_section()
    return table


def _heading(column: str) -> str:
    """Formats a column heading in two lines: epe_px -> EPE px, bad1_percent -> bad-1 %, not_finite -> not finite."""
    metric, _, unit = column.rpartition("_")
    if unit not in ("px", "percent"):
        return column.replace("_", "\n")
    title = _TITLES.get(metric, re.sub("(?<=[a-z])(?=[0-9]+$)", "-", metric))
    return f"{title}\n{'%' if unit == 'percent' else unit}"


def _shown(column: str, value: str | int | float) -> Text:
    if isinstance(value, float):
        return Text(_NOTHING if math.isnan(value) else f"{value:.2f}")
    if isinstance(value, int):
        return Text(str(value))
    if column == "region":
        value = f"{value} px" if value[0].isdecimal() else value.replace("_", "-")
    return Text(f" {value}")


def _cost(method: str, evaluation: Evaluation[Any]) -> str:
    speed = evaluation.images_per_second
    words = _NOTHING if math.isnan(speed) else f"{speed:.3g} images/s ({1000 / speed:.0f} ms)"
    where = "on the device" if evaluation.memory_of == "device" else "of the whole process"
    return f"{method}: {words}, peak memory {evaluation.peak_memory / _MIB:,.0f} MiB {where}"


def _strict(value: Any) -> Any:
    """Replaces numbers that JSON does not support by None."""
    if isinstance(value, Mapping):
        return {str(key): _strict(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
