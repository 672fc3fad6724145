"""The samples that a disparity was worst on, against all of them sorted."""

import math
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from autodisp.assembly.evaluation import write_pictures
from autodisp.datasets.samples import StereoSample
from autodisp.evaluation.stereo_metrics import StereoMetrics
from autodisp.evaluation.worst import Case, WithWorst
from autodisp.prediction.disparity_images import panel
from autodisp.tasks.disparity.kit import KIT

SHAPE = (3, 1, 4, 5)


def batch(seed: int) -> StereoSample:
    draw = torch.Generator().manual_seed(seed)
    truth = torch.rand(SHAPE, generator=draw) * 9
    valid = torch.rand(SHAPE, generator=draw) < 0.7
    left = torch.rand((3, 3, 4, 5), generator=draw)
    return StereoSample(left, left, truth, valid, ~valid, ~valid)


def test_pictures_to_be_compared_share_one_scale_of_errors(tmp_path: Path) -> None:
    first = StereoSample(*(plane[0] for plane in batch(0)))
    left, truth, valid = first.left, first.disparity, first.valid
    cases = {name: [Case(0, error, first, truth + error)] for name, error in (("sgbm", 9.0), ("network", 3.0))}
    told = write_pictures(tmp_path, cases, ["a"], KIT.worst)
    assert [shown["picture"] for shown in (*told["sgbm"], *told["network"])] == [
        "worst_sgbm_1.png",
        "worst_network_1.png",
    ]
    expected = panel(left, truth, truth + 3.0, valid, largest_error=9.0)
    assert (iio.imread(tmp_path / "worst_network_1.png") == expected).all()
    assert (expected != panel(left, truth, truth + 3.0, valid)).any()


def watched(count: int) -> WithWorst[object]:
    assert KIT.worst is not None
    return WithWorst(StereoMetrics(has_occlusion=False), KIT.worst.errors, count)


@pytest.mark.parametrize("count", [0, 1, 4, 50])
def test_the_largest_errors_and_where_they_were(count: int) -> None:
    draw = np.random.default_rng(0)
    found = watched(count)
    expected = []
    for seed in range(4):
        samples = batch(seed)
        prediction = samples.disparity + torch.from_numpy(draw.normal(size=SHAPE)).float()
        found.update(prediction, samples)
        for place in range(3):
            known = samples.valid[place].numpy()
            error = np.abs(prediction[place].numpy() - samples.disparity[place].numpy())[known].mean(dtype=np.float64)
            expected.append((error, 3 * seed + place, samples.left[place], prediction[place]))
    expected.sort(key=lambda entry: -entry[0])
    cases = found.worst()
    assert [case.index for case in cases] == [entry[1] for entry in expected[:count]]
    assert [case.error for case in cases] == pytest.approx([entry[0] for entry in expected[:count]], rel=1e-6)
    for case, (_, _, left, prediction) in zip(cases, expected, strict=False):
        assert torch.equal(case.sample.left, left)
        assert torch.equal(case.prediction, prediction)


def test_what_is_not_finite_is_worst_and_what_is_unknown_is_not_kept() -> None:
    samples = batch(0)
    samples.valid[0] = False
    samples.valid[1, 0, 2, 2] = samples.valid[2, 0, 0, 0] = True
    prediction = samples.disparity.clone()
    prediction[1, 0, 2, 2] = math.nan
    prediction[2, 0, 0, 0] += 5.0
    found = watched(3)
    found.update(prediction, samples)
    assert [(case.index, case.error == math.inf) for case in found.worst()] == [(1, True), (2, False)]


def test_of_equal_ones_the_first_are_kept() -> None:
    found = watched(2)
    for seed in range(3):
        samples = batch(seed)
        found.update(samples.disparity + 0.0, samples)
    assert [case.index for case in found.worst()] == [0, 1]


def test_a_batch_can_be_overwritten_afterwards() -> None:
    samples, found = batch(0), watched(1)
    prediction = samples.disparity + 1.0
    found.update(prediction, samples)
    before = found.worst()[0].prediction.clone()
    prediction.zero_()
    assert torch.equal(found.worst()[0].prediction, before)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match=r"count=-1: must be 0 or more"):
        watched(-1)
