import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from autodisp.networks.stereo_geometry import (
    group_correlation,
    horizontal_correlation,
    local_correlation,
    one_sided_correlation,
    warp_right_to_left,
)


def views(batch: int, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, batch, channels, height, width, generator=generator, dtype=torch.float64)
    return left, right


def correlation_by_loop(left: Tensor, right: Tensor, nearest: int, farthest: int) -> Tensor:
    batch, channels, height, width = left.shape
    found = torch.zeros(batch, farthest - nearest + 1, height, width, dtype=left.dtype)
    for channel, displacement in enumerate(range(nearest, farthest + 1)):
        for x in range(width):
            if 0 <= x - displacement < width:
                product = left[:, :, :, x] * right[:, :, :, x - displacement]
                found[:, channel, :, x] = product.sum(1) / channels
    return found


@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (1, 1, 1, 1), (1, 2, 1, 3), (2, 5, 3, 1)])
@pytest.mark.parametrize(
    ("nearest", "farthest"),
    [(0, 0), (0, 5), (-3, 3), (-40, 40), (0, 100), (2, 4), (9, 12), (-4, -2), (-12, -9), (3, 3)],
)
def test_correlation_against_a_loop(shape: tuple[int, int, int, int], nearest: int, farthest: int) -> None:
    left, right = views(*shape)
    found = horizontal_correlation(left, right, nearest=nearest, farthest=farthest)
    torch.testing.assert_close(found, correlation_by_loop(left, right, nearest, farthest))


def test_correlation_has_second_derivatives() -> None:
    left, right = (view.requires_grad_() for view in views(1, 2, 1, 3))

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        return horizontal_correlation(a, b, nearest=-1, farthest=4)

    assert torch.autograd.gradcheck(correlate, (left, right))
    assert torch.autograd.gradgradcheck(correlate, (left, right))


def test_correlation_keeps_channels_last_views_apart() -> None:
    left, right = views(2, 3, 4, 7)
    expected = horizontal_correlation(left, right, nearest=-2, farthest=9)
    strided = (view.to(memory_format=torch.channels_last) for view in (left, right))
    torch.testing.assert_close(horizontal_correlation(*strided, nearest=-2, farthest=9), expected)


@pytest.mark.parametrize(
    ("shape", "nearest", "farthest", "message"),
    [((1, 1, 2, 3), 0, 1, "the views differ in shape"), ((1, 1, 2, 2), 1, 0, "displacements 1 to 0 are an empty")],
)
def test_correlation_refuses(shape: tuple[int, ...], nearest: int, farthest: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        horizontal_correlation(torch.zeros(1, 1, 2, 2), torch.zeros(shape), nearest=nearest, farthest=farthest)


def warped_by_loop(right: Tensor, disparity: Tensor) -> Tensor:
    batch, _, height, width = right.shape
    found = torch.zeros_like(right)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                position = x - disparity[b, 0, y, x].item()
                first = math.floor(position)
                for tap, share in ((first, first + 1 - position), (first + 1, position - first)):
                    if 0 <= tap < width:
                        found[b, :, y, x] += share * right[b, :, y, tap]
    return found


@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (1, 2, 1, 5), (2, 1, 3, 1), (1, 1, 1, 1)])
def test_warping_against_a_loop(shape: tuple[int, int, int, int]) -> None:
    _, right = views(*shape)
    generator = torch.Generator().manual_seed(1)
    disparity = 8 * torch.rand(shape[0], 1, *shape[2:], generator=generator, dtype=torch.float64) - 2
    torch.testing.assert_close(warp_right_to_left(right, disparity), warped_by_loop(right, disparity))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-3)])
def test_warping_against_grid_sample(dtype: torch.dtype, tolerance: float) -> None:
    """Which rounds its normalised coordinates to 960 * 2^-24 pixels or so in float32."""
    generator = torch.Generator().manual_seed(3)
    right = torch.rand(2, 3, 4, 960, generator=generator, dtype=dtype)
    disparity = 300 * torch.rand(2, 1, 4, 960, generator=generator, dtype=dtype) - 20
    disparity[:, :, :2].round_()
    x = torch.arange(960, dtype=dtype) - disparity[:, 0]
    y = torch.arange(4, dtype=dtype).view(1, 4, 1).expand_as(x)
    grid = torch.stack([2 * x / 959 - 1, 2 * y / 3 - 1], dim=-1)
    expected = functional.grid_sample(right, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    torch.testing.assert_close(warp_right_to_left(right, disparity), expected, rtol=0, atol=tolerance)


def test_positions_are_precise_whatever_the_disparity_is() -> None:
    """bfloat16 has eight bits: it counts columns beyond 256 in twos, beyond 512 in fours."""
    right = torch.arange(960.0).view(1, 1, 1, 960)
    disparity = torch.full((1, 1, 1, 960), 3.0, dtype=torch.bfloat16)
    assert torch.equal(warp_right_to_left(right, disparity)[..., 3:], right[..., :-3])
    assert warp_right_to_left(right.bfloat16(), disparity).dtype == torch.bfloat16


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 3, 959, 960, 5000])
def test_warping_is_exact_at_whole_disparities(shift: int) -> None:
    right = torch.randn(1, 2, 3, 960, generator=torch.Generator().manual_seed(2))
    expected = torch.zeros_like(right)
    for x in range(960):
        if 0 <= x - shift < 960:
            expected[..., x] = right[..., x - shift]
    assert torch.equal(warp_right_to_left(right, torch.full((1, 1, 3, 960), float(shift))), expected)


