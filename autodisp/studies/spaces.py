"""study=spaces: searches of several spaces with each policy; their cells are trained and evaluated (RobustDARTS)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from autodisp.report.comparison_charts import style_of
from autodisp.report.curves import Chart, empty_chart, whole_numbers
from autodisp.report.figures import COLOURS, style
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.published import published
from autodisp.studies.results import Results, in_words
from autodisp.studies.study import Study
from autodisp.tables import deviation, mean

HEADS = ("dataset", "space", "policy")


@dataclass(frozen=True)
class SpacesStudy(Study):
    """Compares policies over spaces and datasets; see the module."""

    datasets: Sequence[str]
    spaces: Sequence[str]
    policies: Sequence[str]

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns search, training and evaluation of each setting and seed."""
        return [
            run
            for dataset, space, policy, seed in product(self.datasets, self.spaces, self.policies, protocol.seeds)
            for run in chain_of(protocol, dataset, space, seed, f"regularization={policy}", policy=policy)
        ]

    def findings(self, results: Results) -> Findings:
        """Returns the test results, with the published ones, and the found cells."""
        figure, tested, searched = results.protocol.figure, tested_by(results, *HEADS), searches_by(results, *HEADS)
        rows: list[list[Value]] = []
        for key in product(self.datasets, self.spaces, self.policies):
            values, free = tested.get(key, []), parameter_free(results, searched.get(key, []))
            rows.append([*key, mean(values), deviation(values), len(values), free, published("spaces", *key)])
        heads = [*HEADS, f"test {in_words(results.shown)}, mean", "deviation", "seeds"]
        heads += ["parameter-free operations", "published error"]
        note = "Published: test error in percent, mean and deviation over searches."
        searches = results.done("search")
        return Findings(
            "policies over search spaces",
            f"{len(searches)} searches, {len(results.done('train'))} trainings",
            [ResultTable("spaces", "Test results", heads, rows, note)],
            [chart for key in ("eigenvalue", f"valid/{figure.name}") if (chart := courses(results, searches, key))],
            results.drawings(searches),
            results.notes,
        )


def chain_of(
    protocol: Protocol, dataset: str, space: str, seed: int, *words: str, **labels: str
) -> tuple[Run, Run, Run]:
    """Returns a search, the training of its cells and the evaluation."""
    search = protocol.searches(dataset, space, seed, *words, **labels)
    training = protocol.trains(dataset, search, seed)
    return search, training, protocol.evaluates(dataset, training)


def tested_by(results: Results, *labels: str) -> dict[tuple[str, ...], list[float]]:
    """Returns the metrics of the complete evaluations, as shown, by these labels."""
    found: dict[tuple[str, ...], list[float]] = {}
    for run in results.done("evaluate"):
        if (value := results.tested(run)) is not None:
            found.setdefault(tuple(run.labels.get(label, "") for label in labels), []).append(results.as_shown(value))
    return found


def searches_by(results: Results, *labels: str) -> dict[tuple[str, ...], list[Run]]:
    """Returns the complete searches by these labels."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in results.done("search"):
        found.setdefault(tuple(run.labels.get(label, "") for label in labels), []).append(run)
    return found


def parameter_free(results: Results, searches: Sequence[Run]) -> float | None:
    """Returns the mean number of operations without parameters in the found cells; None if none is recorded."""
    chosen = [epoch for run in searches if (epoch := results.read(run).chosen) is not None]
    return mean([epoch.values["parameter_free"] for epoch in chosen if "parameter_free" in epoch.values])


def courses(results: Results, searches: Sequence[Run], key: str) -> Chart | None:
    """Draws a number of the records of searches over the epochs; None if none has it."""
    title = {"eigenvalue": "dominant eigenvalue"}.get(key, key.replace("valid/", "validation "))
    figure, axes = empty_chart(title, "epoch")
    groups = sorted({(run.labels["dataset"], run.labels["space"]) for run in searches})
    drawn = set[str]()
    with style():
        for run in searches:
            if points := results.read(run).course(key):
                group, policy = (run.labels["dataset"], run.labels["space"]), run.labels.get("policy", "")
                label = " ".join((*group, policy))
                look = {"color": COLOURS[groups.index(group) % len(COLOURS)], "linestyle": style_of(policy)}
                axes.plot(*zip(*points, strict=True), label=None if label in drawn else label, **look)
                drawn.add(label)
        whole_numbers(axes)
        if 1 < len(drawn) <= 12:
            figure.legend(loc="outside lower center", ncols=2)
    note = "A line per search. Solid: no early stopping; dashed: ES; dotted: ADA."
    return Chart(key.replace("/", "_"), title, figure, note) if drawn else None
