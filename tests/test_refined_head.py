import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.designed import DesignedCells
from autodisp.cells.operations import Style
from autodisp.networks.disparity import DisparityNetwork
from autodisp.networks.matching_head import DESCRIPTOR, STRIDE
from autodisp.networks.refined_head import Correction, RefinedHead, around_best


def head(**changes: int) -> RefinedHead:
    torch.manual_seed(0)
    sizes = {"half": 2, "quarter": 4, "eighth": 6, "decoder": 3, "max_disparity": 32}
    matching = RefinedHead(**{**sizes, "aggregation": 2, "groups": 2, "refinement": 4, **changes}).double()
    matching.start_as_block_matching()
    return matching


def network(*, norm_first: bool = True) -> DisparityNetwork:
    torch.manual_seed(0)
    return DisparityNetwork(
        DesignedCells(style=Style(flavour="dense", affine=True, norm_first=norm_first)),
        channels=4,
        stem_scale=1.0,
        encoder_cells=2,
        decoder_cells=2,
        max_displacement=4,
        head="refined",
        max_disparity=32,
        aggregation=2,
        groups=2,
        refinement=4,
        siamese_cells=2,
    )


def shifted_pair(shift: int, *, height: int = 64, width: int = 192) -> tuple[Tensor, Tensor]:
    """A texture and the same one moved; right x = left x - shift."""
    texture = torch.rand(1, 3, height, width + shift, generator=torch.Generator().manual_seed(3))
    smooth = functional.avg_pool2d(texture, 5, stride=1, padding=2)
    return smooth[..., :width], smooth[..., shift:]


@pytest.mark.parametrize("shift", [0, 8, 20])
def test_it_starts_as_block_matching(shift: int) -> None:
    left, right = shifted_pair(shift)
    prediction = network().eval()(left, right)
    error = (prediction.disparity - shift).abs()[..., 8:-8, shift + 16 : -16]
    assert error.median() < 1.0


def test_an_exposure_of_its_own_changes_nothing() -> None:
    left, right = shifted_pair(8)
    matching = network().eval()
    expected = matching(left, right).disparity
    torch.testing.assert_close(matching(left, 0.5 * right + 0.1).disparity, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(33, 70), (64, 64), (1, 40)])
def test_any_size_comes_back_with_its_levels(size: tuple[int, int]) -> None:
    left, right = torch.rand(2, 2, 3, *size)
    prediction = network()(left, right)
    assert prediction.disparity.shape == (2, 1, *size)
    assert prediction.strides == (16, 8, 4, 2)
    padded = [16 * math.ceil(side / 16) for side in size]
    for level, stride in zip(prediction.levels, prediction.strides, strict=True):
        assert level.shape[-2:] == (padded[0] // stride, padded[1] // stride)


def test_every_parameter_learns_once_nothing_is_zero() -> None:
    matching = network()
    with torch.no_grad():
        for parameter in matching.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    prediction = matching(*torch.rand(2, 2, 3, 64, 96))
    sum(level.square().mean() for level in (*prediction.levels, prediction.disparity)).backward()
    assert not [name for name, parameter in matching.named_parameters() if not parameter.grad.any()]  # type: ignore[union-attr]


def test_the_best_match_is_the_mean_around_the_highest_bin() -> None:
    logits = torch.randn(2, 9, 3, 4, dtype=torch.float64)
    found, shares = around_best(logits, reach=2)
    for batch in range(2):
        for y in range(3):
            for x in range(4):
                column = logits[batch, :, y, x]
                best = int(column.argmax())
                bins = [k for k in range(best - 2, best + 3) if 0 <= k < 9]
                weights = torch.softmax(column[bins], dim=0)
                expected = sum(float(w) * k for w, k in zip(weights, bins, strict=True))
                assert found[batch, 0, y, x].item() == pytest.approx(expected)
                for k, weight in zip(bins, weights, strict=True):
                    assert shares[batch, k - best + 2, y, x].item() == pytest.approx(weight.item())


def test_a_correction_is_a_1x1_convolution_and_a_convex_mean() -> None:
    layer = Correction(3).double()
    coarse, features = torch.rand(2, 1, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5, dtype=torch.float64)
    corrected, full = layer(coarse, features)
    planes = layer.layer(features)
    torch.testing.assert_close(corrected, coarse + planes[:, :1])
    around = functional.pad(corrected, (1, 1, 1, 1), mode="replicate")
    for batch, y, x in ((0, 0, 0), (1, 2, 3), (0, 3, 4)):
        window = around[batch, 0, y : y + 3, x : x + 3].flatten()
        scores = planes[batch, 1:, y, x].view(9, 4)
        for fine in range(4):
            expected = (torch.softmax(scores[:, fine], dim=0) * window).sum()
            torch.testing.assert_close(full[batch, 0, 2 * y + fine // 2, 2 * x + fine % 2], expected)


def test_the_volume_is_the_cosine_similarity_over_a_window() -> None:
    matching = head(max_disparity=12)
    nn.init.dirac_(matching.window.weight)
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(2, 1, DESCRIPTOR, 5, 9, generator=generator, dtype=torch.float64)
    volume = matching.correlate((left, right))
    assert volume.shape == (1, 4, 5, 9)
    torch.testing.assert_close(volume[0, 2, :, 6], (left[0, :, :, 6] * right[0, :, :, 4]).sum(dim=0))


def test_descriptors_have_length_one_where_there_is_texture() -> None:
    views, quarter, eighth = (
        torch.randn(2, *shape, dtype=torch.float64) for shape in ((3, 8, 12), (4, 4, 6), (6, 2, 3))
    )
    left, right = head().describe(views, quarter, eighth)
    assert left.shape == right.shape == (1, DESCRIPTOR, 4, 6)
    torch.testing.assert_close(left.norm(dim=1), torch.ones(1, 4, 6, dtype=torch.float64))


def test_the_head_has_second_derivatives() -> None:
    matching = head(max_disparity=8, aggregation=1, groups=1, refinement=2)
    with torch.no_grad():
        for parameter in matching.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    volume = torch.randn(1, matching.bins, 8, 8, dtype=torch.float64, requires_grad=True)
    features = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    views, half = torch.rand(2, 3, 16, 16, dtype=torch.float64), torch.rand(2, 2, 16, 16, dtype=torch.float64)
    eighth = torch.rand(2, 6, 4, 4, dtype=torch.float64)
    loss = matching(volume, features, views, half, eighth).full.square().sum()
    gradients = torch.autograd.grad(loss, (volume, features), create_graph=True)
    squares = torch.stack([gradient.square().sum() for gradient in gradients])
    product = torch.autograd.grad(squares.sum(), (volume, features))
    assert all(bool(gradient.isfinite().all()) and bool(gradient.any()) for gradient in product)


def test_too_small_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match="max_disparity is 3 but the volume counts in steps of 4"):
        head(max_disparity=STRIDE - 1)


def test_normalisation_may_come_before_the_activation() -> None:
    first, second = (
        [type(layer).__name__ for layer in network(norm_first=norm_first).stem[0].children()]
        for norm_first in (True, False)
    )
    assert first == ["Conv2d", "BatchNorm2d", "LeakyReLU"]
    assert second == ["Conv2d", "LeakyReLU", "BatchNorm2d"]
