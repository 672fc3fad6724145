"""The product computes what the textbook implementation does: outputs, gradients, curvature, both alpha steps."""

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from autodisp.assembly.networks import build_style
from autodisp.assembly.search import build_data, build_search_task, build_space, build_supernet
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import MixedCells
from autodisp.cells.mixed import Node, plain_node
from autodisp.datasets.streams import Stream
from autodisp.errors import InputError
from autodisp.kernels.nodes import build_node
from autodisp.search.bilevel import InnerStep, second_order_finite_difference
from autodisp.search.supernet import Supernet

ROOT = Path(__file__).parents[1]
IMAGES = ("task=classification", "network.channels=4", "network.layers=3", "search.batch_size=4")
STEREO = ("experiment=demo", "dataset.length=4", "dataset.height=64", "dataset.width=96", "dataset.max_disparity=24")
CASES = {
    "darts": ("space=darts", *IMAGES),
    "s1": ("space=s1", *IMAGES),
    "s3": ("space=s3", *IMAGES),
    "autodispnet": STEREO,
    "regression": (*STEREO, "network.head=regression", "network.batch_norm=false"),
}
RATE = 0.05
NODES = [*((case, "native") for case in CASES), ("darts", "plain"), ("regression", "plain")]
"""Cases and implementations of their nodes; test_kernels compares the implementations."""


@pytest.fixture(autouse=True)
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))  # no package holds the benchmarks
    from benchmarks import measure

    return measure


class Pair:
    """The same supernet twice, and two batches."""

    def __init__(self, measure: ModuleType, case: str, *overrides: str, node: Node = plain_node) -> None:
        from benchmarks import textbook

        config = measure.config_of(measure.Case((*CASES[case], *measure.STILL, *overrides)))
        data = build_data(config) if config.task.name == "disparity" else measure._random_images(config)
        space = build_space(config)
        task, style = build_search_task(config, data), build_style(config.network, space)
        self.product = build_supernet(
            task, MixedCells(space, style=style, node=node), space, seed=config.seed, device=torch.device("cpu")
        )
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():  # biases of zero would put what is clamped to zero on the kink of a leaky ReLU
            for weight in self.product.network.parameters():
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
        network = task.build_network(textbook.TextbookCells(space, style=style))
        missing = network.load_state_dict(self.product.network.state_dict(), strict=False)
        assert not missing.unexpected_keys
        assert all("running" in key or "batches" in key for key in missing.missing_keys)
        self.textbook = Supernet(task, network, Architecture(space, seed=config.seed))
        with torch.no_grad():
            for mine, theirs in zip(self.product.alphas, self.textbook.alphas, strict=True):
                mine.copy_(torch.randn(mine.shape, generator=generator))
                theirs.copy_(mine)
        batches = iter(Stream(data.weight_half, batch_size=config.search.batch_size, seed=0).next, None)
        self.batches = [next(batches), next(batches)]

    def to(self, dtype: torch.dtype) -> "Pair":
        for supernet in (self.product, self.textbook):
            supernet.network.to(dtype)
            supernet.architecture.to(dtype)
        cast = [[x.to(dtype) if x.is_floating_point() else x for x in batch] for batch in self.batches]
        self.batches = [type(batch)(*new) for batch, new in zip(self.batches, cast, strict=True)]
        return self


def node_of(kind: str) -> Node:
    try:
        return build_node(kind, torch.device("cpu"), str)
    except InputError as error:
        pytest.skip(str(error))


def _quick(case: str, kind: str) -> bool:
    return kind == "native" and case in ("s3", "autodispnet")


@pytest.fixture(
    params=[pytest.param(node, marks=() if _quick(*node) else pytest.mark.slow, id="-".join(node)) for node in NODES]
)
def pair(measure: ModuleType, request: pytest.FixtureRequest) -> Pair:
    case, kind = request.param
    return Pair(measure, case, node=node_of(kind)).to(torch.float64)


