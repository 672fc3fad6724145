"""What a training reads: the split that it learns from, and what it is validated on, which no run has seen."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodisp.assembly.data import write_trained_on
from autodisp.assembly.train_data import TrainData, build_train_data
from autodisp.config.train import TrainConfig
from autodisp.datasets.images import write_png
from autodisp.tasks.disparity.kit import DATASETS
from tests.made_data import HEIGHT, SCENES, WIDTH, write_cifar10, write_frames
from tests.test_assembly_training import TINY, TINY_IMAGES, config_of


@pytest.fixture
def things(tmp_path: Path) -> Path:
    return write_frames(tmp_path / "frames")


@pytest.fixture
def sintel(tmp_path: Path) -> Path:
    """Twenty frames of ten scenes."""
    draw, root = torch.Generator().manual_seed(0), tmp_path / "sintel"
    for number in range(20):
        for part in ("clean_left", "clean_right", "disparities", "occlusions", "outofframe"):
            path = root / "training" / part / f"scene_{number // 2}" / f"frame_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            channels = 1 if part in ("occlusions", "outofframe") else 3
            write_png(path, torch.rand(channels, HEIGHT, WIDTH, generator=draw).round())
    return root


def stereo(name: str, root: Path, *overrides: str) -> TrainConfig:
    fixed = ["dataset.half_resolution=false", "dataset.crop=[32,48]", "dataset.max_disparity=16"]
    return config_of("network=disparity_tiny", f"dataset={name}", f"dataset.root={root}", *fixed, *overrides)


def names(part: Any) -> list[str]:
    return [part.dataset.names[index] for index in part.indices]


def scenes(part: Any) -> set[str]:
    return {part.dataset.groups[index] for index in part.indices}


def held_out(data: TrainData) -> Any:
    return data.validation.dataset  # type: ignore[attr-defined]


def test_flyingthings3d_is_validated_on_its_test_split(things: Path) -> None:
    data = build_train_data(stereo("flyingthings3d", things))
    assert len(names(data.train)) == sum(SCENES)
    assert all(name.startswith("TRAIN/") for name in names(data.train))
    assert sorted(names(held_out(data))) == ["TEST/A/0000/0000", "TEST/A/0000/0001", "TEST/B/0001/0000"]


@pytest.mark.parametrize("seed", range(4))
def test_a_held_out_fraction_is_of_whole_scenes(things: Path, seed: int) -> None:
    data = build_train_data(stereo("flyingthings3d", things, "validation.fraction=0.3", f"seed={seed}"))
    assert not scenes(data.train) & scenes(held_out(data))
    assert len(scenes(data.train) | scenes(held_out(data))) == len(SCENES)
    assert sorted(names(data.train) + names(held_out(data))) == sorted(
        f"TRAIN/{'ABC'[scene % 3]}/{scene:04d}/{frame:04d}"
        for scene, count in enumerate(SCENES)
        for frame in range(count)
    )
    assert 3 <= len(held_out(data)) <= 4


def test_a_tenth_of_sintel_is_held_out(sintel: Path) -> None:
    data = build_train_data(stereo("sintel", sintel))
    assert (len(data.train), len(held_out(data))) == (18, 2)
    assert not scenes(data.train) & scenes(held_out(data))


def test_the_list_of_a_training_leaves_its_held_out_samples(sintel: Path, tmp_path: Path) -> None:
    """And none that the training itself left out."""
    (tmp_path / "bad.txt").write_text("scene_3/frame_0006\n")
    config = stereo("sintel", sintel, f"dataset.exclude={tmp_path / 'bad.txt'}")
    data = build_train_data(config)
    assert set(data.trained_on) == set(names(data.train))
    assert list(data.held_out) == names(held_out(data))
    write_trained_on(tmp_path / "trained_on.txt", config.dataset, data.trained_on, data.held_out)
    section = dataclasses.replace(config.dataset, exclude=str(tmp_path / "trained_on.txt"))
    assert DATASETS[section.name].build(section, seed=0, split="train", strict=True).names == list(data.held_out)
    assert ", ".join(data.held_out) in (tmp_path / "trained_on.txt").read_text().splitlines()[0]
    write_trained_on(tmp_path / "none.txt", config.dataset, ["a # b"], [])
    assert not (tmp_path / "none.txt").exists()


def test_the_limit_is_of_the_training_split(things: Path) -> None:
    data = build_train_data(stereo("flyingthings3d", things, "dataset.limit=5", "training.batch_size=2"))
    assert (len(data.train), len(held_out(data))) == (5, 3)
    data = build_train_data(
        stereo("flyingthings3d", things, "dataset.limit=8", "training.batch_size=2", "validation.fraction=0.25")
    )
    assert len(data.train) + len(held_out(data)) == 8
    assert not scenes(data.train) & scenes(held_out(data))


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_shapes3d_is_validated_on_pairs_of_another_seed(seed: int) -> None:
    """The same ones for every run."""
    data = build_train_data(config_of(*TINY, "dataset.length=5", f"seed={seed}", "validation.samples=3"))
    trained = [data.train[index].left for index in range(len(data.train))]
    shown = [batch.left[0] for batch in data.validation]
    assert (len(trained), len(shown)) == (5, 3)
    assert not any(torch.equal(one, other) for one in trained for other in shown)
    other = build_train_data(config_of(*TINY, "dataset.length=4", "seed=9", "validation.samples=3"))
    assert all(torch.equal(one, batch.left[0]) for one, batch in zip(shown, other.validation, strict=True))


def test_the_seed_of_the_held_out_pairs_serves_where_others_are_held_out() -> None:
    data = build_train_data(config_of(*TINY, f"seed={2**31 - 1}", "validation.fraction=0.5", "dataset.length=8"))
    assert not set(data.train.indices) & set(held_out(data).indices)  # type: ignore[attr-defined]


def test_validation_sees_whole_pictures_as_they_are(things: Path) -> None:
    data = build_train_data(stereo("flyingthings3d", things, "validation.samples=2", "validation.batch_size=2"))
    (batch,) = data.validation
    assert batch.left.shape == (2, 3, HEIGHT, WIDTH)
    for index, name in enumerate(names(held_out(data))):
        place = held_out(data).dataset.names.index(name)
        assert torch.equal(batch.left[index], held_out(data).dataset[place].left)
    cropped = data.transform(data.train[0], np.random.default_rng(0))
    assert cropped.left.shape == (3, 32, 48)


def test_images_are_held_out_or_of_the_test_split(tmp_path: Path) -> None:
    write_cifar10(tmp_path, 30, 30)
    base = [*TINY_IMAGES, f"dataset.root={tmp_path}"]
    data = build_train_data(config_of(*base, "validation.fraction=0.2"))
    assert (len(data.train), len(held_out(data)), data.facts["classes"]) == (24, 6, 10)
    assert sorted(data.train.indices + held_out(data).indices) == list(range(30))  # type: ignore[attr-defined]
    data = build_train_data(config_of(*base, "validation.fraction=null", "dataset.limit=8"))
    assert (len(data.train), len(held_out(data))) == (8, 30)
    trained, shown = ([part[index].image for index in range(len(part))] for part in (data.train, held_out(data)))
    assert not any(torch.equal(one, other) for one in trained for other in shown)
    data = build_train_data(config_of(*base, "validation.samples=4", "validation.batch_size=3"))
    assert [len(batch.label) for batch in data.validation] == [3, 1] or len(held_out(data)) == 3
