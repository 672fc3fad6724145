"""Adds nothing at the start, sees neighbours in all three dimensions, has second derivatives."""

import pytest
import torch

from autodisp.networks.cost_aggregation import CostAggregation


def aggregation(*, zero: bool = False) -> CostAggregation:
    torch.manual_seed(0)
    module = CostAggregation(channels=3, guide=2).double()
    if zero:
        module.start_at_zero()
    return module


@pytest.mark.parametrize("size", [(9, 8, 12), (4, 5, 7), (1, 4, 4)])
def test_the_shape_is_the_volumes(size: tuple[int, int, int]) -> None:
    volume = torch.rand(2, *size, dtype=torch.float64)
    added = aggregation()(volume, torch.rand(2, 2, *size[1:], dtype=torch.float64))
    assert added.shape == volume.shape
    assert added.std() > 0


def test_it_starts_at_nothing_but_learns() -> None:
    module = aggregation(zero=True)
    volume = torch.rand(2, 6, 8, 8, dtype=torch.float64)
    added = module(volume, torch.rand(2, 2, 8, 8, dtype=torch.float64))
    assert torch.count_nonzero(added) == 0
    (added - volume).square().sum().backward()
    assert module.cost.weight.grad is not None
    assert module.cost.weight.grad.abs().max() > 0


def test_the_features_excite_the_volume() -> None:
    module = aggregation().eval()
    volume = torch.rand(1, 6, 8, 8, dtype=torch.float64)
    one, other = (module(volume, torch.full((1, 2, 8, 8), value, dtype=torch.float64)) for value in (0.0, 5.0))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("place", [(0, 0, 0), (8, 15, 15), (4, 8, 8)])
def test_a_change_reaches_all_directions(place: tuple[int, int, int]) -> None:
    module = aggregation().eval()
    volume = torch.rand(1, 9, 16, 16, dtype=torch.float64)
    features = torch.rand(1, 2, 16, 16, dtype=torch.float64)
    before = module(volume, features)
    volume[(0, *place)] += 1
    moved = (module(volume, features) - before).abs()[0] > 1e-12
    for axis in range(3):
        along = moved.any(dim=tuple(other for other in range(3) if other != axis))
        assert int(along.sum()) >= 4


@pytest.mark.slow
def test_second_derivatives_exist() -> None:
    module = aggregation()
    volume = torch.rand(1, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    features = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module.eval(), (volume, features))


def test_no_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        CostAggregation(channels=0, guide=1)


def test_a_group_wise_volume_takes_the_place_of_the_halving_convolution() -> None:
    torch.manual_seed(0)
    module = CostAggregation(channels=3, guide=2, groups=4, aligned=True).double().eval()
    volume, features = torch.rand(1, 9, 8, 12, dtype=torch.float64), torch.rand(1, 2, 8, 12, dtype=torch.float64)
    grouped = torch.rand(1, 4, 5, 4, 6, dtype=torch.float64)
    added = module(volume, features, grouped)
    assert added.shape == volume.shape
    assert not torch.allclose(added, module(volume, features, 2 * grouped))
    assert not torch.allclose(added, module(2 * volume, features, grouped))


def test_aligned_bins_meet_every_second_one() -> None:
    module = CostAggregation(channels=1, guide=1, groups=1, aligned=True)
    coarse = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 2, 2)
    enlarged = module._enlarged(coarse, (9, 4, 4))
    assert enlarged.shape == (1, 1, 9, 4, 4)
    torch.testing.assert_close(enlarged[0, 0, :, 1, 1], torch.arange(9.0) / 2)
