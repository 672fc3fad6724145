"""study=regret: searches of a space whose architectures are in a table.

In each epoch the cells that the alphas prefer are looked up: by how much they are worse than the best of the table,
next to the validation metric of the supernet and the dominant eigenvalue, as in RobustDARTS. The baseline is an
architecture drawn at random. Where the table has latencies, the found cells are drawn among all architectures by metric
and latency, for searches with a cost penalty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autodisp.errors import InputError
from autodisp.report.comparison_charts import style_of
from autodisp.report.curves import Chart, empty_chart, whole_numbers
from autodisp.report.figures import COLOURS, style
from autodisp.report.reading import Run as Read
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.search.early_stopping import EarlyStopping
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.results import Results, in_words
from autodisp.studies.spaces import searches_by
from autodisp.studies.study import Study
from autodisp.tables import Cells, Entry, Table, deviation, mean

Points = list[tuple[int, float]]


@dataclass(frozen=True)
class RegretStudy(Study):
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

    def findings(self, results: Results) -> Findings:
        """Returns the regret of the found cells, and its course."""
        unit, rows = self.table.figure.unit, list[list[Value]]()
        found, by_policy = dict[str, list[Entry]](), searches_by(results, "policy")
        for (policy,), searches in by_policy.items():
            cells = [results.genotype(run).cells for run in searches]
            found[policy] = [entry for one in cells if (entry := self._entry(one)) is not None]
            stops = [stop for run in searches if (stop := would_stop(results.read(run))) is not None]
            rows.append([*self._row(policy, found[policy]), ", ".join(f"{at} -> {back}" for at, back in stops)])
        rows.append([*self._row("any architecture of the table", self.table.entries), None])
        if lost := sum(map(len, by_policy.values())) - sum(map(len, found.values())):
            results.notes.append(f"{lost} searches are left out: the table lacks their cells")
        heads = [
            "policy", f"regret, {unit}", "deviation", "rank, mean", "ms an image, mean", "architectures",
            "ES stops at -> returns",
        ]  # fmt: skip
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
            [*self._charts(results, searches), *_costs(self.table, found)],
            results.drawings(searches),
            results.notes,
        )

    def _row(self, name: str, found: Sequence[Entry]) -> list[Value]:
        regrets = [self.table.regret_of(entry) for entry in found]
        ranks = [float(self.table.rank_of(entry)) for entry in found]
        return [name, mean(regrets), deviation(regrets), mean(ranks), mean(_latencies(found)), len(found)]

    def _entry(self, cells: Cells) -> Entry | None:
        try:
            return self.table.find(cells)
        except InputError:
            return None  # of a table of a part of the space

    def course(self, read: Read) -> Points:
        """Returns the regret of the cells that the alphas prefer, by epoch."""
        found = [(epoch.epoch, self._entry(epoch.cells)) for epoch in read.kept if epoch.cells]
        return [(epoch, self.table.regret_of(entry)) for epoch, entry in found if entry is not None]

    def _charts(self, results: Results, searches: Sequence[Run]) -> list[Chart]:
        figure = self.table.figure
        reads = [(run.labels["policy"], results.read(run)) for run in searches]
        panels = {
            f"regret of the derived cells, {figure.unit}": [self.course(read) for _, read in reads],
            f"validation {figure.name} of the supernet, {figure.unit}": [
                read.course(f"valid/{figure.name}") for _, read in reads
            ],
            "dominant eigenvalue": [read.course("eigenvalue") for _, read in reads],
        }
        stops = [would_stop(read) if policy == "none" else None for policy, read in reads]
        names = ("regret", "validated", "eigenvalue")
        policies = [policy for policy, _ in reads]
        return [
            chart
            for name, (title, lines) in zip(names, panels.items(), strict=True)
            if (chart := _chart(name, title, policies, lines, [stop and stop[0] for stop in stops]))
        ]


def _latencies(entries: Sequence[Entry]) -> list[float]:
    return [entry.latency for entry in entries if entry.latency is not None]


def _costs(table: Table, found: Mapping[str, Sequence[Entry]]) -> list[Chart]:
    if not _latencies(table.entries):
        return []
    title = f"{table.figure.name} over latency"
    figure, axes = empty_chart(title, "ms an image")
    with style():
        for place, (name, entries) in enumerate({"table": table.entries, **found}.items()):
            known = [(entry.latency, entry.metric) for entry in entries if entry.latency is not None]
            look = {"color": COLOURS[place % len(COLOURS)], "markersize": 7.0} if place else {"color": "#C9CFD4"}
            if known:
                axes.plot(*zip(*known, strict=True), "o", label=name, **look)
        axes.set_ylabel(in_words(table.figure))
        figure.legend(loc="outside lower center", ncols=2)
    return [Chart("costs", title, figure, "Grey: the architectures of the table. A point per search.")]


def would_stop(read: Read) -> tuple[int, int] | None:
    """Returns the epoch at which DARTS-ES would stop a search, and the epoch that it would return; None if never."""
    every, epochs = read.setting("curvature.every", 1), read.setting("search.epochs", 0)
    if type(every) is not int or type(epochs) is not int or every < 1:
        return None  # of a damaged config
    rule, history = EarlyStopping(every=every), read.course("eigenvalue")
    for count in range(1, len(history) + 1):
        decision = rule.decide(history[:count], epochs - 1)
        if decision is not None:
            return decision.decided_epoch, decision.returned_epoch
    return None


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
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=style_of(policy), label=label)
            if stop is not None:
                axes.axvline(stop, color=colour, linestyle=(0, (1, 1.5)), linewidth=1.0)
        whole_numbers(axes)
        if len(known) > 1:
            figure.legend(loc="outside lower center", ncols=3)
    note = "A line per search; dotted: where ES would stop a search without it."
    return Chart(name, title, figure, note) if any(lines) else None
