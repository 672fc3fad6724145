"""docs/findings.md: each number is from a committed table."""

from pathlib import Path

import pytest

from autodisp.assembly.study_reporting import StudyContent
from autodisp.report.curves import Chart, empty_chart
from autodisp.report.study_page import Findings, ResultTable
from benchmarks import findings

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def content() -> StudyContent:
    rows = [[f"one|{place}", place / 3] for place in range(40)]
    found = Findings(
        "a study", "40 runs", [ResultTable("results", "Results", ["name", "px"], rows, "Some.")],
        [Chart(name, "a curve", empty_chart("a curve")[0], "A line.") for name in ("curve", "equal")],
        notes=["one run failed"],
    )  # fmt: skip
    cost = ResultTable("cost", "Cost", ["program", "hours"], [["train", 1.5]])
    return StudyContent(found, {"command": "autodisp-study study=x", "machine": "a desk"}, cost)


def test_a_page_from_the_tables_of_a_study(
    tmp_path: Path, content: StudyContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "read_study", lambda folder: content)
    findings.copy_study(tmp_path / "study", tmp_path / "docs" / "first")
    (tmp_path / "docs" / "first" / "claim.md").write_text("As published.\n")
    findings.copy_study(tmp_path / "study", tmp_path / "docs" / "first")
    files = {path.name for path in (tmp_path / "docs" / "first").iterdir()}
    assert files == {"about.json", "claim.md", "results.csv", "cost.csv", "curve.svg"}
    lines = findings.page(tmp_path / "docs").splitlines()
    assert lines[lines.index("## a study") + 2] == "As published."
    assert {"    autodisp-study study=x", "machine a desk.", "| name | px |", "| train | 1.5 |"} <= set(lines)
    shown = [line for line in lines if line.startswith("| one")]
    assert (len(shown), shown[0], shown[-1]) == (16, "| one\\|0 | 0 |", "| one\\|39 | 13 |")
    assert lines.count("![a curve](findings/first/curve.svg)") == 2
    (tmp_path / "docs" / "first" / "results.csv").write_text("name,px\nother,0.5\n")
    assert "| other | 0.5 |" in findings.page(tmp_path / "docs").splitlines()


def test_the_page_is_that_of_the_committed_tables() -> None:
    assert (DOCS / "findings.md").read_text(encoding="utf-8") == findings.page(DOCS / "findings")
