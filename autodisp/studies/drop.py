"""study=drop: the cost of discretising over the curvature, over the searches of other studies and any others.

It has no runs of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from autodisp.errors import InputError
from autodisp.report.comparison import Entry, find_runs
from autodisp.report.curves import Chart, empty_chart
from autodisp.report.figures import COLOURS, style
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.results import Results
from autodisp.studies.study import Study
from autodisp.tables import rank_correlation

_MEASURES = (("drop", "discretisation drop"), ("trained", "after training"), ("tested", "on the test split"))


@dataclass(frozen=True)
class DropStudy(Study):
    """Correlates results with the eigenvalue; see the module."""

    folders: Sequence[str]
    """Folders, or patterns of folders, with the runs."""

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns none."""
        return []

    def findings(self, results: Results) -> Findings:
        """Returns the rank correlations with their intervals, for each kind of search."""
        try:
            found = find_runs(self.folders, skip=results.folder)
        except InputError as error:
            raise InputError(f"study.{error}") from None  # it names its argument, runs
        searches = [entry for entry in found.entries if entry.run.kind == "search"]
        if not searches:
            raise InputError(
                f"study.runs={','.join(self.folders)}: none of the {len(found.entries)} runs is a search; name folders "
                "with searches"
            )
        groups: dict[tuple[str, ...], list[Entry]] = {}
        distinct = _distinct(searches)
        for entry in distinct:
            for space in dict.fromkeys(("", _space_of(entry))):
                groups.setdefault((*entry.group[1:], space), []).append(entry)
        rows, charts = list[list[Value]](), list[Chart]()
        for (metric, dataset, space), entries in groups.items():
            for measure, words in _MEASURES:
                pairs = [
                    (entry.eigenvalue, value)
                    for entry in entries
                    if entry.eigenvalue is not None and (value := entry.result(measure)) is not None
                ]
                row: list[Value] = [dataset, space or "all", f"{metric}, {words}", len(pairs)]
                known = rank_correlation(pairs)
                rows.append([*row, *((known.value, known.low, known.high) if known else (None, None, None))])
                if measure == "drop" and not space and pairs:
                    charts.append(_chart(metric, dataset, entries))
        heads = ["dataset", "space", "metric", "searches", "rank correlation", "low", "high"]
        note = "Spearman's correlation with the dominant eigenvalue; interval of 95 %, bootstrap over the searches."
        return Findings(
            "discretisation drop over the eigenvalue",
            f"{len(searches)} searches, {len(distinct)} of them distinct",
            [ResultTable("drop", "Correlation with the eigenvalue", heads, rows, note)],
            charts,
            notes=[*found.notes],
        )


def _distinct(searches: Sequence[Entry]) -> list[Entry]:
    """Returns one of the searches that ended alike, the one with the most results.

    Several studies may contain the same search, and early stopping that does not act leaves the plain one.
    """
    ended: dict[tuple[object, ...], Entry] = {}
    for entry in sorted(searches, key=_results, reverse=True):
        end = entry.number if entry.eigenvalue is None else (entry.eigenvalue, entry.result("drop"))
        ended.setdefault((entry.group, _space_of(entry), str(entry.run.setting("seed")), end), entry)
    numbers = {entry.number for entry in ended.values()}
    return [entry for entry in searches if entry.number in numbers]


def _results(entry: Entry) -> int:
    return sum(entry.result(measure) is not None for measure, _ in _MEASURES)


def _chart(metric: str, dataset: str, entries: Sequence[Entry]) -> Chart:
    title = f"discretisation drop of {metric} on {dataset}"
    figure, axes = empty_chart(title, "dominant eigenvalue")
    spaces = sorted({_space_of(entry) for entry in entries})
    with style():
        for place, space in enumerate(spaces):
            points = [
                (entry.eigenvalue, drop)
                for entry in entries
                if _space_of(entry) == space
                and entry.eigenvalue is not None and (drop := entry.result("drop")) is not None
            ]  # fmt: skip
            if points:
                axes.plot(*zip(*points, strict=True), "o", color=COLOURS[place % len(COLOURS)], label=space)
        if any(spaces):
            figure.legend(loc="outside lower center", ncols=4)
    return Chart(re.sub(r"[^\w.-]+", "_", f"drop_{dataset}"), title, figure, "A point per search.")


def _space_of(entry: Entry) -> str:
    """Returns the name of the space of a search; empty if its config cannot be read."""
    return str(entry.run.setting("space.name") or "")
