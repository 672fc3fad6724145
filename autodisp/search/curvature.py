"""Curvature of a loss with respect to the architecture parameters: Hessian, spectrum, dominant eigenvalue.

Independent of tasks and networks: works for any scalar loss and any tensors that require a gradient, including the
supernets of other projects. The loss is evaluated once and all Hessian-vector products use the same graph, so noise or
drop-path in the loss is the same in all of them.

"Dominant" means algebraically largest, as in RobustDARTS (Zela et al. 2020). Power iteration finds the largest
magnitude instead, which on a flat supernet is often a negative eigenvalue, so Lanczos is used.

Departs from the published code in two ways: the weight decay of the alphas is added to the diagonal only if
``weight_decay`` is given, and BatchNorm statistics are not changed (``frozen_statistics``).
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from autodisp import distributed

logger = logging.getLogger(__name__)

Loss = Tensor | Callable[[], Tensor]

_SEED = 0
_ROUNDINGS = 10.0
"""Number of rounding errors that are treated as zero."""


@dataclass(frozen=True)
class Dominant:
    """An approximation of the algebraically largest eigenvalue."""

    value: float
    """The eigenvalue; NaN if the loss or a derivative is not finite."""
    vector: Tensor
    """(n,) float64 on the CPU, unit length; NaN if the value is. A start vector for the next measurement."""
    products: int
    """Number of Hessian-vector products used."""
    residual: float
    """||H vector - value vector||, an upper bound of the distance to the nearest eigenvalue."""


@dataclass(frozen=True)
class Curvature:
    """The dominant eigenvalue and, if requested, the whole spectrum."""

    dominant: Dominant
    spectrum: Tensor | None
    """(n,) float64 on the CPU, ascending."""


def hessian(loss: Loss, parameters: Sequence[Tensor], *, weight_decay: float = 0.0) -> Tensor:
    """The exact Hessian by double backward, one row per pass.

    Args:
        loss: a scalar with its graph, or a function that evaluates it. The graph is kept.
        parameters: n elements in total; unused ones give zero rows and columns.
        weight_decay: added to the diagonal, for an L2 penalty that is part of the optimizer instead of the loss.

    Returns:
        (n, n) in the dtype of the parameters. Symmetric: the mean of the result and its transpose, which differ by
        rounding.

    Raises:
        TypeError: parameters is not a sequence.
        ValueError: the loss is not a scalar with a graph, a parameter does not require a gradient, or the loss uses
            none of them.
    """
    gradient = flat_gradient(loss, parameters)
    unit_vectors = torch.eye(gradient.numel(), dtype=gradient.dtype, device=gradient.device)
    rows = torch.stack([hessian_product(gradient, parameters, unit) for unit in unit_vectors])
    return (rows + rows.T) / 2 + weight_decay * unit_vectors


def dominant_eigenvalue(
    loss: Loss,
    parameters: Sequence[Tensor],
    *,
    tolerance: float = 1e-3,
    start: Tensor | None = None,
    max_products: int | None = None,
    weight_decay: float = 0.0,
) -> Dominant:
    """The largest eigenvalue of the Hessian from a few Hessian-vector products.

    Args:
        loss: a scalar with its graph, or a function that evaluates it. The graph is kept.
        parameters: n elements in total; unused ones are directions of zero curvature.
        tolerance: relative error of the value; see ``largest_eigenvalue``.
        start: (n,) the vector of the previous measurement, which saves products if little has changed.
        max_products: largest number of Hessian-vector products; n if None.
        weight_decay: added to the diagonal.

    Raises:
        ValueError: as for ``hessian``, or an argument is out of range.
    """
    gradient = flat_gradient(loss, parameters)

    def product(direction: Tensor) -> Tensor:
        image = hessian_product(gradient, parameters, direction.to(gradient))
        return image.to("cpu", torch.float64) + weight_decay * direction

    return largest_eigenvalue(
        product,
        gradient.numel(),
        tolerance=tolerance,
        start=start,
        max_products=max_products,
        rounding=torch.finfo(gradient.dtype).eps,
    )


def curvature(
    loss: Loss,
    parameters: Sequence[Tensor],
    *,
    full: bool = False,
    tolerance: float = 1e-3,
    start: Tensor | None = None,
    weight_decay: float = 0.0,
) -> Curvature:
    """Measures the curvature: the spectrum by n Hessian-vector products if ``full``, else the largest eigenvalue.

    Arguments and errors are those of ``hessian`` and ``dominant_eigenvalue``; ``tolerance`` and ``start`` are
    not used with ``full``.
    """
    if not full:
        found = dominant_eigenvalue(loss, parameters, tolerance=tolerance, start=start, weight_decay=weight_decay)
        return Curvature(found, None)
    matrix = hessian(loss, parameters, weight_decay=weight_decay).detach().to("cpu", torch.float64)
    if not matrix.isfinite().all():
        return Curvature(_unknown(len(matrix), len(matrix)), torch.full_like(matrix[0], math.nan))
    values, vectors = torch.linalg.eigh(matrix)
    return Curvature(Dominant(values[-1].item(), vectors[:, -1].clone(), len(values), 0.0), values)


def largest_eigenvalue(
    product: Callable[[Tensor], Tensor],
    size: int,
    *,
    tolerance: float = 1e-3,
    start: Tensor | None = None,
    max_products: int | None = None,
    rounding: float = torch.finfo(torch.float64).eps,
) -> Dominant:
    """The algebraically largest eigenvalue of a symmetric operator, by Lanczos (Golub and Van Loan).

    The basis is fully reorthogonalised at each step, in float64. The iteration ends when the residual of the largest
    Ritz pair is at most ``tolerance`` times its value in two consecutive steps, or after ``size`` products, where it is
    exact. Such a residual guarantees an eigenvalue within that distance; the error is usually its square. Finding the
    largest eigenvalue requires a start vector with a component along every eigenvector, so an equal random part is
    added to ``start``. Eigenvalues a few percent apart at the top of a dense spectrum may still be confused.

    Args:
        product: maps (size,) float64 on the CPU to the same.
        size: number of rows.
        tolerance: relative residual at which to stop.
        start: (size,) an approximate eigenvector; ignored if zero or not finite.
        max_products: largest number of products; ``size`` if None.
        rounding: relative rounding error of one product.

    Raises:
        ValueError: an argument is out of range, or start has a different size.
    """
    limit = size if max_products is None else min(max_products, size)
    if limit < 1 or not tolerance > 0:
        raise ValueError(
            f"size {size}, max_products {max_products} and tolerance {tolerance} must all be positive: "
            "leave max_products out, and use 1e-3 for the tolerance"
        )
    generator = torch.Generator().manual_seed(_SEED)
    direction = _first_direction(size, start, generator)
    basis = direction.new_empty(0, size)
    diagonal: list[float] = []
    couplings: list[float] = []
    settled = False
    while True:
        basis = torch.cat([basis, direction[None]])
        image = product(direction)
        if not image.isfinite().all():
            return _unknown(size, len(basis))
        diagonal.append((direction @ image).item())
        remainder = _orthogonalised(image, basis)
        coupling = torch.linalg.vector_norm(remainder).item()
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, couplings))
        value, residual = values[-1].item(), coupling * vectors[-1, -1].abs().item()
        scale = max(values.abs().max().item(), coupling)
        small = residual <= max(tolerance * abs(value), _ROUNDINGS * rounding * scale)
        if len(basis) == limit or (small and settled):
            return Dominant(value, _unit(basis.T @ vectors[:, -1]), len(basis), residual)
        settled = small
        if coupling <= _ROUNDINGS * torch.finfo(torch.float64).eps * scale:
            # The basis spans an invariant subspace: continue in its complement.
            coupling, remainder = 0.0, _orthogonalised(_random(size, generator), basis)
        couplings.append(coupling)
        direction = _unit(remainder)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Prevents updates of the running statistics of all normalization layers of a module.

    Layers in train mode still normalize by the batch, layers in eval mode by their running statistics. No buffer is
    copied or written, so they are bitwise unchanged afterwards, also after an exception. Modes, weights, and random
    number generators are not affected.
    """
    with ExitStack() as restored:
        for layer in module.modules():
            if isinstance(layer, _InstanceNorm):
                # It updates its buffers regardless of track_running_stats, and needs them in eval mode.
                for name in ("running_mean", "running_var") if layer.training else ():
                    restored.callback(setattr, layer, name, getattr(layer, name))
                    setattr(layer, name, None)
            elif isinstance(layer, _NormBase):
                restored.callback(setattr, layer, "track_running_stats", layer.track_running_stats)
                layer.track_running_stats = False
        yield


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restores the random number generators of torch afterwards, so that measuring does not change a run.

    Covers the CPU generator, and that of the current CUDA device if CUDA is initialized.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        yield


