"""Edge weights of a step, their mean, and what the loop does with them."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from torch import Tensor, nn
from torch.func import functional_call

from autodisp.cells.architecture import Architecture, one_hot, single_path
from autodisp.cells.genotype import Genotype, check
from autodisp.cells.mixed import MixedOperation
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SPACES
from autodisp.search import bilevel
from autodisp.search.curvature import frozen_statistics, preserved_rng
from autodisp.search.relaxations import Dirichlet, Gumbel, Sigmoid, Softmax, Uniform
from tests.made_models import TwoCells
from tests.made_searches import Batches, alpha_gradients, make, tensors, uniform_search
from tests.programs import same


class Noisy(Softmax):
    """Softmax of alphas plus noise, with a penalty; keeps what it drew."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []
        self.phases: list[tuple[str, float]] = []

    def weights(
        self, architecture: Architecture, phase: Any, progress: float, loss: Callable[[Mixture], Tensor] | None = None
    ) -> Mixture:
        tables = architecture.weights()
        found = {kind: torch.softmax(table.log() + torch.randn(table.shape), -1) for kind, table in tables.items()}
        self.drawn.append(found["normal"].detach())
        self.phases.append((phase, progress))
        return Mixture(found)

    def penalty(self, architecture: Architecture, progress: float) -> Tensor:
        return 0.5 * sum((alphas.square().sum() for alphas in architecture.alphas.values()), torch.zeros(()))


@pytest.mark.parametrize("name", SPACES)
def test_the_softmax_is_the_same_in_every_step_and_on_average(name: str) -> None:
    architecture = Architecture(SPACES[name], seed=3, scale=1.0)
    expected = architecture.weights()
    for mixture in (Softmax().mean(architecture), Softmax().weights(architecture, "weights", 0.5)):
        assert (mixture.edges, mixture.active) == (None, None)
        assert all(torch.equal(mixture[kind], expected[kind]) for kind in expected)
        assert all(mixture[kind].requires_grad for kind in expected)
    assert Softmax().penalty(architecture, 0.5) is None


def test_draws_take_sources_without_and_operations_with_replacement() -> None:
    draw, draws = random.Random(0), 9000
    pairs: Counter[tuple[int, ...]] = Counter()
    names: Counter[tuple[str, ...]] = Counter()
    for _ in range(draws):
        node = SPACES["s3"].cells["normal"].draw_node(2, draw)  # of four sources, three operations
        pairs[tuple(source for _, source in node)] += 1
        names[tuple(name for name, _ in node)] += 1
    operations = ("none", "skip_connect", "sep_conv_3x3")
    assert set(pairs) == set(itertools.combinations(range(4), 2)), "two of the sources, never one twice"
    assert set(names) == set(itertools.product(operations, repeat=2)), "one operation may stand twice; none is drawn"
    for counts in (pairs, names):  # 99.99 % of the chi-square with 8 degrees of freedom lie below 31.8
        expected = draws / len(counts)
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < 31.8


def test_the_mean_is_the_expectation_of_the_draws() -> None:
    architecture, draws = Architecture(SPACES["s1"]), 500
    torch.manual_seed(0)
    total = sum(Uniform().weights(architecture, "weights", 0.0)["reduce"] for _ in range(draws))
    mean = Uniform().mean(architecture)["reduce"]
    assert ((total / draws - mean).abs() < 4.5 * (mean * (1 - mean) / draws).sqrt()).all()


@pytest.mark.parametrize("name", SPACES)
def test_a_draw_keeps_as_many_edges_as_its_space(name: str) -> None:
    space = SPACES[name]
    architecture = Architecture(space)
    mixture, mean = Uniform().weights(architecture, "weights", 0.0), Uniform().mean(architecture)
    for kind, cell in space.cells.items():
        start = 0
        for node, keep in zip(cell.nodes, cell.keep, strict=True):
            rows = slice(start, start + len(node))
            assert mixture[kind][rows].sum() == keep
            assert mean[kind][rows].sum().item() == pytest.approx(keep)
            start += len(node)
        assert mixture.active is not None
        assert mixture.active[kind] == [row.nonzero().flatten().tolist() for row in mixture[kind]]


