"""Gradients of the validation loss with respect to the architecture parameters (DARTS; Liu et al. 2019).

The inner problem is one step of the weight optimizer: w'(alpha) = w - eta (mu b + grad_w L_train(w, alpha) +
weight_decay w), with b the momentum buffer, as torch.optim.SGD takes it. First order treats w as given; second
order differentiates L_val(w'(alpha), alpha) through that step, either by finite differences as published
or exactly by double backward.

A loss is a function of a mapping from parameter names to tensors, as for ``torch.func.functional_call``; the alphas are
leaves that the function closes over. No ``.grad`` of weights or alphas is changed, and no weight is copied into the
network.

Among several processes (``autodisp.distributed``), a loss is that of this process's share of the batch, and gradients
are means over the processes: those of both levels, the direction v, and the derivative along it.

Departs from the published code in three ways: the exact gradient is available; a weight without a gradient is not
changed, as in SGD; and all evaluations of the training loss within one gradient use the same random numbers, since a
finite difference between two samples of drop-path or noise would measure the noise.

Evaluating a loss in train mode updates the running statistics of BatchNorm unless the call is inside
``curvature.frozen_statistics``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from autodisp import distributed, graphs
from autodisp.errors import InputError
from autodisp.search.curvature import preserved_rng

WeightedLoss = Callable[[Mapping[str, Tensor]], Tensor]
Order = Literal["first", "exact", "finite_difference"]


@dataclass(frozen=True)
class InnerStep:
    """One step of ``torch.optim.SGD`` (no dampening, no Nesterov momentum)."""

    learning_rate: float
    """eta"""
    momentum: float = 0.0
    """mu"""
    buffers: Mapping[str, Tensor] = field(default_factory=dict)
    """b by name; zero for weights without an entry"""
    weight_decay: float = 0.0
    """Factor of the L2 penalty, used in the step only."""

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> "InnerStep":
        """Returns the optimizer's next step of these weights, with the settings of its first group."""
        group = optimizer.param_groups[0]
        buffers = {name: optimizer.state.get(weight, {}).get("momentum_buffer") for name, weight in weights.items()}
        present = {name: buffer for name, buffer in buffers.items() if buffer is not None}
        return cls(group["lr"], group["momentum"], present, group["weight_decay"])

    def unrolled(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights after the step.

        Args:
            weights: w by name.
            gradients: grad_w L_train by name, of this process's share of the batch; weights without an entry are
                unchanged, without decay.

        Returns:
            w' by name, detached.
        """
        gradients = dict(zip(gradients, distributed.mean(list(gradients.values())), strict=True))
        unrolled = {name: weight.detach() for name, weight in weights.items()}
        for name, gradient in gradients.items():
            update = gradient.detach() + self.weight_decay * unrolled[name]
            if name in self.buffers:
                update += self.momentum * self.buffers[name].detach()
            unrolled[name] = unrolled[name] - self.learning_rate * update
        return unrolled


def alpha_gradient(
    order: Order,
    train_loss: WeightedLoss,
    validation_loss: WeightedLoss,
    weights: Mapping[str, Tensor],
    alphas: Sequence[Tensor],
    step: InnerStep,
    *,
    seed: int | None = None,
) -> list[Tensor]:
    """Gradient of the validation loss with respect to the alphas, of the given order.

    Args:
        order: ``first`` ignores the training loss and the step.
        train_loss: L_train, evaluated at w, and by finite differences at w +- eps v.
        validation_loss: L_val, evaluated at w'.
        weights: w by name; treated as constants.
        alphas: the leaves that both losses close over.
        step: the step from w to w'.
        seed: of the random numbers of the training loss; None draws one.

    Returns:
        One tensor per alpha; zeros for alphas that neither loss uses.

    Raises:
        InputError: the order is unknown.
    """
    if order == "first":
        return first_order(lambda: validation_loss(weights), alphas)
    if order not in get_args(Order):
        raise InputError(f"order is {order!r}, must be one of {', '.join(get_args(Order))}")
    second_order = second_order_exact if order == "exact" else second_order_finite_difference
    return second_order(train_loss, validation_loss, weights, alphas, step, seed=seed)


def first_order(validation_loss: Callable[[], Tensor], alphas: Sequence[Tensor]) -> list[Tensor]:
    """The gradient at the current weights, one tensor per alpha; zeros for alphas that the loss does not use."""
    return distributed.mean(torch.autograd.grad(validation_loss(), alphas, materialize_grads=True))


def second_order_exact(
    train_loss: WeightedLoss,
    validation_loss: WeightedLoss,
    weights: Mapping[str, Tensor],
    alphas: Sequence[Tensor],
    step: InnerStep,
    *,
    seed: int | None = None,
) -> list[Tensor]:
    """The gradient through the unrolled step by double backward; see ``alpha_gradient``.

    With v = grad_w' L_val(w', alpha) it is grad_alpha L_val(w', alpha) - eta d<grad_w L_train(w, alpha), v>/dalpha,
    which needs one backward through the gradient and no Jacobian. The graph of that gradient is kept while the
    validation loss is evaluated: two to three times the activations of a training step.
    """
    leaves = _leaves(weights)
    with _same_draws(new_seed() if seed is None else seed):
        gradients = _used_gradients(train_loss(leaves), leaves, create_graph=True)
    direct, slope = _gradient_at(step.unrolled(weights, gradients), validation_loss, alphas)
    moving = {name: gradient for name, gradient in gradients.items() if gradient.requires_grad}
    if not moving:
        return direct
    through_step = torch.autograd.grad(
        list(moving.values()), alphas, [slope[name] for name in moving], materialize_grads=True
    )
    return [
        first - step.learning_rate * second
        for first, second in zip(direct, distributed.mean(through_step), strict=True)
    ]


def second_order_finite_difference(
    train_loss: WeightedLoss,
    validation_loss: WeightedLoss,
    weights: Mapping[str, Tensor],
    alphas: Sequence[Tensor],
    step: InnerStep,
    *,
    seed: int | None = None,
    radius: float = 0.01,
) -> list[Tensor]:
    """The gradient through the unrolled step with the second derivative by a central difference (DARTS).

    d<grad_w L_train, v>/dalpha is (grad_alpha L_train(w + eps v) - grad_alpha L_train(w - eps v)) / (2 eps) with
    eps = radius / ||v||. No graph of a gradient is kept, so the memory is that of a training step; the training loss is
    evaluated three times instead of once.

    If the steps cross kinks of ReLUs or maxima, the result includes them, unlike double backward. At the published
    radius the two agree to 1e-4 on small supernets with smooth operations; with ReLUs they differed by 0.02 to 1.1 of
    the gradient, and agreed to 1e-9 once no kink lay within the radius.

    Args:
        train_loss, validation_loss, weights, alphas, step, seed: see ``alpha_gradient``.
        radius: norm of the step in either direction, over all weights.

    Raises:
        ValueError: the radius is not positive.
    """
    if not radius > 0:
        raise ValueError(f"radius is {radius}, must be above 0: use 0.01")
    seed = new_seed() if seed is None else seed
    leaves = _leaves(weights)
    with _same_draws(seed):
        gradients = _used_gradients(train_loss(leaves), leaves, create_graph=False)
    direct, slope = _gradient_at(step.unrolled(weights, gradients), validation_loss, alphas)
    moving = {name: slope[name] for name in gradients}
    norm = torch.nn.utils.get_total_norm(list(moving.values()))
    norm = torch.where(norm > 0, norm, 1.0)  # a zero gradient gives a zero step; no synchronisation
    to_both_sides = []
    for side in (radius, -radius):
        shifted = {name: weight.detach() for name, weight in weights.items()}
        shifted |= {name: shifted[name] + side / norm * value for name, value in moving.items()}
        with _same_draws(seed):
            to_both_sides.append(first_order(partial(train_loss, _leaves(shifted)), alphas))
    return [
        first - step.learning_rate * norm / (2 * radius) * (ahead - behind)
        for first, ahead, behind in zip(direct, *to_both_sides, strict=True)
    ]


def _leaves(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().requires_grad_() for name, weight in weights.items()}


def _used_gradients(loss: Tensor, leaves: Mapping[str, Tensor], *, create_graph: bool) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(loss, tuple(leaves.values()), create_graph=create_graph, allow_unused=True)
    return {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}


def _gradient_at(
    weights: Mapping[str, Tensor], loss: WeightedLoss, alphas: Sequence[Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    leaves = _leaves(weights)
    gradients = distributed.mean(torch.autograd.grad(loss(leaves), (*alphas, *leaves.values()), materialize_grads=True))
    return gradients[: len(alphas)], dict(zip(leaves, gradients[len(alphas) :], strict=True))


def new_seed() -> int:
    """Draws a seed from torch's CPU generator."""
    return int(torch.randint(2**62, ()).item())


@contextmanager
def _same_draws(seed: int) -> Iterator[None]:
    if graphs.recording():  # of a computation without random numbers; a generator cannot be seeded there
        yield
        return
    with preserved_rng():
        torch.manual_seed(seed)
        yield
