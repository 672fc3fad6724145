"""The candidate operations of an edge, in two flavours.

``darts``: ReLU, convolution without bias, batch normalisation (Liu et al. 2019; RobustDARTS).
``dense``: convolution with bias, LeakyReLU(0.1) and optional batch normalisation (the released AutoDispNet networks;
their depthwise convolutions have no bias, as confirmed by the published parameter counts).

Every operation maps (B, C, H, W) to (B, C, ceil(H / stride), ceil(W / stride)) for any H, W >= 1, so that the outputs
of the operations of an edge can always be added. The published factorized reduction fails on odd sizes; ours pads them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from autodisp.cells.depthwise import DepthwiseConvolution

Flavour = Literal["darts", "dense"]
LEAK = 0.1


@dataclass(frozen=True)
class Style:
    """Order and parameters of convolution, activation and normalisation in a network."""

    flavour: Flavour = "darts"
    batch_norm: bool = True
    """Batch normalisation; only ``dense`` can omit it."""
    affine: bool = False
    """Learnt scale and shift in batch normalisation; off in a search, where they would rescale the alphas."""
    running: bool = True
    """Running statistics, used for normalisation in eval mode."""
    norm_first: bool = False
    """In ``dense``: normalisation before the activation, so that inference can fold it into the convolution."""

    def __post_init__(self) -> None:
        if self.flavour not in ("darts", "dense"):
            raise ValueError(f"flavour is '{self.flavour}' but must be 'darts' or 'dense'")
        if self.flavour == "darts" and not self.batch_norm:
            raise ValueError("the darts flavour always normalises: set batch_norm=True or take flavour='dense'")

    def norms(self, channels: int) -> list[nn.Module]:
        """Returns batch normalisation for the channels, or an empty list."""
        return (
            [nn.BatchNorm2d(channels, affine=self.affine, track_running_stats=self.running)] if self.batch_norm else []
        )


def block(convolutions: list[nn.Module], channels: int, style: Style) -> list[nn.Module]:
    """Combines convolutions with activation and normalisation in the order of the flavour."""
    if style.flavour == "darts":
        return [nn.ReLU(), *convolutions, *style.norms(channels)]
    if style.norm_first:
        return [*convolutions, *style.norms(channels), nn.LeakyReLU(LEAK)]
    return [*convolutions, nn.LeakyReLU(LEAK), *style.norms(channels)]


class PointwiseConvolution(nn.Conv2d):
    """A 1x1 convolution that subsamples its input instead of using a stride.

    Both are equal in exact arithmetic. oneDNN (3.x, in torch 2.14) writes out of bounds in the input gradient of a
    strided 1x1 convolution with fewer than eight channels in channels_last, on CPUs with AVX2 only (EXPERIMENTS.md).
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, bias: bool) -> None:
        super().__init__(inputs, outputs, 1, stride=stride, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, ceil(H/stride), ceil(W/stride))."""
        rows, columns = self.stride
        kept = input if rows == columns == 1 else input[:, :, ::rows, ::columns]
        return functional.conv2d(kept, self.weight, self.bias)


def convolution(inputs: int, outputs: int, kernel: int, style: Style, *, stride: int = 1) -> nn.Sequential:
    """Builds a convolution in the order of the style; output (B, outputs, ceil(H/stride), ceil(W/stride))."""
    bias = style.flavour == "dense"
    layer: nn.Conv2d
    if kernel == 1:
        layer = PointwiseConvolution(inputs, outputs, stride=stride, bias=bias)
    else:
        layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=bias)
    return nn.Sequential(*block([layer], outputs, style))


def transposed_convolution(inputs: int, outputs: int, style: Style) -> nn.Sequential:
    """Builds a 4x4 transposed convolution that doubles height and width, in the order of the style."""
    layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=style.flavour == "dense")
    return nn.Sequential(*block([layer], outputs, style))


def depthwise_pointwise(channels: int, kernel: int, stride: int, dilation: int, style: Style) -> list[nn.Module]:
    """Builds a depthwise convolution followed by a pointwise one that mixes the channels."""
    depthwise = DepthwiseConvolution(channels, kernel, stride=stride, dilation=dilation)
    pointwise = nn.Conv2d(channels, channels, 1, bias=style.flavour == "dense")
    return block([depthwise, pointwise], channels, style)


class FactorizedReduction(nn.Module):
    """Halves height and width by two stride-2 1x1 convolutions, offset by one pixel, whose outputs are concatenated.

    Pixels are subsampled before the ReLU.
    """

    def __init__(self, inputs: int, outputs: int, style: Style) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, bias=False) if outputs > 1 else None
        self.norm = nn.Sequential(*style.norms(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, H, W) to (B, outputs, ceil(H/2), ceil(W/2))."""
        normalised: Tensor = self.norm(self.convolved(rectified_phases(x)))
        return normalised

    def convolved(self, phases: tuple[Tensor, Tensor]) -> Tensor:
        """The result before the normalisation, from ``rectified_phases``."""
        halves = [self.even(phases[0])]
        if self.odd is not None:
            halves.append(self.odd(phases[1]))
        return torch.cat(halves, dim=1)


def rectified_phases(x: Tensor) -> tuple[Tensor, Tensor]:
    """ReLU of every second pixel of every second row, from the first and from the second on, zeros beyond the borders.

    Maps (B, C, H, W) to two tensors (B, C, ceil(H/2), ceil(W/2)).
    """
    even, odd = _Phases.apply(x)
    return functional.relu(even), functional.relu(odd)