def test_draws_come_from_the_run_state() -> None:
    architecture = Architecture(SPACES["s2"])
    before = torch.get_rng_state()
    first, second = (Uniform().weights(architecture, "weights", 0.0)["normal"] for _ in range(2))
    assert not torch.equal(first, second)
    torch.set_rng_state(before)
    assert torch.equal(Uniform().weights(architecture, "weights", 0.0)["normal"], first)


def test_only_active_operations_run() -> None:
    network = TwoCells("s3")
    mixture = Uniform().weights(Architecture(SPACES["s3"]), "weights", 0.0)
    assert mixture.active is not None
    ran: list[nn.Module] = []
    expected: list[nn.Module] = []
    for cell in (network.normal, network.reduce):
        for edge, active in zip(cell.edges, mixture.active[cell.kind], strict=True):
            assert isinstance(edge, MixedOperation)
            expected += [edge.operations[place] for place in active]
            for operation in edge.operations:
                operation.register_forward_hook(lambda module, *_: ran.append(module))
    network(torch.rand(2, 3, 6, 6), mixture)
    assert len(expected) == 16
    assert Counter(map(id, ran)) == Counter(map(id, expected)), "each once, and no other"


@pytest.mark.parametrize("space", ["s1", "s3", "darts"])
def test_a_single_path_is_the_sum_with_weights_of_one_and_zero(space: str) -> None:
    network = TwoCells(space).double()
    image = torch.rand(2, 3, 7, 5, dtype=torch.float64)
    for seed in range(3):
        genotype = Genotype(space, SPACES[space].sample(seed))
        check(genotype, SPACES[space])
        folded = network(image, {kind: table.double() for kind, table in one_hot(SPACES[space], genotype).items()})
        torch.testing.assert_close(network(image, single_path(SPACES[space], genotype, image.device)), folded)


def test_factors_multiply_whole_edges() -> None:
    network = TwoCells("s3").double()
    image = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    tables = {kind: table.double() for kind, table in Architecture(SPACES["s3"], scale=1.0).weights().items()}
    factors = {kind: torch.rand(14, dtype=torch.float64) for kind in tables}
    product = {kind: factors[kind][:, None] * table for kind, table in tables.items()}
    torch.testing.assert_close(network(image, Mixture(tables, edges=factors)), network(image, product))


def test_a_node_without_active_operation_is_refused() -> None:
    network = TwoCells("tiny81")
    tables = Architecture(SPACES["tiny81"]).weights()
    with pytest.raises(ValueError, match="normal cell, node 0: no operation is active, must be one at least"):
        network(torch.rand(2, 3, 6, 6), Mixture(tables, active=dict.fromkeys(tables, ((), ()))))


def test_an_operation_that_did_not_run_is_decayed_as_at_weight_zero(tmp_path: Path) -> None:
    found = []
    for name in ("path", "table"):
        search, _ = uniform_search(tmp_path / name)
        before = [parameter.detach().clone() for parameter in search.supernet.network.parameters()]
        if name == "table":

            class Full(Uniform):
                def weights(self, *args: Any) -> Mixture:
                    return Mixture(super().weights(*args).operations)

            search.supernet.relaxation = Full()
        torch.manual_seed(4)
        search.weight_step(Batches(1).at(0))
        found.append([parameter.detach() for parameter in search.supernet.network.parameters()])
    assert all(not torch.equal(a, b) for a, b in zip(before, found[0], strict=True)), "all weights decay"
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_phases_progress_and_the_penalty_reach_the_loop(tmp_path: Path) -> None:
    search, _ = make(tmp_path, epochs=4, steps_per_epoch=1, curvature_every=4)
    search.supernet.relaxation = noisy = Noisy()
    for _ in range(2):
        search.run_epoch()
    assert noisy.phases == [("alphas", 0.0), ("weights", 0.0), ("alphas", 0.25), ("weights", 0.25)]
    supernet, batch = search.supernet, search.alpha_stream.at(2)
    gradients = []
    for penalised in (True, False):
        search.alpha_stream.seek(2)
        with pytest.MonkeyPatch.context() as patch:
            if not penalised:
                patch.setattr(noisy, "penalty", lambda *_: None)
            gradients.append(alpha_gradients(search, batch))
    for with_penalty, without, alphas in zip(*gradients, supernet.alphas, strict=True):
        torch.testing.assert_close(with_penalty, without + alphas.detach())


