"""Swapped, doubled and dark views are noticed; right ones are left in peace."""

import math

import pytest
import torch
from torch import Tensor

from autodisp.datasets.shapes3d import Shapes3D
from autodisp.prediction.sanity import find_oddities, moved_over_unmoved

SWAPPED = [
    "the right view, moved by these disparities, does not match the left one: are the views swapped, is all of it far "
    "away, or is the network poor?"
]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor, Tensor]:
    sample = Shapes3D(length=1, seed=5, height=64, width=128, max_disparity=24)[0]
    return sample.left, sample.right, sample.disparity


def test_how_much_is_left_of_the_difference() -> None:
    left = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(3, 1, 4).contiguous()
    shifted = torch.tensor([1.0, 0.0, 1.0, 1.0]).expand(3, 1, 4).contiguous()
    one = torch.ones(1, 1, 4)
    assert moved_over_unmoved(left, shifted, one) == 0
    # The first pixel's counterpart lies outside. Of the others left is 1 0 1, less its mean 1/3 -2/3 1/3; moved it is
    # 1/2 1/2 1, less its mean -1/6 -1/6 1/3; unmoved 0 1 1, less its mean -2/3 1/3 1/3.
    half = moved_over_unmoved(left, shifted, torch.full((1, 1, 4), 0.5))
    assert half == pytest.approx((1 / 2 + 1 / 2) / (1 + 1))
    assert moved_over_unmoved(left, shifted, torch.zeros(1, 1, 4)) == 1
    assert moved_over_unmoved(left, left, one) == math.inf
    assert math.isnan(moved_over_unmoved(left, shifted, 9 * one))
    assert math.isnan(moved_over_unmoved(left, shifted, torch.nan * one))


def test_true_disparities_raise_no_doubt(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    left, right, disparity = pair
    assert find_oddities(left, right, disparity) == []
    assert find_oddities(left, 0.7 * right, disparity) == []
    assert find_oddities(left, right, torch.full_like(disparity, torch.nan)) == []


def test_swapped_views(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    left, right, disparity = pair
    assert find_oddities(right, left, disparity) == SWAPPED


def test_disparities_that_lead_out_of_the_right_view(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    """As of swapped views whose ratio is too small to tell: there the few matches inside fit by chance."""
    left, right, disparity = pair
    outside = disparity.clone()
    outside[..., :102] = 128.0  # 26 of 128 columns are left
    assert moved_over_unmoved(left, right, outside) < 0.9
    share = int((torch.arange(128) >= outside).sum()) / outside.numel()
    assert find_oddities(left, right, outside) == [
        f"only {share:.0%} of the pixels have their match inside the right view: are the views swapped, or is the "
        "network poor?"
    ]
    near = torch.full_like(disparity, 60.0)  # nearly half of the width, and yet a scene there may be
    assert not any("inside the right view" in doubt for doubt in find_oddities(left, right, near))


def test_views_of_one_colour_say_nothing() -> None:
    flat, black = torch.full((3, 8, 16), 0.5), torch.zeros(3, 8, 16)
    assert find_oddities(flat, 0.8 * flat, torch.ones(1, 8, 16)) == []
    assert len(find_oddities(black, black, torch.ones(1, 8, 16))) == 2


def test_one_picture_twice(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    assert find_oddities(pair[0], pair[0], pair[2]) == ["left and right are the same image"]


def test_twelve_bits_in_sixteen(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    left, right, disparity = pair
    dark = 4095 / 65535 / float(torch.maximum(left.max(), right.max()))
    (note,) = find_oddities(left * dark, right * dark, disparity)
    assert note == "the brightest value is 0.0625 of 1: 10 or 12 bits stored in 16 need to be stretched"
    assert find_oddities(left * dark * 1.01, right * dark * 1.01, disparity) == []