class _Phases(Function):
    """x -> both phases: the gradient is written once, where slicing would add up one of the size of x for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.shape = height, width = x.shape[-2:]
        odd = functional.pad(x[:, :, 1::2, 1::2], (0, width % 2, 0, height % 2))
        return x[:, :, ::2, ::2].contiguous(memory_format=_layout(x)), odd

    @staticmethod
    def backward(ctx: Any, to_even: Tensor, to_odd: Tensor) -> Tensor:
        height, width = ctx.shape
        shape = (*to_even.shape[:2], height, width)
        whole = torch.zeros(shape, dtype=to_even.dtype, device=to_even.device).to(memory_format=_layout(to_even))
        whole[:, :, ::2, ::2] = to_even
        whole[:, :, 1::2, 1::2] = to_odd[:, :, : height // 2, : width // 2]
        return whole


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


class Zero(nn.Module):
    """The operation ``none``: the edge is absent."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Returns zeros of the strided size, without gradient to x."""
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(nn.Module):
    """N(0, 1) noise of the output's shape, independent of the input (RobustDARTS, space S4)."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Draws new noise of the strided size from torch's global generator."""
        return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


def pooling(kind: Literal["max", "avg"], stride: int) -> nn.Module:
    """Builds 3x3 pooling with padding 1; the average does not count the padding."""
    if kind == "max":
        return nn.MaxPool2d(3, stride=stride, padding=1)
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


def skip(channels: int, stride: int, style: Style) -> nn.Module:
    """Builds the identity; at stride 2 see ``halving``."""
    return nn.Identity() if stride == 1 else halving(channels, channels, style)


def halving(inputs: int, outputs: int, style: Style) -> nn.Module:
    """Builds a factorized reduction (darts) or a strided 3x3 convolution (dense)."""
    if style.flavour == "darts":
        return FactorizedReduction(inputs, outputs, style)
    return convolution(inputs, outputs, 3, style, stride=2)


def separable(channels: int, kernel: int, stride: int, style: Style) -> nn.Sequential:
    """Builds depthwise and pointwise convolution, twice; only the first has a stride."""
    first = depthwise_pointwise(channels, kernel, stride, 1, style)
    return nn.Sequential(*first, *depthwise_pointwise(channels, kernel, 1, 1, style))


def dilated(channels: int, kernel: int, stride: int, style: Style) -> nn.Sequential:
    """Builds a depthwise convolution with dilation 2 and a pointwise convolution."""
    return nn.Sequential(*depthwise_pointwise(channels, kernel, stride, 2, style))


def drop_path(x: Tensor, probability: float | Tensor) -> Tensor:
    """Zeroes whole samples with the given probability and rescales the others (Larsson et al. 2017).

    Args:
        x: (B, C, H, W).
        probability: probability 0 <= p < 1 of dropping a sample; one on a GPU, shape (), may change in a CUDA graph.
    """
    if isinstance(probability, Tensor):
        kept = torch.rand((x.shape[0], 1, 1, 1), device=x.device) >= probability
        return x * (kept / (1.0 - probability)).to(x.dtype)
    if probability == 0.0:
        return x
    keep = 1.0 - probability
    kept = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
    return x * (kept / keep)


Builder = Callable[[int, int, Style], nn.Module]
OPERATIONS: dict[str, Builder] = {
    "none": lambda channels, stride, style: Zero(stride),
    "noise": lambda channels, stride, style: Noise(stride),
    "max_pool_3x3": lambda channels, stride, style: pooling("max", stride),
    "avg_pool_3x3": lambda channels, stride, style: pooling("avg", stride),
    "skip_connect": skip,
    "sep_conv_3x3": lambda channels, stride, style: separable(channels, 3, stride, style),
    "sep_conv_5x5": lambda channels, stride, style: separable(channels, 5, stride, style),
    "sep_conv_7x7": lambda channels, stride, style: separable(channels, 7, stride, style),
    "dil_conv_3x3": lambda channels, stride, style: dilated(channels, 3, stride, style),
    "dil_conv_5x5": lambda channels, stride, style: dilated(channels, 5, stride, style),
    "conv_1x1": lambda channels, stride, style: convolution(channels, channels, 1, style, stride=stride),
    "conv_3x3": lambda channels, stride, style: convolution(channels, channels, 3, style, stride=stride),
}
PARAMETER_FREE = frozenset({"none", "noise", "max_pool_3x3", "avg_pool_3x3", "skip_connect"})
"""Operations without parameters at stride 1; a collapsed cell consists of them."""


def build_operation(name: str, *, channels: int, stride: int = 1, style: Style) -> nn.Module:
    """Builds the operation with that name.

    Raises:
        ValueError: the name or the stride is unknown.
    """
    if name not in OPERATIONS:
        raise ValueError(f"operation '{name}' is unknown: take one of {', '.join(OPERATIONS)}")
    if stride not in (1, 2):
        raise ValueError(f"stride is {stride} but an edge has stride 1 or 2")
    return OPERATIONS[name](channels, stride, style)


def initialise_zero(layer: nn.Conv2d) -> None:
    """Initialises weights and biases with zeros."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def initialise_he(module: nn.Module) -> None:
    """Initialises every convolution by He's method (fan-in), biases to zero (for the dense flavour).

    The fan-in of a depthwise kernel is C k k, as in the released initializer, not k k: without batch normalisation the
    features would otherwise grow by sqrt(C) at each depthwise convolution.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(layer.weight, a=LEAK, nonlinearity="leaky_relu")
            with torch.no_grad():
                layer.weight.div_(math.sqrt(layer.groups))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