def test_curvature_validation_and_genotype_take_the_mean(tmp_path: Path) -> None:
    search, listener = make(tmp_path)
    before = search.measure_curvature(), search.validate(), search.supernet.genotype()
    search.progress.history.clear()
    search.progress.eigenvector = None
    search.supernet.relaxation = noisy = Noisy()
    after = search.measure_curvature(), search.validate(), search.supernet.genotype()
    assert before[0]["eigenvalue"] == after[0]["eigenvalue"]
    assert before[1:] == after[1:]
    assert noisy.drawn == [] == listener.messages


@pytest.mark.parametrize("order", ["exact", "finite_difference"])
def test_a_second_order_gradient_draws_the_same_for_the_training_loss(tmp_path: Path, order: Any) -> None:
    search, _ = make(tmp_path)
    search.supernet.relaxation = noisy = Noisy()
    search.alpha_step(Batches(1).next(), order)
    train, validation, *more = noisy.drawn
    assert not torch.equal(train, validation)
    assert len(more) == (2 if order == "finite_difference" else 0)
    assert all(torch.equal(train, other) for other in more)


def test_the_exact_gradient_goes_through_the_draws(tmp_path: Path) -> None:
    search, _ = make(tmp_path)
    supernet, noisy = search.supernet, Noisy()
    supernet.relaxation = noisy
    supernet.network.double()
    supernet.architecture.double()
    train, validation = (
        batch._replace(image=batch.image.double(), target=batch.target.double())
        for batch in (Batches(1).at(0), Batches(2).at(0))
    )
    names = dict(supernet.network.named_parameters())

    def loss(batch: Any, parameters: Any) -> Tensor:
        mixture = noisy.weights(supernet.architecture, "alphas", 0.0)
        return supernet.task.loss(functional_call(supernet.network, dict(parameters), (batch.image, mixture)), batch)

    torch.manual_seed(7)
    found = bilevel.alpha_gradient(
        "exact",
        lambda w: loss(train, w),
        lambda w: loss(validation, w),
        names,
        supernet.alphas,
        bilevel.InnerStep(0.1),
    )
    torch.manual_seed(7)
    with preserved_rng():
        state = torch.get_rng_state()
        seed = int(torch.randint(2**62, ()).item())
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        slopes = torch.autograd.grad(loss(train, names), list(names.values()), create_graph=True, allow_unused=True)
        moved = {
            name: weight if slope is None else weight - 0.1 * slope
            for (name, weight), slope in zip(names.items(), slopes, strict=True)
        }
        torch.set_rng_state(after)
        expected = torch.autograd.grad(loss(validation, moved), supernet.alphas)
    assert not torch.equal(state, after)
    torch.testing.assert_close(found, list(expected))
    assert all(gradient.abs().max() > 0 for gradient in found)


