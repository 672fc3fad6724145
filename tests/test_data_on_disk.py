"""Genuine data, where a checkout has it beside it: the frames warp right, and a search on them runs to its end."""

from collections.abc import Callable
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
from tests.image_files import photometric_error
from tests.programs import composed

Place = Callable[[str], Path]


def inside(sample: StereoSample) -> Tensor:
    """Pixels whose match is in the frame by the truth and by its opposite, lest the border have a say."""
    columns = torch.arange(sample.left.shape[-1])
    return ((columns >= sample.disparity) & (columns + sample.disparity <= columns[-1]))[0]


@pytest.mark.parametrize("split", ["TRAIN", "TEST"])
def test_two_genuine_frames_warp_right(split: str, genuine: Place) -> None:
    """The truth includes pixels that the right view hides, so its error is small but not that of noise alone."""
    data = FlyingThings3D(genuine("flyingthings3d"), split=split)
    places = {"TRAIN": ["A/0000/0006", "B/0749/0015"], "TEST": ["A/0000/0006", "A/0000/0007"]}
    assert data.names == [f"{split}/{place}" for place in places[split]]
    assert len(set(data.groups)) == (2 if split == "TRAIN" else 1)
    for sample in (data[0], data[1]):
        assert sample.left.shape == (3, 540, 960)
        assert sample.valid.all()
        truth, still, mirrored = (photometric_error(sample, k * sample.disparity, inside(sample)) for k in (1, 0, -1))
        assert truth < 0.4 * still
        assert truth < 0.35 * mirrored


def test_genuine_images_are_those_of_their_classes(genuine: Place) -> None:
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
def test_a_search_on_genuine_data_ends_in_a_genotype(
    tmp_path: Path, name: str, overrides: list[str], genuine: Place
) -> None:
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
def test_the_shipped_network_is_better_than_semi_global_matching_on_genuine_frames(genuine: Place) -> None:
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
