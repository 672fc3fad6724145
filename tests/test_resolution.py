"""Halving, against loops over the blocks and against a surface with a closed form."""

import numpy as np
import pytest
import torch

from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample


def sample_of(disparity: torch.Tensor, valid: torch.Tensor, seed: int = 0) -> StereoSample:
    height, width = disparity.shape
    rng = np.random.default_rng(seed)
    views = torch.tensor(rng.random((2, 3, height, width)), dtype=torch.float32)
    masks = torch.tensor(rng.random((2, 1, height, width)) < 0.4)
    return StereoSample(views[0], views[1], torch.where(valid, disparity, 0)[None], valid[None], masks[0], masks[1])


def by_loop(sample: StereoSample, y: int, x: int) -> tuple[float, bool, bool, bool]:
    block = [(2 * y + j, 2 * x + i) for j in (0, 1) for i in (0, 1)]
    known = [place for place in block if sample.valid[0][place]]
    if known:
        values = sorted(float(sample.disparity[0][place]) for place in known)
        median = values[(len(values) - 1) // 2]
        counted = [place for place in known if abs(float(sample.disparity[0][place]) - median) <= 1]
        disparity = sum(float(sample.disparity[0][place]) for place in counted) / len(counted) / 2
    else:
        counted, disparity = block, 0.0
    gone = 2 * sum(bool(sample.out_of_frame[0][place]) for place in counted) >= len(counted)
    hidden = 2 * sum(bool(sample.occluded[0][place]) for place in counted) >= len(counted)
    return disparity, bool(known), hidden and not gone, gone


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 8), (7, 9), (3, 2)])
@pytest.mark.parametrize("spread", [0.4, 3.0, 60.0])
def test_agrees_with_a_loop(height: int, width: int, spread: float) -> None:
    rng = np.random.default_rng(height * width)
    disparity = torch.tensor(rng.random((height, width)) * spread, dtype=torch.float32)
    sample = sample_of(disparity, torch.tensor(rng.random((height, width)) < 0.6))
    half = halve(sample)
    assert half.left.shape == half.right.shape == (3, height // 2, width // 2)
    for y in range(height // 2):
        for x in range(width // 2):
            expected, valid, occluded, out_of_frame = by_loop(sample, y, x)
            assert float(half.disparity[0, y, x]) == pytest.approx(expected, rel=1e-6, abs=1e-6)
            assert bool(half.valid[0, y, x]) == valid
            assert bool(half.occluded[0, y, x]) == occluded
            assert bool(half.out_of_frame[0, y, x]) == out_of_frame
            block = sample.left[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].double()
            torch.testing.assert_close(half.left[:, y, x].double(), block.mean((1, 2)), rtol=1e-6, atol=1e-6)


def test_a_slanted_surface_stays_exact() -> None:
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="ij")
    half = halve(sample_of(20 + 0.25 * x - 0.125 * y, torch.ones(10, 12, dtype=torch.bool)))
    v, u = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    # Pixel (v, u) is centred on (2v + 0.5, 2u + 0.5) of the full resolution.
    assert torch.equal(half.disparity[0], (20 + 0.25 * (2 * u + 0.5) - 0.125 * (2 * v + 0.5)) / 2)


def test_an_edge_gives_no_disparity_in_between() -> None:
    disparity = torch.where(torch.arange(11) < 5, 10.0, 50.0).expand(6, 11).clone()
    half = halve(sample_of(disparity, torch.ones(6, 11, dtype=torch.bool)))
    assert set(half.disparity.unique().tolist()) == {5.0, 25.0}


def test_too_small() -> None:
    with pytest.raises(ValueError, match="3x1"):
        halve(sample_of(torch.ones(1, 3), torch.ones(1, 3, dtype=torch.bool)))
