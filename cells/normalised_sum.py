"""Weighted sums of batch-normalised tensors that never write a normalised tensor down.

y = sum_k w_k N(p_k), where N normalises each channel by the mean and the population variance of its batch, as
BatchNorm2d without scale and shift does in train mode. p_k is either given (``normalised_sum``) or a pointwise
convolution P_k z_k (``normalised_products``). The second one never writes p_k down either: its share of the sum,
w P (z - m) / sqrt(var + eps), is linear in z once the variance is known, and var = diag(P cov(z) P^T).

Both save their inputs and nothing else of that size, which is what halves the memory of a step. First and second
derivatives are written out; the second ones (a Hessian-vector product takes them for every operation of a supernet)
hold with the P fixed, and autograd follows the first ones where a P needs them too.

Notation, all over batch and pixels and for each channel: r = 1 / sqrt(var + eps), n = N(p), g the gradient that
arrives, s = mean(g n). The first derivatives (Ioffe and Szegedy 2015) are dw = sum(g n) and
dp = w r (g - mean(g) - n s).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

EPS = 1e-5
"""Of batch normalisation: torch's default."""


def normalised_sum(inputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    """sum_k w_k N(p_k).

    Args:
        inputs: the K tensors p_k, (B, C, H, W) each.
        weights: (K,).

    Returns:
        (B, C, H, W) in channels_last, which the caller may write over.
    """
    return cast(Tensor, _NormalisedSum.apply(weights, *inputs))


def normalised_products(inputs: Sequence[Tensor], matrices: Sequence[Tensor], weights: Tensor) -> Tensor:
    """sum_k w_k N(P_k z_k).

    Args:
        inputs: the K tensors z_k, (B, C, H, W) each.
        matrices: the K pointwise convolutions P_k, (C', C) each.
        weights: (K,).

    Returns:
        (B, C', H, W) in channels_last, which the caller may write over.
    """
    return cast(Tensor, _NormalisedProducts.apply(weights, torch.stack(list(matrices)), *inputs))


class _NormalisedSum(Function):
    """(weights (K,), p_1 ... p_K) -> the sum."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *inputs: Tensor) -> Tensor:
        ctx.moments = means, inverse = _moments(inputs)
        ctx.save_for_backward(weights, *inputs)
        factors = weights[:, None] * inverse
        total, rows = _like(inputs[0], -(factors * means).sum(0))
        for p, factor in zip(inputs, factors, strict=True):
            rows.addcmul_(_rows(p), factor)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weights, *inputs = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _SumGradient.apply(weights, gradient, ctx.moments, *inputs)
        to_weights, _, *to_inputs = _sum_gradient(weights, gradient, ctx.moments, inputs)
        return to_weights, *to_inputs


class _SumGradient(Function):
    """(weights, g, p_1 ... p_K) -> the gradients to weights and p."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], *inputs: Tensor) -> Any:
        to_weights, correlations, *to_inputs = _sum_gradient(weights, gradient, moments, inputs)
        ctx.save_for_backward(weights, gradient, *inputs)
        ctx.moments, ctx.correlations = moments, correlations
        return to_weights, *to_inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_weights: Tensor, *to_inputs: Tensor) -> Any:
        weights, gradient, *inputs = ctx.saved_tensors
        second = _Second(gradient)
        found = []
        parts = zip(inputs, to_inputs, weights, to_weights, *ctx.moments, ctx.correlations, strict=True)
        for p, u, weight, slope, mean, inverse, correlation in parts:
            n = (_rows(p) - mean).mul_(inverse)
            to_p, offset = second.add(_rows(u), n, weight, slope, inverse, correlation)
            found.append(_images(to_p.add_(offset), p))
        return torch.stack(second.to_weights), second.to_gradient(), None, *found


