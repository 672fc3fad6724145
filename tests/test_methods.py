"""Every relaxation in the search loop: it resumes bitwise, rolls back, and knows all orders of the alphas' gradient."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp.cells.architecture import Architecture
from autodisp.cells.genotype import load
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SPACES, CellSpace, EdgeSpace, SearchSpace
from autodisp.cli.report import report
from autodisp.cli.search import search as run_search
from autodisp.errors import Interrupted
from autodisp.observers.search_folder import SearchFolder
from autodisp.records import read_json_lines
from autodisp.report.reading import read_run
from autodisp.search.adaptive import Restart
from autodisp.search.costs import CostPenalty
from autodisp.search.early_stopping import Decision
from autodisp.search.loop import Search
from autodisp.search.perturbed import Perturbed
from autodisp.search.regularization import RollBack
from autodisp.search.relaxations import Dirichlet, Gumbel, Partial, Sigmoid, Softmax
from tests.made_data import write_cifar10
from tests.made_searches import Listener, Scripted, make, tensors
from tests.programs import composed, same
from tests.test_costs import made_table

Made = tuple[Search, Listener]
METHODS: dict[str, Callable[[], Any]] = {
    "dirichlet": Dirichlet,
    "gumbel": Gumbel,
    "sigmoid": Sigmoid,
    "partial": Partial,
    "auxiliary": Softmax,
    "perturbed": lambda: Perturbed(Softmax()),
    "adversarial": lambda: Perturbed(Dirichlet(), "adversarial", steps=2),
    "cost": Softmax,
}
"""Relaxations, by name."""


def made(name: str, folder: Path, **settings: Any) -> Made:
    """The search of test_loop with another relaxation."""
    search, listener = make(folder, share=2 if name == "partial" else 1, auxiliary=name == "auxiliary", **settings)
    search.supernet.relaxation = METHODS[name]()
    if name == "cost":
        search.supernet.cost_penalty = CostPenalty(made_table(SPACES["tiny81"]), target=1.0, weight=1.0)
    return search, listener


def newest(search: Search) -> Any:
    return search.checkpoints.newest(lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_an_interrupted_search_resumes_bitwise(name: str, tmp_path: Path) -> None:
    settings = {"epochs": 2, "steps_per_epoch": 2, "drop_path": 0.2}
    whole, listener = made(name, tmp_path / "whole", **settings)
    expected = whole.run()
    half, _ = made(name, tmp_path / "parts", **settings)
    half.stopping = lambda: half.progress.steps >= 3
    with pytest.raises(Interrupted):
        half.run()
    assert half.progress.step == 1, "in the middle of the second epoch"
    rest, told = made(name, tmp_path / "parts", **settings)
    rest.state.restore(newest(half))
    assert rest.run().genotype == expected.genotype
    assert same(tensors(rest), tensors(whole))
    assert torch.equal(newest(rest)["rng"]["cpu"], newest(whole)["rng"]["cpu"])
    assert told.records[-1]["eigenvalue"] == listener.records[-1]["eigenvalue"]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_roll_back_draws_as_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    decision = Decision(decided_epoch=1, returned_epoch=0, earlier_average=1.0, newest_average=2.0)
    back = Scripted(1, RollBack(decision, Restart(epoch=0, weight_decay=1e-2)))
    settings = {"epochs": 2, "steps_per_epoch": 1}
    search, listener = made(name, tmp_path, regularization=back, **settings)
    outcome = search.run()
    assert outcome.restarts == 1
    assert [kind for kind, _ in listener.events] == ["restart"]
    first, undone, again = listener.records
    assert first["restart"] == undone["restart"] == 0
    assert again["restart"] == 1
    assert undone["train/loss"] == again["train/loss"], "the same draws; the weight decay acts in the update alone"
    assert all(math.isfinite(record["eigenvalue"]) for record in listener.records)


@pytest.mark.parametrize("order", ["first", "exact", "finite_difference"])
@pytest.mark.parametrize("name", METHODS)
def test_alphas_move_under_every_order(name: str, order: Any, tmp_path: Path) -> None:
    search, _ = made(name, tmp_path)
    before = [alpha.detach().clone() for alpha in search.supernet.alphas]
    batch = search.weight_stream.next()
    search.alpha_step(batch, order)
    for old, alpha in zip(before, search.supernet.alphas, strict=True):
        assert alpha.isfinite().all()
        assert not torch.equal(old, alpha)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_measuring_changes_no_step(name: str, tmp_path: Path) -> None:
    found = []
    for every in (1, 2):
        search, _ = made(name, tmp_path / str(every), epochs=3, curvature_every=every)
        search.run()
        found.append(tensors(search))
    assert same(*found)


@pytest.mark.parametrize("name", METHODS)
def test_edges_may_differ_in_their_operations(name: str) -> None:
    names = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
    nodes = tuple(tuple(EdgeSpace(source, names[: 1 + source]) for source in range(2 + node)) for node in range(2))
    space = SearchSpace("ragged", "darts", {"normal": CellSpace("normal", nodes, (1, 2))})
    architecture, relaxation = architecture_for(name, space), METHODS[name]()
    for mixture in (
        relaxation.mean(architecture),
        relaxation.weights(architecture, "alphas", 0.5),
        in_weight_step(relaxation, architecture),
    ):
        for edge, row, active in zip(space.cells["normal"].edges, mixture["normal"], actives(mixture), strict=True):
            assert (row[len(edge.operations) :] == 0).all()
            assert set(active) <= set(range(len(edge.operations)))
        if not mixture["normal"].requires_grad:
            continue
        slopes = torch.autograd.grad(
            mixture["normal"].square().sum(), list(architecture.parameters()), allow_unused=True
        )
        assert all(slope is None or slope.isfinite().all() for slope in slopes)
    penalty = relaxation.penalty(architecture, 0.5)
    assert penalty is None or penalty.isfinite()


def in_weight_step(relaxation: Any, architecture: Architecture) -> Mixture:
    mixture: Mixture = relaxation.weights(
        architecture, "weights", 0.5, lambda made: sum(table.square().sum() for table in made.values())
    )
    return mixture


def architecture_for(name: str, space: SearchSpace) -> Architecture:
    return Architecture(space, scale=1.0, edges=name == "partial")


def actives(mixture: Mixture) -> list[Any]:
    return [row.active or () for row in mixture.rows("normal")]


SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "cifar10_small"
SHAPES = ["dataset.length=8", "dataset.height=48", "dataset.width=64", "dataset.max_disparity=16",
          "space=tiny81_disparity"]  # fmt: skip
CURVATURE = ["curvature.tolerance=0.3"]
ONE_EPOCH = ["search.epochs=1", "optimizer.alphas.first_order_epochs=1", "optimizer.alphas.order=first"]
SMOKE: dict[str, list[str]] = {
    **{name: [f"relaxation={name}"] for name in METHODS if name not in ("adversarial", "auxiliary", "cost")},
    "partial": ["relaxation=partial", "relaxation.share=2"],
    "auxiliary": ["skip=auxiliary"],
    "adversarial": ["relaxation=perturbed", "relaxation.attack=adversarial", "relaxation.base=dirichlet"],
    "beta": ["alpha_penalty=beta"],
    "latency": ["cost_penalty=latency", "cost_penalty.target=1", "alpha_penalty=beta"],
    "macs": ["cost_penalty=macs", "cost_penalty.target=1e6", "relaxation=dirichlet"],
    "perturbation": ["selection=perturbation", "selection.tuning_epochs=1", "search.steps_per_epoch=1", *ONE_EPOCH],
    "frozen": ["relaxation=frozen", "selection=perturbation", "selection.tuning_epochs=0", *ONE_EPOCH],
}


ON_SHAPES = ("gumbel", "adversarial", "macs", "partial", "perturbation")
IN_BOTH = ("partial", "perturbation")
RUNS = [("disparity", name) for name in ON_SHAPES]
RUNS += [("classification", name) for name in SMOKE if name in IN_BOTH or name not in ON_SHAPES]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "name"), RUNS)
def test_whole_searches(task: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On shapes3d, and in S2 on genuine images of CIFAR-10 or, where they are absent, on made ones in its format."""
    monkeypatch.setattr(SearchFolder, "_show", lambda *_: None)
    words, data = SMOKE[name], SHAPES
    if task == "classification":
        root = SAMPLE
        if not root.is_dir():
            write_cifar10(root := tmp_path / "data")
        data = ["task=classification", "dataset=cifar10", f"dataset.root={root}", "dataset.limit=40", "space=s2"]
    tree = composed("search", f"run.folder={tmp_path / 'run'}", "experiment=smoke", *data, *CURVATURE, *words)
    folder = run_search(tree)
    space = SPACES["s2" if task == "classification" else "tiny81_disparity"]
    genotype = load(folder / "genotype.json", space=space)
    records = [record for record in read_json_lines(folder / "metrics.jsonl") if "event" not in record]
    assert len(records) == tree.search.epochs
    assert all(math.isfinite(record["train/loss"]) for record in records)
    assert genotype.provenance["relaxation"] == tree.relaxation.name
    if task == "classification" and name in IN_BOTH:
        assert report(composed("report", f"run={folder}")).stat().st_size > 1000
        assert read_run(folder).notes == []
