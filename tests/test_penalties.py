"""Penalties on the alphas against their formulas, and in the loss of the alphas."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from autodisp.cells.architecture import Architecture
from autodisp.cells.spaces import SPACES
from autodisp.config.search import AlphaPenaltyConfig
from autodisp.search.costs import CostPenalty
from autodisp.search.penalties import PENALTIES, beta
from tests.made_searches import alpha_gradients, make
from tests.test_costs import made_table
from tests.test_methods import METHODS, made


def test_the_config_names_every_penalty() -> None:
    assert set(get_args(AlphaPenaltyConfig.__annotations__["name"])) == {"none", *PENALTIES}


@pytest.mark.parametrize("space", ["s1", "s3", "autodispnet"])
def test_beta_is_the_mean_logsumexp_of_the_edges(space: str) -> None:
    architecture, sums = Architecture(SPACES[space], seed=4, scale=2.0).double(), []
    for kind, cell in SPACES[space].cells.items():
        values = iter(architecture.alphas[kind])
        for edge in cell.edges:
            sums.append(torch.stack([next(values).exp() for _ in edge.operations]).sum().log())
    torch.testing.assert_close(beta(architecture, 0.25, 8.0), 2.0 * torch.stack(sums).mean())


def test_the_gradient_of_beta_is_the_softmax() -> None:
    """d logsumexp / d alpha, over all edges; and the finite difference of the penalty itself."""
    architecture = Architecture(SPACES["s3"], seed=1, scale=1.0).double()
    alphas = architecture.alphas["normal"]
    (slope,) = torch.autograd.grad(beta(architecture, 0.5, 4.0), alphas)
    torch.testing.assert_close(slope.view(14, 3), 2.0 * architecture.weights()["normal"] / 28)
    with torch.no_grad():
        values = []
        for step in (1e-4, -2e-4):
            alphas[5] += step
            values.append(beta(architecture, 0.5, 4.0))
    torch.testing.assert_close((values[0] - values[1]) / 2e-4, slope[5], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "order"), [*((name, "first") for name in METHODS), ("gumbel", "exact"), ("dirichlet", "finite_difference")]
)
def test_a_penalty_on_the_cost_is_a_term_of_the_upper_loss(name: str, order: Any, tmp_path: Path) -> None:
    search, _ = made(name, tmp_path)
    penalty = CostPenalty(made_table(SPACES["tiny81"]), target=1.0, weight=3.0)
    gradients = []
    for penalised in (False, True):
        search.supernet.cost_penalty = penalty if penalised else None
        search.alpha_stream.seek(0)
        gradients.append(alpha_gradients(search, search.weight_stream.at(0), order))
    term = penalty(search.supernet.mean())
    slopes = torch.autograd.grad(term, search.supernet.alphas)
    assert any(slope.abs().max() > 1e-3 for slope in slopes)
    for without, penalised, slope in zip(*gradients, slopes, strict=True):
        torch.testing.assert_close(penalised - without, slope, rtol=1e-3, atol=1e-5)


def test_the_cost_of_every_epoch_is_recorded(tmp_path: Path) -> None:
    search, listener = made("cost", tmp_path, epochs=2, steps_per_epoch=2, curvature_every=2)
    search.run()
    penalty = search.supernet.cost_penalty
    assert penalty is not None
    record = listener.records[-1]
    assert record["cost/expected"] == pytest.approx(float(penalty.table.expected(search.supernet.mean().detach())))
    assert record["cost/derived"] == penalty.table.of(search.supernet.genotype())


def test_the_penalty_grows_with_the_epochs_of_a_search(tmp_path: Path) -> None:
    gradients = []
    for epochs_done in (0, 2):
        search, _ = make(tmp_path / str(epochs_done), epochs=4)
        search.progress.epochs = epochs_done
        for penalised in (True, False):
            search.supernet.alpha_penalty = (lambda made, progress: beta(made, progress, 3.0)) if penalised else None
            search.alpha_stream.seek(0)
            gradients.append(alpha_gradients(search, search.weight_stream.at(0)))
    for at_start, without, later, without_later, table in zip(
        *gradients, search.supernet.architecture.weights().values(), strict=True
    ):
        torch.testing.assert_close(at_start, without, rtol=0, atol=0)
        edges = sum(len(cell.edges) for cell in SPACES["tiny81"].cells.values())
        torch.testing.assert_close(later - without_later, (0.5 * 3.0 / edges * table).flatten(), rtol=1e-3, atol=1e-6)
