"""The confidence against its definition in numpy, and the visible pixels against a renderer and a loop."""

import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.datasets.shapes3d import Shapes3D
from autodisp.networks.confidence import INVISIBLE, NEARER, UNKNOWN, confidence_of, mass_near, visible
from autodisp.networks.disparity import StereoPrediction
from autodisp.networks.matching_head import Matching


def matching(bins: int = 7, height: int = 4, width: int = 5, *, sharpness: float = 3.0) -> Matching:
    generator = torch.Generator().manual_seed(0)
    logits = sharpness * torch.randn(2, bins, height, width, generator=generator)
    disparity = 4 * (bins - 1) * torch.rand(2, 1, height, width, generator=generator)
    return Matching(logits, disparity, disparity, disparity)


def test_the_mass_against_its_definition() -> None:
    volume = matching()
    found = mass_near(volume).numpy()
    logits, match = volume.logits.double().numpy(), volume.disparity.numpy()
    for b, y, x in np.ndindex(2, 4, 5):
        shares = np.exp(logits[b, :, y, x]) / np.exp(logits[b, :, y, x]).sum()
        near = [share for k, share in enumerate(shares) if abs(4 * k - match[b, 0, y, x]) <= 6]
        assert found[b, 0, y, x] == pytest.approx(sum(near), abs=1e-6)
    assert found.min() < 0.2
    assert found.max() > 0.8


def test_a_certain_volume_is_trusted_where_the_right_view_shows_the_pixel() -> None:
    """The images are one pixel smaller than the padded size, and a near square hides what is left of it."""
    disparity = torch.full((1, 1, 15, 31), 4.0)
    disparity[..., 4:10, 16:24] = 8.0
    coarse = torch.full((1, 1, 4, 8), 4.0)
    logits = torch.full((1, 5, 4, 8), -30.0)
    logits[:, 1] = 30.0
    volume = Matching(logits, coarse, coarse, coarse)
    found = confidence_of(StereoPrediction(disparity, (), (), volume))
    assert found is not None
    assert found.shape == disparity.shape
    known = found >= UNKNOWN
    assert not known[..., :4].any(), "the left border"
    assert not known[..., 4:10, 12:16].any(), "occluded"
    assert known.sum() == 15 * 27 - 6 * 4
    torch.testing.assert_close(found[known], torch.ones(int(known.sum())))
    torch.testing.assert_close(found[~known], torch.full((int((~known).sum()),), INVISIBLE))
    assert confidence_of(StereoPrediction(disparity, (), (), None)) is None


def visible_by_loop(disparity: Tensor) -> Tensor:
    found = torch.zeros_like(disparity, dtype=torch.bool)
    for y, row in enumerate(disparity[0, 0].tolist()):
        at = [x - d for x, d in enumerate(row)]
        columns = [{int(np.floor(place)), int(np.ceil(place))} if place >= 0 else set() for place in at]
        for x, place in enumerate(at):
            if place >= 0:
                own = min(int(np.round(place)), len(row) - 1)
                nearest = max((row[k] for k, drawn in enumerate(columns) if own in drawn), default=-np.inf)
                found[0, 0, y, x] = nearest - row[x] <= NEARER
    return found


def test_visible_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(1)
    disparity = (10 * torch.rand(1, 1, 8, 24, generator=generator)).round(decimals=1)
    disparity[0, 0, 0, 3], disparity[0, 0, 1, 20] = torch.nan, torch.inf
    found = visible(disparity)
    assert torch.equal(found, visible_by_loop(disparity.nan_to_num(1e9, posinf=1e9)))
    assert not found[0, 0, 0, 3]
    assert 0.2 < found.float().mean() < 0.8


@pytest.mark.parametrize("index", range(3))
def test_occlusions_of_exact_disparities_are_those_of_the_renderer(index: int) -> None:
    """The renderer marks them from its layers, before there are pixels."""
    sample = Shapes3D(length=3, seed=5, height=96, width=160, max_disparity=40)[index]
    expected = sample.occluded | sample.out_of_frame
    hidden = ~visible(sample.disparity[None])[0]
    assert expected.any()
    assert torch.equal(hidden & sample.out_of_frame, sample.out_of_frame), "the left border is exact"
    agreement = (hidden & expected).sum() / (hidden | expected).sum()
    assert agreement > 0.8, float(agreement)
