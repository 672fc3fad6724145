"""Selections: functions from a finished search to a genotype.

Random search with weight sharing is ranked as in RobustDARTS, with two departures: a supernet here normalises every
batch by its own statistics, in train mode and in eval mode, and the batches of the first scoring are the same for all
architectures.
"""

import itertools
import json
import math
import operator
import random
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from autodisp.cells.architecture import single_path
from autodisp.cells.genotype import Genotype, from_json
from autodisp.errors import Interrupted
from autodisp.search.curvature import preserved_rng
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Figure

if TYPE_CHECKING:
    from autodisp.search.loop import Search

STEPS_PER_ROUND = 10_000


class Selection(Protocol):
    """Chooses the genotype of a search."""

    def candidate(self, supernet: Supernet, epoch: int) -> Genotype:
        """Returns the cells that represent an epoch in its record; does not advance a random generator.

        By default those of largest mean weight.
        """
        return supernet.genotype()

    def evaluations(self, steps: int) -> int:
        """Number of batches that ``select`` evaluates after that many weight steps, for a plan."""
        return 0

    def tuning(self) -> int:
        """Number of epochs for which ``select`` tunes the supernet, for a plan."""
        return 0

    @abstractmethod
    def select(self, search: "Search", epoch: int) -> Genotype:
        """Returns the genotype of the search.

        May evaluate and tune the supernet. State needed to resume is stored in ``search.progress.selection``, and saved
        by ``search.save``.

        Args:
            search: the search, with all steps done.
            epoch: the epoch to return: the last one, or the one before the rise if early stopping ended the search.

        Raises:
            Interrupted: the run is to stop; its state is saved.
        """


class Argmax(Selection):
    """The operations and edges of largest mean weight (DARTS; Liu et al. 2019)."""

    def select(self, search: "Search", epoch: int) -> Genotype:
        """Returns the cells with the largest mean edge weights at the end of the epoch."""
        space = search.supernet.architecture.space
        return from_json(json.loads(search.progress.genotypes[epoch]), origin=f"epoch {epoch}", space=space)


class Ranking(Selection):
    """The best of many random architectures under the shared weights (Li and Talwalkar 2019).

    In each of max(1, steps // 10,000) rounds architectures are drawn and scored on a few validation batches, and the
    best of them on all; the best of all rounds is kept. Equal scores go to the one drawn first.

    Args:
        few: batches of the architecture split that every drawn architecture is scored on.
        whole: all batches of that split.
        seed: of the draws.
        samples: architectures of a round.
        finalists: how many of them are scored on all batches.
    """

    def __init__(self, few: Iterable[Any], whole: Iterable[Any], *, seed: int, samples: int, finalists: int) -> None:
        self.few = few
        self.whole = whole
        self.seed = seed
        self.samples = samples
        self.finalists = min(finalists, samples)

    def candidate(self, supernet: Supernet, epoch: int) -> Genotype:
        """Returns a random architecture that depends on the epoch."""
        return next(self._drawn(supernet, f"epoch {epoch}"))

    def evaluations(self, steps: int) -> int:
        """Number of batches over all rounds."""
        few, whole = (operator.length_hint(batches) for batches in (self.few, self.whole))
        return _rounds(steps) * (self.samples * few + self.finalists * whole)

    def select(self, search: "Search", epoch: int) -> Genotype:
        """Returns the best architecture of all rounds, with its score and origin in the provenance.

        The scores are part of the run state: a stopped ranking resumes at the next architecture.
        """
        scores: list[float] = search.progress.selection.setdefault("scores", [])
        known = len(scores)
        asked = itertools.count()

        def score(genotype: Genotype, batches: Iterable[Any]) -> float:
            place = next(asked)
            if place == len(scores):
                if search.stopping():
                    raise Interrupted
                scores.append(_score(search.supernet, genotype, batches))
            return scores[place]

        figure, rounds, few = search.supernet.task.figure, _rounds(search.progress.steps), list(self.few)
        sign = 1.0 if figure.direction == "min" else -1.0
        try:
            finalists: list[tuple[float, Genotype]] = []
            for number in range(rounds):
                drawn = list(itertools.islice(self._drawn(search.supernet, f"round {number}"), self.samples))
                first = [score_to_sort(sign * score(genotype, few)) for genotype in drawn]
                best = sorted(range(self.samples), key=first.__getitem__)[: self.finalists]
                finalists += [(score(drawn[place], self.whole), drawn[place]) for place in best]
            value, genotype = min(finalists, key=lambda entry: score_to_sort(sign * entry[0]))
            if len(scores) > known:
                search.observer.event("ranking", rounds=rounds, samples=self.samples, **{figure.name: value})
        finally:
            search.save()
        ranking = {"rounds": rounds, "samples": self.samples, "finalists": self.finalists}
        return genotype.with_provenance(figure=score_of(figure, value), ranking=ranking)

    def _drawn(self, supernet: Supernet, purpose: str) -> Iterator[Genotype]:
        """Yields random architectures without end, the same ones for the same seed and purpose."""
        space, draw = supernet.architecture.space, random.Random(f"{self.seed}, {purpose}")
        while True:
            yield Genotype(space.name, space.draw(draw))


def _rounds(steps: int) -> int:
    return max(1, steps // STEPS_PER_ROUND)


def _score(supernet: Supernet, genotype: Genotype, batches: Iterable[Any]) -> float:
    path = single_path(supernet.architecture.space, genotype, supernet.device)
    with preserved_rng():
        return supernet.evaluate(batches, path)[supernet.task.figure.name]


def score_of(figure: Figure, value: float) -> dict[str, Any]:
    """Returns the metric of cells under the shared weights, for their provenance."""
    known = value if math.isfinite(value) else None  # JSON has no NaN
    return {"name": figure.name, "value": known, "of": "architecture split, with the shared weights"}


def score_to_sort(cost: float) -> float:
    """Returns a cost to sort by, with NaN last."""
    return math.inf if math.isnan(cost) else cost
