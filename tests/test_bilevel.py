from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from autodisp.errors import InputError
from autodisp.search.bilevel import (
    InnerStep,
    WeightedLoss,
    alpha_gradient,
    first_order,
    second_order_exact,
    second_order_finite_difference,
)
from autodisp.search.curvature import frozen_statistics

STEP = InnerStep(0.2, momentum=0.9, weight_decay=0.3)
PLAIN = InnerStep(0.2)


class Quadratic:
    """A bilevel problem whose hypergradient can be written down.

    L_train(w, a) = w'Aw/2 + w'B sin(a) + sum_i a_i w'D_i w / 2, so grad_w = (A + sum a_i D_i) w + B sin(a) and
    its derivative in a_i is D_i w + B_i cos(a_i). L_val(w, a) = |w - t|^2 / 2 + (c'a) (e'w).
    """

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.weights = {"first": draw(2, 2), "second": draw(3)}
        self.buffers = {"first": draw(2, 2), "second": draw(3)}
        self.alphas = [draw(1).requires_grad_(), draw(1, 2).requires_grad_()]
        self.a_matrix, self.b_matrix, self.d_matrices = draw(7, 7), draw(7, 3), draw(3, 7, 7)
        self.a_matrix = self.a_matrix + self.a_matrix.T
        self.d_matrices = self.d_matrices + self.d_matrices.mT
        self.target, self.c, self.e = draw(7), draw(3), draw(7)

    def flat_alpha(self) -> Tensor:
        return torch.cat([alpha.flatten() for alpha in self.alphas])

    def train(self, weights: Mapping[str, Tensor]) -> Tensor:
        w, a = flat(weights), self.flat_alpha()
        matrix = self.a_matrix + (a[:, None, None] * self.d_matrices).sum(0)
        return w @ matrix @ w / 2 + w @ self.b_matrix @ a.sin()

    def validation(self, weights: Mapping[str, Tensor]) -> Tensor:
        w = flat(weights)
        return ((w - self.target) ** 2).sum() / 2 + (self.c @ self.flat_alpha()) * (self.e @ w)

    def closed_form(self, step: InnerStep) -> Tensor:
        w, b, a = flat(self.weights), flat(self.buffers), self.flat_alpha().detach()
        gradient = (self.a_matrix + torch.einsum("i,ijk->jk", a, self.d_matrices)) @ w + self.b_matrix @ a.sin()
        moved = w - step.learning_rate * (step.momentum * b + gradient + step.weight_decay * w)
        slope = moved - self.target + (self.c @ a) * self.e
        jacobian = torch.einsum("ijk,k->ji", self.d_matrices, w) + self.b_matrix * a.cos()
        return self.c * (self.e @ moved) - step.learning_rate * jacobian.T @ slope


