"""Prediction at several sizes of the views: what is joined, and in which pixels."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import autodisp
from autodisp.errors import InputError
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.scales import MultiScaleMatcher, join
from tests.test_corrections import WIDTH, pair


def test_the_surface_with_most_confidence_is_taken() -> None:
    cases = {  # disparities and their confidences, 0 if not usable -> disparity, confidence
        ((10.0, 0.6), (12.0, 0.3)): (32 / 3, 0.45),  # one surface
        ((10.0, 0.6), (20.0, 0.5)): (10.0, 0.3),
        ((10.0, 0.6), (20.0, 0.7)): (20.0, 0.35),
        ((10.0, 0.6), (20.0, 0.0)): (10.0, 0.6),
        ((10.0, 0.6), (20.0, 0.4), (21.0, 0.4)): (20.5, 0.8 / 3),
        ((10.0, 0.6), (20.0, 0.4), (21.0, 0.0)): (10.0, 0.3),
        ((10.0, 0.6), (12.5, 0.0), (15.0, 0.5)): (10.0, 0.3),  # what is not usable joins no surfaces
        ((10.0, 1e-9), (11.0, 1e-9)): (10.5, 1e-6),
        ((10.0, 0.6), (np.inf, 0.1)): (np.nan, 0.3),
        ((np.inf, 0.6), (np.inf, 0.6)): (np.inf, 0.0),
    }
    for each, (disparity, confidence) in cases.items():
        planes = torch.tensor(each).T.view(2, len(each), 1, 1, 1, 1)
        joined = join(*planes, planes[1] > 0)
        torch.testing.assert_close(joined[0].item(), disparity, rtol=1e-6, atol=0.0, equal_nan=True)
        torch.testing.assert_close(joined[1].item(), confidence, rtol=1e-6, atol=0.0)


class Share(nn.Module):
    """Predicts a quarter of the width of its views, and records their size."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        assert left.shape == right.shape
        self.sizes.append(tuple(left.shape))
        return torch.full_like(left[:, :1], left.shape[-1] / 4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 27), (24, 40)])
def test_disparities_are_in_pixels_of_the_views(size: tuple[int, int]) -> None:
    network = Share()
    views = torch.rand(2, 2, 1, *size, generator=torch.Generator().manual_seed(0))
    found = MultiScaleMatcher(StereoMatcher(network), [1.7, 0.4, 1])(*views)
    torch.testing.assert_close(found, torch.full((2, 1, *size), size[1] / 4))
    rounded = [tuple(max(round(scale * side), 1) for side in size) for scale in (0.4, 1, 1.7)]
    assert network.sizes == [(2, 3, *each) for each in rounded]


class Limited(StereoMatcher):
    """A network that finds nothing beyond 30 pixels."""

    max_disparity = 30.0  # type: ignore[assignment]


class Clipped(Share):
    """Predicts a quarter of the width, at most 30 pixels."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return super().forward(left, right).clamp(max=30)


def test_what_leaves_the_range_of_a_scale_is_left_to_smaller_ones() -> None:
    views = torch.zeros(2, 1, 3, 16, 100)
    matcher = MultiScaleMatcher(Limited(Clipped()), [1, 2, 4])
    assert matcher.max_disparity == 30
    assert torch.equal(matcher(*views).unique(), torch.tensor([25.0]))
    assert MultiScaleMatcher(Limited(Clipped()), [2, 0.5]).max_disparity == 60


def test_views_of_two_sizes_and_impossible_factors_are_refused() -> None:
    matcher = MultiScaleMatcher(StereoMatcher(Share()), [0.5, 2])
    with pytest.raises(ValueError, match="left is 1x20x40 and right 1x20x39"):
        matcher(torch.zeros(3, 20, 40), torch.zeros(3, 20, 39))
    for scales in ([], [0], [1, -1], [math.nan], [math.inf]):
        with pytest.raises(InputError, match=r"scales=\[.*\]: must be factors above 0, at least one"):
            MultiScaleMatcher(StereoMatcher(Share()), scales)


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.5, 2.0])
def test_the_shipped_network_finds_the_plane_at_each_scale(scale: float) -> None:
    left, right = (np.repeat(view[..., None], 3, axis=2) for view in pair(10.0))
    matcher = MultiScaleMatcher(autodisp.load(), [scale])
    found = matcher.with_confidence(left, right)
    assert found.shape == (1, 2, *left.shape[:2])
    assert np.median(np.abs(found[0, 0, :, 30 : WIDTH - 10] - 10.0)) < 0.3
    assert ((found[0, 1] >= 0) & (found[0, 1] <= 1)).all()
    if scale == 1.0:
        np.testing.assert_allclose(found, autodisp.load().with_confidence(left, right), rtol=1e-6)
