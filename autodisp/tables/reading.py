"""Reads the file of a table."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from autodisp.cells.spaces import SearchSpace
from autodisp.errors import InputError, in_one_line
from autodisp.tables.table import SCHEMA, VERSION, Entry, Table, Trained
from autodisp.tasks.base import Figure

_LARGEST = 1e30
"""Deviations are sums of squares."""


def _check(space: SearchSpace, entries: Sequence[Entry], about: object) -> None:
    indices = [entry.index for entry in entries]
    numbers = [
        *(run.metric for entry in entries for run in entry.runs),
        *(entry.latency for entry in entries if entry.latency is not None),
    ]
    counts = [*(entry.parameters for entry in entries), *(run.seed for entry in entries for run in entry.runs)]
    checks = {
        "it has no architectures": bool(entries),
        "an architecture is in it twice": len(set(indices)) == len(indices),
        f"indices must be below {space.size}": all(0 <= index < space.size for index in indices),
        "a metric or latency is not a finite number": all(abs(number) <= _LARGEST for number in numbers),
        "parameters or a seed is not a whole number": all(type(count) is int for count in counts),
        "about must be an object": isinstance(about, dict),
    }
    if failed := [words for words, holds in checks.items() if not holds]:
        raise ValueError(failed[0])


def load(name: str | Path) -> Table:
    """Loads a table by its name in the package, or from a file.

    Raises:
        InputError: there is none, or the file is not a table.
    """
    known = {file.name.removesuffix(".json"): file for file in resources.files("autodisp.tables").iterdir()
             if file.name.endswith(".json")}  # fmt: skip
    try:
        data = json.loads((known.get(str(name)) or Path(name).expanduser()).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA or data["version"] != VERSION:
            raise ValueError(f"schema {data['schema']!r}, version {data['version']!r}")
        entries = [
            Entry(**{**entry, "runs": [Trained(**{**run, "curve": [(s, v) for s, v in run["curve"]]}) for run in runs]})
            for entry in data["architectures"] if (runs := entry["runs"])
        ]  # fmt: skip
        space, figure = SearchSpace.from_json(data["space"], file=str(name)), Figure(**data["metric"])
        _check(space, entries, data["about"])
        return Table(space, figure, entries, data["about"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(
            f"table {in_one_line(name)}: cannot be read ({type(error).__name__}: {in_one_line(error, at_most=80)}); "
            f"take a table.json of autodisp-study study=table{', or ' if known else ''}{', '.join(known)}"
        ) from None
