"""A table of the architectures of a space, and questions to it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import NodeChoice, SearchSpace
from autodisp.errors import InputError
from autodisp.tables.statistics import Correlation, deviation, mean, rank_correlation
from autodisp.tasks.base import Figure

SCHEMA, VERSION = "autodisp/table", 1
Cells = Mapping[str, Sequence[NodeChoice]]


@dataclass(frozen=True)
class Trained:
    """One training of an architecture."""

    seed: int
    metric: float
    """Validation metric at the end."""
    curve: Sequence[tuple[int, float]]
    """(step, validation metric), ascending."""
    test: float | None = None
    """Metric on the test split, if it was evaluated."""


@dataclass(frozen=True)
class Entry:
    """An architecture of a table."""

    index: int
    """Its place in the space: the cells are ``space.at(index)``, and ``genotype=SPACE:INDEX`` trains them."""
    parameters: int
    latency: float | None
    """Milliseconds an image, as measured with the table; None if it was not."""
    runs: Sequence[Trained]

    @property
    def metric(self) -> float:
        """The mean over the seeds."""
        return fmean(run.metric for run in self.runs)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds; None with one seed."""
        return deviation([run.metric for run in self.runs])


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the metric between architectures, and between seeds."""

    architectures: float
    """Standard deviation between the means of the architectures."""
    seeds: float | None
    """Standard deviation between the seeds of an architecture, pooled over all; None with one seed each."""


class Table:
    """Architectures of a space, each trained alike with one or more seeds."""

    def __init__(self, space: SearchSpace, figure: Figure, entries: Sequence[Entry], about: Mapping[str, Any]) -> None:
        self.space = space
        self.figure = figure
        self.entries = sorted(entries, key=lambda entry: entry.index)
        self.about = about
        self._by_cells = {_plain(space.at(entry.index)): entry for entry in self.entries}
        self._ranked = sorted(self.entries, key=lambda entry: self._cost(entry.metric))

    def find(self, genotype: Genotype | Cells) -> Entry:
        """Returns the entry of some cells, whose edges may be in any order.

        Raises:
            InputError: they are not in the table.
        """
        cells = genotype.cells if isinstance(genotype, Genotype) else genotype
        entry = self._by_cells.get(_plain(cells))
        if entry is None:
            raise InputError(
                f"the cells {_plain(cells)} are not among the {len(self.entries)} architectures of the table of space "
                f"'{self.space.name}': take cells of a search on that space"
            )
        return entry

    def rank(self, genotype: Genotype | Cells) -> int:
        """Returns the rank, from 1, the best."""
        return self.rank_of(self.find(genotype))

    def rank_of(self, entry: Entry) -> int:
        """Returns the rank of an entry of the table, from 1, the best."""
        return 1 + self._ranked.index(entry)

    def regret(self, genotype: Genotype | Cells) -> float:
        """Returns by how much the metric is worse than that of the best architecture, in the unit of the metric."""
        return self.regret_of(self.find(genotype))

    def regret_of(self, entry: Entry) -> float:
        """Returns by how much the metric of an entry is worse than that of the best."""
        return abs(entry.metric - self.best().metric)

    def best(self, place: int = 1) -> Entry:
        """Returns the entry of that rank.

        Raises:
            InputError: there is none.
        """
        if not 1 <= place <= len(self._ranked):
            raise InputError(
                f"place={place}: must be 1, the best, to {len(self._ranked)}, the architectures of the table"
            )
        return self._ranked[place - 1]

    def spread(self) -> Spread:
        """Returns the spread between architectures, and between seeds."""
        variances = [
            (len(entry.runs) - 1, value**2) for entry in self.entries if (value := entry.deviation) is not None
        ]
        degrees = sum(count for count, _ in variances)
        within = math.sqrt(sum(count * value for count, value in variances) / degrees) if degrees else None
        return Spread(deviation([entry.metric for entry in self.entries]) or 0.0, within)

    def agreement(self, other: "Table") -> Correlation | None:
        """Returns the rank correlation with another table of the space, over the architectures that both have.

        Raises:
            InputError: the other table is of another space.
        """
        if other.space != self.space:
            raise InputError(
                f"a table of the space '{other.space.name}' cannot be compared with one of '{self.space.name}': take "
                "another table of that space"
            )
        theirs = {entry.index: other._cost(entry.metric) for entry in other.entries}
        both = [entry for entry in self.entries if entry.index in theirs]
        return rank_correlation([(self._cost(entry.metric), theirs[entry.index]) for entry in both])

    def agreement_of_seeds(self) -> float | None:
        """Returns the mean rank correlation between two seeds, of the architectures that have both."""
        seeds = sorted({run.seed for entry in self.entries for run in entry.runs})
        by_seed = [{e.index: r.metric for e in self.entries for r in e.runs if r.seed == seed} for seed in seeds]
        pairs = [(one, two) for place, one in enumerate(by_seed) for two in by_seed[:place]]
        found = [
            rank_correlation([(one[i], two[i]) for i in one.keys() & two.keys()], resamples=1) for one, two in pairs
        ]
        return mean([correlation.value for correlation in found if correlation is not None])

    def _cost(self, metric: float) -> float:
        return metric if self.figure.direction == "min" else -metric

    def to_json(self) -> dict[str, Any]:
        """The table as plain data."""
        return {
            "schema": SCHEMA, "version": VERSION, "about": dict(self.about), "space": self.space.to_json(),
            "metric": vars(self.figure),
            "architectures": [{**vars(entry), "runs": [vars(run) for run in entry.runs]} for entry in self.entries],
        }  # fmt: skip


def _plain(cells: Cells) -> tuple[Any, ...]:
    return tuple((kind, tuple(tuple(sorted(map(tuple, node))) for node in cells[kind])) for kind in sorted(cells))
