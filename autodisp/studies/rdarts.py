"""study=rdarts: R-DARTS (Zela et al. 2020): the best of several searches that are regularised differently.

The cells of each search are trained shortly; those with the best validation metric are trained in full and evaluated.
The paper varies the weight decay (L2) or drop-path (DP); the baselines vary the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.studies.graph import Link, Run
from autodisp.studies.protocol import Protocol, exactly
from autodisp.studies.published import published
from autodisp.studies.results import Results, in_words
from autodisp.studies.spaces import parameter_free, tested_by
from autodisp.studies.study import Study
from autodisp.tables import deviation, mean


@dataclass(frozen=True)
class RdartsStudy(Study):
    """Chooses the best of several searches; see the module."""

    datasets: Sequence[str]
    spaces: Sequence[str]
    key: str
    """The setting that differs between the searches; seed for the baselines."""
    values: Sequence[float]
    policy: str

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns searches, short trainings, the training in full of the best cells and its evaluation."""
        each = product(self.datasets, self.spaces, protocol.seeds)
        return [run for dataset, space, seed in each for run in self._chosen(protocol, dataset, space, seed)]

    def _chosen(self, protocol: Protocol, dataset: str, space: str, seed: int) -> list[Run]:
        searches = [
            protocol.searches(
                dataset, space, seed, f"regularization={self.policy}", f"{self.key}={exactly(value)}",
                policy=self.policy, value=exactly(value),
            )
            for value in self.values
        ]  # fmt: skip
        short = [protocol.trains(dataset, search, seed, short=True, length="short") for search in searches]
        cells = protocol.cells_of_best(short, searches)
        best = protocol.trains(dataset, cells, seed, space=space, policy=self.policy, seed=str(seed))
        return [*searches, *short, best, protocol.evaluates(dataset, best)]

    def findings(self, results: Results) -> Findings:
        """Returns the short trainings, and the test results of the cells that were chosen."""
        figure, last = results.protocol.figure, self.key.rpartition(".")[2]
        short: list[list[Value]] = []
        chosen = {
            one.chosen(results.endings).name
            for run in results.done("train")
            for one in run.settings
            if isinstance(one, Link) and one.owners
        }
        for run in results.done("train"):
            if run.labels.get("length") == "short":
                (search,) = run.needs
                words = (run.labels["dataset"], run.labels["space"], run.labels["seed"], run.labels["value"])
                mark = "yes" if search.name in chosen else ""
                short.append([*words, results.endings[run.name].metric, parameter_free(results, [search]), mark])
        rows: list[list[Value]] = []
        for (dataset, space), values in tested_by(results, "dataset", "space").items():
            known = published("rdarts", dataset, self.policy if last == "seed" else last, space)
            rows.append([dataset, space, mean(values), deviation(values), len(values), known])
        heads = ["dataset", "space", "seed", last, f"validation {in_words(figure)}"]
        heads += ["parameter-free operations", "chosen"]
        tested = ["dataset", "space", f"test {in_words(results.shown)}, mean", "deviation", "seeds", "published error"]
        return Findings(
            f"R-DARTS over {self.key}",
            f"{len(results.done('search'))} searches, {len(results.done('train'))} trainings",
            [ResultTable("rdarts", "The chosen cells, trained in full", tested, rows),
             ResultTable("choice", "Short trainings", heads, short)],
            [],
            results.drawings(results.done("search")),
            results.notes,
        )  # fmt: skip
