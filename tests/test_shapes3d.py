import math
import os
import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.shapes3d import Shapes3D, default_max_disparity, main
from autodisp.errors import InputError, WrongSetting
from tests.image_files import photometric_error
from tests.programs import differences


def small(**changes: Any) -> Shapes3D:
    return Shapes3D(**{"length": 5, "seed": 0, "height": 40, "width": 80, **changes})


def test_warping_by_the_truth_beats_no_and_wrong_sign_on_each_of_100_samples() -> None:
    data = Shapes3D(length=100, seed=0, height=48, width=96)
    for index in range(100):
        sample = data[index]
        truth, still, mirrored = (photometric_error(sample, k * sample.disparity) for k in (1, 0, -1))
        assert truth < 0.25 * still
        assert truth < 0.25 * mirrored


def test_occluded_pixels_do_not_match_while_visible_ones_do() -> None:
    data = Shapes3D(length=10, seed=3, height=96, width=192, photometric=0)
    visible, hidden = [], []
    for index in range(10):
        sample = data[index]
        visible.append(photometric_error(sample, sample.disparity))
        hidden.append(photometric_error(sample, sample.disparity, sample.occluded[0]))
    assert np.mean(hidden) > 10 * np.mean(visible)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (40, 80), (80, 40), (31, 257)])
def test_samples_keep_the_contract_at_any_size(height: int, width: int) -> None:
    data = small(height=height, width=width)
    x = torch.arange(width)
    for index in range(5):
        sample = data[index]
        assert sample.left.shape == sample.right.shape == (3, height, width)
        assert all(plane.shape == (1, height, width) for plane in sample[2:])
        assert [plane.dtype for plane in sample] == 3 * [torch.float32] + 3 * [torch.bool]
        assert all(plane.is_contiguous() for plane in sample)
        assert sample.valid.all()
        assert sample.disparity.min() > 0
        assert sample.disparity.max() <= data.max_disparity * (1 + 1e-6)
        assert torch.equal(sample.out_of_frame, x - sample.disparity < 0)
        assert not (sample.occluded & sample.out_of_frame).any()


def test_images_lie_on_the_8_bit_grid() -> None:
    sample = small()[0]
    for view in (sample.left, sample.right):
        assert torch.equal(view, (view * 255).round().to(torch.uint8).to(torch.float32) / 255)
        assert view.std() > 0.02


def test_disparities_are_finer_than_pixels() -> None:
    sample = small(height=96, width=192)[0]
    fraction = sample.disparity % 1
    assert ((fraction > 0.2) & (fraction < 0.8)).float().mean() > 0.3


def test_a_sample_depends_on_seed_and_number_alone() -> None:
    data = small()
    backwards = [data[index] for index in reversed(range(5))][::-1]
    again = small(length=9)
    for index in (2, 0, 4):
        assert differences(again[index], backwards[index]) == []
        assert differences(pickle.loads(pickle.dumps(data))[index], backwards[index]) == []
    assert not torch.equal(data[0].left, data[1].left)
    assert not torch.equal(data[0].disparity, small(seed=1)[0].disparity)