def test_a_weight_step_hands_its_loss_to_the_relaxation(tmp_path: Path) -> None:
    search, _ = make(tmp_path / "climbing")
    plain, _ = make(tmp_path / "plain")
    slopes: list[Tensor] = []

    class Climbing(Softmax):
        def weights(self, architecture: Any, phase: Any, progress: float, loss: Any = None) -> Mixture:
            mixture = self.mean(architecture).detach()
            for table in mixture.values():
                table.requires_grad_()
            slopes.extend(torch.autograd.grad(loss(mixture), list(mixture.values())))
            return mixture

    search.supernet.relaxation = Climbing()
    batch = Batches(1).next()
    supernet = plain.supernet
    with frozen_statistics(supernet.network):
        expected = torch.autograd.grad(supernet.loss(batch), supernet.alphas)
    sums = [one.weight_step(batch)["loss"] for one in (search, plain)]
    assert torch.equal(*sums)
    assert same(tensors(search), tensors(plain)), "running statistics among them, which the ascent must not move"
    for table, alphas, slope in zip(supernet.mean().values(), expected, slopes, strict=True):
        rows = slope.detach() * table  # through the softmax
        torch.testing.assert_close((rows - table * rows.sum(-1, keepdim=True)).flatten(), alphas)


def test_a_search_without_alphas_moves_weights_alone(tmp_path: Path) -> None:
    search, listener = uniform_search(tmp_path, epochs=2)
    start = tensors(search)
    search.run()
    end = tensors(search)
    assert same(start[-2:], end[-2:])
    assert not same(start[:-2], end[:-2])
    assert search.alpha_stream.position == 0
    for record in listener.records:
        assert not {"eigenvalue", "alphas", "entropy/normal"} & set(record)
        assert math.isfinite(record["valid/mse"])


def test_dirichlet_samples_have_the_moments_of_their_concentrations() -> None:
    architecture, draws = Architecture(SPACES["s3"], seed=2, scale=1.0), 1000
    torch.manual_seed(0)
    samples = torch.stack([Dirichlet().weights(architecture, "alphas", 0.0)["normal"].detach() for _ in range(draws)])
    alphas = architecture.alphas["normal"].detach().view(14, 3)
    concentration = torch.where(alphas > 0, alphas + 1, alphas.exp())  # elu(alpha) + 1
    total = concentration.sum(-1, keepdim=True)
    mean = concentration / total
    variance = mean * (1 - mean) / (total + 1)
    torch.testing.assert_close(Dirichlet().mean(architecture)["normal"], mean)
    assert ((samples.mean(0) - mean).abs() < 4.5 * (variance / draws).sqrt()).all()
    assert ((samples.var(0) / variance - 1).abs() < 0.3).all()
    torch.testing.assert_close(samples.sum(-1), torch.ones(draws, 14))


def test_the_gradient_through_dirichlet_samples_is_that_of_their_expectation() -> None:
    """Of E[x_0 ** 2] = c_0 (c_0 + 1) / (c (c + 1)), with c the sum of the concentrations."""
    architecture = Architecture(SPACES["s2"], scale=1.0)
    alphas = architecture.alphas["normal"]

    def expected(values: Tensor) -> Tensor:
        concentration = torch.nn.functional.elu(values.view(14, 2)) + 1
        total = concentration.sum(-1)
        return (concentration[:, 0] * (concentration[:, 0] + 1) / (total * (total + 1))).sum()

    (slope,) = torch.autograd.grad(expected(alphas), alphas)
    torch.manual_seed(1)
    found = []
    for _ in range(500):
        table = Dirichlet().weights(architecture, "alphas", 0.0)["normal"]
        found += torch.autograd.grad(table[:, 0].square().sum(), alphas)
    estimates = torch.stack(found)
    assert ((estimates.mean(0) - slope).abs() < 4.5 * estimates.std(0) / 500**0.5).all()


def test_the_penalty_of_dirichlet_is_the_divergence_from_its_start() -> None:
    architecture = Architecture(SPACES["s1"], seed=1, scale=0.7)
    expected = 0.0
    for kind, cell in SPACES["s1"].cells.items():
        values = iter(architecture.alphas[kind].tolist())
        for edge in cell.edges:
            found = [next(values) for _ in edge.operations]
            c = np.array([value + 1 if value > 0 else math.exp(value) for value in found])
            expected += gammaln(c.sum()) - gammaln(c).sum() - gammaln(len(c))
            expected += ((c - 1) * (digamma(c) - digamma(c.sum()))).sum()
    penalty = Dirichlet(penalty=0.5).penalty(architecture, 0.3)
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.5 * expected, rel=1e-5)
    assert Dirichlet(penalty=0.0).penalty(architecture, 0.3) is None
    at_start = Dirichlet().penalty(Architecture(SPACES["s1"], scale=0.0), 0.3)
    assert at_start is not None
    assert at_start.abs() < 1e-9