def flat_gradient(loss: Loss, parameters: Sequence[Tensor]) -> Tensor:
    """The gradient with its graph, (n,), shared by all Hessian-vector products.

    Raises:
        TypeError, ValueError: as for ``hessian``.
    """
    if isinstance(parameters, Tensor) or not hasattr(parameters, "__len__"):
        what = "one tensor" if isinstance(parameters, Tensor) else f"a {type(parameters).__name__}"
        raise TypeError(f"parameters is {what}; give a sequence of tensors, such as [alpha]")
    fixed = [index for index, parameter in enumerate(parameters) if not parameter.requires_grad]
    if fixed or not parameters:
        raise ValueError(f"{len(parameters)} parameters, without requires_grad: {fixed}; the curvature needs them all")
    with torch.enable_grad():
        value = loss if isinstance(loss, Tensor) else loss()
        if value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                f"the loss has shape {tuple(value.shape)} and requires_grad={value.requires_grad}; it must be a scalar "
                "with a graph: take its mean, and evaluate it outside torch.no_grad"
            )
        gradients = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise ValueError(
                "the loss uses none of the parameters, so its curvature would always be 0: pass the tensors that "
                "enter the forward pass, not copies or a later softmax of them"
            )
        return torch.cat([
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ])  # fmt: skip