def test_loader_workers_draw_the_same_samples() -> None:
    data = small(length=4)
    batches = list(DataLoader(data, batch_size=2, num_workers=2))  # type: ignore[arg-type]
    assert isinstance(batches[0], StereoSample)
    for index in range(4):
        assert differences(StereoSample(*(plane[index % 2] for plane in batches[index // 2])), data[index]) == []


def test_names_and_groups() -> None:
    data = small(length=13)
    assert len(data) == 13
    assert data.names[12] == "shapes3d/000012"
    assert len(set(data.groups)) == 13
    assert data.has_occlusion
    for index in (-1, 13):
        with pytest.raises(IndexError, match=f"13 samples.*{index}"):
            data[index]
    assert len(list(data)) == 13  # type: ignore[call-overload]


def test_photometric_zero_leaves_rendering_alone_and_one_differs_mildly() -> None:
    clean, usual, strong = ([small(photometric=k)[index] for index in range(5)] for k in (0, 1, 4))
    assert all(torch.equal(one.disparity, two.disparity) for one, two in zip(clean, strong, strict=True))

    def change(samples: list[StereoSample]) -> float:
        return float(np.mean([(a.right - b.right).abs().mean() for a, b in zip(clean, samples, strict=True)]))

    assert 0.1 / 255 < change(usual) < 1 / 255 < change(strong) < 5 / 255


def test_disparities_are_spread_like_those_of_the_published_frames() -> None:
    """On four genuine frames the best constant errs by 0.09, the 95th percentile is 0.36 of a quarter of the width."""
    data = Shapes3D(length=40, seed=0, height=64, width=128)
    assert data.max_disparity == 32
    parts = torch.stack([data[index].disparity for index in range(40)]).flatten(1) / 32
    error = (parts - parts.median(dim=1, keepdim=True).values).abs().mean()
    assert 0.05 < error < 0.13
    assert 0.25 < parts.quantile(0.95, dim=1).mean() < 0.5
    assert (parts.amax(dim=1) > 0.8).float().mean() > 0.1


@pytest.mark.parametrize(("width", "expected"), [(16, 4), (192, 48), (512, 128), (960, 192), (2000, 192)])
def test_default_reach(width: int, expected: float) -> None:
    assert default_max_disparity(width) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 15}, "height is 15.*at least 16"),
        ({"width": 0}, "width is 0.*at least 16"),
        ({"length": 0}, "length is 0.*at least 1"),
        ({"seed": -1}, "seed is -1.*negative"),
        ({"max_disparity": 1.0}, r"max_disparity is 1.0.*2 .. width \(80\)"),
        ({"max_disparity": 81.0}, "max_disparity is 81.0"),
        ({"max_disparity": math.nan}, "max_disparity is nan"),
        ({"objects": (9, 8)}, r"objects is \(9, 8\)"),
        ({"photometric": -1.0}, "photometric is -1.0"),
        ({"photometric": math.nan}, "photometric is nan"),
        ({"nearest": 0.0}, "nearest is 0.0, it must be above 0 and at most 1"),
        ({"ground": 1.5}, "ground is 1.5, it must be a share in 0 .. 1"),
        ({"materials": -0.1}, "materials is -0.1, it must be a share in 0 .. 1"),
        ({"camera": 5.0}, "camera is 5.0, it must be in 0 .. 4"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_an_empty_scene_is_its_background() -> None:
    sample = small(objects=(0, 0))[0]
    assert not sample.occluded.any()
    assert sample.disparity.max() < 0.3 * 20


def test_written_pairs_read_back_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "set"
    sizes = ["--height", "40", "--width", "80", "--seed", "7", "--max-disparity", "18.5"]
    assert main(["--out", str(out), "--train", "3", "--test", "2", *sizes]) == 0
    command = f"autodisp-search task=disparity dataset=flyingthings3d dataset.root={out}"
    assert command in capsys.readouterr().out.splitlines()
    data = small(seed=7, max_disparity=18.5)
    train, test = FlyingThings3D(out, split="TRAIN"), FlyingThings3D(out, split="TEST")
    assert (len(train), len(test)) == (3, 2)
    assert len(set(train.groups)) == 3
    for index in range(3):
        assert differences(train[index], data[index]) == []
    for index in range(2):
        assert differences(test[index], data[3 + index]) == []


def test_out_that_needs_quotes_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "my set"
    assert main(["--out", str(out), "--train", "1", "--test", "0", "--height", "16", "--width", "16"]) == 0
    assert f"'dataset.root={out}'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--height", "8"], "height is 8"),
        (["--train", "-1"], "train -1"),
        (["--train", "0", "--test", "0"], "train 0, test 0"),
        (["--max-disparity", "9999"], "max_disparity is 9999"),
        (["--train", "30001"], "30001 samples"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--out", str(tmp_path / "x"), *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not (tmp_path / "x").exists()


def test_what_is_there_already_is_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "keep.txt", tmp_path / "keep.txt" / "below"):
        assert main(["--out", str(out), "--train", "1", "--test", "1"]) == 2
        assert str(out) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_runs_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "autodisp.datasets.shapes3d")
    monkeypatch.setattr(sys, "argv", ["shapes3d", "--height", "x"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("autodisp.datasets.shapes3d", run_name="__main__")
    assert left.value.code == 2
    assert "--height" in capsys.readouterr().err


def test_ranges_of_disparity_differ_between_samples() -> None:
    data = Shapes3D(length=12, seed=0, height=32, width=64, max_disparity=32, nearest=0.1)
    largest = [float(data[index].disparity.max()) for index in range(12)]
    assert min(largest) < 4 < 10 < max(largest) <= 32


def test_ground_rises_from_a_far_horizon_to_the_viewer() -> None:
    data = Shapes3D(length=6, seed=0, height=64, width=128, max_disparity=64, objects=(0, 0), ground=1.0)
    for index in range(6):
        rows = data[index].disparity[0].mean(dim=1)
        assert 2 * rows[0] < rows[-1]


def test_variety_keeps_the_geometry() -> None:
    data = Shapes3D(length=4, seed=1, height=64, width=128, objects=(10, 30), ground=0.5, materials=0.5, nearest=0.5)
    for index in range(4):
        sample = data[index]
        assert photometric_error(sample, sample.disparity) < photometric_error(sample, 0 * sample.disparity)
        assert differences(sample, data[index]) == []


def test_the_key_names_settings_and_not_the_length() -> None:
    assert small().key == small(length=9).key
    assert len({small().key, small(camera=1.0).key, small(seed=3).key, small(textures="here").key}) == 4


def test_surfaces_show_the_photographs_of_a_folder(tmp_path: Path) -> None:
    green = np.zeros((70, 90, 3), np.uint8)
    green[..., 1] = np.random.default_rng(0).integers(60, 250, (70, 90))
    (tmp_path / os.fsdecode(b"bl\xe4tter.png")).write_bytes(cv2.imencode(".png", green)[1].tobytes())
    (tmp_path / "._leaves.png").write_bytes(b"macOS")
    sample = small(height=64, width=128, textures=str(tmp_path), objects=(10, 10))[0]
    red, greenness, blue = sample.left.mean(dim=(1, 2))
    plain = small(height=64, width=128, objects=(10, 10))[0].left.mean(dim=(1, 2))
    assert greenness - (red + blue) / 2 > 0.1 + plain[1] - (plain[0] + plain[2]) / 2


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_folder_without_photographs_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "leaves.jpg").write_bytes(content)
    with pytest.raises(WrongSetting, match=r"dataset\.textures"):
        _ = small(textures=str(tmp_path))[0]
