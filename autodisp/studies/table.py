"""study=table: every architecture of a small space, or some of a large one, trained alike with several seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SearchSpace
from autodisp.report.cells import cells_figure
from autodisp.report.curves import Chart, empty_chart, whole_numbers
from autodisp.report.evaluations import speed
from autodisp.report.figures import COLOURS, style
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.studies.graph import MACHINE, Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.provenance import read_provenance
from autodisp.studies.results import Results, in_words
from autodisp.studies.study import Study
from autodisp.tables import Correlation, Entry, Table, Trained, rank_correlation

FILE = "table.json"
_SHOWN = 3
"""Number of the best architectures that are drawn, and of the worst."""


@dataclass(frozen=True)
class TableStudy(Study):
    """Trains architectures of a space; see the module."""

    dataset: str
    space: SearchSpace
    samples: int | None
    """Number of architectures, spread over the space; None: all."""
    checked: int = 0
    """Number of them, the first ones, that are also trained four times as long with the first seed."""

    def indices(self) -> list[int]:
        """Returns the places of the architectures; the first n of more samples are those of n samples."""
        size = self.space.size
        step = round(size * (math.sqrt(5) - 1) / 2)  # the golden section spreads any number of them
        while math.gcd(step, size) > 1:
            step += 1
        return [place * step % size for place in range(min(size, self.samples or size))]

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns a training for each architecture and seed, and an evaluation of that with the first seed."""
        found = [self._longer(protocol, index) for index in self.indices()[: self.checked]]
        for index in self.indices():
            for seed in protocol.seeds:
                cells = f"{self.space.name}:{index}"
                run = protocol.trains(self.dataset, cells, seed, short=True, space=self.space.name, index=str(index))
                found += [run, *([protocol.evaluates(self.dataset, run)] if seed == protocol.seeds[0] else [])]
        return found

    def _longer(self, protocol: Protocol, index: int) -> Run:
        labels = {"space": self.space.name, "index": str(index), "length": "long"}
        cells = f"{self.space.name}:{index}"
        return protocol.trains(self.dataset, cells, protocol.seeds[0], *protocol.check, short=True, **labels)

    def table(self, results: Results) -> Table | None:
        """Returns the table of the trainings that are complete; None if none is."""
        trained, facts = dict[int, list[Trained]](), dict[int, tuple[int, float | None]]()
        evaluations = {run.needs[0].name: run for run in results.done("evaluate")}
        for run in self._trainings(results):
            index, curve = int(run.labels["index"]), results.curve(run)
            if not curve:
                results.notes.append(f"{run.name}: left out: its last validation metric is not finite")
                continue
            evaluation = evaluations.get(run.name)
            test = None if evaluation is None else results.tested(evaluation)
            trained.setdefault(index, []).append(Trained(int(run.labels["trained with"]), curve[-1][1], curve, test))
            latency = None if evaluation is None else speed(results.folder_of(evaluation))
            facts[index] = (results.parameters(run), latency or facts.get(index, (0, None))[1])
        entries = [
            Entry(index, *facts[index], sorted(runs, key=lambda run: run.seed)) for index, runs in trained.items()
        ]
        return Table(self.space, results.protocol.figure, entries, self._about(results)) if entries else None

    def _trainings(self, results: Results, length: str = "") -> list[Run]:
        return [run for run in results.done("train") if run.labels.get("length", "") == length]

    def _about(self, results: Results) -> Mapping[str, object]:
        words = [word for word in results.protocol.short if not word.startswith(MACHINE)]
        about: dict[str, object] = {"task": results.protocol.task, "dataset": self.dataset, "training": words}
        if (found := self.check(results)) is not None:
            about["check"] = {"training": list(results.protocol.check), "rank_correlation": vars(found)}
        return {**about, **read_provenance(results.folder)}

    def check(self, results: Results) -> Correlation | None:
        """Returns the rank correlation of the metrics after a training and after one four times as long."""
        return rank_correlation(self._pairs(results))

    def _pairs(self, results: Results) -> list[tuple[float, float]]:
        seed = str(results.protocol.seeds[0])
        last = {
            (length, run.labels["index"]): curve[-1][1]
            for length in ("", "long")
            for run in self._trainings(results, length)
            if run.labels["trained with"] == seed and (curve := results.curve(run))
        }
        return [(last["", index], value) for (length, index), value in last.items() if length and ("", index) in last]

    def files(self, results: Results) -> Mapping[str, str]:
        """Returns the table as ``autodisp.tables.load`` reads it."""
        table = self.table(results)
        return {} if table is None else {FILE: json.dumps(table.to_json(), separators=(",", ":")) + "\n"}

    def findings(self, results: Results) -> Findings:
        """Returns the ranked architectures, and their spread against that of the seeds."""
        table = self.table(results)
        if table is None:
            return Findings(f"table of {self.space.name} on {self.dataset}", notes=["no training is complete yet"])
        figure = table.figure
        unit = in_words(figure)
        rows: list[list[Value]] = [
            [place, f"{self.space.name}:{entry.index}", entry.metric, entry.deviation,
             next((run.test for run in entry.runs if run.test is not None), None), entry.parameters,
             entry.latency, len(entry.runs)]
            for place, entry in enumerate(map(table.best, range(1, len(table.entries) + 1)), 1)
        ]  # fmt: skip
        heads = ["rank", "architecture", unit, "deviation", "test", "parameters", "ms an image", "seeds"]
        pairs = self._pairs(results)
        return Findings(
            f"table of {self.space.name} on {self.dataset}",
            f"{len(table.entries)} of {self.space.size} architectures, {len(self._trainings(results))} trainings",
            [_spread(table, self.check(results)),
             ResultTable("architectures", "Architectures, the best first", heads, rows)],
            [_ranks(table, unit), _sizes(table, unit), *([_longer(pairs, unit)] if pairs else [])],
            [_cells(table, place) for place in self._drawn(len(table.entries))],
            results.notes,
        )  # fmt: skip

    def _drawn(self, count: int) -> Sequence[int]:
        places = range(1, count + 1)
        return sorted({*places[:_SHOWN], *places[-_SHOWN:]})


