"""Selection by perturbation: its decisions against a closed form, what it trains between them, and how it resumes."""

import itertools
import math
import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autodisp.cells.architecture import Architecture
from autodisp.cells.genotype import Genotype, check
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SPACES
from autodisp.errors import Interrupted
from autodisp.search.perturbation import Perturbation, Projection
from autodisp.search.relaxations import Frozen, Gumbel, Softmax
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Figure
from tests.made_searches import make, tensors
from tests.programs import same


class Linear(Supernet):
    """A supernet whose metric is a weighted sum of the edge weights, so that every removal costs what it weighed."""

    def __init__(self, space: str, direction: Any) -> None:
        task: Any = SimpleNamespace(figure=Figure("score", direction))
        super().__init__(task, nn.Linear(1, 1), Architecture(SPACES[space], seed=2, scale=1.0), Softmax())
        draw = torch.Generator().manual_seed(5)
        self.value = {
            kind: torch.rand(table.shape, generator=draw, dtype=torch.float64) for kind, table in self.mean().items()
        }

    def evaluate(self, batches: Any, edge_weights: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        weights = self.mean() if edge_weights is None else edge_weights
        total = sum(float((self.value[kind] * table.detach().double()).sum()) for kind, table in weights.items())
        return {"score": -total if self.task.figure.direction == "min" else total}


def linear_search(supernet: Supernet) -> Any:
    """As much of a search as a selection needs, which counts its steps."""
    search = SimpleNamespace(
        supernet=supernet,
        progress=SimpleNamespace(selection={}),
        settings=SimpleNamespace(steps_per_epoch=3, drop_path=0.0),
        weight_optimizer=torch.optim.SGD(supernet.network.parameters(), lr=0.5),
        observer=SimpleNamespace(event=lambda kind, **entries: search.events.append(entries)),
        stopping=lambda: False,
        save=lambda: None,
        tune=lambda alphas: search.tuned.append((search.weight_optimizer.param_groups[0]["lr"], alphas)),
        events=[],
        tuned=[],
    )
    return search


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("space", ["s2", "s3", "autodispnet"])
def test_what_is_missed_most_stays(space: str, direction: Any) -> None:
    """An undecided operation is worth its value times its weight, a decided one its value, in whatever order."""
    supernet = Linear(space, direction)
    search = linear_search(supernet)
    selection = Perturbation(SPACES[space], [1], seed=3, tuning_epochs=2, learning_rate=0.5, min_learning_rate=0.01)
    found = selection.select(search, 0)
    check(found, SPACES[space])
    weights, cells = supernet.architecture.weights(), {}
    for kind, cell in SPACES[space].cells.items():
        row, nodes = itertools.count(), []
        for node, keep in zip(cell.nodes, cell.keep, strict=True):
            chosen = []
            for edge in node:
                place = next(row)
                worth = {
                    name: float(supernet.value[kind][place, k] * weights[kind][place, k].detach())
                    for k, name in enumerate(edge.operations)
                    if name != "none"
                }
                name = max(worth, key=worth.__getitem__)
                chosen.append((float(supernet.value[kind][place, edge.operations.index(name)]), name, edge.source))
            best = sorted(chosen, reverse=True)[:keep]
            nodes.append(tuple((name, source) for _, name, source in sorted(best, key=lambda entry: entry[2])))
        cells[kind] = tuple(nodes)
    assert found == Genotype(space, cells)
    assert supernet.projection is None


def test_between_two_rounds_it_trains_by_a_cosine_of_its_own() -> None:
    supernet = Linear("s2", "min")
    search = linear_search(supernet)
    selection = Perturbation(SPACES["s2"], [1, 2], seed=3, tuning_epochs=2, learning_rate=0.5, min_learning_rate=0.01)
    selection.select(search, 0)
    assert len(selection.rounds) == len(search.events) == 14 + 3, "edges, then the nodes of more than two edges"
    assert selection.tuning() == 16 * 2
    epochs = [0.01 + 0.04 * (1 + math.cos(math.pi * epoch / 32)) / 2 for epoch in range(32)]
    expected = [rate for rate in epochs for _ in range(3)]
    assert [rate for rate, _ in search.tuned] == pytest.approx(expected)
    moved = [alphas for _, alphas in search.tuned]
    assert moved == [True] * 13 * 6 + [False] * 3 * 6, "once every edge is decided no alpha is left to move"
    # 28 removals of operations and 3 + (4 + 3) + (5 + 4 + 3) of edges for each of the two kinds, and the found cells
    assert selection.evaluations(7) == 2 * (2 * (28 + 3 + 7 + 12) + 1)


def test_the_order_is_random_and_the_same_for_one_seed() -> None:
    orders = [
        [one.place for rounds in Perturbation(SPACES["s2"], [], seed=seed, learning_rate=1.0).rounds for one in rounds]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


def test_a_projection_runs_what_is_left_alone() -> None:
    draw = random.Random(0)
    architecture = Architecture(SPACES["s3"], scale=1.0)
    left = {kind: [sorted(draw.sample(range(3), draw.randrange(4))) for _ in range(14)] for kind in SPACES["s3"].kinds}
    decided = {kind: [len(places) == 1 for places in rows] for kind, rows in left.items()}
    project = Projection(left, decided)
    for made in (Softmax().mean(architecture), Gumbel().weights(architecture, "weights", 0.5)):
        mixture = project(made)
        assert mixture.active is not None
        for kind, row in itertools.product(left, range(14)):
            ran = mixture.active[kind][row]
            for place in range(3):
                expected = float(made[kind][row, place].detach()) if place in left[kind][row] else 0.0
                if decided[kind][row]:
                    expected = float(place in left[kind][row])
                assert float(mixture[kind][row, place].detach()) == expected
                assert (place in ran) == (expected != 0.0 or (place in left[kind][row] and made.active is None))


def perturbed_search(folder: Path, relaxation: Any = None, **settings: Any) -> Any:
    search, listener = make(folder, epochs=1, steps_per_epoch=2, drop_path=0.2, **settings)
    search.supernet.relaxation = relaxation or Softmax()
    search.selection = Perturbation(
        SPACES["tiny81"], search.validation, seed=1, tuning_epochs=2, learning_rate=0.05, min_learning_rate=0.001
    )
    return search, listener


def test_an_interrupted_selection_resumes_bitwise(tmp_path: Path) -> None:
    whole, listener = perturbed_search(tmp_path / "whole")
    asked = itertools.count()
    whole.stopping = lambda: bool(next(asked) < 0)
    expected = whole.run()
    total = next(asked)
    check(expected.genotype, SPACES["tiny81"])
    assert [kind for kind, _ in listener.events] == ["perturbation"] * 2
    told: list[Any] = []
    for stop_at in (total - 9, total - 8, total - 3):  # within the first decisions, the tuning, the last decisions
        search, stopped = perturbed_search(tmp_path / str(stop_at))
        count = itertools.count()
        search.stopping = lambda count=count, stop_at=stop_at: next(count) >= stop_at
        with pytest.raises(Interrupted):
            search.run()
        told.append((search.progress.selection["round"], search.progress.selection["step"]))
        rest, listener = perturbed_search(tmp_path / str(stop_at))
        listener.records = stopped.records
        rest.state.restore(rest.checkpoints.newest(lambda _: None))
        assert rest.run().genotype == expected.genotype
        assert same(tensors(rest), tensors(whole))
        assert torch.equal(torch.get_rng_state(), rest.checkpoints.newest(lambda _: None)["rng"]["cpu"])
    assert len(set(told)) == 3, told


def test_alphas_that_never_move_are_selected_from(tmp_path: Path) -> None:
    search, _ = perturbed_search(tmp_path, Frozen())
    before = tensors(search)
    outcome = search.run()
    after = tensors(search)
    check(outcome.genotype, SPACES["tiny81"])
    assert same(before[-2:], after[-2:])
    assert not same(before[:-2], after[:-2])
    assert search.alpha_stream.position == 0
    assert outcome.genotype.provenance["perturbation"] == {"rounds": 2, "tuning_epochs": 2}


def test_decided_edges_stay_in_the_loss_of_their_own_operations(tmp_path: Path) -> None:
    search, _ = perturbed_search(tmp_path)
    left = {kind: [[2], [0, 1]] for kind in SPACES["tiny81"].kinds}
    search.supernet.projection = Projection(left, {kind: [True, False] for kind in left})
    seen: list[Mixture] = []
    network, output = search.supernet.network, search.supernet.network.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "forward", lambda image, weights: seen.append(weights) or output(image, weights))
        search.tune(alphas=True)
    assert len(seen) == 2, "one of the alphas, one of the weights"
    for mixture in seen:
        assert mixture["normal"][0].tolist() == [0.0, 0.0, 1.0]
        assert mixture.active == left
