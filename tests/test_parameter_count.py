import pytest
import torch
from torch import nn

from autodisp.cells.designed import DesignedCells
from autodisp.cells.operations import Style
from autodisp.networks.disparity import DisparityNetwork, Head
from autodisp.networks.parameter_count import channels_for, count_parameters
from autodisp.networks.unbuilt import unbuilt


def square(channels: int) -> nn.Module:
    return nn.Linear(channels, channels, bias=False)


def test_every_tensor_counts_once_frozen_or_not() -> None:
    shared = nn.Linear(3, 4)
    network = nn.Sequential(shared, nn.BatchNorm1d(4), shared.requires_grad_(False))
    assert count_parameters(network) == 3 * 4 + 4 + 4 + 4


@pytest.mark.parametrize("parameters", [-5, 0, 1, 2, 3, 4, 12, 13, 30, 31, 90, 99, 1_000_000, 1_234_567])
def test_the_nearest_width_among_all(parameters: int) -> None:
    every = range(1, 1200)
    assert channels_for(parameters, square) == min(every, key=lambda n: (abs(n * n - parameters), n))


def test_no_width_below_the_smallest_is_tried() -> None:
    tried = []

    def build(channels: int) -> nn.Module:
        tried.append(channels)
        return square(channels)

    assert channels_for(9, build, smallest=5) == 5
    assert channels_for(170, build, smallest=5) == 13
    assert min(tried) == 5


def test_nothing_is_allocated_or_drawn() -> None:
    def build(channels: int) -> nn.Module:
        layer = square(channels)
        assert layer.weight.device.type == "meta"
        return layer

    state = torch.get_rng_state()
    assert channels_for(60_000 * 60_000, build) == 60_000
    assert torch.equal(torch.get_rng_state(), state)


def test_a_width_that_does_not_act_is_noticed() -> None:
    with pytest.raises(ValueError, match="100 parameters are not reached at 65536 channels: does the width act"):
        channels_for(100, lambda channels: nn.Linear(3, 3))


@pytest.mark.parametrize("head", ["regression", "refined"])
def test_an_unbuilt_network_has_the_names_and_shapes_of_a_built_one(head: Head) -> None:
    def build() -> dict[str, tuple[torch.Size, torch.dtype]]:
        cells = DesignedCells(style=Style("dense"))
        network = DisparityNetwork(cells, channels=4, stem_scale=1, head=head, max_disparity=16, encoder_cells=2,
                                   decoder_cells=2)  # fmt: skip
        return {name: (tensor.shape, tensor.dtype) for name, tensor in network.state_dict().items()}

    drawn = torch.get_rng_state()
    with unbuilt():
        found = build()
    assert torch.equal(drawn, torch.get_rng_state())
    assert found == build()
