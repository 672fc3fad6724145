"""The page of a comparison: a table of the runs, and the charts of each group of comparable runs."""

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autodisp.errors import InputError
from autodisp.report.comparison import Entry, FoundRuns, varying_keys
from autodisp.report.comparison_charts import charts_of_group, colour_of
from autodisp.report.page import PAGE, Gallery, write_page
from autodisp.report.run_page import seconds_of
from autodisp.tracking import in_time

_MOST_KEYS = 5
_PLURAL = {"search": "searches", "training": "trainings"}


@dataclass(frozen=True)
class TableCell:
    """A field of the table."""

    text: str = ""
    sort: str = ""
    """The key to sort by."""
    number: bool = False
    link: str = ""
    colour: str = ""


def write_comparison(
    found: FoundRuns, folder: Path, *, key: str | None = None, seen_from: Path | None = None
) -> list[str]:
    """Writes the page of a comparison and its charts.

    Args:
        key: the numeric setting to draw results over; None: the only one that differs, if there is exactly one.
        seen_from: the final folder of the page, for its links to the pages of the runs; None: ``folder``.

    Returns:
        The names of all files, the page first.

    Raises:
        InputError: no run has a number under that key.
    """
    entries = found.entries
    if key is not None:
        _need_key(key, entries)
    gallery, notes = Gallery(folder), list(found.notes)
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    sections = []
    for (kind, metric, dataset), group in groups.items():
        title = f"{_PLURAL[kind]} by {metric}" + (f" on {dataset}" if dataset else "")
        varying = varying_keys(group)
        over = key if key is not None else varying[0] if len(varying) == 1 else None
        notes += [f"{title}: {note}" for note in _notes(key, varying, group)]
        charts = [gallery.add(chart) for chart in charts_of_group(group, over)]
        sections.append({"title": title[:1].upper() + title[1:], "charts": charts})
    columns = _columns(entries, seen_from or folder, key)
    content: dict[str, Any] = {
        "title": f"{len(entries)} runs compared" if len(entries) != 1 else "1 run",
        "lead": _lead(found),
        "badge": "",
        "heads": [name for name, _ in columns],
        "rows": [[cells[row] for _, cells in columns] for row in range(len(entries))],
        "sections": sections,
    }
    return write_page(gallery, "compare.html", content, notes, script="table.js")


def _lead(found: FoundRuns) -> str:
    kinds = [entry.run.kind for entry in found.entries]
    parts = [f"{n} {kind if n == 1 else _PLURAL[kind]}" for kind in _PLURAL if (n := kinds.count(kind))]  # type: ignore[arg-type]
    if found.passed_over:
        parts.append(f"{found.passed_over} folder{'s' * (found.passed_over > 1)} without a run skipped")
    return " · ".join(parts)


def _notes(key: str | None, varying: Sequence[str], entries: Sequence[Entry]) -> Iterator[str]:
    """Yields the reasons why results are not drawn over a setting."""
    if key is None:
        if len(entries) > 1 and not varying:
            yield "no numeric setting differs, so there is none to draw results over"
        elif len(varying) > 1:
            some = ", ".join(varying[:8]) + (", …" if len(varying) > 8 else "")
            yield f"several settings differ ({some}); name one with key= to draw results over it"
        return
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


def _columns(entries: Sequence[Entry], folder: Path, key: str | None) -> list[tuple[str, list[TableCell]]]:
    """Returns the columns that are not empty, as head and cells, those with equal cells last."""
    columns = [(name, [cell(entry) for entry in entries]) for name, cell in _kinds_of_column(entries, folder, key)]
    filled = [(name, cells) for name, cells in columns if any(cell.text for cell in cells)]
    return filled[:2] + sorted(filled[2:], key=lambda column: len({cell.text for cell in column[1]}) == 1)


def _kinds_of_column(entries: Sequence[Entry], folder: Path, swept: str | None) -> Iterator[tuple[str, Any]]:
    yield "#", lambda e: TableCell(str(e.number), str(e.number), number=True, colour=colour_of(e))
    yield "run", lambda e: TableCell(e.run.name, e.run.name, link=_link(e, folder))
    groups = {entry.group for entry in entries}
    varying = {key for group in groups for key in varying_keys([e for e in entries if e.group == group])}
    for key in sorted(varying, key=lambda key: (key != swept, key))[:_MOST_KEYS]:
        yield key, lambda e, key=key: _number(e.numbers.get(key))
    yield "seed", lambda e: _number(e.numbers.get("seed"))
    yield "kind", lambda e: _word(e.run.kind)
    for key in ("task.name", "dataset.name", "space.name", "regularization.name"):
        yield key.split(".")[0], lambda e, key=key: _word(e.run.setting(key))
    yield "epochs", lambda e: _number(float(e.run.kept[-1].epoch + 1) if e.run.epochs else None)
    yield "eigenvalue", lambda e: _number(e.eigenvalue)
    results = {"": "validated", ", discretised": "discretised", ", trained": "trained", ", test": "tested"}
    for metric in sorted({metric for _, metric, _ in groups}):
        for words, name in results.items():
            yield (
                f"{metric}{words}",
                lambda e, metric=metric, name=name: _number(e.result(name) if e.run.figure.name == metric else None),
            )
    yield "drop", lambda e: _number(e.result("drop"))
    yield "parameter-free", lambda e: _number(e.value("parameter_free"))
    yield "restarts", lambda e: _number(e.value("restart") or None)
    yield "time", _time
    yield "state", lambda e: _word(e.run.state)


def _word(value: Any) -> TableCell:
    text = value[:60] if isinstance(value, str) else ""
    return TableCell(text, text)


def _number(value: float | None) -> TableCell:
    return TableCell(number=True) if value is None else TableCell(f"{value + 0.0:.4g}", repr(float(value)), number=True)


def _time(entry: Entry) -> TableCell:
    spent = seconds_of(entry.run)
    return TableCell(in_time(spent), repr(spent), number=True) if spent else TableCell(number=True)


def _link(entry: Entry, folder: Path) -> str:
    """Returns the address of the run's own page, if it has one."""
    page = entry.run.folder / "report" / PAGE
    return quote(os.path.relpath(page.resolve(), folder.resolve())) if page.is_file() else ""