class _NormalisedProducts(Function):
    """(weights (K,), matrices (K, C', C), z_1 ... z_K) -> the sum."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, matrices: Tensor, *inputs: Tensor) -> Tensor:
        ctx.moments = means, covariances = _joint_moments(inputs)
        ctx.save_for_backward(weights, matrices, *inputs)
        _, inverse = _deviations(matrices, covariances)
        scaled = (weights[:, None] * inverse)[:, :, None] * matrices
        total, rows = _like(inputs[0], -(scaled @ means[:, :, None]).sum(0)[:, 0])
        for z, matrix in zip(inputs, scaled, strict=True):
            rows.addmm_(_rows(z), matrix.T)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weights, matrices, *inputs = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _products_gradient(weights, matrices, gradient, ctx.moments, inputs, ctx.needs_input_grad[1])[:-1]
        if ctx.needs_input_grad[1]:
            moments = _joint_moments(inputs)  # anew, for autograd to see where they come from
            return _products_gradient(weights, matrices, gradient, moments, inputs, True)[:-1]
        to_weights, *to_inputs = _ProductsGradient.apply(weights, matrices, gradient, ctx.moments, *inputs)
        return to_weights, None, *to_inputs


class _ProductsGradient(Function):
    """(weights, g, z_1 ... z_K) -> the gradients to weights and z, at fixed matrices."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, matrices: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], *inputs: Tensor
    ) -> Any:
        found = _products_gradient(weights, matrices, gradient, moments, inputs, False)
        to_weights, _, *to_inputs, correlations = found
        ctx.save_for_backward(weights, matrices, gradient, *inputs)
        ctx.moments, ctx.correlations = moments, correlations
        return to_weights, *to_inputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_weights: Tensor, *to_inputs: Tensor) -> Any:
        weights, matrices, gradient, *inputs = ctx.saved_tensors
        means, covariances = ctx.moments
        _, inverses = _deviations(matrices, covariances)
        second = _Second(gradient)
        found = []
        parts = zip(inputs, to_inputs, matrices, weights, to_weights, means, inverses, ctx.correlations, strict=True)
        for z, u, matrix, weight, slope, mean, inverse, correlation in parts:
            scaled = inverse[:, None] * matrix
            n = torch.addmm(-(scaled @ mean), _rows(z), scaled.T)
            to_p, offset = second.add(_rows(u) @ matrix.T, n, weight, slope, inverse, correlation)
            found.append(_images(torch.addmm(offset @ matrix, to_p, matrix), z))
        return torch.stack(second.to_weights), None, second.to_gradient(), None, *found