def hessian_product(gradient: Tensor, parameters: Sequence[Tensor], direction: Tensor) -> Tensor:
    """The product of the Hessian and a direction (n,), given the result of ``flat_gradient``; the graph is kept.

    Among several processes, it is the mean of the products of their losses.
    """
    if not gradient.requires_grad:
        return torch.zeros_like(gradient)
    images = torch.autograd.grad(gradient, parameters, direction, retain_graph=True, materialize_grads=True)
    return distributed.mean([torch.cat([image.flatten() for image in images])])[0]


def _unknown(size: int, products: int) -> Dominant:
    logger.warning("the dominant eigenvalue is unknown: a second derivative of the loss is not finite")
    return Dominant(math.nan, torch.full((size,), math.nan, dtype=torch.float64), products, math.nan)


def _random(size: int, generator: torch.Generator) -> Tensor:
    return torch.randn(size, generator=generator, dtype=torch.float64)


def _first_direction(size: int, start: Tensor | None, generator: torch.Generator) -> Tensor:
    direction = _unit(_random(size, generator))
    if start is None:
        return direction
    if start.numel() != size:
        raise ValueError(f"start has {start.numel()} numbers for {size} rows: it belongs to other parameters")
    guess = start.detach().flatten().to("cpu", torch.float64)
    if not 0 < torch.linalg.vector_norm(guess) < math.inf:
        return direction
    # A start equal to another eigenvector would be returned as the result. An equal random part costs about one product
    # more than a quarter, and failed three times less often on starts equal to the second eigenvector.
    return _unit(_unit(guess) + direction)


def _unit(vector: Tensor) -> Tensor:
    return torch.div(vector, torch.linalg.vector_norm(vector))


def _orthogonalised(vector: Tensor, basis: Tensor) -> Tensor:
    vector = vector.clone()
    for _ in range(2):  # Twice is enough (Parlett 1998).
        vector -= basis.T @ (basis @ vector)
    return vector


def _tridiagonal(diagonal: Sequence[float], couplings: Sequence[float]) -> Tensor:
    middle, side = (torch.tensor(values, dtype=torch.float64) for values in (diagonal, couplings))
    return torch.diag(middle) + torch.diag(side, 1) + torch.diag(side, -1)