def _spread(table: Table, check: Correlation | None) -> ResultTable:
    spread, unit = table.spread(), table.figure.unit
    rows: list[list[Value]] = [
        [f"standard deviation between architectures, {unit}", spread.architectures],
        [f"standard deviation between seeds, pooled, {unit}", spread.seeds],
        ["rank correlation between two seeds, mean", table.agreement_of_seeds()],
        [f"best, {unit}", table.best().metric],
        [f"worst, {unit}", table.best(len(table.entries)).metric],
    ]
    if check is not None:
        words = f"rank correlation with four times the steps, {check.pairs} architectures"
        rows += [[words, check.value], ["  lower end of its interval of 95 %", check.low], ["  upper end", check.high]]
    note = "If seeds differ as much as architectures, the cells do not matter at this budget."
    return ResultTable("spread", "Architectures against seeds", ["measure", "value"], rows, note)


def _ranks(table: Table, unit: str) -> Chart:
    figure, axes = empty_chart("architectures by rank", "rank")
    with style():
        for place in range(1, len(table.entries) + 1):
            runs = table.best(place).runs
            axes.plot([place] * len(runs), [run.metric for run in runs], "o", color=COLOURS[0], alpha=0.5, markersize=3)
        means = [table.best(place).metric for place in range(1, len(table.entries) + 1)]
        axes.plot(range(1, len(means) + 1), means, color=COLOURS[1])
        axes.set_ylabel(unit)
        whole_numbers(axes)
    return Chart("ranks", "architectures by rank", figure, "A point per training; the line joins the means.")


def _sizes(table: Table, unit: str) -> Chart:
    figure, axes = empty_chart("metric over parameters", "parameters")
    with style():
        axes.plot([e.parameters for e in table.entries], [e.metric for e in table.entries], "o", color=COLOURS[0])
        axes.set_ylabel(unit)
    return Chart("sizes", "metric over parameters", figure, "A point per architecture.")


def _longer(pairs: Sequence[tuple[float, float]], unit: str) -> Chart:
    figure, axes = empty_chart(f"{unit} after four times the steps", unit)
    with style():
        axes.plot(*zip(*pairs, strict=True), "o", color=COLOURS[0])
        axes.set_ylabel(f"{unit}, four times the steps")
    return Chart("check", f"{unit} after four times the steps", figure, "A point per architecture, with one seed.")


def _cells(table: Table, place: int) -> Chart:
    entry = table.best(place)
    words = f"rank {place}: {table.space.name}:{entry.index}, {entry.metric:.4g} {table.figure.unit}"
    return Chart(f"cells_{place}", words, cells_figure(Genotype(table.space.name, table.space.at(entry.index))), words)
