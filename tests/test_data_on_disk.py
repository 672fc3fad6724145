"""Genuine data, where a checkout has it beside it: the frames warp right, and a search on them runs to its end."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import autodisp
from autodisp.cells.genotype import load
from autodisp.cli.search import search
from autodisp.datasets.cifar import CIFAR10
from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.samples import StereoSample
from autodisp.records import read_json_lines
from tests.programs import composed

SHARED = Path(os.environ.get("AUTODISP_SHARED", Path(__file__).parents[2] / "shared"))


def genuine(name: str) -> Path:
    """The folder of that data set; skips the test where it is absent."""
    root = SHARED / "data" / name
    if not root.is_dir():
        pytest.skip(f"no genuine data in {root}: set AUTODISP_SHARED to the folder that holds data/{name}")
    return root


def photometric_error(sample: StereoSample, disparity: Tensor) -> float:
    """Mean absolute difference of colours, by numpy's interpolation.

    Over the pixels whose match is in the frame by the truth and by its opposite, lest the border have a say.
    """
    left, right = sample.left.numpy().astype(np.float64), sample.right.numpy().astype(np.float64)
    columns = np.arange(left.shape[2], dtype=np.float64)
    differences = []
    for row in range(0, left.shape[1], 4):
        x = columns - disparity[0, row].numpy()
        reach = sample.disparity[0, row].numpy()
        inside = (columns >= reach) & (columns + reach <= columns[-1])
        warped = np.stack([np.interp(x, columns, channel[row]) for channel in right])
        differences.append(np.abs(warped - left[:, row])[:, inside].ravel())
    return float(np.concatenate(differences).mean())


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_two_genuine_frames_warp_right(split: str) -> None:
    """The truth includes pixels that the right view hides, so its error is small but not that of noise alone."""
    data = FlyingThings3D(genuine("flyingthings3d"), split=split)
    assert len(data) == 2
    assert len(set(data.groups)) == (2 if split == "TRAIN" else 1)
    for sample in (data[0], data[1]):
        assert sample.valid.all()
        truth = photometric_error(sample, sample.disparity)
        nothing = photometric_error(sample, torch.zeros_like(sample.disparity))
        flipped = photometric_error(sample, -sample.disparity)
        assert truth < 0.5 * nothing
        assert truth < 0.5 * flipped


def test_half_resolution_halves_the_disparities() -> None:
    root = genuine("flyingthings3d")
    whole, half = FlyingThings3D(root)[0], FlyingThings3D(root, half_resolution=True)[0]
    assert half.left.shape == (3, 270, 480)
    assert float(half.disparity.median()) == pytest.approx(float(whole.disparity.median()) / 2, rel=0.01)
    assert photometric_error(half, half.disparity) < 0.5 * photometric_error(half, 2 * half.disparity)


def test_genuine_images_are_those_of_their_classes() -> None:
    """Ships and aeroplanes stand before blue; what the label says has to fit the picture beside it."""
    root = genuine("cifar10_small")
    train, test = CIFAR10(root, split="train"), CIFAR10(root, split="test")
    assert (len(train), len(test)) == (1000, 500)
    assert train.classes[0] == "airplane"
    image, label = train[0]
    assert (image.shape, image.dtype, type(label)) == ((3, 32, 32), torch.float32, int)
    blueness = train.images[:, 2].float().mean(dim=(1, 2)) - train.images[:, 0].float().mean(dim=(1, 2))
    by_class = {name: float(blueness[train.labels == index].mean()) for index, name in enumerate(train.classes)}
    assert set(sorted(by_class, key=by_class.__getitem__)[-2:]) == {"airplane", "ship"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("flyingthings3d", ["dataset=flyingthings3d", "dataset.crop=[32,48]", "search.batch_size=1"]),
        ("cifar10_small", ["task=classification", "dataset=cifar10", "space=s2", "dataset.limit=60"]),
    ],
)
def test_a_search_on_genuine_data_ends_in_a_genotype(tmp_path: Path, name: str, overrides: list[str]) -> None:
    place = [f"dataset.root={genuine(name)}", f"run.folder={tmp_path / 'run'}"]
    brief = ["search.steps_per_epoch=1", "optimizer.alphas.order=first", "curvature.tolerance=0.5"]
    folder = search(composed("search", "experiment=smoke", *place, *brief, *overrides))
    genotype = load(folder / "genotype.json")
    assert genotype.provenance["epoch"] == 1
    start, *epochs = read_json_lines(folder / "metrics.jsonl")
    assert [record["epoch"] for record in epochs] == [0, 1]
    assert np.isfinite(start["constant"])
    for record in epochs:
        assert np.isfinite([record["train/loss"], record["valid/loss"], record["eigenvalue"]]).all()
    assert epochs[0]["alphas"] != epochs[1]["alphas"]


@pytest.mark.slow
def test_the_shipped_network_is_better_than_semi_global_matching_on_genuine_frames() -> None:
    """Mean EPE of the four frames; 3.72 px is what SGBM has there with its holes filled (REFERENCE)."""
    root = genuine("flyingthings3d")
    matcher = autodisp.load()
    errors = []
    for split in ("TRAIN", "TEST"):
        data = FlyingThings3D(root, split=split)
        for sample in (data[0], data[1]):
            disparity = matcher(sample.left, sample.right)  # type: ignore[operator]
            errors.append(float((disparity[0] - sample.disparity).abs().mean()))
    assert np.mean(errors) < 3.72
