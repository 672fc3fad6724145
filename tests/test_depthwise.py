"""Against torch's own convolution, which is slow and right."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.depthwise import DepthwiseConvolution, depthwise

SIZES = [(2, 3, 7, 9), (2, 4, 8, 5), (1, 2, 1, 1), (2, 2, 2, 3)]
KERNELS = [1, 3, 5, 7]


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def reference(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return functional.conv2d(x, weight, None, stride, padding, dilation, weight.shape[0])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2, 3), (1, 2, 3))))
def test_values_and_gradients(stride: int, dilation: int, layout: torch.memory_format) -> None:
    for size, kernel in itertools.product(SIZES, KERNELS):
        x, weight = drawn(*size), drawn(size[1], 1, kernel, kernel)
        y = depthwise(x.contiguous(memory_format=layout), weight, stride, dilation)
        expected = reference(x, weight, stride, dilation)
        probe = torch.randn_like(expected)
        torch.testing.assert_close(y, expected)
        seen = torch.autograd.grad(y, (x, weight), probe)
        torch.testing.assert_close(seen, torch.autograd.grad(expected, (x, weight), probe))


@pytest.mark.parametrize(("stride", "dilation"), list(itertools.product((1, 2), (1, 2))))
@pytest.mark.parametrize("kernel", [3, 5])
def test_every_order_of_derivative(kernel: int, stride: int, dilation: int) -> None:
    x, weight = drawn(1, 2, 4, 5), drawn(2, 1, kernel, kernel)

    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        return depthwise(x, weight, stride, dilation)

    def slopes(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        # of something that is not linear in either, so that the third derivative is none of zeros
        return torch.autograd.grad(convolved(x, weight).pow(3).sum(), (x, weight), create_graph=True)

    assert torch.autograd.gradcheck(convolved, (x, weight))
    assert torch.autograd.gradgradcheck(convolved, (x, weight))
    assert torch.autograd.gradgradcheck(slopes, (x, weight), nondet_tol=1e-12)


@pytest.mark.parametrize("wanted", ["input", "weight"])
def test_a_gradient_that_nobody_wants_is_not_taken(wanted: str) -> None:
    x, weight = drawn(2, 3, 6, 6), drawn(3, 1, 5, 5)
    other = weight if wanted == "input" else x
    other.requires_grad_(False)
    depthwise(x, weight).sum().backward()
    assert other.grad is None
    assert (x if wanted == "input" else weight).grad is not None


def test_the_module_is_a_convolution() -> None:
    module = DepthwiseConvolution(3, 5, stride=2, dilation=2)
    assert isinstance(module, torch.nn.Conv2d)
    assert list(module.state_dict()) == ["weight"]
    x = torch.randn(2, 3, 9, 8)
    plain = torch.nn.Conv2d(3, 3, 5, stride=2, padding=4, dilation=2, groups=3, bias=False)
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(module(x), plain(x))


def test_it_runs_under_autocast() -> None:
    x, weight = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(4, 1, 5, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = depthwise(x, weight, 1, 2)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
