"""Reads the file of a table."""

import json
from importlib import resources
from pathlib import Path

from autodisp.cells.spaces import SearchSpace
from autodisp.errors import InputError, in_one_line
from autodisp.tables.table import SCHEMA, VERSION, Entry, Table, Trained
from autodisp.tasks.base import Figure


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
        space = SearchSpace.from_json(data["space"], file=str(name))
        if not entries:
            raise ValueError("it has no architectures")
        return Table(space, Figure(**data["metric"]), entries, data["about"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"table {in_one_line(name)}: cannot be read ({type(error).__name__}: {in_one_line(error, at_most=80)}); "
            f"take a table.json of autodisp-study study=table{', or ' if known else ''}{', '.join(known)}"
        ) from None
