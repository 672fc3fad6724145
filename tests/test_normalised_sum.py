"""Against torch's batch normalisation, one tensor after another."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from autodisp.cells.normalised_sum import normalised_products, normalised_sum

SHAPE = (2, 3, 2, 3)


@pytest.fixture
def inputs() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(SHAPE, dtype=torch.float64, requires_grad=True) for _ in range(3)]


@pytest.fixture
def weights() -> Tensor:
    return torch.tensor([0.7, -1.3, 0.0], dtype=torch.float64, requires_grad=True)


@pytest.fixture
def matrices() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]


def normalised(x: Tensor) -> Tensor:
    return functional.batch_norm(x, None, None, training=True)


def test_sum(inputs: list[Tensor], weights: Tensor) -> None:
    expected = torch.stack([w * normalised(p) for w, p in zip(weights, inputs, strict=True)]).sum(0)
    torch.testing.assert_close(normalised_sum(inputs, weights), expected)


def test_products(inputs: list[Tensor], matrices: list[Tensor], weights: Tensor) -> None:
    convolved = [functional.conv2d(z, P[:, :, None, None]) for z, P in zip(inputs, matrices, strict=True)]
    expected = torch.stack([w * normalised(p) for w, p in zip(weights, convolved, strict=True)]).sum(0)
    torch.testing.assert_close(normalised_products(inputs, matrices, weights), expected)


def test_derivatives_of_the_sum(inputs: list[Tensor], weights: Tensor) -> None:
    def of(weights: Tensor, *inputs: Tensor) -> Tensor:
        return normalised_sum(inputs, weights)

    assert gradcheck(of, (weights, *inputs))
    assert gradgradcheck(of, (weights, *inputs))


@pytest.mark.parametrize("fixed", [True, False])
def test_derivatives_of_the_products(
    inputs: list[Tensor], matrices: list[Tensor], weights: Tensor, fixed: bool
) -> None:
    matrices = [P.detach().requires_grad_(not fixed) for P in matrices]

    def of(weights: Tensor, *others: Tensor) -> Tensor:
        return normalised_products(others[3:], others[:3], weights)

    assert gradcheck(of, (weights, *matrices, *inputs))
    assert gradgradcheck(of, (weights, *matrices, *inputs))


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """Single precision, where a difference of moments would leave nothing of the variance."""
    torch.manual_seed(0)
    z, P = 1e3 + torch.randn(4, 8, 16, 16), torch.randn(8, 8)
    exact = normalised(functional.conv2d(z.double(), P.double()[:, :, None, None]))
    seen = normalised_products([z], [P], torch.ones(1))
    torch.testing.assert_close(seen.double(), exact, rtol=0, atol=2e-3)  # of an error of 1 if moments were subtracted
    assert (normalised_sum([z], torch.ones(1)).double() - normalised(z.double())).abs().max() < 1e-3


def test_a_constant_is_normalised_to_zero() -> None:
    x = torch.full(SHAPE, 3.0, requires_grad=True)
    y = normalised_sum([x], torch.ones(1))
    (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert (y == 0).all()
    assert gradient.isfinite().all()


def test_the_result_may_be_written_over(inputs: list[Tensor], weights: Tensor) -> None:
    y = normalised_sum(inputs, weights)
    assert y.is_contiguous(memory_format=torch.channels_last)
    expected = torch.autograd.grad(torch.relu(y.clone()).sum(), inputs[0], retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(y.relu_().sum(), inputs[0]), expected)


def test_single_precision_keeps_five_digits_of_a_gradient() -> None:
    torch.manual_seed(0)
    z, P = [2 + torch.randn(4, 8, 16, 16) for _ in range(4)], [torch.randn(8, 8) for _ in range(4)]
    weights, probe = torch.rand(4), torch.randn(4, 8, 16, 16)
    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.to(dtype).requires_grad_() for x in (weights, *P, *z)]
        y = normalised_products(leaves[5:], leaves[1:5], leaves[0])
        found.append([y, *torch.autograd.grad(y, leaves, probe.to(dtype))])
    for seen, exact in zip(*found, strict=True):
        assert (seen.double() - exact).norm() < 1e-5 * exact.norm()
