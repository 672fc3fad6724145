"""Builds the report of a study from its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autodisp.assembly.studies import build_results, stored_study
from autodisp.config.study import parse
from autodisp.report.study_page import Findings, ResultTable, Value, write_study_page
from autodisp.studies.graph import in_order
from autodisp.studies.provenance import read_provenance
from autodisp.studies.results import Results


@dataclass(frozen=True)
class StudyContent:
    """Content of the page of a study."""

    findings: Findings
    made: Mapping[str, str]
    """The provenance, by name."""
    cost: ResultTable
    """The runs with their times."""

    def write(self, folder: Path) -> list[str]:
        """Writes the page into an existing folder; returns the names of the files, the page first."""
        names = ("autodisp", "commit", "torch", "python")
        versions = ", ".join(f"{name} {self.made[name]}" for name in names if name in self.made)
        how = [self.made.get("command", ""), versions, self.made.get("machine", "")]
        return write_study_page(self.findings, folder, how=how, cost=self.cost)


def read_study(folder: Path) -> StudyContent:
    """Reads the folder of a study.

    Raises:
        InputError: the folder is not that of a study.
    """
    study, results = build_results(
        parse(stored_study(folder, key="study", remedy="name the folder of autodisp-study")), folder
    )
    findings = study.findings(results)
    states = [ending.state for ending in results.endings.values()]
    if rest := [state for state in states if state != "done"]:
        findings.notes.append(f"{len(rest)} of {len(states)} runs are not done")
    for run in in_order(results.runs):
        if (ending := results.endings[run.name]).state == "failed":
            findings.notes.append(f"{run.name}: {ending.message}")
    return StudyContent(findings, read_provenance(folder), _cost(results))


def _cost(results: Results) -> ResultTable:
    by_program: dict[str, list[float]] = {}
    for run in in_order(results.runs):
        if results.endings[run.name].is_done:
            by_program.setdefault(run.program, []).append(results.endings[run.name].seconds)
    rows: list[list[Value]] = [
        [name, len(times), sum(times) / len(times), sum(times) / 3600] for name, times in by_program.items()
    ]
    heads = ["program", "runs", "seconds a run, mean", "hours in all"]
    return ResultTable("cost", "Cost", heads, rows, "Of complete runs, on the worker's clock.")
