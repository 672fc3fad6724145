import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from autodisp.cells.operations import (
    LEAK,
    OPERATIONS,
    PARAMETER_FREE,
    FactorizedReduction,
    Flavour,
    PointwiseConvolution,
    Style,
    build_operation,
    convolution,
    drop_path,
    initialise_he,
    pooling,
    transposed_convolution,
)

STYLES = {
    "darts": Style(),
    "darts affine": Style(affine=True),
    "dense": Style("dense", batch_norm=False),
    "dense normalised": Style("dense"),
}
SIZES = [(1, 1), (1, 4), (2, 3), (5, 8), (7, 7)]
CHANNELS = 3
EPSILON = 1e-5
"""What torch adds to the variance."""


def halved(size: int, stride: int) -> int:
    return math.ceil(size / stride)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_forward_and_backward(name: str, style: Style, stride: int) -> None:
    torch.manual_seed(0)
    operation = build_operation(name, channels=CHANNELS, stride=stride, style=style)
    for height, width in SIZES:
        x = torch.randn(4, CHANNELS, height, width, requires_grad=True)
        operation.zero_grad()
        y = operation(x)
        assert y.shape == (4, CHANNELS, halved(height, stride), halved(width, stride))
        assert y.dtype == x.dtype
        assert y.isfinite().all()
        if name in ("none", "noise"):
            assert not y.requires_grad
            continue
        (y * torch.randn_like(y)).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        for parameter in operation.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
            assert min(height, width) < 5 or parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_operation_takes_any_number_of_channels(style: Style, channels: int) -> None:
    for name in OPERATIONS:
        for stride in (1, 2):
            operation = build_operation(name, channels=channels, stride=stride, style=style)
            assert operation(torch.randn(2, channels, 5, 4)).shape == (2, channels, halved(5, stride), 4 // stride)


def test_parameter_free_operations_are_those_without_parameters() -> None:
    for style in STYLES.values():
        free = {
            name
            for name in OPERATIONS
            if not list(build_operation(name, channels=2, stride=1, style=style).parameters())
        }
        assert free == PARAMETER_FREE


def pooled_by_loop(x: Tensor, stride: int, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    height, width = x.shape[-2:]
    rows = []
    for row in range(0, height, stride):
        line = []
        for column in range(0, width, stride):
            window = x[:, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            line.append(reduce(window.flatten(2)))
        rows.append(torch.stack(line, dim=-1))
    return torch.stack(rows, dim=-2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pooling_against_a_loop(height: int, width: int, stride: int) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.float64) - 10  # a padding of zero would win the maximum
    torch.testing.assert_close(pooling("avg", stride)(x), pooled_by_loop(x, stride, lambda window: window.mean(-1)))
    torch.testing.assert_close(pooling("max", stride)(x), pooled_by_loop(x, stride, lambda window: window.amax(-1)))


def normalised(x: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = (x - mean).square().mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + EPSILON).sqrt()


def wrapped(x: Tensor, convolve: Callable[[Tensor], Tensor], style: Style) -> Tensor:
    """Activation, convolution and normalisation in the order of the flavour."""
    if style.flavour == "darts":
        return normalised(convolve(x.clamp(min=0)))
    y = convolve(x)
    y = torch.where(y > 0, y, LEAK * y)
    return normalised(y) if style.batch_norm else y


def separable_reference(
    x: Tensor, parameters: list[Tensor], kernel: int, strides: tuple[int, ...], dilation: int, style: Style
) -> Tensor:
    remaining = iter(parameters)
    for stride in strides:
        depthwise, pointwise = next(remaining), next(remaining)
        bias = next(remaining) if style.flavour == "dense" else None

        def convolve(
            y: Tensor, depthwise: Tensor = depthwise, pointwise: Tensor = pointwise, bias: Tensor | None = bias
        ) -> Tensor:
            padding = dilation * (kernel - 1) // 2
            y = functional.conv2d(y, depthwise, None, stride, padding, dilation, groups=len(depthwise))  # noqa: B023
            return functional.conv2d(y, pointwise, bias)

        x = wrapped(x, convolve, style)
    assert next(remaining, None) is None
    return x


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("style", [STYLES["darts"], STYLES["dense"], STYLES["dense normalised"]])
@pytest.mark.parametrize(
    ("name", "kernel", "times", "dilation"),
    [
        ("sep_conv_3x3", 3, 2, 1),
        ("sep_conv_5x5", 5, 2, 1),
        ("sep_conv_7x7", 7, 2, 1),
        ("dil_conv_3x3", 3, 1, 2),
        ("dil_conv_5x5", 5, 1, 2),
    ],
)
def test_separable_and_dilated_convolutions(
    name: str, kernel: int, times: int, dilation: int, style: Style, stride: int
) -> None:
    torch.manual_seed(1)
    operation = build_operation(name, channels=4, stride=stride, style=style).double()
    parameters = list(operation.parameters())
    assert {parameter.shape[-1] for parameter in parameters if parameter.dim() == 4} == {kernel, 1}
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    expected = separable_reference(x, parameters, kernel, (stride, 1)[:times], dilation, style)
    torch.testing.assert_close(operation(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("style", [STYLES["darts"], STYLES["dense"], STYLES["dense normalised"]])
def test_dense_convolutions(style: Style, kernel: int, stride: int) -> None:
    operation = build_operation(f"conv_{kernel}x{kernel}", channels=4, stride=stride, style=style).double()
    weight, *bias = operation.parameters()
    assert len(bias) == (style.flavour == "dense")
    x = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    expected = wrapped(x, lambda y: functional.conv2d(y, weight, *bias, stride=stride, padding=kernel // 2), style)
    torch.testing.assert_close(operation(x), expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_factorized_reduction_against_slicing(height: int, width: int) -> None:
    torch.manual_seed(2)
    operation = FactorizedReduction(3, 5, Style()).double()
    first, second = (parameter[:, :, 0, 0] for parameter in operation.parameters())
    assert {len(first), len(second)} == {2, 3}
    x = torch.randn(4, 3, height, width, dtype=torch.float64)
    active = x.clamp(min=0)
    even = active[:, :, ::2, ::2]
    odd = torch.zeros_like(even)
    shifted = active[:, :, 1::2, 1::2]
    odd[:, :, : shifted.shape[2], : shifted.shape[3]] = shifted
    mixed = torch.cat([torch.einsum("oc,bchw->bohw", first, even), torch.einsum("oc,bchw->bohw", second, odd)], dim=1)
    torch.testing.assert_close(operation(x), normalised(mixed))


class Strided1x1(TorchDispatchMode):
    """Counts 1x1 convolutions that stride."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.convolutions += 1
            self.found += tuple(args[1].shape[2:]) == (1, 1) and tuple(args[3]) != (1, 1)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_no_1x1_convolution_strides(style: Style) -> None:
    """oneDNN's gradient of one writes beyond its memory on CPUs that have AVX2 alone."""
    x = torch.randn(2, CHANNELS, 8, 8)
    with Strided1x1() as seen:
        functional.conv2d(x, torch.randn(4, CHANNELS, 1, 1), stride=2)
        assert seen.found == 1, "the counter counts"
        for name in OPERATIONS:
            build_operation(name, channels=CHANNELS, stride=2, style=style)(x)
        FactorizedReduction(CHANNELS, 8, style)(x)
    assert seen.found == 1
    assert seen.convolutions > len(OPERATIONS) - 4


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_pointwise_convolution_is_the_strided_one(height: int, width: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = PointwiseConvolution(CHANNELS, 5, stride=stride, bias=True).double()
    x = torch.randn(2, CHANNELS, height, width, dtype=torch.double)
    other = x.clone().requires_grad_()
    x.requires_grad_()
    y = layer(x)
    expected = functional.conv2d(other, layer.weight, layer.bias, stride)
    torch.testing.assert_close(y, expected)
    draw = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, layer.weight, layer.bias), draw)
    torch.testing.assert_close(found, torch.autograd.grad(expected, (other, layer.weight, layer.bias), draw))


def test_skip_is_the_identity_and_reduces_by_flavour() -> None:
    x = torch.randn(2, 4, 5, 5)
    for style in STYLES.values():
        assert build_operation("skip_connect", channels=4, style=style)(x) is x
    assert isinstance(build_operation("skip_connect", channels=4, stride=2, style=Style()), FactorizedReduction)
    dense = build_operation("skip_connect", channels=4, stride=2, style=STYLES["dense"])
    weight, bias = dense.parameters()
    y = functional.conv2d(x, weight, bias, stride=2, padding=1)
    torch.testing.assert_close(dense(x), torch.where(y > 0, y, LEAK * y))


@pytest.mark.parametrize("stride", [1, 2])
def test_none_gives_zeros_and_takes_no_gradient(stride: int) -> None:
    x = torch.full((2, 3, 5, 4), float("nan"), requires_grad=True)
    y = build_operation("none", channels=3, stride=stride, style=Style())(x)
    assert (y == 0).all()
    assert not y.requires_grad


@pytest.mark.parametrize("stride", [1, 2])
def test_noise_ignores_its_input(stride: int) -> None:
    noise = build_operation("noise", channels=3, stride=stride, style=Style())
    torch.manual_seed(3)
    first = noise(torch.zeros(2, 3, 64, 64))
    torch.manual_seed(3)
    assert torch.equal(noise(torch.full((2, 3, 64, 64), float("inf"))), first)
    assert not torch.equal(noise(torch.zeros(2, 3, 64, 64)), first)
    deviation = 1 / math.sqrt(first.numel())
    assert abs(first.mean()) < 5 * deviation
    assert abs(first.var() - 1) < 5 * math.sqrt(2) * deviation


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_normalisation_learns_only_where_it_is_affine(style: Style) -> None:
    norms = [
        module
        for name in OPERATIONS
        for module in build_operation(name, channels=2, stride=2, style=style).modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    assert bool(norms) == style.batch_norm
    assert all(norm.affine == style.affine for norm in norms)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_transposed_convolution_is_the_adjoint_of_a_strided_one(height: int, width: int) -> None:
    layer = transposed_convolution(3, 2, STYLES["dense"]).double()
    weight = layer.get_parameter("0.weight")
    bias = layer.get_parameter("0.bias")
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 2, 2 * height, 2 * width)
    linear = torch.where(y > 0, y, y / LEAK) - bias.view(1, -1, 1, 1)
    probe = torch.randn_like(y)
    down = functional.conv2d(probe, weight, stride=2, padding=1)
    torch.testing.assert_close((linear * probe).sum(), (x * down).sum())


def test_transposed_convolution_of_the_darts_flavour_has_no_bias_and_begins_with_relu() -> None:
    layer = transposed_convolution(3, 2, Style())
    assert [name for name, _ in layer.named_parameters()] == ["1.weight"]
    x = -torch.rand(2, 3, 4, 4)
    assert (layer(x) == 0).all()


def test_he_initialisation() -> None:
    torch.manual_seed(4)
    layers = nn.Sequential(
        convolution(64, 64, 3, STYLES["dense"]), nn.Conv2d(512, 512, 5, groups=512, bias=False), nn.Linear(4, 4)
    )
    untouched = layers[2].weight.clone()
    initialise_he(layers)
    assert torch.equal(layers[2].weight, untouched)
    assert (layers.get_parameter("0.0.bias") == 0).all()
    for weight, fan_in in ((layers.get_parameter("0.0.weight"), 64 * 9), (layers.get_parameter("1.weight"), 512 * 25)):
        variance = 2 / (1 + LEAK**2) / fan_in
        spread = math.sqrt(2 / weight.numel())  # of an estimated variance, relative
        assert abs(weight.var() / variance - 1) < 5 * spread


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "sep_conv_9x9"}, "'sep_conv_9x9' is unknown: take one of none, noise"),
        ({"name": "skip_connect", "stride": 3}, "stride is 3 but an edge has stride 1 or 2"),
    ],
)
def test_unknown_operations_and_strides_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_operation(**{"channels": 2, "style": Style(), **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flavour", "message"), [("resnet", "must be 'darts' or 'dense'"), ("darts", "always normalises")]
)
def test_styles_that_do_not_exist_are_refused(flavour: Flavour, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Style(flavour, batch_norm=False)


def test_a_drop_path_probability_on_a_gpu_is_a_tensor_that_may_change() -> None:
    x, probability = torch.ones(4000, 1, 1, 1), torch.tensor(0.2)
    y = drop_path(x, probability)
    assert set(y.flatten().tolist()) == {0.0, 1.25}
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=0.03)
    probability.fill_(0.5)
    y = drop_path(x.to(torch.bfloat16), probability)
    assert y.dtype is torch.bfloat16
    assert (y == 0).float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert drop_path(x, 0.0) is x
