"""Residual matching and fusion: what they correct on made pairs whose disparity is known, and what they leave alone."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from autodisp.errors import InputError
from autodisp.prediction.corrections import REACH, FusionMatcher, ResidualMatcher, correct, fuse
from autodisp.prediction.inference import StereoMatcher

Map = npt.NDArray[np.float32]
HEIGHT, WIDTH = 60, 160


def texture(height: int = HEIGHT, width: int = WIDTH) -> Map:
    noise = np.random.default_rng(0).uniform(0, 255, (height, width)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), dtype=np.float32) * 4 - 384


def pair(disparity: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Views of a fronto-parallel plane."""
    right = texture().clip(0, 255)
    shift = np.array([[1, 0, disparity], [0, 1, 0]], dtype=np.float32)
    size = (right.shape[1], right.shape[0])
    left = cv2.warpAffine(right, shift, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return left.round().clip(0, 255).astype(np.uint8), right.round().astype(np.uint8)


def everywhere(value: float) -> Map:
    return np.full((HEIGHT, WIDTH), value, dtype=np.float32)


@pytest.mark.parametrize(("true", "predicted"), [(10.0, 10.0), (10.0, 11.3), (7.25, 5.0), (20.5, 23.0)])
def test_a_wrong_disparity_is_corrected(true: float, predicted: float) -> None:
    found = correct(*pair(true), everywhere(predicted))
    error = np.abs(found[:, 30:] - true)  # the rest is outside the right view
    assert error.mean() < 0.25  # OpenCV's fractions of a pixel are biased by as much
    assert (error < 0.5).mean() > 0.95


def test_a_slanted_prediction_is_composed_with_the_residual() -> None:
    """The prediction to add is that of the position which the residual leads to."""
    slope = 10 + 3 * np.sin(np.arange(WIDTH, dtype=np.float32) / 20)
    found = correct(*pair(10.0), np.tile(slope.astype(np.float32), (HEIGHT, 1)))
    assert np.abs(slope[30:] - 10).mean() > 1.5
    assert np.abs(found[:, 30:] - 10).mean() < 0.25


def test_no_correction_exceeds_the_reach() -> None:
    predicted = everywhere(4.0)
    found = correct(*pair(4.0 + REACH + 2), predicted)
    assert np.abs(found - predicted).max() <= REACH
    assert (found[:, 30:] == 4.0).mean() > 0.9


def test_what_the_right_view_does_not_show_stays() -> None:
    predicted = everywhere(11.0)
    found = correct(*pair(10.0), predicted)
    assert (found[:, :10] == 11.0).all()
    assert (found[:, 30:] != 11.0).mean() > 0.9


def test_values_that_are_not_finite_stay() -> None:
    predicted = everywhere(11.0)
    predicted[20, 50:60], predicted[30, 70] = np.inf, np.nan
    found = correct(*pair(10.0), predicted)
    wrong = ~np.isfinite(predicted)
    assert np.array_equal(found[wrong], predicted[wrong], equal_nan=True)
    assert np.isfinite(found[~wrong]).all()


class Constant(nn.Module):
    """Predicts 9 px everywhere."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.full_like(left[:, :1], 9.0)


def test_batches_of_all_types_of_views() -> None:
    views = [torch.from_numpy(view) for view in pair(10.0)]
    matcher = ResidualMatcher(StereoMatcher(Constant()))
    batch = [torch.stack([view, view.flip(0)])[:, None].expand(-1, 3, -1, -1) for view in views]
    found = matcher(*batch)
    assert found.shape == (2, 1, HEIGHT, WIDTH)
    assert (found[:, 0, :, 30:] - 10).abs().mean() < 0.25
    assert torch.equal(found, matcher(*(view.float() / 255 for view in batch)))
    grey = matcher(*(view[:, :1] for view in batch))
    torch.testing.assert_close(grey, found, atol=0.1, rtol=0)
    assert np.array_equal(matcher(*(view.permute(0, 2, 3, 1).numpy() for view in batch)), found.numpy())


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 27), (5, 90)])
def test_small_images(size: tuple[int, int]) -> None:
    left, right = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(0))
    found = ResidualMatcher(StereoMatcher(Constant()))(left, right)
    assert found.shape == (1, 1, *size)
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= size[1])).all()


def test_fusion_takes_what_is_confirmed_or_surer() -> None:
    cases = {  # network, confidence, match or None -> disparity, confidence
        (10.0, 0.9, 12.0): (11.0, 0.95),  # confirmed
        (10.0, 0.1, 12.0): (11.0, 0.55),
        (10.0, 0.9, 20.0): (10.0, 0.45),  # the network is sure
        (10.0, 0.5, 20.0): (20.0, 0.25),
        (10.0, 0.5, None): (10.0, 0.5),  # no match
        (10.0, 0.2, None): (20.0, 0.2),  # filled from the background, the pixel before
        (np.inf, 0.9, 20.0): (np.inf, 0.45),
    }
    network, confidence = (np.array([[key[place] for key in cases]], dtype=np.float32) for place in (0, 1))
    known = np.array([[match is not None for _, _, match in cases]])
    matched = np.array([[match or 0.0 for _, _, match in cases]], dtype=np.float32)
    joined = fuse(network, confidence, matched, known)
    for found, wanted in zip(joined, zip(*cases.values(), strict=True), strict=True):
        np.testing.assert_allclose(found, [wanted], rtol=1e-6)
    for found, own in zip(fuse(network, confidence, matched, np.zeros_like(known)), (network, confidence), strict=True):
        assert np.array_equal(found, own)


class Unsure(nn.Module):
    """Predicts 60 px everywhere, with a confidence of 0.5 in the left half and 0.9 in the right one."""

    outputs = 2

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        confidence = torch.full_like(left[:, :1], 0.5)
        confidence[..., WIDTH // 2 :] = 0.9
        return torch.full_like(confidence, 60.0), confidence


def test_fusion_matches_the_whole_range() -> None:
    matcher = FusionMatcher(StereoMatcher(Unsure()))
    views = [torch.from_numpy(view)[None].expand(3, -1, -1) for view in pair(70.0)]
    found = matcher.with_confidence(*views)
    assert found.shape == (1, 2, HEIGHT, WIDTH)
    assert torch.equal(found[0, 1, :, 72:80].unique(), torch.tensor([0.25])), "of the match against the network"
    assert (found[0, 1, :, 90:] == 0.45).float().mean() > 0.9, "of the network against the match"
    assert torch.equal(matcher(*views), found[:, :1])
    assert torch.equal(matcher(views[0], views[1][:1]), found[:, :1]), "a grey view with a coloured one"
    assert (found[0, 0, :, 72:80] - 70).abs().mean() < 0.3, "by the match, where the network is not sure"
    assert (found[0, 0, :, 90:] - 60).abs().max() <= REACH, "the network is sure"


def test_fusion_needs_a_confidence() -> None:
    with pytest.raises(InputError, match=r"correction=fusion: needs a network with a confidence .* take corr"):
        FusionMatcher(StereoMatcher(Constant()))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (5, 90), (31, 28), (37, 19)])
def test_fusion_of_small_images(size: tuple[int, int]) -> None:
    class Flat(nn.Module):
        outputs = 2

        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            return torch.full_like(left[:, :1], 3.0), torch.zeros_like(left[:, :1])

    left, right = torch.rand(2, 1, 1, *size, generator=torch.Generator().manual_seed(0))
    found = FusionMatcher(StereoMatcher(Flat()))(left, right)
    assert found.shape == (1, 1, *size)
    assert found.isfinite().all()
    assert ((found >= 0) & (found <= size[1])).all()


@pytest.mark.parametrize("kind", [ResidualMatcher, FusionMatcher])
def test_an_overflow_of_the_network_stays_visible(kind: type[StereoMatcher]) -> None:
    class Overflowing(nn.Module):
        outputs = 2

        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            found = torch.full_like(left[:, :1], 3.0)
            found[..., 5] = torch.inf
            return found, torch.zeros_like(found)

    left, right = torch.rand(2, 1, 3, 9, 30, generator=torch.Generator().manual_seed(0))
    found = kind(StereoMatcher(Overflowing()))(left, right)  # type: ignore[arg-type]
    assert torch.equal(found.isinf().nonzero()[:, 3].unique(), torch.tensor([5]))
