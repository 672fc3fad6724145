import pytest
import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.cell import CellFactory, set_drop_path
from autodisp.cells.designed import DesignedCells
from autodisp.cells.operations import LEAK, Style
from autodisp.networks.classification import ClassificationNetwork
from autodisp.networks.disparity import DisparityNetwork, Head
from autodisp.networks.parameter_count import count_parameters
from autodisp.networks.refinement import RefinementNetwork
from autodisp.networks.unbuilt import unbuilt
from tests.made_models import found_cells

PLAIN = Style("dense", batch_norm=False)
EVERY_STYLE = pytest.mark.parametrize("style", [PLAIN, Style("dense"), Style(), Style(affine=True)])


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    left, right = torch.rand(2, batch, 3, height, width, generator=torch.Generator().manual_seed(1)).unbind()
    return left, right


def network(cells: CellFactory | None = None, **arguments: object) -> DisparityNetwork:
    torch.manual_seed(0)
    numbers = {"channels": 4, "stem_scale": 1, "max_displacement": 4, "max_disparity": 32, **arguments}
    return DisparityNetwork(cells or DesignedCells(style=PLAIN), **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "after_reduction", "both", "stride"),
    [("normal", True, False, 1), ("normal", False, True, 1), ("reduce", True, False, 2), ("reduce", False, False, 2)],
)
def test_an_encoder_cell_is_one_convolution(kind: str, after_reduction: bool, both: bool, stride: int) -> None:
    cells = DesignedCells(style=PLAIN)
    cell = cells.encoder_cell(kind, inputs=(2, 3), channels=5, after_reduction=after_reduction).double()
    before, previous = features(1, 2, 7, 6), features(1, 3, 7, 6, seed=1)
    weight, bias = cell.parameters()
    assert weight.shape == (5, 5 if both else 3, 3, 3)
    x = torch.cat([before, previous], dim=1) if both else previous
    expected = functional.leaky_relu(functional.conv2d(x, weight, bias, stride=stride, padding=1), LEAK)
    torch.testing.assert_close(cell((before, previous), None), expected)
    assert cell.outputs == cells.outputs(kind, channels=5) == expected.shape[1]


def test_an_upsampling_cell_is_an_upconvolution_and_an_iconvolution() -> None:
    cells = DesignedCells(style=PLAIN)
    cell = cells.upsampling_cell(inputs=(2, 3, 1, 4), channels=5, after_upsampling=True).double()
    inputs = features(1, 2, 2, 3), features(1, 3, 4, 6), features(1, 1, 8, 12), features(1, 4, 8, 12)
    weight, bias, join, join_bias = cell.parameters()
    up = functional.leaky_relu(functional.conv_transpose2d(inputs[1], weight, bias, stride=2, padding=1), LEAK)
    x = torch.cat([up, inputs[2], inputs[3]], dim=1)
    expected = functional.leaky_relu(functional.conv2d(x, join, join_bias, padding=1), LEAK)
    torch.testing.assert_close(cell(inputs, None), expected)
    assert expected.shape[1] == cell.outputs == cells.outputs("upsample", channels=5)
    assert expected.shape[-2:] == (8, 12)


def parameters_by_hand(channels: int) -> int:
    """Of the network with stem_scale 1, layer by layer: (inputs, outputs, kernel)."""
    c = channels
    layers = [(3, c, 7), (c, 2 * c, 5), (2 * c, 2 * c, 3)]
    layers += [(4 * c + 81, 2 * c, 3), (2 * c, 4 * c, 3), (4 * c, 4 * c, 3)]
    layers += [(4 * c, 8 * c, 3), (8 * c, 8 * c, 3), (8 * c, 16 * c, 3)]
    for width, support in ((8 * c, 8 * c), (4 * c, 4 * c), (2 * c, 2 * c), (c, 2 * c)):
        layers += [(2 * width, width, 4), (width + 1 + support, width, 3)]
    layers += [(width, 1, 3) for width in (16 * c, 8 * c, 4 * c, 2 * c, c)]
    return sum(inputs * outputs * kernel**2 + outputs for inputs, outputs, kernel in layers)


@pytest.mark.parametrize("channels", [1, 24, 64])
def test_the_network_has_the_layers_listed_here(channels: int) -> None:
    with unbuilt():
        designed = DisparityNetwork(DesignedCells(style=PLAIN), channels=channels, stem_scale=1)
    assert count_parameters(designed) == parameters_by_hand(channels)


@EVERY_STYLE
@pytest.mark.parametrize("head", ["regression", "matching"])
def test_it_is_a_disparity_network_like_any(head: Head, style: Style) -> None:
    designed = network(DesignedCells(style=style), head=head, encoder_cells=4, decoder_cells=3)
    set_drop_path(designed, 0.2)
    for training in (True, False):
        output = designed.train(training)(*pair(33, 71, batch=2))
        assert output.disparity.shape == (2, 1, 33, 71)
        assert [level.shape[-2:] for level in output.levels] == [(2, 3), (4, 6), (8, 12), (16, 24)]
        assert output.disparity.isfinite().all()
    found = network(found_cells(style), head=head, encoder_cells=4, decoder_cells=3)
    assert [level.shape for level in found(*pair(33, 71, batch=2)).levels] == [x.shape for x in output.levels]


def test_every_parameter_has_a_part() -> None:
    designed = network(encoder_cells=4, decoder_cells=3)
    output = designed(*pair(32, 64))
    loss = torch.stack([level.tanh().sum() for level in output.levels]).sum()
    gradients = torch.autograd.grad(loss, list(designed.parameters()))
    assert all(bool(gradient.isfinite().all()) and gradient.abs().sum() > 0 for gradient in gradients)


@EVERY_STYLE
def test_refinement_and_classification_take_it_too(style: Style) -> None:
    torch.manual_seed(0)
    cells = DesignedCells(style=style)
    left, right = pair(20, 30, batch=2)
    refinement = RefinementNetwork(cells, channels=2, stem_scale=1, encoder_cells=3, decoder_cells=2)
    assert refinement(left, right, torch.ones(2, 1, 20, 30)).disparity.shape == (2, 1, 20, 30)
    assert ClassificationNetwork(cells, channels=2, layers=4, classes=5)(left).logits.shape == (2, 5)