def test_nothing_is_seen_outside_a_view_of_one_pixel() -> None:
    right = torch.ones(1, 1, 1, 1)
    for disparity, expected in ((0.0, 1.0), (0.25, 0.75), (-0.25, 0.75), (1.0, 0.0), (-1.0, 0.0), (math.inf, 0.0)):
        assert warp_right_to_left(right, torch.full((1, 1, 1, 1), disparity)).item() == expected


def test_an_unknown_disparity_shows_itself() -> None:
    disparity = torch.tensor([0.0, math.nan, 0.0]).view(1, 1, 1, 3)
    warped = warp_right_to_left(torch.ones(1, 2, 1, 3), disparity)
    assert warped.isnan().flatten().tolist() == [False, True, False] * 2


def test_warping_has_second_derivatives() -> None:
    _, right = views(1, 2, 2, 4)
    disparity = torch.tensor([[0.3, 0.6, 1.2, 1.7], [-0.4, 2.5, 0.4, 5.5]], dtype=torch.float64).view(1, 1, 2, 4)
    inputs = right.requires_grad_(), disparity.requires_grad_()
    assert torch.autograd.gradcheck(warp_right_to_left, inputs)
    assert torch.autograd.gradgradcheck(warp_right_to_left, inputs)


def test_warping_refuses_another_resolution() -> None:
    with pytest.raises(ValueError, match=r"disparity is \(2, 3\) but the view is \(2, 6\): resize .* width ratio"):
        warp_right_to_left(torch.zeros(1, 1, 2, 6), torch.zeros(1, 1, 2, 3))


@pytest.mark.parametrize("width", [5, 17, 48, 130])
@pytest.mark.parametrize("count", [1, 2, 7, 49])
def test_the_one_sided_correlation_is_that_part_of_the_whole(width: int, count: int) -> None:
    left, right = torch.randn(2, 2, 6, 3, width, dtype=torch.float64)
    expected = horizontal_correlation(left, right, nearest=0, farthest=count - 1)
    torch.testing.assert_close(one_sided_correlation(left, right, count=count), expected)


def test_group_correlation_is_a_loop_over_groups_displacements_and_columns() -> None:
    left, right = torch.randn(2, 1, 6, 2, 9, dtype=torch.float64)
    expected = torch.zeros(1, 3, 4, 2, 9, dtype=torch.float64)
    for group in range(3):
        for d in range(4):
            for x in range(d, 9):
                channels = slice(2 * group, 2 * group + 2)
                products = left[0, channels, :, x] * right[0, channels, :, x - d]
                expected[0, group, d, :, x] = products.mean(dim=0)
    torch.testing.assert_close(group_correlation(left, right, groups=3, count=4), expected)


@pytest.mark.parametrize("reach", [1, 2])
def test_local_correlation_is_that_with_the_warped_view(reach: int) -> None:
    left, right = torch.randn(2, 2, 5, 3, 40, dtype=torch.float64)
    disparity = torch.rand(2, 1, 3, 40, dtype=torch.float64) * 50 - 5  # beyond both borders too
    found = local_correlation(left, right, disparity, reach=reach)
    assert found.shape == (2, 2 * reach + 1, 3, 40)
    for channel, k in enumerate(range(-reach, reach + 1)):
        warped = warp_right_to_left(right, disparity + k)
        torch.testing.assert_close(found[:, channel], (left * warped).mean(dim=1))


def test_local_correlation_has_second_derivatives() -> None:
    left, right = torch.randn(2, 1, 2, 2, 7, dtype=torch.float64).requires_grad_().unbind()
    disparity = torch.rand(1, 1, 2, 7, dtype=torch.float64) * 4

    def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return local_correlation(a, b, disparity, reach=1)

    assert torch.autograd.gradgradcheck(correlation, (left, right))
