"""study=regret: searches of a space whose architectures are in a table.

In each epoch the cells that the alphas prefer are looked up: by how much they are worse than the best of the table,
next to the validation metric of the supernet and the dominant eigenvalue, as in RobustDARTS.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autodisp.errors import InputError
from autodisp.report.comparison_charts import STYLES
from autodisp.report.curves import Chart, empty_chart, whole_numbers
from autodisp.report.figures import COLOURS, style
from autodisp.report.reading import Run as Read
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.search.early_stopping import EarlyStopping
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.results import Results
from autodisp.studies.spaces import searches_by
from autodisp.tables import Table, deviation, mean

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class RegretStudy:
    """Searches a space that has a table; see the module."""

    table: Table
    dataset: str
    space: str
    policies: Sequence[str]
    methods: Sequence[str]
    """Words of more searches, such as relaxation=dirichlet; several words of one search are joined by spaces."""

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns a search for each policy, method and seed."""
        named: dict[str, tuple[str, ...]] = {policy: (f"regularization={policy}",) for policy in self.policies}
        named |= {method: tuple(method.split()) for method in self.methods}
        return [
            protocol.searches(self.dataset, self.space, seed, *words, policy=name)
            for name, words in named.items()
            for seed in protocol.seeds
        ]

    def files(self, results: Results) -> Mapping[str, str]:
        """Returns nothing: the runs have all."""
        return {}

    def findings(self, results: Results) -> Findings:
        """Returns the regret of the found cells, and its course."""
        unit, rows = self.table.figure.unit, list[list[Value]]()
        for (policy,), searches in searches_by(results, "policy").items():
            found = [results.genotype(run) for run in searches]
            regrets = [value for cells in found if (value := self._regret(cells.cells)) is not None]
            ranks = [float(self.table.rank(cells)) for cells in found if self._regret(cells.cells) is not None]
            stops = [stop for run in searches if (stop := would_stop(results.read(run))) is not None]
            rows.append(
                [policy, mean(regrets), deviation(regrets), mean(ranks), len(regrets),
                 ", ".join(f"{epoch} -> {returned}" for epoch, returned in stops)]
            )  # fmt: skip
        heads = ["policy", f"regret, {unit}", "deviation", "rank, mean", "seeds", "ES stops at -> returns"]
        spread = self.table.spread()
        note = (
            f"Of {len(self.table.entries)} architectures; standard deviation between them {spread.architectures:.4g} "
            f"{unit}" + (f", between seeds {spread.seeds:.4g} {unit}." if spread.seeds is not None else ".")
        )
        searches = results.done("search")
        return Findings(
            f"regret on {self.space}, {self.dataset}",
            f"{len(searches)} searches against a table",
            [ResultTable("regret", "Regret of the found cells", heads, rows, note)],
            self._charts(results, searches),
            results.drawings(searches),
            results.notes,
        )

    def _regret(self, cells: Mapping[str, object]) -> float | None:
        try:
            return self.table.regret(cells)  # type: ignore[arg-type]
        except InputError:
            return None

    def course(self, read: Read) -> Points:
        """Returns the regret of the cells that the alphas prefer, by epoch."""
        found = [(epoch.epoch, self._regret(epoch.cells)) for epoch in read.kept if epoch.cells]
        return [(epoch, value) for epoch, value in found if value is not None]

    def _charts(self, results: Results, searches: Sequence[Run]) -> list[Chart]:
        figure = self.table.figure
        reads = [(run.labels["policy"], results.read(run)) for run in searches]
        panels = {
            f"regret of the derived cells, {figure.unit}": [self.course(read) for _, read in reads],
            f"validation {figure.name} of the supernet, {figure.unit}": [
                _points(read, f"valid/{figure.name}") for _, read in reads
            ],
            "dominant eigenvalue": [_points(read, "eigenvalue") for _, read in reads],
        }
        stops = [would_stop(read) if policy == "none" else None for policy, read in reads]
        names = ("regret", "validated", "eigenvalue")
        policies = [policy for policy, _ in reads]
        return [
            chart
            for name, (title, lines) in zip(names, panels.items(), strict=True)
            if (chart := _chart(name, title, policies, lines, [stop and stop[0] for stop in stops]))
        ]


def would_stop(read: Read) -> tuple[int, int] | None:
    """Returns the epoch at which DARTS-ES would stop a search, and the epoch that it would return; None if never."""
    every = int(read.setting("curvature.every", 1))
    rule, history = EarlyStopping(every=every), _points(read, "eigenvalue")
    last = int(read.setting("search.epochs", 0)) - 1
    for count in range(1, len(history) + 1):
        decision = rule.decide(history[:count], last)
        if decision is not None:
            return decision.decided_epoch, decision.returned_epoch
    return None


def _points(read: Read, key: str) -> Points:
    return [(e.epoch, e.values[key]) for e in read.kept if math.isfinite(e.values.get(key, math.nan))]


def _chart(
    name: str, title: str, policies: Sequence[str], lines: Sequence[Points], stops: Sequence[int | None]
) -> Chart | None:
    known = sorted(set(policies))
    figure, axes = empty_chart(title, "epoch")
    with style():
        for place, (policy, points, stop) in enumerate(zip(policies, lines, stops, strict=True)):
            colour = COLOURS[known.index(policy) % len(COLOURS)]
            if points:
                label = policy if policy not in policies[:place] else None
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=STYLES.get(policy, "solid"), label=label)
            if stop is not None:
                axes.axvline(stop, color=colour, linestyle=(0, (1, 1.5)), linewidth=1.0)
        whole_numbers(axes)
        if len(known) > 1:
            figure.legend(loc="outside lower center", ncols=3)
    note = "A line per search; dotted: where ES would stop a search without it."
    return Chart(name, title, figure, note) if any(lines) else None
