"""Selections: how a finished search becomes a genotype.

Random search with weight sharing is ranked as the searches of RobustDARTS do it, with two departures: a supernet here
normalises every batch by itself, in train mode and in eval mode, and the batches of the first scoring are the same for
all architectures.
"""

import itertools
import json
import math
import operator
import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from autodisp.cells.architecture import single_path
from autodisp.cells.genotype import Genotype, from_json
from autodisp.errors import Interrupted
from autodisp.search.curvature import preserved_rng
from autodisp.search.supernet import Supernet

if TYPE_CHECKING:
    from autodisp.search.loop import Search

STEPS_PER_ROUND = 10_000


class Selection(Protocol):
    """Chooses the genotype of a search."""

    def candidate(self, supernet: Supernet, epoch: int) -> Genotype:
        """The cells that stand for an epoch in its record; moves no random generator."""
        ...

    def evaluations(self, steps: int) -> int:
        """How many batches ``select`` evaluates after that many weight steps, for a plan."""
        ...

    def tuning(self) -> int:
        """How many epochs ``select`` trains the supernet on for, for a plan."""
        ...

    def select(self, search: "Search", epoch: int) -> Genotype:
        """The genotype that the search returns.

        May evaluate the supernet and train it on. What it needs to resume belongs into ``search.progress.selection``,
        and ``search.save`` keeps it.

        Args:
            search: whose steps are done.
            epoch: the epoch to return: the last one, or that before the rise where early stopping ended the search.

        Raises:
            Interrupted: it was asked to stop; its state is saved.
        """
        ...


class Argmax:
    """The operations and edges of largest mean weight (DARTS; Liu et al. 2019)."""

    def candidate(self, supernet: Supernet, epoch: int) -> Genotype:
        """The cells that the mean edge weights prefer now."""
        return supernet.genotype()

    def evaluations(self, steps: int) -> int:
        """None."""
        return 0

    def tuning(self) -> int:
        """None."""
        return 0

    def select(self, search: "Search", epoch: int) -> Genotype:
        """The cells that the epoch preferred at its end."""
        space = search.supernet.architecture.space
        return from_json(json.loads(search.progress.genotypes[epoch]), origin=f"epoch {epoch}", space=space)


class Ranking:
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
        """A random architecture of the epoch's own."""
        return next(self._drawn(supernet, f"epoch {epoch}"))

    def evaluations(self, steps: int) -> int:
        """Those of all rounds."""
        few, whole = (operator.length_hint(batches) for batches in (self.few, self.whole))
        return _rounds(steps) * (self.samples * few + self.finalists * whole)

    def tuning(self) -> int:
        """None."""
        return 0

    def select(self, search: "Search", epoch: int) -> Genotype:
        """The best of all rounds; its score and how it came about are in the provenance.

        The scores are part of the run state: a ranking that was stopped resumes at the next architecture.
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
        known_value = value if math.isfinite(value) else None  # JSON has no NaN
        return genotype.with_provenance(
            figure={"name": figure.name, "value": known_value, "of": "architecture split, with the shared weights"},
            ranking={"rounds": rounds, "samples": self.samples, "finalists": self.finalists},
        )

    def _drawn(self, supernet: Supernet, purpose: str) -> Iterator[Genotype]:
        """Random architectures without end, the same ones for the same seed and purpose."""
        space, draw = supernet.architecture.space, random.Random(f"{self.seed}, {purpose}")
        while True:
            yield Genotype(space.name, space.draw(draw))


def _rounds(steps: int) -> int:
    return max(1, steps // STEPS_PER_ROUND)


def _score(supernet: Supernet, genotype: Genotype, batches: Iterable[Any]) -> float:
    path = single_path(supernet.architecture.space, genotype, supernet.device)
    with preserved_rng():
        return supernet.evaluate(batches, path)[supernet.task.figure.name]


def score_to_sort(cost: float) -> float:
    """A cost to sort by: NaN comes last."""
    return math.inf if math.isnan(cost) else cost