def gradients(supernet: Supernet, batch: Any) -> list[Tensor]:
    loss = supernet.loss(batch)
    parameters = [*supernet.network.parameters(), *supernet.alphas]
    return [loss, *torch.autograd.grad(loss, parameters, materialize_grads=True)]


def distance(seen: Any, expected: Any) -> float:
    seen, expected = (torch.cat([x.detach().double().flatten() for x in xs]) for xs in (seen, expected))
    return float((seen - expected).norm() / expected.norm())


def test_loss_and_every_gradient(pair: Pair) -> None:
    """Also of the loss for the alphas alone, which builds no graph for the weights."""
    seen, expected = gradients(pair.product, pair.batches[0]), gradients(pair.textbook, pair.batches[0])
    for mine, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10 * float(theirs.detach().abs().max()))
    loss, alphas = pair.product.alpha_loss(pair.batches[0]), pair.product.alphas
    assert loss == seen[0]
    assert distance(torch.autograd.grad(loss, alphas), expected[-len(alphas) :]) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("pair", [("darts", "native"), ("autodispnet", "plain")], indirect=True)
def test_rows_of_the_hessian(pair: Pair) -> None:
    rows = []
    for loss, alphas in (
        (pair.product.alpha_loss(pair.batches[0]), pair.product.alphas),
        (pair.textbook.loss(pair.batches[0]), pair.textbook.alphas),
    ):
        slopes = torch.autograd.grad(loss, alphas, create_graph=True)
        probes = [slope[place] for slope, place in zip(slopes, (3, -5, 7), strict=False)]
        rows.append([torch.cat(torch.autograd.grad(p, alphas, retain_graph=True)) for p in probes])
    assert distance(*rows) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(
    "pair",
    [("darts", "native"), ("s3", "plain"), ("autodispnet", "plain"), ("regression", "native")],
    indirect=True,
)
def test_second_order_step_with_momentum(pair: Pair) -> None:
    from benchmarks import textbook

    supernet = pair.textbook
    optimizer = torch.optim.SGD(supernet.network.parameters(), lr=RATE, momentum=0.9, weight_decay=3e-4)
    twin = torch.optim.SGD(pair.product.network.parameters(), lr=RATE, momentum=0.9, weight_decay=3e-4)
    textbook.weight_step(supernet, pair.batches[1], optimizer, 5.0)
    textbook.weight_step(pair.product, pair.batches[1], twin, 5.0)
    weights = dict(pair.product.network.named_parameters())
    assert distance(weights.values(), supernet.network.parameters()) < 1e-10
    before = copy.deepcopy(supernet.network.state_dict())
    seen = second_order_finite_difference(
        lambda w: pair.product.loss(pair.batches[0], w),
        lambda w: pair.product.loss(pair.batches[1], w),
        weights,
        pair.product.alphas,
        InnerStep.of(twin, weights),
    )
    expected = textbook.second_order_gradient(supernet, *pair.batches, optimizer)
    assert distance(seen, expected) < 1e-8  # a difference of two nearly equal gradients
    after = supernet.network.state_dict()
    names = [name for name, _ in supernet.network.named_parameters()]
    assert distance([after[name] for name in names], [before[name] for name in names]) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("case", "kind"), [("s1", "plain"), ("autodispnet", "native")])
def test_single_precision(measure: ModuleType, case: str, kind: str) -> None:
    """Where rounding moves no ReLU and no maximum across its kink, gradients agree to 1e-5, and outputs in any case."""
    errors = []
    for seed in range(4):
        pair = Pair(measure, case, f"seed={seed}", node=node_of(kind))
        seen = gradients(pair.product, pair.batches[0])
        exact = gradients(pair.to(torch.float64).textbook, pair.batches[0])
        assert distance(seen[:1], exact[:1]) < 1e-5
        errors.append(distance(seen, exact))
    assert min(errors) < 1e-5
    assert max(errors) < 0.05
