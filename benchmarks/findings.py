"""docs/findings.md, from the tables and figures of studies that are committed in docs/findings/.

    python -m benchmarks.findings NAME=STUDY ...

copies the tables (CSV), the figures (SVG) and the provenance of each study folder STUDY into docs/findings/NAME/, and
writes docs/findings.md anew; without arguments it only writes that. NAME/claim.md, written by hand, opens a section:
the published claim and whether the tables agree. A folder NAME gets its place by the alphabet.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Sequence
from filecmp import cmp
from pathlib import Path

from autodisp.assembly.study_reporting import read_study
from autodisp.report.curves import Chart
from autodisp.report.figures import save, settle
from autodisp.report.study_page import as_text

ABOUT, CLAIM = "about.json", "claim.md"
_HEAD = """# Findings

What the studies of this project have shown on the machines named. Each number is from a table in
`docs/findings/`, each of which was made by the command next to it; `python -m benchmarks.findings` writes this page
from them.
"""
_THERE = "runs/studies/"
"""Replaces the folder that the studies are in, in the commands."""
_MOST_ROWS = 16
_MOST_CELLS = 12
"""Largest number of drawings; of more, every n-th is copied: in a study with three seeds, the first."""


def copy_study(study: Path, folder: Path) -> None:
    """Copies tables, figures and provenance of a study into a folder, but for its claim made anew.

    Raises:
        InputError: it is not the folder of a study.
    """
    content = read_study(study)
    claim = (folder / CLAIM).read_text(encoding="utf-8") if (folder / CLAIM).exists() else None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if claim is not None:
        (folder / CLAIM).write_text(claim, encoding="utf-8")
    found = content.findings
    tables = [*found.tables, content.cost]
    charts = [*found.charts, *found.cells[:: max(1, -(-len(found.cells) // _MOST_CELLS))]]
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
    figures = [_save(chart, folder) for chart in charts]
    about = {
        "title": found.title, "lead": found.lead, "made": dict(content.made), "notes": found.notes,
        "tables": [{"name": table.name, "title": table.title, "note": table.note} for table in tables],
        "figures": figures,
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    here = f"{study.resolve().parent}/"
    for path in folder.iterdir():
        path.write_text(path.read_text(encoding="utf-8").replace(here, _THERE), encoding="utf-8")


def _save(chart: Chart, folder: Path) -> dict[str, str]:
    """Writes a chart, unless its folder has the same one: searches may find the same cells."""
    settle(chart.figure)
    path = folder / f"{chart.name}.svg"
    save(chart.figure, path)
    equal = (other for other in sorted(folder.glob("*.svg")) if other != path and cmp(other, path, shallow=False))
    if same := next(equal, None):
        path.unlink()
    return {"name": (same or path).stem, "title": chart.title, "note": chart.note}


def page(folders: Path) -> str:
    """Returns the text of the page of all studies in a folder."""
    sections = [_section(path.parent) for path in sorted(folders.glob(f"*/{ABOUT}"))]
    return "\n".join([_HEAD, *(sections or ["No study is recorded so far.\n"])])


def _section(folder: Path) -> str:
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    made = about["made"]
    lines = [f"## {about['title']}", ""]
    if (folder / CLAIM).exists():
        lines += [(folder / CLAIM).read_text(encoding="utf-8").strip(), ""]
    lines += [f"{about['lead']}.", "", f"    {made['command']}", ""]
    lines += [", ".join(f"{key} {value}" for key, value in made.items() if key != "command") + ".", ""]
    for table in about["tables"]:
        file = f"{table['name']}.csv"
        lines += [f"**{table['title']}** ([CSV](findings/{folder.name}/{file})). {table['note']}".strip(), ""]
        lines += [*_table(folder / file), ""]
    for figure in about["figures"]:
        lines += [f"![{figure['title']}](findings/{folder.name}/{figure['name']}.svg)", ""]
        lines += [figure["note"], ""] if figure["note"] else []
    lines += [f"Note: {note}." for note in about["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def _table(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    shown = rows if len(rows) <= _MOST_ROWS else [*rows[: _MOST_ROWS // 2], ["..."], *rows[-_MOST_ROWS // 2 :]]
    filled = [[*map(_cell, row), *[""] * (len(head) - len(row))] for row in shown]
    return [f"| {' | '.join(row)} |" for row in ([*head], ["---"] * len(head), *filled)]


def _cell(text: str) -> str:
    try:
        return as_text(int(text) if text.isdecimal() else float(text))
    except ValueError:
        return text.replace("|", "\\|")


def main(words: Sequence[str] | None = None) -> int:
    """Copies the named studies and writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.findings", description="Writes docs/findings.md.")
    parser.add_argument("studies", nargs="*", metavar="NAME=STUDY", help="folder in docs/findings, study folder")
    docs = Path(__file__).parent.parent / "docs"
    for word in parser.parse_args(words).studies:
        name, _, study = word.partition("=")
        copy_study(Path(study), docs / "findings" / name)
    (docs / "findings.md").write_text(page(docs / "findings"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
