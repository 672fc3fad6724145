"""Perturbed edge weights against a plain loop and the moments of their draws."""

from typing import Any

import pytest
import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SPACES
from autodisp.search.perturbed import Perturbed, on_simplex
from autodisp.search.relaxations import Softmax


def quadratic(target: float) -> Any:
    """A loss of the edge weights with a gradient of its own at every entry."""

    def loss(mixture: Mixture) -> Tensor:
        terms = [
            ((table - target) * torch.arange(1, table.numel() + 1).view(table.shape)).square().sum()
            for table in mixture.values()
        ]
        return torch.stack(terms).sum()

    return loss


def test_the_simplex_row_by_row() -> None:
    rows = torch.tensor([[0.5, 0.7, 0.0], [-0.2, 1.5, 0.0], [-0.3, -0.1, 0.0], [0.2, 0.3, 0.4]])
    present = torch.tensor([[True, True, False]] * 3 + [[True] * 3])
    expected = torch.tensor([[5 / 12, 7 / 12, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [2 / 9, 3 / 9, 4 / 9]])
    torch.testing.assert_close(on_simplex(rows, present), expected)


def test_random_perturbations_are_uniform_within_the_radius() -> None:
    """With two equal weights and a radius below 1/2 nothing is clipped: w = (1/2 + a) / (1 + a + b)."""
    architecture, draws, radius = Architecture(SPACES["s2"], scale=0.0), 2000, 0.03 + (0.3 - 0.03) * 0.5
    torch.manual_seed(0)
    relaxation = Perturbed(Softmax())
    found = torch.stack([relaxation.weights(architecture, "weights", 0.5)["normal"] for _ in range(draws)])
    noise = torch.empty(100_000, 2, dtype=torch.float64).uniform_(-radius, radius)
    expected = (0.5 + noise[:, 0]) / (1 + noise.sum(-1))
    values = found[..., 0].double()
    assert values.min() >= (0.5 - radius) - 1e-6
    assert values.max() <= (0.5 + radius) + 1e-6
    assert ((values.mean(0) - 0.5).abs() < 4.5 * expected.std() / draws**0.5).all()
    assert (values.std(0) / expected.std() - 1).abs().max() < 0.1
    assert not found.requires_grad


@pytest.mark.parametrize("target", [0.2, 5.0])
def test_the_ascent_is_a_plain_loop(target: float) -> None:
    architecture = Architecture(SPACES["s3"], seed=1, scale=1.0).double()
    loss, steps = quadratic(target), 3
    torch.manual_seed(7)
    found = Perturbed(Softmax(), "adversarial", steps=steps).weights(architecture, "weights", 0.25, loss)
    torch.manual_seed(7)
    radius = 0.03 + 0.27 * 0.25
    base = {kind: table.detach() for kind, table in architecture.weights().items()}
    moved = {
        kind: projected(table + torch.empty(42, dtype=torch.float64).uniform_(-radius, radius).view(14, 3))
        for kind, table in base.items()
    }
    for _ in range(steps):
        for kind, table in moved.items():
            factors = torch.arange(1, 43, dtype=torch.float64).view(14, 3)
            slope = 2 * factors**2 * (table - target)
            step = table + 2 * radius / steps * slope.sign()
            moved[kind] = projected(base[kind] + (step - base[kind]).clamp(-radius, radius))
    kept = moved if loss(Mixture(moved)) >= loss(Mixture(base)) else base
    for kind, table in kept.items():
        torch.testing.assert_close(found[kind], table)
    assert loss(found) >= loss(Mixture(base))


def test_an_ascent_that_lowers_the_loss_is_not_kept() -> None:
    architecture, calls = Architecture(SPACES["s2"], scale=1.0), []

    def falling(mixture: Mixture) -> Tensor:
        calls.append(mixture)
        return mixture["normal"].sum() * 0 - len(calls)

    found = Perturbed(Softmax(), "adversarial").weights(architecture, "weights", 0.5, falling)
    assert len(calls) == 1 + 7 + 1
    for kind, table in architecture.weights().items():
        assert torch.equal(found[kind], table)


def test_alpha_steps_and_the_mean_are_the_bases() -> None:
    architecture, relaxation = Architecture(SPACES["s2"], scale=1.0), Perturbed(Softmax(), "adversarial")
    for mixture in (relaxation.mean(architecture), relaxation.weights(architecture, "alphas", 0.5)):
        assert mixture["normal"].requires_grad
        assert torch.equal(mixture["normal"], architecture.weights()["normal"])
    with pytest.raises(ValueError, match="needs the training loss"):
        relaxation.weights(architecture, "weights", 0.5)


def projected(table: Tensor) -> Tensor:
    rows = []
    for row in table:
        clipped = [min(max(value, 0.0), 1.0) for value in row.tolist()]
        if sum(clipped) == 0:
            clipped[int(row.argmax())] = 1.0
        rows.append([value / sum(clipped) for value in clipped])
    return torch.tensor(rows, dtype=table.dtype)
