"""Selection by perturbation of the supernet (DARTS-PT; Wang et al. 2021).

Facts of the published selection: sota/cnn/projection.py and model_search_darts_proj.py of ruocwang/darts-pt.

Departs from it in four ways: ``none`` is not a candidate, since no genotype here contains it; a node keeps as many
edges as its space defines; nothing is trained after the last decision; of equal scores the first one wins.
"""

import math
import random
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from operator import length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from autodisp.cells.cell import set_auxiliary, set_drop_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import CellSpace, SearchSpace
from autodisp.errors import Interrupted
from autodisp.search.curvature import preserved_rng
from autodisp.search.selection import Selection, score_of, score_to_sort

if TYPE_CHECKING:
    from autodisp.search.loop import Search

Left = dict[str, list[list[int]]]
"""Positions of the operations left on each edge, by kind of cell; none on a removed edge."""


@dataclass(frozen=True)
class Projection:
    """Masks a mixture by the operations left on each edge; a decided operation has weight 1."""

    left: Mapping[str, list[list[int]]]
    decided: Mapping[str, list[bool]]
    """True for each edge whose operation is decided, by kind of cell."""

    def __call__(self, mixture: Mixture) -> Mixture:
        """Returns the mixture with removed operations at weight 0, which are not run."""
        tables: dict[str, Tensor] = {}
        active: dict[str, list[list[int]]] = {}
        for kind, table in mixture.items():
            mask, fixed = torch.zeros(table.shape, dtype=table.dtype), torch.tensor(self.decided[kind])
            active[kind] = []
            for edge, row in enumerate(mixture.rows(kind)):
                positions = self.left[kind][edge]
                mask[edge, positions] = 1.0
                ran = positions if row.active is None or fixed[edge] else [k for k in positions if k in row.active]
                active[kind].append(ran)
            mask, fixed = mask.to(table.device), fixed.to(table.device)[:, None]
            tables[kind] = torch.where(fixed, mask, table * mask)
        return Mixture(tables, edges=mixture.edges, active=active, is_discrete=mixture.is_discrete)


class Undecided(NamedTuple):
    """A place to decide: the operation of an edge, or the edges that a node keeps."""

    kind: str
    of: str
    """"edge" or "node"."""
    place: int


