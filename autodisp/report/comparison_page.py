"""Many runs as one page: a table, and for each group of runs that can be compared its charts."""

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autodisp.errors import InputError
from autodisp.report.comparing import Entry, Found, varying_keys
from autodisp.report.comparison_charts import charts_of_group, colour_of
from autodisp.report.page import PAGE, write_page
from autodisp.report.pictures import Gallery
from autodisp.tracking import in_time

_MOST_KEYS = 5


@dataclass(frozen=True)
class Cell:
    """A place in the table."""

    text: str
    sort: str
    """What it is sorted by; a number where it is one."""
    number: bool = False
    link: str = ""
    colour: str = ""


def write_comparison(found: Found, folder: Path, *, key: str | None = None, seen_from: Path | None = None) -> list[str]:
    """Writes the page of a comparison and its pictures.

    Args:
        found: the runs.
        folder: exists.
        key: the numeric setting to draw results over; None takes the only one that differs, if there is one.
        seen_from: where the page will lie in the end, for its links to the runs' own pages; None: the folder.

    Returns:
        The names of all files, the page first.

    Raises:
        InputError: no run has a number under that key.
    """
    if key is not None:
        _need_key(key, found.entries)
    gallery, notes = Gallery(folder), list(found.notes)
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in found.entries:
        groups.setdefault(entry.group, []).append(entry)
    sections = []
    for group, entries in groups.items():
        title = _title(*group)
        varying = varying_keys(entries)
        own = key if key is not None else varying[0] if len(varying) == 1 else None
        if own is None and len(entries) > 1:
            notes.append(f"{title}: {_unsaid(varying)}")
        if key is not None:
            notes += [f"{title}: {note}" for note in _notes_on_key(key, entries)]
        pictures = [gallery.add(c.name, c.title, c.figure, note=c.note) for c in charts_of_group(entries, own)]
        sections.append({"title": title[:1].upper() + title[1:], "charts": pictures})
    columns = _columns(found.entries, seen_from or folder, key)
    content: dict[str, Any] = {
        "title": f"{len(found.entries)} runs compared" if len(found.entries) != 1 else "1 run",
        "lead": _lead(found),
        "badge": "",
        "heads": [name for name, _ in columns],
        "rows": [[cells[row] for _, cells in columns] for row in range(len(found.entries))],
        "sections": sections,
    }
    write_page(folder, "compare.html", content, gallery, notes, script="table.js")
    return [PAGE, *gallery.files]


def _plural(kind: str) -> str:
    return {"search": "searches", "training": "trainings"}[kind]


def _lead(found: Found) -> str:
    kinds = [entry.run.kind for entry in found.entries]
    counts = {kind: kinds.count(kind) for kind in ("search", "training")}
    parts = [f"{count} {kind if count == 1 else _plural(kind)}" for kind, count in counts.items() if count]
    if found.passed_over:
        folders = "folder" if found.passed_over == 1 else "folders"
        parts.append(f"{found.passed_over} {folders} without a run passed over")
    return " · ".join(parts)


def _title(kind: str, metric: str, dataset: str) -> str:
    return f"{_plural(kind)} by {metric}" + (f" on {dataset}" if dataset else "")


def _unsaid(varying: Sequence[str]) -> str:
    if not varying:
        return "no numeric setting differs, so there is none to draw results over"
    some = ", ".join(varying[:8]) + (", …" if len(varying) > 8 else "")
    return f"several settings differ ({some}); name one with key= to draw results over it"


def _notes_on_key(key: str, entries: Sequence[Entry]) -> Iterator[str]:
    values = [entry.numbers[key] for entry in entries if key in entry.numbers]
    if len(values) < len(entries):
        yield f"{len(entries) - len(values)} of {len(entries)} have no number under {key}"
    if len(set(values)) == 1:
        yield f"{key} is {values[0]:g} in all that have it, so no result is drawn over it"


def _need_key(key: str, entries: Sequence[Entry]) -> None:
    known = sorted({name for entry in entries for name in entry.numbers})
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    near = near or [name for name in known if name.endswith(f".{key}")][:1]
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise InputError(f"key={key}: no run has a number under that name in its config{hint}")


def _columns(entries: Sequence[Entry], folder: Path, key: str | None) -> list[tuple[str, list[Cell]]]:
    """The columns that hold anything: each a head and a cell for every run; those that are alike in all runs last."""
    columns = [(name, [cell(entry) for entry in entries]) for name, cell in _kinds_of_column(entries, folder, key)]
    filled = [(name, cells) for name, cells in columns if any(cell.text for cell in cells)]
    return filled[:2] + sorted(filled[2:], key=lambda column: len({cell.text for cell in column[1]}) == 1)


def _kinds_of_column(entries: Sequence[Entry], folder: Path, swept: str | None) -> Iterator[tuple[str, Any]]:
    yield "#", lambda e: Cell(str(e.number), str(e.number), number=True, colour=colour_of(e))
    yield "run", lambda e: Cell(e.run.name, e.run.name, link=_link(e, folder))
    groups = {entry.group for entry in entries}
    varying = {key for group in groups for key in varying_keys([e for e in entries if e.group == group])}
    for key in sorted(varying, key=lambda key: (key != swept, key))[:_MOST_KEYS]:
        yield key, lambda e, key=key: _number(e.numbers.get(key))
    yield "seed", lambda e: _number(e.numbers.get("seed"))
    yield "kind", lambda e: _word(e.run.kind)
    for key in ("task.name", "dataset.name", "space.name", "regularization.name"):
        yield key.split(".")[0], lambda e, key=key: _word(e.run.setting(key))
    yield "epochs", lambda e: _number(float(e.run.kept[-1].epoch + 1) if e.run.moments else None)
    yield "eigenvalue", lambda e: _number(e.eigenvalue)
    for metric in sorted({metric for _, metric, _ in groups}):
        yield metric, lambda e, m=metric: _number(e.figure if e.run.figure.name == m else None)
        yield f"{metric}, discretised", lambda e, m=metric: _number(e.discretised if e.run.figure.name == m else None)
        yield f"{metric}, trained", lambda e, m=metric: _number(e.trained if e.run.figure.name == m else None)
        yield f"{metric}, test", lambda e, m=metric: _number(e.tested if e.run.figure.name == m else None)
    yield "drop", lambda e: _number(e.drop)
    yield "parameter-free", lambda e: _number(e.value("parameter_free"))
    yield "restarts", lambda e: _number(e.value("restart") or None)
    yield "time", _time
    yield "state", lambda e: _word(e.run.state)


def _word(value: Any) -> Cell:
    text = value[:60] if isinstance(value, str) else ""
    return Cell(text, text)


def _number(value: float | None) -> Cell:
    return Cell("", "", number=True) if value is None else Cell(f"{value + 0.0:.4g}", repr(float(value)), number=True)


def _time(entry: Entry) -> Cell:
    spent = sum(moment.values.get("seconds", 0.0) for moment in entry.run.moments)
    return Cell(in_time(spent), repr(spent), number=True) if 0 < spent < 1e12 else Cell("", "", number=True)


def _link(entry: Entry, folder: Path) -> str:
    """To the run's own page, where it has one."""
    page = entry.run.folder / "report" / PAGE
    return quote(os.path.relpath(page.resolve(), folder.resolve())) if page.is_file() else ""
