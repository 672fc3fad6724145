"""Swapped views, a wrong sign and a wrong scale are noticed; right samples and those that tell nothing are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autodisp.datasets.agreement import disagreement
from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.kitti import Kitti
from autodisp.datasets.middlebury import Middlebury2014
from autodisp.datasets.samples import StereoDataset, StereoSample
from autodisp.datasets.shapes3d import Shapes3D

GENUINE: dict[str, Callable[[Path], StereoDataset]] = {
    "flyingthings3d": FlyingThings3D,
    "kitti2015": lambda root: Kitti(root, year=2015),
    "middlebury2014": Middlebury2014,
}
Change = Callable[[StereoSample], StereoSample]


def made(sample: StereoSample) -> StereoSample:
    return sample


def swapped(sample: StereoSample) -> StereoSample:
    return sample._replace(left=sample.right, right=sample.left)


def mirrored(sample: StereoSample) -> StereoSample:
    """Right x becomes left x + d."""
    return StereoSample(*(plane.flip(-1) for plane in sample))


def scaled(factor: float) -> Change:
    return lambda sample: sample._replace(disparity=factor * sample.disparity)


def other_camera(sample: StereoSample) -> StereoSample:
    return sample._replace(right=0.6 * sample.right + 0.1)


def noisy(sample: StereoSample) -> StereoSample:
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, tuple(sample.left.shape))).float()
    return sample._replace(left=(sample.left + noise).clamp(0, 1))


def sparse(sample: StereoSample) -> StereoSample:
    chosen = torch.from_numpy(np.random.default_rng(1).random(tuple(sample.valid.shape)) < 0.2)
    return sample._replace(valid=sample.valid & chosen, disparity=sample.disparity * chosen)


def without_masks(sample: StereoSample) -> StereoSample:
    nowhere = torch.zeros_like(sample.valid)
    return sample._replace(occluded=nowhere, out_of_frame=nowhere)


def without_texture(sample: StereoSample) -> StereoSample:
    return sample._replace(left=torch.full_like(sample.left, 0.5), right=torch.full_like(sample.right, 0.4))


def noise_alone(sample: StereoSample) -> StereoSample:
    return noisy(without_texture(sample))


def hardly_any(sample: StereoSample) -> StereoSample:
    valid = torch.zeros_like(sample.valid)
    valid[:, 40:42] = sample.valid[:, 40:42]
    valid[..., 90:] = False
    return sample._replace(valid=valid)


RIGHT = (made, other_camera, noisy, sparse, without_masks, without_texture, noise_alone, hardly_any)
WRONG: dict[Change, str] = {
    swapped: "are left and right swapped?",
    mirrored: "is right x = left x + d",
    scaled(2): "are the disparities twice too large",
    scaled(0.5): "are the disparities twice too small",
}


@pytest.fixture(scope="module")
def samples() -> list[StereoSample]:
    data = Shapes3D(length=4, seed=0, height=64, width=128, max_disparity=32)
    return [data[index] for index in range(len(data))]


@pytest.mark.parametrize("change", RIGHT)
def test_right_samples_and_those_that_tell_nothing(samples: list[StereoSample], change: Change) -> None:
    assert [disagreement(change(sample)) for sample in samples] == [None] * len(samples)


@pytest.mark.parametrize("also", [made, other_camera, noisy, sparse, without_masks])
@pytest.mark.parametrize("change", [swapped, mirrored])
def test_the_wrong_way_round(samples: list[StereoSample], change: Change, also: Change) -> None:
    says = [disagreement(change(also(sample))) for sample in samples]
    assert all(WRONG[change] in str(line) for line in says)
    assert disagreement(change(without_texture(samples[0]))) is None


@pytest.mark.parametrize("change", list(WRONG)[2:])
def test_a_wrong_scale(samples: list[StereoSample], change: Change) -> None:
    says = [disagreement(change(sample)) for sample in samples]
    assert all(WRONG[change] in str(line) for line in says)


def test_small_disparities_times_256() -> None:
    texture = torch.from_numpy(np.random.default_rng(0).random((3, 8, 514))).float()
    nowhere = torch.zeros(1, 8, 512, dtype=torch.bool)
    for stored, words in ((256.0, "must the disparities be divided by 256?"), (513.0, "exceed the width of 512 px")):
        shift = round(stored / 256)
        left, right = texture[..., :512], texture[..., shift : shift + 512]
        sample = StereoSample(left, right, torch.full((1, 8, 512), stored), ~nowhere, nowhere, nowhere)
        assert words in str(disagreement(sample))
        assert disagreement(scaled(1 / 256)(sample)) is None


def test_the_correlations_are_those_of_the_pixels_in_view(samples: list[StereoSample]) -> None:
    """Against a plain loop."""
    sample = swapped(samples[0])

    def correlation(here: torch.Tensor, there: torch.Tensor) -> float:
        pairs = []
        for y in range(64):
            for x in range(128):
                place = round(x - float(sample.disparity[0, y, x]))
                hidden = sample.occluded[0, y, x] or sample.out_of_frame[0, y, x]
                if sample.valid[0, y, x] and not hidden and 0 <= place < 128:
                    pairs.append((float(here[:, y, x].mean()), float(there[:, y, place].mean())))
        return float(np.corrcoef(np.array(pairs).T)[0, 1])

    given, otherwise = correlation(sample.left, sample.right), correlation(sample.right, sample.left)
    expected = f"correlate with {given:.2f} only, but with {otherwise:.2f} if read otherwise"
    assert expected in str(disagreement(sample))


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_frames(name: str, genuine: Callable[[str], Path]) -> None:
    data = GENUINE[name](genuine(name))
    for sample in (data[index] for index in range(len(data))):
        assert [disagreement(change(sample)) for change in (made, other_camera, noisy)] == [None] * 3
        for change, words in WRONG.items():
            assert words in str(disagreement(change(sample)))
