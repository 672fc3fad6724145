"""Depthwise convolution with fast gradients on a CPU.

oneDNN has fast kernels for the gradients of a depthwise convolution without dilation, and for the weights only where
the kernel is at most three wide; anything else uses a reference loop that is up to forty times slower (measured with
torch 2.14.1: 2.0 ms for the weights of a 5x5 at 16x16x32x32 where 5x3 takes 0.15 ms, 6.1 ms for the input of a strided
dilated 5x5). Each gradient is therefore computed in a form that has a fast kernel:

- a dilated convolution is an ordinary one on each of the dilation's phases (every second pixel of every second row),
  and where it strides by the dilation, on the first of them alone;
- the input's gradient at stride 1 is a convolution with the flipped kernel;
- a wide kernel's gradient is taken three columns at a time.

The second derivative of a grouped convolution is slower still: torch loops over the groups.

The convolution y = x * w is bilinear, so both gradients are bilinear as well, in (g, w) and in (x, g), and their own
gradients are again among the three: the functions below refer to each other and are differentiable any number of times.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

WIDEST = 3
"""Columns of a kernel whose weight gradient oneDNN has a fast kernel for."""


class DepthwiseConvolution(nn.Conv2d):
    """A convolution of each channel by itself, without bias: (B, C, H, W) -> (B, C, ceil(H/stride), ceil(W/stride)).

    The size of the kernel is odd; stride and dilation are the same in both directions.
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(
            channels, channels, kernel, stride=stride, padding=padding, dilation=dilation, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """The convolution."""
        return depthwise(input, self.weight, self.stride[0], self.dilation[0])


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """The convolution of ``DepthwiseConvolution`` with the weight (C, 1, k, k)."""
    if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
        if dilation > 1 and stride % dilation == 0:
            x, stride, dilation = x[..., ::dilation, ::dilation], stride // dilation, 1
        if (stride == 1 or dilation == 1) and (x.requires_grad or weight.requires_grad):
            return cast(Tensor, _Convolution.apply(x, weight, (stride, dilation)))
    return _convolved(x, weight, (stride, dilation))


_Geometry = tuple[int, int]
"""Stride and dilation, of which one is 1; the padding is dilation * (kernel // 2)."""


class _Convolution(Function):
    """(x, w) -> y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return _convolved(x, weight, geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        again = torch.is_grad_enabled()
        to_x = to_weight = None
        if not again and weight.shape[-1] <= WIDEST and ctx.geometry == (1, 1):
            return *_native_gradients(gradient, x, weight, 1, weight.shape[-1] // 2, ctx.needs_input_grad[:2]), None
        if ctx.needs_input_grad[0]:
            to_x = (_InputGradient.apply if again else _input_gradient)(gradient, weight, ctx.geometry, x.shape)
        if ctx.needs_input_grad[1]:
            to_weight = (_WeightGradient.apply if again else _weight_gradient)(
                x, gradient, ctx.geometry, weight.shape[-1]
            )
        return to_x, to_weight, None


class _InputGradient(Function):
    """(g, w) -> the gradient to x of <g, x * w>."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, geometry: _Geometry, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        ctx.geometry = geometry
        return _input_gradient(gradient, weight, geometry, shape)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> Any:
        gradient, weight = ctx.saved_tensors
        to_gradient = _Convolution.apply(x, weight, ctx.geometry) if ctx.needs_input_grad[0] else None
        kernel = weight.shape[-1]
        to_weight = _WeightGradient.apply(x, gradient, ctx.geometry, kernel) if ctx.needs_input_grad[1] else None
        return to_gradient, to_weight, None, None


class _WeightGradient(Function):
    """(x, g) -> the gradient to w of <g, x * w>."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, geometry: _Geometry, kernel: int) -> Tensor:
        ctx.save_for_backward(x, gradient)
        ctx.geometry = geometry
        return _weight_gradient(x, gradient, geometry, kernel)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Any:
        x, gradient = ctx.saved_tensors
        to_x = _InputGradient.apply(gradient, weight, ctx.geometry, x.shape) if ctx.needs_input_grad[0] else None
        to_gradient = _Convolution.apply(x, weight, ctx.geometry) if ctx.needs_input_grad[1] else None
        return to_x, to_gradient, None, None


def _convolved(x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    stride, dilation = geometry
    padding = dilation * (weight.shape[-1] // 2)
    return functional.conv2d(x, weight, None, stride, padding, dilation, weight.shape[0])


def _input_gradient(gradient: Tensor, weight: Tensor, geometry: _Geometry, shape: torch.Size) -> Tensor:
    if geometry[0] == 1:
        return _convolved(gradient, weight.flip(-2, -1), geometry)
    x = gradient.new_empty(()).expand(shape)
    return _native_gradients(gradient, x, weight, geometry[0], weight.shape[-1] // 2, (True, False))[0]


def _weight_gradient(x: Tensor, gradient: Tensor, geometry: _Geometry, kernel: int) -> Tensor:
    """Computes the gradient of a wide kernel three columns at a time, each with the part of the input that it reads."""
    stride, dilation = geometry
    if dilation > 1:
        x, gradient = _phases(x, dilation), _phases(gradient, dilation)
    channels, half = x.shape[1], kernel // 2
    whole = x.new_empty(channels, 1, kernel, kernel)
    if kernel <= WIDEST or stride > 1:
        return _native_gradients(gradient, x, whole, stride, half, (False, True))[1]
    triple = x.new_empty(channels, 1, kernel, WIDEST)
    for first in {*range(0, kernel - WIDEST, WIDEST - 1), kernel - WIDEST}:
        seen = functional.pad(x, (half - first, first + WIDEST - 1 - half))
        whole[..., first : first + WIDEST] = _native_gradients(gradient, seen, triple, 1, 0, (False, True))[1]
    return whole


def _native_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Computes torch's gradients to input and weight, the wanted ones; ``padding`` is that of the columns.

    Of a tensor that only an unwanted gradient needs, the shape alone is read.
    """
    around = (weight.shape[-2] // 2, padding)
    to_x, to_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, (stride, stride), around, (1, 1), False, (0, 0), weight.shape[0], (*wanted, False)
    )
    return to_x, to_weight


def _phases(x: Tensor, dilation: int) -> Tensor:
    """(B, C, H, W) -> (d d B, C, ceil(H/d), ceil(W/d)), phase after phase; zeros beyond the borders."""
    batch, channels, height, width = x.shape
    x = functional.pad(x, (0, -width % dilation, 0, -height % dilation))
    rows, columns = x.shape[-2] // dilation, x.shape[-1] // dilation
    split = x.permute(0, 2, 3, 1).reshape(batch, rows, dilation, columns, dilation, channels)
    phases = split.permute(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels)
    return phases.permute(0, 3, 1, 2)
