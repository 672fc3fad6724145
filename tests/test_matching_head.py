import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.networks.matching_head import DESCRIPTOR, STRIDE, WINDOW, MatchingHead, convex_upsampling


def head(max_disparity: int = 32, decoder: int = 3) -> MatchingHead:
    torch.manual_seed(0)
    return MatchingHead(quarter=4, eighth=6, decoder=decoder, max_disparity=max_disparity).double()


def unit_descriptors(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return functional.normalize(
        torch.randn(1, DESCRIPTOR, height, width, generator=generator, dtype=torch.float64), dim=1
    )


def silenced(matching: MatchingHead) -> MatchingHead:
    """Only the volume speaks, each of its cells for itself and clearly."""
    for layer in (matching.refine_cost, matching.residual):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.dirac_(matching.window.weight)
    nn.init.constant_(matching.log_temperature, math.log(500.0))
    return matching


def siamese(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views and features of one pair; height and width at 1/4."""
    generator = torch.Generator().manual_seed(5)
    shapes = (3, 4 * height, 4 * width), (4, height, width), (6, -(-height // 2), -(-width // 2))
    views, quarter, eighth = (torch.randn(2, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return views, quarter, eighth


@pytest.mark.parametrize("shift", [0, 1, 5, 8])
def test_exact_descriptors_of_a_shifted_pair_give_the_shift(shift: int) -> None:
    matching = silenced(head(max_disparity=32))
    right = unit_descriptors(4, 20)
    left = unit_descriptors(4, 20).flip(2)
    left[..., shift:] = right[..., : 20 - shift]
    found = matching(matching.correlate((left, right)), (left, right), torch.zeros(1, 3, 4, 20, dtype=torch.float64))
    expected = torch.full((1, 1, 4, 20 - shift), float(STRIDE * shift), dtype=torch.float64)
    torch.testing.assert_close(found.matched[..., shift:], expected)
    torch.testing.assert_close(found.disparity[..., shift:], expected)
    inside = found.full[..., STRIDE * (shift + 1) :]
    torch.testing.assert_close(inside, torch.full_like(inside, STRIDE * shift))
    assert found.full.shape == (1, 1, 16, 80)


def test_a_match_between_two_bins_lies_between_them() -> None:
    matching = silenced(head())
    volume = torch.full((1, matching.bins, 1, 1), -1.0, dtype=torch.float64)
    volume[0, 2:4] = 1.0
    descriptors = unit_descriptors(1, 1), unit_descriptors(1, 1)
    found = matching(volume, descriptors, torch.zeros(1, 3, 1, 1, dtype=torch.float64))
    assert found.matched.item() == pytest.approx(2.5 * STRIDE)


@pytest.mark.parametrize(("max_disparity", "bins"), [(4, 2), (5, 3), (192, 49), (193, 50)])
def test_the_bins_reach_the_largest_disparity(max_disparity: int, bins: int) -> None:
    assert head(max_disparity).bins == bins
    assert STRIDE * (bins - 1) >= max_disparity > STRIDE * (bins - 2)


def test_a_volume_of_one_bin_is_refused() -> None:
    with pytest.raises(ValueError, match="max_disparity is 3 but the volume counts in steps of 4"):
        head(3)


def test_the_volume_is_the_cosine_similarity_over_a_window() -> None:
    matching = head(max_disparity=12)
    left, right = matching.describe(*siamese(5, 9))
    assert left.shape == right.shape == (1, DESCRIPTOR, 5, 9)
    torch.testing.assert_close(left.norm(dim=1), torch.ones(1, 5, 9, dtype=torch.float64))
    cosine = torch.zeros(1, 4, 5, 9, dtype=torch.float64)
    for shift in range(4):
        cosine[:, shift, :, shift:] = functional.cosine_similarity(left[..., shift:], right[..., : 9 - shift], dim=1)
    volume = matching.correlate((left, right))
    assert volume.shape == (1, 4, 5, 9)
    reach = WINDOW // 2
    around = functional.pad(cosine, (reach,) * 4)
    for y in range(5):
        for x in range(9):
            window = around[0, :, y : y + WINDOW, x : x + WINDOW]
            torch.testing.assert_close(volume[0, :, y, x], (window * matching.window.weight[0]).sum((1, 2)))


def test_views_without_texture_have_second_derivatives() -> None:
    """Descriptors are exactly zero there before training; a norm has no second derivative at zero."""
    matching = head(max_disparity=12)
    matching.start_as_block_matching()
    nn.init.zeros_(matching.descriptor.get_parameter("1.bias"))
    views, quarter, eighth = siamese(2, 4)
    blank = torch.zeros_like(views)
    assert all((view == 0).all() for view in matching.describe(blank, quarter, eighth))

    def loss(scale: Tensor) -> Tensor:
        descriptors = matching.describe(blank, scale * quarter, scale * eighth)
        return matching.correlate(descriptors).square().sum() + torch.cat(descriptors).sum()

    assert torch.autograd.functional.hessian(loss, torch.ones((), dtype=torch.float64)).isfinite()


def test_both_views_are_described_alike() -> None:
    matching = head()
    left, right = matching.describe(*siamese(4, 6))
    swapped_left, swapped_right = matching.describe(*(tensor.flip(0) for tensor in siamese(4, 6)))
    torch.testing.assert_close(swapped_left, right)
    torch.testing.assert_close(swapped_right, left)


def test_coarser_decoder_features_are_resized_and_everything_learns() -> None:
    matching = head(max_disparity=12)
    descriptors = matching.describe(*siamese(4, 8))
    found = matching(matching.correlate(descriptors), descriptors, torch.randn(1, 3, 2, 4, dtype=torch.float64))
    assert found.logits.shape == (1, 4, 4, 8)
    gradients = torch.autograd.grad(found.full.sum(), list(matching.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_start_is_block_matching() -> None:
    """Before any training the volume peaks at the displacement of a shifted texture, whatever its brightness."""
    matching = head(max_disparity=32)
    matching.start_as_block_matching()
    generator = torch.Generator().manual_seed(6)
    texture = functional.avg_pool2d(torch.rand(1, 3, 42, 162, generator=generator, dtype=torch.float64), 3, stride=1)
    shift = 3 * STRIDE
    left, right = texture[..., :40, : 160 - shift], 0.2 + texture[..., :40, shift:160]
    views = torch.cat([left, right])
    quarter, eighth = (torch.randn(2, c, 40 // s, 148 // s, dtype=torch.float64) for c, s in ((4, 4), (6, 8)))
    volume = matching.correlate(matching.describe(views, quarter, eighth))
    swapped = matching.correlate(matching.describe(views.flip(0), quarter, eighth))
    assert (volume.argmax(1)[:, 2:-2, 5:-2] == 3).double().mean() > 0.95
    assert (swapped.argmax(1) == 3).double().mean() < 0.2


def upsampled_by_loop(coarse: Tensor, scores: Tensor, factor: int) -> Tensor:
    batch, _, height, width = coarse.shape
    fine = torch.zeros(batch, 1, factor * height, factor * width, dtype=coarse.dtype)
    for b in range(batch):
        for y in range(factor * height):
            for x in range(factor * width):
                row, column = y // factor, x // factor
                place = (y % factor) * factor + x % factor
                odds = [math.exp(scores[b, k * factor**2 + place, row, column]) for k in range(9)]
                for k, odd in enumerate(odds):
                    near_row = min(max(row + k // 3 - 1, 0), height - 1)
                    near_column = min(max(column + k % 3 - 1, 0), width - 1)
                    fine[b, 0, y, x] += odd / sum(odds) * coarse[b, 0, near_row, near_column]
    return fine


@pytest.mark.parametrize(("height", "width", "factor"), [(3, 4, 2), (1, 1, 4), (2, 1, 3), (1, 3, 1)])
def test_convex_upsampling_against_a_loop(height: int, width: int, factor: int) -> None:
    torch.manual_seed(2)
    coarse = torch.randn(2, 1, height, width, dtype=torch.float64)
    scores = torch.randn(2, 9 * factor**2, height, width, dtype=torch.float64)
    torch.testing.assert_close(convex_upsampling(coarse, scores), upsampled_by_loop(coarse, scores, factor))


def test_convex_upsampling_stays_between_its_neighbours() -> None:
    torch.manual_seed(3)
    coarse = 100 * torch.randn(2, 1, 5, 6, dtype=torch.float64)
    fine = convex_upsampling(coarse, 10 * torch.randn(2, 9 * 16, 5, 6, dtype=torch.float64))
    around = functional.pad(coarse, (1, 1, 1, 1), mode="replicate")
    highest = functional.interpolate(functional.max_pool2d(around, 3, stride=1), scale_factor=4, mode="nearest")
    lowest = -functional.interpolate(functional.max_pool2d(-around, 3, stride=1), scale_factor=4, mode="nearest")
    assert ((fine <= highest + 1e-9) & (fine >= lowest - 1e-9)).all()


def test_convex_upsampling_has_second_derivatives() -> None:
    torch.manual_seed(4)
    coarse = torch.randn(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    scores = torch.randn(1, 9, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(convex_upsampling, (coarse, scores))


def test_under_autocast_disparities_keep_their_precision() -> None:
    """Shares, bins and pixels; a bfloat16 of 100 pixels is off by up to a quarter, a sum of nine shares by 1 %."""
    matching = silenced(head(max_disparity=128)).float()
    nn.init.zeros_(matching.window.weight)
    nn.init.constant_(matching.refine_cost.bias, -50.0)
    with torch.no_grad():
        matching.refine_cost.bias[25:27] = torch.tensor([0.0, math.log(2.0)])
    volume, features = torch.zeros(1, matching.bins, 4, 8, dtype=torch.bfloat16), torch.rand(1, 3, 4, 8)
    left, right = (unit_descriptors(4, 8).float() for _ in range(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = matching(volume, (left, right), features)
    for tensor in (output.matched, output.disparity, output.full):
        torch.testing.assert_close(tensor, torch.full(tensor.shape, 4 * (25 + 2 / 3)), atol=0.02, rtol=0)