class Perturbation(Selection):
    """Keeps the operations and edges whose removal harms the supernet most.

    Edge by edge, in random order, the operation is kept whose removal makes the task's metric worst. Then, node by
    node, the edge whose removal harms least is removed until as many are left as the space keeps. One edge or node of
    every kind of cell is decided per round, and the supernet is tuned between two rounds: the weights with a cosine
    schedule from a tenth of the search's learning rate down to its minimum, the alphas as in the search.

    Args:
        space: of the search.
        validation: batches of the architecture split, on which every removal is scored.
        seed: of the random order.
        tuning_epochs: number of epochs between two rounds.
        learning_rate: of the search's first epoch.
        min_learning_rate: of its last one.
    """

    def __init__(
        self,
        space: SearchSpace,
        validation: Iterable[Any],
        *,
        seed: int,
        tuning_epochs: int = 5,
        learning_rate: float,
        min_learning_rate: float = 0.0,
    ) -> None:
        self.space = space
        self.validation = validation
        self.tuning_epochs = tuning_epochs
        self.learning_rate = learning_rate
        self.min_learning_rate = min_learning_rate
        self.rounds = _rounds(space, seed)

    def evaluations(self, steps: int) -> int:
        """Number of batches over all removals; independent of the steps."""
        removals = 0
        for decision in (one for together in self.rounds for one in together):
            cell = self.space.cells[decision.kind]
            if decision.of == "edge":
                removals += len(cell.edges[decision.place].choices)
            else:
                edges, keep = len(cell.nodes[decision.place]), cell.keep[decision.place]
                removals += sum(range(keep + 1, edges + 1))
        return (removals + 1) * length_hint(self.validation)

    def tuning(self) -> int:
        """Number of tuning epochs over all rounds."""
        return self.tuning_epochs * max(len(self.rounds) - 1, 0)

    def select(self, search: "Search", epoch: int) -> Genotype:
        """Returns the cells left after all rounds.

        Decisions and tuning steps are part of the run state: a stopped selection resumes at the next step, or at the
        first decision of its round.
        """
        supernet, state = search.supernet, search.progress.selection
        if not state:
            state |= {"round": 0, "step": 0, **_untouched(self.space)}
            search.weight_optimizer.state.clear()  # the momentum of another learning rate
        set_drop_path(supernet.network, search.settings.drop_path)
        set_auxiliary(supernet.network, 0.0)
        supernet.network.train()
        try:
            while state["round"] < len(self.rounds):
                supernet.projection = Projection(state["left"], state["decided"])
                self._tune(search, state)
                chosen = self._decide(search, state)
                state |= {"round": state["round"] + 1, "step": 0}
                search.observer.event("perturbation", round=state["round"], chosen=chosen)
                search.save()
            supernet.projection = None
            genotype = self._genotype(state["left"])
            with preserved_rng():
                value = supernet.evaluate(self.validation, supernet.discretised(genotype))[supernet.task.figure.name]
        finally:
            supernet.projection = None
            search.save()
        perturbation = {"rounds": len(self.rounds), "tuning_epochs": self.tuning_epochs}
        return genotype.with_provenance(figure=score_of(supernet.task.figure, value), perturbation=perturbation)

    def _tune(self, search: "Search", state: dict[str, Any]) -> None:
        """Makes the rest of the steps between two rounds."""
        if state["round"] == 0:
            return
        every, before = search.settings.steps_per_epoch, (state["round"] - 1) * self.tuning_epochs
        undecided = not all(decided for kind in state["decided"].values() for decided in kind)
        moves = search.supernet.relaxation.moves_alphas and (undecided or bool(search.supernet.architecture.edges))
        while state["step"] < self.tuning_epochs * every:
            if search.stopping():
                raise Interrupted
            share = (before + state["step"] // every) / self.tuning()
            first, last = self.learning_rate / 10, self.min_learning_rate
            rate = last + (first - last) * (1 + math.cos(math.pi * share)) / 2
            for group in search.weight_optimizer.param_groups:
                group["lr"] = rate
            search.tune(alphas=moves)
            state["step"] += 1

    def _decide(self, search: "Search", state: dict[str, Any]) -> list[str]:
        """Makes the decisions of a round atomically."""
        left, decided = deepcopy(state["left"]), deepcopy(state["decided"])
        chosen = []
        for decision in self.rounds[state["round"]]:
            kind, cell = decision.kind, self.space.cells[decision.kind]
            if decision.of == "edge":
                edge = cell.edges[decision.place]
                places = [place for place, name in enumerate(edge.operations) if name != "none"]
                without = {place: [k for k in left[kind][decision.place] if k != place] for place in places}
                costs = [self._cost(search, left, decided, kind, {decision.place: rest}) for rest in without.values()]
                best = max(range(len(places)), key=costs.__getitem__)
                left[kind][decision.place], decided[kind][decision.place] = [places[best]], True
                chosen.append(f"{kind} edge {decision.place}: {edge.operations[places[best]]}")
            else:
                rows = _rows(cell, decision.place)
                while len(rows) > cell.keep[decision.place]:
                    costs = [self._cost(search, left, decided, kind, {row: []}) for row in rows]
                    gone = rows.pop(min(range(len(rows)), key=costs.__getitem__))
                    left[kind][gone] = []
                chosen.append(f"{kind} node {decision.place}: edges {', '.join(map(str, rows))}")
        state |= {"left": left, "decided": decided}
        return chosen

    def _cost(self, search: "Search", left: Left, decided: Any, kind: str, changed: dict[int, list[int]]) -> float:
        """Returns the metric after a removal, as a cost: NaN is the worst."""
        if search.stopping():
            raise Interrupted
        supernet = search.supernet
        rest = [changed.get(row, places) for row, places in enumerate(left[kind])]
        kept = {**decided, kind: [flag or (row in changed and not rest[row]) for row, flag in enumerate(decided[kind])]}
        supernet.projection = Projection({**left, kind: rest}, kept)
        with preserved_rng():
            value = supernet.evaluate(self.validation)[supernet.task.figure.name]
        return score_to_sort(value if supernet.task.figure.direction == "min" else -value)

    def _genotype(self, left: Left) -> Genotype:
        cells = {}
        for kind, cell in self.space.cells.items():
            rows = iter(left[kind])
            cells[kind] = tuple(
                tuple((edge.operations[row[0]], edge.source) for edge, row in zip(node, rows, strict=False) if row)
                for node in cell.nodes
            )
        return Genotype(self.space.name, cells)


def _untouched(space: SearchSpace) -> dict[str, Any]:
    """Returns the initial state: all operations left, and edges with a single choice decided."""
    left: Left = {}
    decided: dict[str, list[bool]] = {}
    for kind, cell in space.cells.items():
        left[kind], decided[kind] = [], []
        for edge in cell.edges:
            only = len(edge.choices) == 1
            places = [edge.operations.index(edge.choices[0])] if only else list(range(len(edge.operations)))
            left[kind].append(places)
            decided[kind].append(only)
    return {"left": left, "decided": decided}


def _rounds(space: SearchSpace, seed: int) -> list[list[Undecided]]:
    """Returns the rounds: one edge of each kind per round, in random order, then one node of each kind."""
    rounds: list[list[Undecided]] = []
    for of in ("edge", "node"):
        queues = []
        for kind, cell in space.cells.items():
            if of == "edge":
                open_ones = [index for index, edge in enumerate(cell.edges) if len(edge.choices) > 1]
            else:
                open_ones = [index for index, node in enumerate(cell.nodes) if len(node) > cell.keep[index]]
            random.Random(f"{seed}, {kind}, {of}").shuffle(open_ones)
            queues.append([Undecided(kind, of, index) for index in open_ones])
        for place in range(max(map(len, queues))):
            rounds.append([queue[place] for queue in queues if place < len(queue)])
    return rounds


def _rows(cell: CellSpace, node: int) -> list[int]:
    """Returns the rows of a node's edges in the tables."""
    first = sum(len(edges) for edges in cell.nodes[:node])
    return list(range(first, first + len(cell.nodes[node])))
