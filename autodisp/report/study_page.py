"""The page of a study: tables, figures and found cells, and each table as CSV and LaTeX next to it."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autodisp.report.comparison_page import TableCell
from autodisp.report.curves import Chart
from autodisp.report.page import Gallery, write_page

Value = str | int | float | None
_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


@dataclass(frozen=True)
class ResultTable:
    """A table of a study."""

    name: str
    """Stem of its files."""
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Value]]
    note: str = ""

    def csv(self) -> str:
        """The table as CSV, with numbers in full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.heads)
        writer.writerows([["" if value is None else value for value in row] for row in self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """The table as a tabular of LaTeX (booktabs), with numbers of four digits."""
        kinds = [
            "r" if any(isinstance(row[place], int | float) for row in self.rows) else "l"
            for place in range(len(self.heads))
        ]
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in ([*self.heads], *self.rows)]
        begin = rf"\begin{{tabular}}{{{''.join(kinds)}}}"
        return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", ""])

    @property
    def cells(self) -> list[list[TableCell]]:
        """The fields of the page."""
        return [[_cell(value) for value in row] for row in self.rows]


@dataclass
class Findings:
    """Findings of a study."""

    title: str
    lead: str = ""
    tables: list[ResultTable] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    cells: list[Chart] = field(default_factory=list)
    """Drawn cells."""
    notes: list[str] = field(default_factory=list)


def write_study_page(
    findings: Findings, folder: Path, *, how: Sequence[str], cost: ResultTable | None = None
) -> list[str]:
    """Writes the page, its figures and tables.

    Args:
        how: commands and versions that made it.
        cost: the table of the runs with their times.

    Returns:
        The names of all files, the page first.
    """
    gallery = Gallery(folder)
    sections = [
        {"title": title, "charts": [gallery.add(chart) for chart in charts]}
        for title, charts in (("Figures", findings.charts), ("Found cells", findings.cells))
    ]
    tables = [*findings.tables, *([cost] if cost else [])]
    for table in tables:
        for suffix, text in ((".csv", table.csv()), (".tex", table.latex())):
            (folder / f"{table.name}{suffix}").write_text(text, encoding="utf-8")
            gallery.files.append(f"{table.name}{suffix}")
    content: dict[str, Any] = {
        "title": findings.title,
        "lead": findings.lead,
        "badge": "",
        "tables": [
            {"title": table.title, "heads": table.heads, "rows": table.cells, "note": table.note} for table in tables
        ],
        "sections": sections,
        "how": how,
    }
    return write_page(gallery, "study.html", content, findings.notes, script="table.js")


def as_text(value: Value) -> str:
    """Formats a value for people: a count in full, another number with four digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Value) -> TableCell:
    if isinstance(value, float | int):
        return TableCell(as_text(value), repr(float(value)), number=True)
    return TableCell(as_text(value), as_text(value))


def _latex(value: Value) -> str:
    return "".join(_SPECIAL.get(character, character) for character in as_text(value))
