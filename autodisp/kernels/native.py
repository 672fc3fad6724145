"""The weighted sum of a node by the compiled kernels, as one differentiable function.

For each term, from an input of the node: either the input itself or a chain of blocks

    y = out(pointwise(depthwise(in(x))))

with batch normalisation between them and after the last one, where the style normalises. Only the y of each block is
kept for the backward pass, which computes the rest again. No normalised or weighted tensor is ever written.

Formulas, over batch and pixels and for each channel: n = N(y) = scale y + shift, g the gradient that arrives,
s = mean(g n). To the weight: sum(g n); to y: w scale (g - mean(g) - n s) (Ioffe and Szegedy 2015).

The first derivatives are native. Where the backward pass is itself to be differentiated (Hessian-vector products, exact
second order), it evaluates the plain path on fresh aliases of the inputs, so that it gives partial derivatives even
where one input depends on another, and any order of derivative is that of the plain path.
"""

import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from autodisp.cells.depthwise import depthwise
from autodisp.kernels.library import level_for, library

EPS = 1e-5
"""Epsilon of batch normalisation, torch's default."""
KERNELS = (3, 5)
GEOMETRIES = ((1, 1), (2, 1), (1, 2), (2, 2))
"""Stride and dilation."""
DTYPES = {torch.float32: "float", torch.float64: "double"}


class Block(NamedTuple):
    """Depthwise and pointwise convolution with the activations around them."""

    kernel: int
    stride: int
    dilation: int
    slope_in: float
    """Slope of the input's activation for negative numbers: 0 is ReLU, 1 none."""
    slope_out: float
    """Slope of the activation after the pointwise convolution."""
    parameters: tuple[int, ...]
    """Places of the depthwise and pointwise weights, and of the bias if there is one."""


class Term(NamedTuple):
    """A summand of a node."""

    weight: int
    """Place of its weight."""
    source: int
    """Place of its input."""
    blocks: tuple[Block, ...]
    """Empty: the input itself."""
    normalised: bool
    """True for batch normalisation after the last block, or of the input."""


class NodeSum(NamedTuple):
    """A node: its terms, and how many tensors are inputs; the others are parameters."""

    terms: tuple[Term, ...]
    inputs: int
    batch_norm: bool
    """True for batch normalisation between the blocks of a term."""


class _Unit(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "channels", "kernel", "stride", "dilation")),
        *((name, ctypes.c_int64) for name in ("threads", "accumulate")),
        *((name, ctypes.c_double) for name in ("slope_in", "slope_out", "epsilon")),
        *((name, ctypes.c_void_p) for name in ("x", "scale", "shift", "depthwise", "pointwise", "bias")),
        *((name, ctypes.c_void_p) for name in ("y", "next_scale", "next_shift", "g", "by_g", "by_y", "constant")),
        *((name, ctypes.c_void_p) for name in ("to_x", "to_depthwise", "to_pointwise", "to_bias")),
        *((name, ctypes.c_void_p) for name in ("next_by_g", "next_by_y", "next_constant")),
    ]


class _Terms(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("count", "pixels", "channels", "threads")),
        ("tensors", ctypes.POINTER(ctypes.c_void_p)),
        *((name, ctypes.c_void_p) for name in ("factors", "constant", "g", "out")),
    ]


