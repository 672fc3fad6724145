"""The curvature of a loss in the architecture parameters: Hessian, spectrum, dominant eigenvalue.

Nothing here knows a task or a network. Any scalar loss will do, and any tensors that require a gradient, so
it also measures somebody else's supernet. The loss is evaluated once, and every product is taken on that one
graph: noise or drop-path in the loss is one draw, the same in all products.

"Dominant" means algebraically largest, as in RobustDARTS (Zela et al. 2020). Power iteration finds the largest
magnitude instead, which on a flat supernet is often a negative eigenvalue; hence Lanczos.

Departs from the published code in two ways: the alphas' own weight decay is not added to the diagonal unless
``weight_decay`` asks for it, and the measurement leaves BatchNorm statistics alone (``frozen_statistics``).
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

logger = logging.getLogger(__name__)

Loss = Tensor | Callable[[], Tensor]

_SEED = 0
_ROUNDINGS = 10.0
"""How many rounding errors still count as nothing."""


@dataclass(frozen=True)
class Dominant:
    """The algebraically largest eigenvalue, as far as it was worked out."""

    value: float
    """The eigenvalue; NaN where the loss or a derivative of it is not finite."""
    vector: Tensor
    """(n,) float64 on the CPU, unit length; NaN with the value. A start for the next measurement."""
    products: int
    """Hessian-vector products spent."""
    residual: float
    """||H vector - value vector||: an eigenvalue lies at most this far from the value."""


@dataclass(frozen=True)
class Curvature:
    """One measurement: always the dominant eigenvalue, the whole spectrum where it was asked for."""

    dominant: Dominant
    spectrum: Tensor | None
    """(n,) float64 on the CPU, ascending."""


def hessian(loss: Loss, parameters: Sequence[Tensor], *, weight_decay: float = 0.0) -> Tensor:
    """The exact Hessian by double backward, one row a pass.

    Args:
        loss: a scalar with its graph, or a function that evaluates it. The graph is kept.
        parameters: n numbers in all; those that the loss does not use give zero rows and columns.
        weight_decay: added to the diagonal, for an L2 penalty that the optimizer applies and the loss lacks.

    Returns:
        (n, n) in the parameters' dtype, in their order. Rounding makes the rows of a double backward differ from
        the columns; the mean of both is returned, so it is symmetric bit by bit.

    Raises:
        TypeError: parameters is no sequence.
        ValueError: the loss is no scalar with a graph, a parameter does not require a gradient, or the loss uses none
            of them.
    """
    gradient = flat_gradient(loss, parameters)
    unit_vectors = torch.eye(gradient.numel(), dtype=gradient.dtype, device=gradient.device)
    rows = torch.stack([hessian_product(gradient, parameters, unit) for unit in unit_vectors])
    return (rows + rows.T) / 2 + weight_decay * unit_vectors


def spectrum(matrix: Tensor) -> Tensor:
    """The eigenvalues of a symmetric (n, n) matrix: (n,) float64 on the CPU, ascending; NaN if it is not finite."""
    return _eigenpairs(matrix)[0]


def dominant_eigenvalue(
    loss: Loss,
    parameters: Sequence[Tensor],
    *,
    tolerance: float = 1e-3,
    start: Tensor | None = None,
    max_products: int | None = None,
    weight_decay: float = 0.0,
) -> Dominant:
    """The largest eigenvalue of the Hessian from a few Hessian-vector products, without forming it.

    Args:
        loss: a scalar with its graph, or a function that evaluates it. The graph is kept.
        parameters: n numbers in all; those that the loss does not use count as directions of no curvature.
        tolerance: relative error of the value; see ``largest_eigenvalue`` for what is promised.
        start: (n,) the vector of the last measurement, which saves products when little has changed.
        max_products: stop here, whatever the residual; n if None.
        weight_decay: added to the diagonal.

    Raises:
        ValueError: as for ``hessian``; or a setting is out of its range.
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
    """One measurement for a log: n products and the whole spectrum if ``full``, a few and its top otherwise.

    Arguments and errors are those of ``hessian`` and ``dominant_eigenvalue``; ``tolerance`` and ``start`` only
    matter when the spectrum is not asked for.
    """
    if not full:
        found = dominant_eigenvalue(loss, parameters, tolerance=tolerance, start=start, weight_decay=weight_decay)
        return Curvature(found, None)
    matrix = hessian(loss, parameters, weight_decay=weight_decay)
    values, vectors = _eigenpairs(matrix)
    if values.isnan().any():
        return Curvature(_unknown(len(values), len(values)), values)
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

    The basis is reorthogonalised in full at each step, in float64. The iteration ends when the residual of the
    largest Ritz pair is within ``tolerance`` times its value at two steps running, or at ``size`` products, where
    it is exact. A residual that small proves an eigenvalue that close; the error itself is usually its square.
    That no eigenvalue is larger rests on the start having a part along every eigenvector: an equal random part
    is mixed into any ``start``, and the second step looks along the largest rest of it before the answer is
    believed. Eigenvalues a few percent apart at the top of a dense spectrum can still be mistaken for each other.

    Args:
        product: (size,) float64 on the CPU -> its image, the same.
        size: number of rows.
        tolerance: residual over value at which to stop.
        start: (size,) a guess of the eigenvector; one that is zero or not finite counts as none.
        max_products: stop here, whatever the residual; ``size`` if None.
        rounding: relative rounding error of one product, below which no residual is resolved.

    Raises:
        ValueError: a setting is out of its range, or the start has another size.
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
            # The basis is closed under the operator: the rest of the space is out of its reach.
            coupling, remainder = 0.0, _orthogonalised(_random(size, generator), basis)
        couplings.append(coupling)
        direction = _unit(remainder)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keeps the running statistics of every normalization layer as they are, whatever passes through the module.

    Layers in train mode go on normalizing by the batch, layers in eval mode by their running statistics. No
    buffer is copied or written, so they are the same bit for bit afterwards, after an exception too. Nothing
    else is held still: modes, weights and random numbers are the caller's.
    """
    with ExitStack() as restored:
        for layer in module.modules():
            if isinstance(layer, _InstanceNorm):
                # It hands its buffers to be updated whatever track_running_stats says, and in eval mode needs them.
                if layer.training:
                    _set_aside(layer, restored)
            elif isinstance(layer, _NormBase):
                restored.callback(setattr, layer, "track_running_stats", layer.track_running_stats)
                layer.track_running_stats = False
        yield


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Puts torch's random number generators back, so that a measurement does not change the run it measures.

    The generator of the CPU, and those of all CUDA devices if this process uses CUDA.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        yield


def _set_aside(layer: _InstanceNorm, restored: ExitStack) -> None:
    for name in ("running_mean", "running_var"):
        restored.callback(setattr, layer, name, getattr(layer, name))
        setattr(layer, name, None)


def flat_gradient(loss: Loss, parameters: Sequence[Tensor]) -> Tensor:
    """The gradient with its graph, (n,): what all products with the Hessian share.

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
                "the loss uses none of the parameters, so its curvature over them would be 0 for ever: give the very "
                "tensors that entered the forward pass, not copies or a softmax of them taken afterwards"
            )
        return torch.cat([
            (torch.zeros_like(parameter) if gradient is None else gradient).flatten()
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ])  # fmt: skip


