"""The baselines on scenes with a known answer, and on the genuine frames where they are."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.streams import collate, fixed_batches
from autodisp.errors import InputError
from autodisp.evaluation.baselines import best_constant
from autodisp.evaluation.stereo_metrics import StereoMetrics
from autodisp.prediction.semi_global_matching import MODES, SemiGlobalMatching, fill_from_background
from autodisp.tasks.disparity.kit import KIT


def pair(height: int, width: int, *, near: int, far: int, seed: int = 0) -> StereoSample:
    """A far plane with a near square before it, both of fine texture, shifted by whole pixels."""
    generator = torch.Generator().manual_seed(seed)
    back = torch.rand(3, height, width + far, generator=generator)
    left, right = back[..., :width].clone(), back[..., far:].clone()
    disparity = torch.full((1, height, width), float(far))
    top, side = height // 4, width // 3
    patch = torch.rand(3, height // 2, side, generator=generator)
    left[:, top : top + height // 2, side : 2 * side] = patch
    right[:, top : top + height // 2, side - near : 2 * side - near] = patch
    disparity[:, top : top + height // 2, side : 2 * side] = near
    valid = torch.ones_like(disparity, dtype=torch.bool)
    return StereoSample(left, right, disparity, valid, ~valid, ~valid)


def sample(disparity: Tensor, valid: Tensor) -> StereoSample:
    views = torch.zeros(len(disparity), 3, *disparity.shape[-2:])
    nowhere = torch.zeros_like(valid)
    return StereoSample(views, views, disparity, valid, nowhere, nowhere)


def test_matching_finds_both_planes_and_fills_from_the_far_one() -> None:
    one, other = pair(48, 96, near=20, far=6), pair(48, 96, near=12, far=3, seed=1)
    found = SemiGlobalMatching(max_disparity=32)(collate([one, other]))
    assert (found.shape, found.dtype) == ((2, 1, 48, 96), torch.float32)
    for truth, matched in zip((one, other), found, strict=True):
        error = (matched - truth.disparity).abs()
        assert (error < 0.5).float().mean() > 0.93
    # Left of the square lies what only the left view shows; a few pixels beside its edge belong to either block.
    assert (found[0, 0, 18:30, 18:28] - 6).abs().max() < 0.5
    alone = SemiGlobalMatching(max_disparity=32)(collate([other]))
    assert torch.equal(alone[0], found[1])


def test_filled_pixels_have_no_confidence() -> None:
    """Left of the square lies what only the left view shows."""
    truth = pair(48, 96, near=20, far=6)
    matching = SemiGlobalMatching(max_disparity=32)
    found = matching.with_confidence(collate([truth]))
    assert torch.equal(found[:, :1], matching(collate([truth])))
    known = found[0, 1]
    assert set(known.unique().tolist()) == {0.0, 1.0}
    assert not known[18:30, 20:30].any()
    assert known.mean() > 0.7
    assert ((found[0, 0] - truth.disparity[0]).abs()[known > 0] < 0.5).float().mean() > 0.97


def test_the_modes_of_opencv() -> None:
    truth = pair(48, 96, near=20, far=6)
    found = [SemiGlobalMatching(max_disparity=32, mode=mode)(collate([truth])) for mode in MODES]
    for matched in found:
        assert ((matched[0] - truth.disparity).abs() < 0.5).float().mean() > 0.9
    assert len({matched.numpy().tobytes() for matched in found}) == 3


@pytest.mark.parametrize(("asked", "given"), [(1, 16), (16, 16), (17, 32), (192, 192), (193, 208)])
def test_the_range_is_rounded_up_and_kept(asked: int, given: int) -> None:
    matching = SemiGlobalMatching(max_disparity=asked)
    assert matching.range == given
    found = matching(collate([pair(24, 60, near=18, far=2)]))
    assert found.min() >= 0
    assert found.max() < given


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 300), (33, 17)])
def test_views_of_any_size(size: tuple[int, int]) -> None:
    flat = torch.full((2, 3, *size), 0.5)
    nothing = torch.zeros(2, 1, *size)
    batch = StereoSample(flat, flat, nothing, nothing > 0, nothing > 0, nothing > 0)
    found = SemiGlobalMatching(max_disparity=64)(batch)
    assert found.shape == (2, 1, *size)
    assert found.isfinite().all()


@pytest.mark.parametrize("block_size", [1, 3, 7])
def test_other_blocks_and_penalties(block_size: int) -> None:
    truth = pair(48, 96, near=20, far=6)
    batch = collate([truth])
    soft, hard = (SemiGlobalMatching(max_disparity=32, block_size=block_size, penalty=value) for value in (0.1, 3.0))
    for matching in (soft, hard):
        assert ((matching(batch) - batch.disparity).abs() < 0.5).float().mean() > 0.85
    assert not torch.equal(soft(batch), hard(batch))
    tiny = torch.zeros(1, 1, 1, 1)
    views = torch.zeros(1, 3, 1, 1)
    assert hard(StereoSample(views, views, tiny, tiny > 0, tiny > 0, tiny > 0)).isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [{"max_disparity": 0}, {"max_disparity": -16}, {"block_size": 4}, {"block_size": 11}, {"block_size": -1},
     {"mode": "hh4"}, {"penalty": 0.0}, {"penalty": math.nan}, {"penalty": 3.5}],
)  # fmt: skip
def test_settings_that_do_not_work_are_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"{name}={value}: must be"):
        SemiGlobalMatching(**wrong)


def filled_by_loop(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    height, width = disparity.shape
    rows: dict[int, list[float]] = {}
    for y in range(height):
        if known[y].any():
            rows[y] = []
            for x in range(width):
                left = [disparity[y, k] for k in range(x, -1, -1) if known[y, k]][:1]
                right = [disparity[y, k] for k in range(x, width) if known[y, k]][:1]
                rows[y].append(min(left + right))
    filled = np.zeros_like(disparity)
    for y in range(height):
        above = [rows[k] for k in range(y, -1, -1) if k in rows][:1]
        below = [rows[k] for k in range(y, height) if k in rows][:1]
        for x in range(width):
            filled[y, x] = min((row[x] for row in above + below), default=0.0)
    return filled


@pytest.mark.parametrize("share", [0.0, 0.03, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("size", [(9, 13), (1, 6), (6, 1), (1, 1)])
def test_filling_against_a_loop(size: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(round(100 * share))
    known = rng.random(size) < share
    disparity = np.where(known, 50 * rng.random(size), -1).astype(np.float32)
    filled = fill_from_background(disparity, known)
    assert filled.dtype == np.float32
    assert np.array_equal(filled, filled_by_loop(disparity, known))


@pytest.mark.parametrize("count", [1, 2, 17, 400])
def test_the_best_constant_is_the_median(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    truth = 90 * torch.rand(3, 1, 1, count, generator=generator)
    valid = torch.rand(truth.shape, generator=generator) < 0.7
    valid[0, 0, 0, 0] = True
    batches = [sample(truth[:1], valid[:1]), sample(truth[1:] / 9, valid[1:])]
    pixels = torch.cat([batch.disparity[batch.valid] for batch in batches])
    best = best_constant(batches)
    assert abs(best - float(pixels.median())) <= 1 / 512
    smallest = min(float((pixels - value).abs().mean()) for value in pixels)
    assert float((pixels - best).abs().mean()) <= smallest + 1 / 512
    predicted = KIT.baselines["constant"](None, batches, {})(batches[1])
    assert predicted.shape == truth[1:].shape
    assert (predicted == best).all()


@pytest.mark.parametrize(
    ("pixels", "median"), [([3.0], 3.0), ([1.0, 4.0], 1.0), ([0.0, 0.0, 8.5], 0.0), ([7, 2, 5], 5.0)]
)
def test_medians_on_the_grid_are_exact(pixels: list[float], median: float) -> None:
    truth = torch.tensor(pixels).reshape(1, 1, 1, -1)
    assert best_constant([sample(truth, truth >= 0)]) == median


def test_no_valid_pixel_gives_nan() -> None:
    nothing = sample(torch.full((1, 1, 2, 2), math.nan), torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert math.isnan(best_constant([nothing]))
    assert math.isnan(best_constant([]))


@pytest.mark.slow
def test_the_genuine_frames(genuine: Callable[[str], Path]) -> None:
    """The reference names neither its settings nor its order of frames; the defaults were picked to come near it."""
    root = genuine("flyingthings3d")
    matching = SemiGlobalMatching(max_disparity=192)
    found = []
    for split in ("TEST", "TRAIN"):
        for batch in fixed_batches(FlyingThings3D(root, split=split), 1):
            metrics = StereoMetrics(has_occlusion=False)
            metrics.update(matching(batch), batch)
            found.append(metrics.figures().regions["all"].pooled["epe"])
    assert found == pytest.approx([2.36, 5.13, 4.18, 3.19], abs=0.3)
    assert sum(found) / 4 == pytest.approx(3.72, abs=0.1)
