"""The protocol of a study: how its searches, trainings and evaluations are called."""

from collections.abc import Sequence
from dataclasses import dataclass

from autodisp.commands import setting
from autodisp.run_files import BEST, GENOTYPE
from autodisp.studies.graph import Link, Run
from autodisp.tasks.base import Figure


def exactly(value: float) -> str:
    """Returns a number as a word of a program, with all of its digits; a whole one without a point."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)


@dataclass(frozen=True)
class Protocol:
    """The words with which the programs are called.

    Args:
        task: name of the task.
        figure: the metric of the task.
        search, train, short, evaluate: words of the budget; ``short`` for short trainings.
        check: words that make a short training four times as long.
        root: folder of the data, in which {dataset} is the name of the dataset; None for data without a folder.
        seeds: of the searches, or of the trainings of given cells.
        machine: settings of the machine, which do not change results.
    """

    task: str
    figure: Figure
    search: Sequence[str]
    train: Sequence[str]
    short: Sequence[str]
    evaluate: Sequence[str]
    root: str | None
    seeds: Sequence[int]
    machine: Sequence[str] = ()
    check: Sequence[str] = ()

    def searches(self, dataset: str, space: str, seed: int, /, *words: str, **labels: str) -> Run:
        """Returns a search; the labels are added to dataset, space and seed."""
        settings = [*self._data(dataset), f"space={space}", *self.search, f"seed={seed}", *words, *self.machine]
        return Run("search", tuple(settings), {"dataset": dataset, "space": space, "seed": str(seed), **labels})

    def trains(
        self, dataset: str, cells: str | Run | Link, seed: int, /, *words: str, short: bool = False, **labels: str
    ) -> Run:
        """Returns a training; the labels are added to the dataset, the seed, and those of the search.

        Args:
            cells: value of ``genotype``; or a search, whose cells are trained; or the link to one.
            short: True for the short training of the budget.
        """
        link: str | Link
        if isinstance(cells, Run):
            link, labels = Link("genotype", (cells,), GENOTYPE), {**cells.labels, **labels}
        else:
            link = cells if isinstance(cells, Link) else setting("genotype", cells)
        usual = self.short if short else self.train
        settings = (*self._data(dataset), *usual, link, f"seed={seed}", *words, *self.machine)
        return Run("train", settings, {"dataset": dataset, **labels, "trained with": str(seed)})

    def cells_of_best(self, trainings: Sequence[Run], searches: Sequence[Run]) -> Link:
        """Returns the link to the cells of the search whose training, at the same place, has the best metric."""
        largest = self.figure.direction == "max"
        return Link("genotype", tuple(trainings), GENOTYPE, largest, owners=tuple(searches))

    def evaluates(self, dataset: str, training: Run, *words: str) -> Run:
        """Returns the evaluation of the best model of a training on the test split."""
        data = [word for word in self._data(dataset) if not word.startswith("task=")]
        machine = [word for word in self.machine if not word.startswith("run.workers=")]
        link = Link("checkpoint", (training,), BEST)
        return Run("evaluate", (*data, *self.evaluate, link, *words, *machine), training.labels)

    def _data(self, dataset: str) -> list[str]:
        words = [f"task={self.task}", f"dataset={dataset}"]
        root = [] if self.root is None else [setting("dataset.root", self.root.replace("{dataset}", dataset))]
        return [*words, *root]