def hessian_product(gradient: Tensor, parameters: Sequence[Tensor], direction: Tensor) -> Tensor:
    """The Hessian times a direction (n,), from what ``flat_gradient`` gave; the graph is kept."""
    if not gradient.requires_grad:
        return torch.zeros_like(gradient)
    images = torch.autograd.grad(gradient, parameters, direction, retain_graph=True, materialize_grads=True)
    return torch.cat([image.flatten() for image in images])


def _eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    matrix = matrix.detach().to("cpu", torch.float64)
    if not matrix.isfinite().all():
        return torch.full_like(matrix[0], math.nan), torch.full_like(matrix, math.nan)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors


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
    # A guess that is another eigenvector would be mistaken for the answer. An equal random part costs about one
    # product more than one of a quarter, and erred three times less often on guesses that were the second vector.
    return _unit(_unit(guess) + direction)


def _unit(vector: Tensor) -> Tensor:
    return torch.div(vector, torch.linalg.vector_norm(vector))


def _orthogonalised(vector: Tensor, basis: Tensor) -> Tensor:
    vector = vector.clone()
    for _ in range(2):  # Once leaves rounding errors along the basis; twice is enough (Parlett 1998).
        vector -= basis.T @ (basis @ vector)
    return vector


def _tridiagonal(diagonal: Sequence[float], couplings: Sequence[float]) -> Tensor:
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    if couplings:
        side = torch.tensor(couplings, dtype=torch.float64)
        matrix += torch.diag(side, 1) + torch.diag(side, -1)
    return matrix