def flat(tensors: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
    values = tensors.values() if isinstance(tensors, Mapping) else tensors
    return torch.cat([value.flatten() for value in values])


class Supernet(nn.Module):
    """A mixed edge of three operations between train-mode BatchNorms, and a part that the loss does not use."""

    def __init__(self, activation: type[nn.Module], random: bool) -> None:
        super().__init__()
        self.random = random
        self.activation = activation()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.small = nn.Sequential(activation(), nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4, affine=False))
        self.large = nn.Sequential(activation(), nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.classifier = nn.Linear(4, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, image: Tensor, alpha: Tensor) -> Tensor:
        x = self.stem(image)
        weight = alpha.softmax(0)
        third = torch.randn_like(x) if self.random else x
        x = weight[0] * self.small(x) + weight[1] * self.large(x) + weight[2] * third
        return self.classifier(self.activation(functional.dropout(x, 0.3 if self.random else 0.0)).mean((2, 3)))


def supernet(
    activation: type[nn.Module] = nn.SiLU, random: bool = False
) -> tuple[Supernet, list[Tensor], WeightedLoss, WeightedLoss]:
    torch.manual_seed(5)
    network = Supernet(activation, random).double()
    alphas = [torch.randn(3, dtype=torch.float64).requires_grad_()]

    def loss_of_a_batch() -> WeightedLoss:
        image, label = torch.randn(8, 3, 6, 6, dtype=torch.float64), torch.randint(3, (8,))
        return lambda weights: functional.cross_entropy(
            functional_call(network, dict(weights), (image, *alphas)), label
        )

    return network, alphas, loss_of_a_batch(), loss_of_a_batch()


def brute_force(
    train: WeightedLoss,
    validation: WeightedLoss,
    weights: Mapping[str, Tensor],
    alphas: Sequence[Tensor],
    step: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> Tensor:
    """alpha -> L_val(w'(alpha), alpha), differentiated by moving one entry at a time."""

    def value() -> float:
        leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        gradients = torch.autograd.grad(train(leaves), tuple(leaves.values()), materialize_grads=True)
        return validation(step(weights, dict(zip(leaves, gradients, strict=True)))).item()

    slopes = []
    for alpha in alphas:
        for entry in alpha.detach().view(-1).unbind():
            middle = entry.item()
            sides = []
            for side in (1e-5, -1e-5):
                entry.fill_(middle + side)
                sides.append(value())
            entry.fill_(middle)
            slopes.append((sides[0] - sides[1]) / 2e-5)
    return torch.tensor(slopes, dtype=torch.float64)


@pytest.mark.parametrize("step", [STEP, PLAIN, replace(STEP, learning_rate=0.0)])
@pytest.mark.parametrize(("order", "tolerance"), [("exact", 1e-8), ("finite_difference", 1e-4)])
def test_closed_form_of_a_quadratic_problem(step: InnerStep, order: Any, tolerance: float) -> None:
    problem = Quadratic()
    inner = replace(step, buffers=problem.buffers)
    found = alpha_gradient(order, problem.train, problem.validation, problem.weights, problem.alphas, inner)
    assert [gradient.shape for gradient in found] == [(1,), (1, 2)]
    torch.testing.assert_close(flat(found), problem.closed_form(step), rtol=0, atol=tolerance)


def test_orders_differ_and_first_order_is_the_direct_part() -> None:
    problem = Quadratic()
    found = alpha_gradient("first", problem.train, problem.validation, problem.weights, problem.alphas, STEP)
    direct = problem.c * (problem.e @ flat(problem.weights))
    torch.testing.assert_close(flat(found), direct)
    assert (flat(found) - problem.closed_form(STEP)).abs().min() > 1e-2
    torch.testing.assert_close(
        flat(found), flat(first_order(lambda: problem.validation(problem.weights), problem.alphas))
    )


@pytest.mark.parametrize("second_order", [second_order_exact, second_order_finite_difference])
def test_no_gradients_are_left_behind(second_order: Callable[..., list[Tensor]]) -> None:
    problem = Quadratic()
    weights = {name: nn.Parameter(weight) for name, weight in problem.weights.items()}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    found = second_order(problem.train, problem.validation, weights, problem.alphas, PLAIN)
    torch.testing.assert_close(flat(found), problem.closed_form(PLAIN), rtol=0, atol=1e-6)
    assert all(weight.grad is None and torch.equal(weight, before[name]) for name, weight in weights.items())
    assert all(alpha.grad is None for alpha in problem.alphas)
    assert not any(gradient.requires_grad for gradient in found)


# A step of the published radius across the kinks of ReLUs measures them too, which no derivative at w sees.
@pytest.mark.parametrize(("activation", "radius"), [(nn.SiLU, 0.01), (nn.ReLU, 1e-5)])
def test_supernet_against_brute_force(activation: type[nn.Module], radius: float) -> None:
    network, alphas, train, validation = supernet(activation)
    weights = dict(network.named_parameters())
    buffers = {name: torch.randn_like(weight) * 0.1 for name, weight in weights.items() if "unused" not in name}
    step = InnerStep(0.1, momentum=0.9, buffers=buffers, weight_decay=0.01)

    def by_hand(at: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        moved = {
            name: at[name] - 0.1 * (0.9 * buffers[name] + gradients[name] + 0.01 * at[name])
            for name in at
            if "unused" not in name
        }
        return {**at, **moved}

    expected = brute_force(train, validation, weights, alphas, by_hand)
    with frozen_statistics(network):
        exact = second_order_exact(train, validation, weights, alphas, step)
        finite = second_order_finite_difference(train, validation, weights, alphas, step, radius=radius)
        first = first_order(lambda: validation(weights), alphas)
    torch.testing.assert_close(flat(exact), expected, rtol=1e-6, atol=1e-9)
    assert (flat(finite) - flat(exact)).norm() < 1e-2 * flat(exact).norm()
    # The second-order part itself agrees, not only the sum that the direct part dominates.
    unrolled = step.unrolled(weights, gradients_of(train, weights))
    direct = flat(first_order(lambda: validation(unrolled), alphas))
    assert (flat(exact) - direct).norm() > 1e-3 * direct.norm()
    assert (flat(finite) - flat(exact)).norm() < 1e-2 * (flat(exact) - direct).norm()
    assert (flat(first) - flat(exact)).norm() > 1e-2 * flat(exact).norm()


def gradients_of(loss: WeightedLoss, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    gradients = torch.autograd.grad(loss(leaves), tuple(leaves.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}


def test_finite_difference_converges_with_the_square_of_the_radius() -> None:
    problem = Quadratic()

    def cubic(weights: Mapping[str, Tensor]) -> Tensor:
        return problem.train(weights) + (flat(weights) ** 4).sum() * problem.flat_alpha().sum()

    def error(radius: float) -> float:
        found = second_order_finite_difference(
            cubic, problem.validation, problem.weights, problem.alphas, PLAIN, radius=radius
        )
        exact = second_order_exact(cubic, problem.validation, problem.weights, problem.alphas, PLAIN)
        return (flat(found) - flat(exact)).norm().item()

    assert error(0.04) / error(0.01) == pytest.approx(16, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_finite_difference_at_extreme_slopes(scale: float) -> None:
    problem = Quadratic()
    found = second_order_finite_difference(
        problem.train, lambda weights: scale * problem.validation(weights), problem.weights, problem.alphas, PLAIN
    )
    torch.testing.assert_close(flat(found) / scale, problem.closed_form(PLAIN), rtol=1e-6, atol=0)


@pytest.mark.parametrize("second_order", [second_order_exact, second_order_finite_difference])
class TestDegenerateLosses:
    def test_validation_loss_of_the_alphas_alone(self, second_order: Callable[..., list[Tensor]]) -> None:
        problem = Quadratic()
        found = second_order(
            problem.train, lambda weights: problem.flat_alpha().sum(), problem.weights, problem.alphas, STEP
        )
        assert flat(found).tolist() == [1, 1, 1]

    def test_training_loss_without_the_alphas(self, second_order: Callable[..., list[Tensor]]) -> None:
        problem = Quadratic()
        found = second_order(
            lambda weights: (flat(weights) ** 2).sum(), problem.validation, problem.weights, problem.alphas, PLAIN
        )
        moved = {name: weight - 0.2 * 2 * weight for name, weight in problem.weights.items()}
        torch.testing.assert_close(flat(found), flat(first_order(lambda: problem.validation(moved), problem.alphas)))

    def test_alphas_that_neither_loss_uses(self, second_order: Callable[..., list[Tensor]]) -> None:
        problem = Quadratic()
        spare = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
        found = second_order(problem.train, problem.validation, problem.weights, [spare, *problem.alphas], PLAIN)
        assert torch.equal(found[0], torch.zeros(2, 3, dtype=torch.float64))
        torch.testing.assert_close(flat(found[1:]), problem.closed_form(PLAIN), rtol=0, atol=1e-6)

    def test_weights_that_only_the_validation_loss_uses(self, second_order: Callable[..., list[Tensor]]) -> None:
        problem = Quadratic()
        head = torch.ones(2, dtype=torch.float64)
        found = second_order(
            lambda weights: problem.train({name: weights[name] for name in problem.weights}),
            lambda weights: (
                problem.validation({name: weights[name] for name in problem.weights})
                + (weights["head"].sum() ** 2) * problem.flat_alpha().sum()
                + 1e12 * (weights["head"].sum() - 2)
            ),
            {"head": head, **problem.weights},
            problem.alphas,
            replace(STEP, momentum=0.0),
        )
        # The head stays as it is, without decay, and adds (1 + 1)^2 to each; its slope takes nothing of the radius.
        expected = problem.closed_form(InnerStep(0.2, weight_decay=0.3)) + 4
        torch.testing.assert_close(flat(found), expected, rtol=0, atol=1e-6)

    def test_not_finite_is_passed_on(self, second_order: Callable[..., list[Tensor]]) -> None:
        problem = Quadratic()
        found = second_order(
            problem.train,
            lambda weights: torch.nan * problem.validation(weights),
            problem.weights,
            problem.alphas,
            STEP,
        )
        assert flat(found).isnan().all()


def test_random_losses_are_drawn_once() -> None:
    network, alphas, train, validation = supernet(random=True)
    weights = dict(network.named_parameters())
    found, left_at = [], []
    for order in (second_order_exact, second_order_finite_difference):
        torch.manual_seed(1)
        found.append(flat(order(train, validation, weights, alphas, InnerStep(0.1))))
        left_at.append(torch.get_rng_state())
    exact, finite = found
    assert torch.equal(*left_at)
    # Two draws would differ by their noise over 2 eps, a hundred times the gradient.
    assert (finite - exact).norm() < 1e-2 * exact.norm()
    # The run's generator moved on: the next gradient draws anew.
    again = flat(second_order_exact(train, validation, weights, alphas, InnerStep(0.1)))
    assert (again - exact).norm() > 1e-2 * exact.norm()
    torch.manual_seed(1)
    assert torch.equal(flat(second_order_exact(train, validation, weights, alphas, InnerStep(0.1))), exact)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_unrolled_step_is_a_step_of_sgd(momentum: float, weight_decay: float) -> None:
    network, alphas, train, _ = supernet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.3, momentum=momentum, weight_decay=weight_decay)
    weights = dict(network.named_parameters())
    for taken in range(3):
        step = InnerStep.of(optimizer, weights)
        moving = {name for name in weights if "unused" not in name}
        assert set(step.buffers) == (moving if momentum and taken else set())
        predicted = step.unrolled(weights, gradients_of(train, weights))
        optimizer.zero_grad()
        train(weights).backward()
        alphas[0].grad = None
        optimizer.step()
        assert list(predicted) == list(weights)
        for name, weight in weights.items():
            assert not predicted[name].requires_grad
            torch.testing.assert_close(predicted[name], weight.detach(), rtol=1e-13, atol=1e-15)


def test_wrong_settings() -> None:
    problem = Quadratic()
    arguments = (problem.train, problem.validation, problem.weights, problem.alphas)
    with pytest.raises(InputError, match="order is 'second', must be one of first, exact, finite_difference"):
        alpha_gradient("second", *arguments, PLAIN)  # type: ignore[arg-type]
    for radius in (0.0, -0.01, float("nan")):
        with pytest.raises(ValueError, match="radius is"):
            second_order_finite_difference(*arguments, PLAIN, radius=radius)