def test_dirichlet_bears_alphas_far_from_their_start() -> None:
    architecture = Architecture(SPACES["s2"])
    with torch.no_grad():
        architecture.alphas["normal"].copy_(torch.tensor([-40.0, 30.0] * 14))
    for mixture in (Dirichlet().mean(architecture), Dirichlet().weights(architecture, "weights", 0.0)):
        assert mixture["normal"].isfinite().all()


def test_gumbel_draws_operations_with_the_probabilities_of_the_softmax() -> None:
    architecture, draws = Architecture(SPACES["s3"], seed=2, scale=1.0), 1000
    torch.manual_seed(0)
    samples = [Gumbel().weights(architecture, "alphas", 0.5) for _ in range(draws)]
    expected = architecture.weights()["reduce"].detach()
    counts = torch.stack([sample["reduce"].detach() for sample in samples]).mean(0)
    assert ((counts - expected).abs() < 4.5 * (expected * (1 - expected) / draws).sqrt()).all()
    for sample in samples[:20]:
        assert sample.active is not None
        for kind, table in sample.items():
            assert table.detach().count_nonzero(-1).eq(1).all()
            assert sample.active[kind] == [[place] for place in table.argmax(-1).tolist()]
    assert torch.equal(Gumbel().mean(architecture)["reduce"], architecture.weights()["reduce"])


@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 10.0), (0.5, 5.05), (0.9, 1.09)])
def test_the_gradient_of_gumbel_is_that_of_the_relaxed_sample(progress: float, temperature: float) -> None:
    architecture = Architecture(SPACES["s2"], scale=1.0).double()
    alphas, probe = architecture.alphas["normal"], torch.randn(14, 2, dtype=torch.float64)
    torch.manual_seed(3)
    table = Gumbel().weights(architecture, "alphas", progress)["normal"]
    (found,) = torch.autograd.grad((table * probe).sum(), alphas)
    torch.manual_seed(3)
    noise = -torch.empty(14, 2, dtype=torch.float64).exponential_().log()
    slopes = torch.zeros_like(alphas)
    for place in range(28):  # a central difference of the relaxed sample
        values = []
        for step in (1e-5, -1e-5):
            moved = alphas.detach().clone()
            moved[place] += step
            values.append((torch.softmax((moved.view(14, 2) + noise) / temperature, -1) * probe).sum())
        slopes[place] = (values[0] - values[1]) / 2e-5
    torch.testing.assert_close(found, slopes, rtol=1e-6, atol=1e-8)


def test_the_sigmoid_and_its_zero_one_loss() -> None:
    architecture, total, count = Architecture(SPACES["s1"], seed=5, scale=2.0), 0.0, 0
    mixture = Sigmoid().mean(architecture)
    for kind, cell in SPACES["s1"].cells.items():
        values = iter(architecture.alphas[kind].tolist())
        for edge, row in zip(cell.edges, mixture[kind].tolist(), strict=True):
            expected = [1 / (1 + math.exp(-next(values))) for _ in edge.operations]
            assert row == pytest.approx(expected + [0.0] * (len(row) - len(expected)))
            total += sum((value - 0.5) ** 2 for value in expected)
            count += len(expected)
    penalty = Sigmoid(penalty=3.0).penalty(architecture, 0.1)
    assert penalty is not None
    assert penalty.item() == pytest.approx(-3.0 * total / count)
    slopes = torch.autograd.grad(penalty, list(architecture.alphas.values()))
    for slope, alphas in zip(slopes, architecture.alphas.values(), strict=True):
        assert (slope * alphas < 0).all(), "a step against the gradient moves every alpha away from 0"
    assert Sigmoid(penalty=0.0).penalty(architecture, 0.1) is None
