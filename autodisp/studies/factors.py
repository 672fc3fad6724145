"""study=regularization, study=augmentation: results over a factor of the search, with and without early stopping.

As in RobustDARTS: the test error over weight decay, drop-path or augmentation, a line for each space, solid without
early stopping and dashed with it. The metric of disparity is treated alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from autodisp.report.comparison_charts import style_of
from autodisp.report.curves import Chart, empty_chart
from autodisp.report.figures import COLOURS, style
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol, exactly
from autodisp.studies.published import published
from autodisp.studies.results import Results, in_words
from autodisp.studies.spaces import chain_of, parameter_free, searches_by, tested_by
from autodisp.studies.study import Study
from autodisp.tables import deviation, mean

LABELS = ("dataset", "space", "policy", "factor")


@dataclass(frozen=True)
class FactorStudy(Study):
    """Varies one setting of the search; see the module."""

    name: str
    datasets: Sequence[str]
    spaces: Sequence[str]
    policies: Sequence[str]
    key: str
    """The setting of the search."""
    values: Sequence[float]

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns search, training and evaluation for each value, space, policy and seed."""
        return [
            run
            for dataset, space, policy, value, seed in product(
                self.datasets, self.spaces, self.policies, map(exactly, self.values), protocol.seeds
            )
            for run in chain_of(
                protocol, dataset, space, seed, f"regularization={policy}", f"{self.key}={value}",
                policy=policy, factor=value,
            )
        ]  # fmt: skip

    def findings(self, results: Results) -> Findings:
        """Returns the test results over the factor, with what is published."""
        last = self.key.rpartition(".")[2]
        tested, searched = tested_by(results, *LABELS), searches_by(results, *LABELS)
        rows: list[list[Value]] = []
        for key, searches in searched.items():
            dataset, space, policy, factor = key
            values = tested.get(key, [])
            metrics = [results.endings[run.name].metric for run in searches]
            found = [results.as_shown(metric) for metric in metrics if metric is not None]
            known = published("factors", dataset, f"{last} {factor}") or published("searched", dataset, space, factor)
            results_of = (mean(values), deviation(values), len(values), mean(found), parameter_free(results, searches))
            rows.append([dataset, space, policy, float(factor), *results_of, known])
        unit = f"test {in_words(results.shown)}"
        searched_by = f"validation {in_words(results.shown)}, of the search"
        heads = ["dataset", "space", "policy", last, f"{unit}, mean", "deviation", "seeds", searched_by]
        heads += ["parameter-free operations", "published"]
        note = "Published: EPE after training for stereo, else the validation error of the search in percent."
        return Findings(
            f"{results.shown.name} over {self.key}",
            f"{len(results.done('search'))} searches, {len(results.done('train'))} trainings",
            [ResultTable(self.name, f"Results over {self.key}", heads, rows, note)],
            [chart for dataset in self.datasets if (chart := self._chart(dataset, unit, tested))],
            results.drawings(results.done("search")),
            results.notes,
        )

    def _chart(self, dataset: str, unit: str, tested: Mapping[tuple[str, ...], list[float]]) -> Chart | None:
        figure, axes = empty_chart(f"{dataset}: {unit} over {self.key}", self.key)
        drawn = False
        with style():
            for place, space in enumerate(self.spaces):
                for policy in self.policies:
                    points = sorted(
                        (float(factor), values)
                        for (on, of, by, factor), values in tested.items()
                        if (on, of, by) == (dataset, space, policy)
                    )
                    if points:
                        look = {"color": COLOURS[place % len(COLOURS)], "linestyle": style_of(policy)}
                        every = [(x, value) for x, values in points for value in values]
                        axes.plot(*zip(*every, strict=True), "o", alpha=0.4, markersize=3, color=look["color"])
                        means = [sum(values) / len(values) for _, values in points]
                        axes.plot([x for x, _ in points], means, marker="o", label=f"{space} {policy}", **look)
                        drawn = True
            if min(self.values) > 0 and max(self.values) / min(self.values) > 10:
                axes.set_xscale("log")
            if drawn:
                figure.legend(loc="outside lower center", ncols=4)
        note = "A point per seed; lines through the means. Solid: no early stopping; dashed: ES; dotted: ADA."
        return Chart(f"{self.name}_{dataset}", f"{dataset}: {unit} over {self.key}", figure, note) if drawn else None