def node_sum(plan: NodeSum, weights: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """The weighted sum of a node's terms.

    Args:
        plan: the terms.
        weights: (K,) or more, by the places of the terms.
        tensors: inputs, (B, C, H, W) each of one dtype on the CPU, and the parameters of the blocks.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)) in channels_last.
    """
    # outside of the function, since a copy made inside would have no second derivatives
    inputs = [x.contiguous(memory_format=torch.channels_last) for x in tensors[: plan.inputs]]
    parameters = [x.contiguous() for x in tensors[plan.inputs :]]
    return cast(Tensor, _Node.apply(plan, weights, *inputs, *parameters))


def plain_sum(plan: NodeSum, weights: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Computes the same by torch's operations, which may be differentiated any number of times."""
    total: Tensor | None = None
    for term in plan.terms:
        y = tensors[term.source]
        for place, block in enumerate(term.blocks):
            weight, matrix, *bias = (tensors[index] for index in block.parameters)
            y = _activated(y, block.slope_in)
            y = functional.conv2d(depthwise(y, weight, block.stride, block.dilation), matrix, bias[0] if bias else None)
            y = _activated(y, block.slope_out)
            if plan.batch_norm and place + 1 < len(term.blocks):
                y = functional.batch_norm(y, None, None, training=True, eps=EPS)
        if term.normalised:
            y = functional.batch_norm(y, None, None, training=True, eps=EPS)
        weighted = weights[term.weight] * y
        total = weighted if total is None else total + weighted
    assert total is not None
    return total


def _activated(x: Tensor, slope: float) -> Tensor:
    return x if slope == 1.0 else functional.relu(x) if slope == 0.0 else functional.leaky_relu(x, slope)


class _Node(Function):
    """(plan, weights, inputs and parameters) -> the sum."""

    @staticmethod
    def forward(ctx: Any, plan: NodeSum, weights: Tensor, *tensors: Tensor) -> Tensor:
        kernels = _Kernels(tensors[0])
        # scale and shift of each block's output, or of a term without blocks; 1 and 0 where nothing is normalised
        count = sum(map(_rows, plan.terms))
        affine = tensors[0].new_zeros(2, count, tensors[0].shape[1])
        affine[0] = 1
        at = kernels.addresses(affine)
        last, inner, row = list[Tensor](), list[Tensor](), 0
        for term in plan.terms:
            y = tensors[term.source]
            if not term.blocks and term.normalised:
                kernels.statistics(y, affine[:, row])
            for place, block in enumerate(term.blocks):
                normalised = term.normalised if place + 1 == len(term.blocks) else plan.batch_norm
                before = (at(0, row + place - 1), at(1, row + place - 1)) if place else None
                after = (at(0, row + place), at(1, row + place)) if normalised else None
                y = kernels.forward(block, y, before, tensors, after)
                inner.append(y)
            last.append(y)
            row += _rows(term)
        chosen, ends = _chosen(plan, weights), _ends(plan)
        ctx.plan = plan
        ctx.save_for_backward(weights, affine, *tensors, *inner)
        return kernels.weighted_sum(last, chosen * affine[0, ends], (chosen * affine[1, ends]).sum(0))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        weights, affine, *saved = ctx.saved_tensors
        plan: NodeSum = ctx.plan
        count = len(ctx.needs_input_grad) - 2
        tensors, inner = saved[:count], saved[count:]
        if torch.is_grad_enabled():
            return None, *_plain_gradients(plan, weights, tensors, gradient, ctx.needs_input_grad[1:])
        return None, *_gradients(plan, weights, affine, tensors, inner, gradient, ctx.needs_input_grad[1:])


def _plain_gradients(
    plan: NodeSum, weights: Tensor, tensors: Sequence[Tensor], gradient: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The partial derivatives by the plain path, with their graph."""
    aliases = [x.view_as(x) for x in (weights, *tensors)]  # of an input that depends on another one, no total ones
    chosen = [x for x, needed in zip(aliases, wanted, strict=True) if needed]
    y = plain_sum(plan, aliases[0], aliases[1:])
    found = iter(torch.autograd.grad(y, chosen, gradient, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in wanted]


def _gradients(
    plan: NodeSum,
    weights: Tensor,
    affine: Tensor,
    tensors: Sequence[Tensor],
    inner: Sequence[Tensor],
    gradient: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    kernels = _Kernels(tensors[0])
    held, ends = iter(inner), _ends(plan)
    ys = [[next(held) for _ in term.blocks] or [tensors[term.source]] for term in plan.terms]
    sums = kernels.inner_sums([some[-1] for some in ys], -affine[1, ends] / affine[0, ends], gradient)
    to_scaled = sums[:-1] * affine[0, ends]  # sum(g n), with n of mean 0 where it is normalised
    slopes = _slopes(plan, weights, affine[:, ends], to_scaled, sums[-1:], gradient.numel() // gradient.shape[1])
    found: list[Tensor | None] = [None] * len(tensors)
    to_weights = None
    if wanted[0]:
        places = torch.tensor([term.weight for term in plan.terms])
        to_weights = torch.zeros_like(weights).index_add_(0, places, to_scaled.sum(1))
    at, slope_at = kernels.addresses(affine), kernels.addresses(slopes)
    # a term without blocks writes what the others add to
    for k in sorted(range(len(plan.terms)), key=lambda k: len(plan.terms[k].blocks)):
        term = plan.terms[k]
        if term.blocks:
            first = ends[k] + 1 - len(term.blocks)
            before = [None, *((at(0, row), at(1, row)) if plan.batch_norm else None for row in range(first, ends[k]))]
            by = [slope_at(part, k) for part in range(3)]
            _through_blocks(kernels, term, tensors, ys[k], before, (gradient, by), found, wanted)
        elif wanted[1 + term.source]:
            to_x = kernels.weighted_sum([gradient, tensors[term.source]], slopes[:2, k], slopes[2, k])
            other = found[term.source]
            found[term.source] = to_x if other is None else other.add_(to_x)
    return [to_weights, *found]


def _slopes(plan: NodeSum, weights: Tensor, affine: Tensor, to_scaled: Tensor, to_all: Tensor, count: int) -> Tensor:
    """(3, K, C): the gradient to y of each term is the first times g, plus the second times y, plus the third."""
    scale, shift = affine
    normalised = scale.new_tensor([term.normalised for term in plan.terms])[:, None]
    by_g = _chosen(plan, weights) * scale
    by_y = -normalised * by_g * scale * to_scaled / count
    return torch.stack([by_g, by_y, -normalised * by_g * (to_all + to_scaled * shift) / count])


def _through_blocks(
    kernels: "_Kernels",
    term: Term,
    tensors: Sequence[Tensor],
    ys: Sequence[Tensor],
    before: Sequence[tuple[int, int] | None],
    slopes: tuple[Tensor, Sequence[int]],
    found: list[Tensor | None],
    wanted: Sequence[bool],
) -> None:
    """Adds the gradients to the input and the parameters of a term to ``found``, from the last block to the first.

    Args:
        kernels, tensors, wanted: see ``_gradients``.
        term: has blocks.
        ys: the output of each block.
        before: addresses of the scale and shift that normalise the input of each block.
        slopes: g and the factors that make the gradient to the last output of g and y.
        found: by the places of the tensors.
    """
    x, needs_x = tensors[term.source], wanted[1 + term.source]
    g, by = slopes
    for place in reversed(range(len(term.blocks))):
        block = term.blocks[place]
        to_weight = any(wanted[1 + index] for index in block.parameters)
        if not (place or needs_x or to_weight):
            break
        into, accumulate = None, False
        if place:
            into = torch.empty_like(ys[place - 1])
        elif needs_x:
            into, accumulate = found[term.source], True
            if into is None:
                accumulate = block.stride == block.dilation == 2  # which leaves pixels out
                into = torch.zeros_like(x) if accumulate else torch.empty_like(x)
            found[term.source] = into
        then = kernels.backward(
            block,
            ys[place - 1] if place else x,
            before[place],
            tensors,
            (ys[place], g, by),
            (into, accumulate),
            found if to_weight else None,
        )
        if place:
            assert into is not None
            g, by = into, [kernels.addresses(then)(part, 0) for part in range(3)]


def _rows(term: Term) -> int:
    """Returns the number of rows of scales and shifts of a term."""
    return max(1, len(term.blocks))


def _ends(plan: NodeSum) -> list[int]:
    """Returns the last row of each term."""
    return [end - 1 for end in itertools.accumulate(map(_rows, plan.terms))]


def _chosen(plan: NodeSum, weights: Tensor) -> Tensor:
    """Returns the weights of the terms, (K, 1)."""
    return weights.detach()[[term.weight for term in plan.terms]][:, None]


class _Kernels:
    """The compiled functions for the dtype and width of a tensor."""

    def __init__(self, like: Tensor) -> None:
        self.name = DTYPES[like.dtype]
        self.batch, self.channels = like.shape[:2]
        self.threads = torch.get_num_threads()
        self.library = library(level_for(self.channels, like.element_size()))

    def _call(self, function: str, arguments: ctypes.Structure) -> None:
        getattr(self.library, f"{function}_{self.name}")(ctypes.byref(arguments))

    def addresses(self, rows: Tensor) -> Callable[[int, int], int]:
        """Returns a function from two indices to the address of that row (C,) of a contiguous (n, m, C)."""
        start, size = rows.data_ptr(), rows.element_size() * self.channels
        count = rows.shape[1]
        return lambda first, second: start + (first * count + second) * size

    def _unit(
        self, block: Block, x: Tensor, before: tuple[int, int] | None, tensors: Sequence[Tensor], y: Tensor
    ) -> _Unit:
        weight, matrix, *bias = (tensors[index] for index in block.parameters)
        scale, shift = before or (None, None)
        return _Unit(
            batch=x.shape[0],
            height=x.shape[2],
            width=x.shape[3],
            channels=self.channels,
            kernel=block.kernel,
            stride=block.stride,
            dilation=block.dilation,
            threads=self.threads,
            slope_in=block.slope_in,
            slope_out=block.slope_out,
            epsilon=EPS,
            x=x.data_ptr(),
            scale=scale,
            shift=shift,
            depthwise=weight.data_ptr(),
            pointwise=matrix.data_ptr(),
            bias=bias[0].data_ptr() if bias else None,
            y=y.data_ptr(),
        )

    def forward(
        self,
        block: Block,
        x: Tensor,
        before: tuple[int, int] | None,
        tensors: Sequence[Tensor],
        after: tuple[int, int] | None,
    ) -> Tensor:
        """Computes the output of a block.

        Args:
            block, x, tensors: see ``node_sum``.
            before: addresses of the scale and shift that normalise x.
            after: addresses to which those that normalise the output are written.
        """
        shape = (x.shape[0], self.channels, -(-x.shape[2] // block.stride), -(-x.shape[3] // block.stride))
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        unit = self._unit(block, x, before, tensors, y)
        unit.next_scale, unit.next_shift = after or (None, None)
        self._call("unit_forward", unit)
        return y

    def backward(
        self,
        block: Block,
        x: Tensor,
        before: tuple[int, int] | None,
        tensors: Sequence[Tensor],
        slopes: tuple[Tensor, Tensor, Sequence[int]],
        into: tuple[Tensor | None, bool],
        found: list[Tensor | None] | None,
    ) -> Tensor:
        """Writes the gradients to the input and, into ``found``, to the parameters.

        Args:
            block, x, before, tensors: see ``forward``.
            slopes: y and g, and the addresses of the factors with which the gradient to y is computed from them.
            into: tensor for the gradient to x, and True to add it.
            found: by the places of the parameters.

        Returns:
            (3, 1, C), the factors of the previous block.
        """
        y, g, by = slopes
        unit = self._unit(block, x, before, tensors, y)
        unit.g, (unit.by_g, unit.by_y, unit.constant) = g.data_ptr(), by
        if into[0] is not None:
            unit.to_x, unit.accumulate = into[0].data_ptr(), into[1]
        if found is not None:
            gradients = [torch.empty_like(tensors[index]) for index in block.parameters]
            unit.to_depthwise, unit.to_pointwise = (t.data_ptr() for t in gradients[:2])
            unit.to_bias = gradients[2].data_ptr() if len(gradients) > 2 else None
            for index, value in zip(block.parameters, gradients, strict=True):
                found[index] = value
        then = x.new_zeros(3, 1, self.channels)
        then[0] = 1
        if before is not None:
            at = self.addresses(then)
            unit.next_by_g, unit.next_by_y, unit.next_constant = (at(part, 0) for part in range(3))
        self._call("unit_backward", unit)
        return then

    def statistics(self, x: Tensor, affine: Tensor) -> None:
        """Writes the scale and shift that normalise a tensor."""
        center = x[0, :, 0, 0].clone()
        first, second = self.inner_sums([x], center[None], None)
        count = x.numel() // x.shape[1]
        mean = first / count
        scale = torch.rsqrt(second / count - mean.square() + EPS)
        affine[0], affine[1] = scale, -(center + mean) * scale

    def weighted_sum(self, tensors: Sequence[Tensor], factors: Tensor, constant: Tensor) -> Tensor:
        """constant + sum_k factors_k tensors_k, with factors (K, C) and the constant (C,)."""
        out = torch.empty_like(tensors[0], memory_format=torch.channels_last)
        self._terms("weighted_sum", tensors, out, factors=factors.contiguous(), constant=constant.contiguous())
        return out

    def inner_sums(self, tensors: Sequence[Tensor], centers: Tensor, g: Tensor | None) -> Tensor:
        """(K + 1, C): sums of g (tensor_k - center_k), and of g; without g those of d and d² for the first tensor."""
        out = centers.new_empty((len(tensors) + 1, self.channels))
        more = {} if g is None else {"g": g}
        self._terms("inner_sums", tensors, out, factors=centers.contiguous(), **more)
        return out

    def _terms(self, function: str, tensors: Sequence[Tensor], out: Tensor, **more: Tensor) -> None:
        pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
        numbers = {name: tensor.data_ptr() for name, tensor in more.items()}
        pixels = tensors[0].numel() // self.channels
        terms = _Terms(
            count=len(tensors),
            pixels=pixels,
            channels=self.channels,
            threads=self.threads,
            tensors=pointers,
            out=out.data_ptr(),
            **numbers,
        )
        self._call(function, terms)
