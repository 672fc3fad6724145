from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autodisp.cells.cell import FoundCells
from autodisp.cells.designed import DesignedCells
from autodisp.cells.genotype import load
from autodisp.cells.operations import Style
from autodisp.networks.disparity import DisparityNetwork
from autodisp.networks.fused import fused

SIZES: dict[str, Any] = {
    "channels": 4,
    "stem_scale": 1.0,
    "encoder_cells": 2,
    "decoder_cells": 2,
    "max_displacement": 4,
    "max_disparity": 32,
}


def trained(network: DisparityNetwork) -> DisparityNetwork:
    """With running statistics and affine parameters that are not those of the start."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.3, generator=generator)
            layer.running_var.uniform_(0.5, 2.0, generator=generator)
            nn.init.normal_(layer.weight, 1.0, 0.3, generator=generator)
            nn.init.normal_(layer.bias, 0.0, 0.3, generator=generator)
    return network.eval()


def refined(*, norm_first: bool) -> DisparityNetwork:
    torch.manual_seed(0)
    cells = DesignedCells(style=Style(flavour="dense", affine=True, norm_first=norm_first))
    return trained(DisparityNetwork(cells, head="refined", aggregation=2, groups=2, refinement=4, **SIZES))


def found() -> DisparityNetwork:
    torch.manual_seed(0)
    cells = FoundCells(load("autodispnet"), style=Style(flavour="dense", affine=True, norm_first=True))
    return trained(DisparityNetwork(cells, head="matching", aggregation=2, **SIZES))


def pair() -> tuple[Tensor, Tensor]:
    left, right = torch.rand(2, 1, 3, 64, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return left, right


@pytest.mark.parametrize("network", [refined(norm_first=True), refined(norm_first=False), found()])
def test_the_result_is_the_same(network: DisparityNetwork) -> None:
    network.double()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    expected = network(*pair()).disparity
    torch.testing.assert_close(fused(network)(*pair()).disparity, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network(*pair()).disparity, expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_no_normalisation_is_left_where_it_comes_first() -> None:
    kinds = [type(layer) for layer in fused(refined(norm_first=True)).modules()]
    assert nn.BatchNorm2d not in kinds


def test_normalisation_stays_behind_an_activation() -> None:
    layers = [type(layer) for layer in fused(refined(norm_first=False)).modules()]
    assert nn.BatchNorm2d in layers