class _Second:
    """Second derivatives at fixed P, for one k after another.

    With q = P u of the cotangent u of dz, c that of dw, t = mean(q n) and a = mean(q g) - mean(q) mean(g), the scalar
    <u, dz> + c dw is M sum(w r (a - t s) + c s) over channels, and its gradients are

        to w:  M sum(r (a - t s))
        to g:  w r (q - mean(q)) + (c - w r t) n
        to p:  r (-w r s (q - mean(q)) + (c - w r t) (g - mean(g)) - (c s + w r (a - 3 t s)) n)

    Args:
        gradient: g, (B, C', H, W).
    """

    def __init__(self, gradient: Tensor) -> None:
        self.gradient = gradient
        self.g = _rows(gradient)
        self.mean = self.g.mean(0)
        self.total = torch.zeros_like(self.g)
        self.offset = torch.zeros_like(self.mean)
        self.to_weights: list[Tensor] = []

    def add(
        self, q: Tensor, n: Tensor, weight: Tensor, slope: Tensor, inverse: Tensor, correlation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Takes one k in; returns its gradient to p without its constant (M, C'), and the constant (C',)."""
        mean = q.mean(0)
        covariance = (q * self.g).mean(0) - mean * self.mean
        along = (q * n).mean(0)
        scale = weight * inverse
        rest = slope - scale * along
        self.to_weights.append((inverse * (covariance - along * correlation)).sum() * len(q))
        self.total.addcmul_(q, scale).addcmul_(n, rest)
        self.offset -= scale * mean
        by_q, by_g = -scale * inverse * correlation, inverse * rest
        by_n = -inverse * (slope * correlation + scale * (covariance - 3 * along * correlation))
        to_p = (self.g * by_g).addcmul_(q, by_q).addcmul_(n, by_n)
        return to_p, -by_q * mean - by_g * self.mean

    def to_gradient(self) -> Tensor:
        """The gradient to g, (B, C', H, W)."""
        return _images(self.total.add_(self.offset), self.gradient)


def _sum_gradient(weights: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], inputs: Sequence[Tensor]) -> Any:
    """Gradients to the weights (K,), the correlations s (K, C), and the gradients to p_1 ... p_K."""
    g = _rows(gradient)
    mean = g.mean(0)
    correlations, to_inputs = [], []
    for p, weight, center, inverse in zip(inputs, weights, *moments, strict=True):
        rows = _rows(p)
        correlation = ((g * rows).mean(0) - mean * center) * inverse
        scale = weight * inverse
        by_p = -scale * inverse * correlation
        to_p = (g * scale).addcmul_(rows, by_p).sub_(scale * mean + by_p * center)
        correlations.append(correlation)
        to_inputs.append(_images(to_p, p))
    stacked = torch.stack(correlations)
    return stacked.sum(1) * len(g), stacked, *to_inputs


def _products_gradient(
    weights: Tensor,
    matrices: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    inputs: Sequence[Tensor],
    with_matrices: bool,
) -> Any:
    """Gradients to the weights (K,), to the matrices or None, to z_1 ... z_K, and the correlations s (K, C')."""
    means, covariances = moments
    images, inverse = _deviations(matrices, covariances)
    scales = weights[:, None] * inverse
    scaled = scales[:, :, None] * matrices
    g = _rows(gradient)
    sums, count = g.sum(0), len(g)
    slopes = torch.stack([g.T @ _rows(z) for z in inputs]) - sums[:, None] * means[:, None]
    to_scales = (slopes * matrices).sum(2)
    correlations = to_scales * inverse
    to_variances = -0.5 * correlations * scales * inverse
    to_matrices = None
    if with_matrices:
        to_matrices = scales[:, :, None] * slopes + 2 * to_variances[:, :, None] * images
    through_variance = matrices.mT @ (to_variances[:, :, None] * matrices) * (2 / count)
    offsets = -(sums @ scaled) / count - (means[:, None] @ through_variance)[:, 0]
    to_inputs = [
        _images(torch.addmm(offset, g, matrix).addmm_(_rows(z), symmetric), z)
        for z, offset, matrix, symmetric in zip(inputs, offsets, scaled, through_variance, strict=True)
    ]
    return correlations.sum(1), to_matrices, *to_inputs, correlations / count


def _moments(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of each channel, (K, C) both."""
    means, variances = [], []
    for rows in map(_rows, inputs):
        mean = rows.mean(0)
        means.append(mean)
        variances.append((rows - mean).square_().mean(0))
    return torch.stack(means), torch.rsqrt(torch.stack(variances) + EPS)


def _joint_moments(inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(K, C) means and (K, C, C) population covariances.

    Of centred values, since the difference of a second moment and a squared mean loses digits; the centred copy lives
    no longer than the product.
    """
    means, covariances = [], []
    for rows in map(_rows, inputs):
        mean = rows.mean(0)
        centred = rows - mean
        means.append(mean)
        covariances.append(centred.T @ centred / len(rows))
    return torch.stack(means), torch.stack(covariances)


def _deviations(matrices: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
    """P cov(z) (K, C', C), and the inverse deviation of P z (K, C')."""
    images = matrices @ covariances
    return images, torch.rsqrt((images * matrices).sum(2) + EPS)


def _rows(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C), without a copy in channels_last."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _images(rows: Tensor, like: Tensor) -> Tensor:
    """(B H W, C') -> (B, C', H, W) in channels_last."""
    batch, _, height, width = like.shape
    return rows.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _like(images: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor (B, C', H, W) of that resolution with the row (C',) at every pixel, and a view of its rows.

    The tensor itself, and not a view, is what autograd lets a caller write over.
    """
    batch, _, height, width = images.shape
    shape = (batch, len(row), height, width)
    whole = torch.empty(shape, dtype=row.dtype, device=row.device, memory_format=torch.channels_last)
    rows = whole.permute(0, 2, 3, 1).view(-1, len(row))
    return whole, rows.copy_(row)
