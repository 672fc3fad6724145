"""FlyingThings3D on files written here in the official layouts, and on the genuine frames where they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autodisp.datasets.flyingthings3d import FlyingThings3D, write_frame
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError
from tests.image_files import put, put_pfm, rgb
from tests.made_data import colours, rng

HEIGHT, WIDTH = 5, 7


def picture(key: str) -> np.ndarray:
    return colours(key, (HEIGHT, WIDTH))


def truth(key: str) -> np.ndarray:
    return (rng(key).random((HEIGHT, WIDTH)) * 30 + 0.5).astype(np.float32)


def put_full(root: Path, *frames: str, views: str = "frames_cleanpass", suffix: str = ".png") -> None:
    for frame in frames:
        scene, stem = frame.rsplit("/", 1)
        for side in ("left", "right"):
            put(root / views / scene / side / (stem + suffix), picture(f"{frame}{side}"))
        put_pfm(root / "disparity" / scene / "left" / f"{stem}.pfm", truth(frame), end=" \n")


def put_flat(root: Path, split: str, *stems: str, sign: float = -1) -> None:
    for stem in stems:
        for side in ("left", "right"):
            put(root / split / "image_clean" / side / f"{stem}.png", picture(f"{stem}{side}"))
        put_pfm(root / split / "disparity" / "left" / f"{stem}.pfm", sign * truth(stem))


def put_masks(root: Path, *frames: str) -> None:
    for top in ("occlusions", "outofframe"):
        for frame in frames:
            scene, stem = frame.rsplit("/", 1)
            put(root / top / scene / "left" / f"{stem}.png", (picture(f"{top}{frame}")[..., 0] > 200) * np.uint8(255))


FRAMES = ("TRAIN/A/0000/0006", "TRAIN/A/0000/0007", "TRAIN/A/0003/0015", "TRAIN/C/0749/0010")


def test_every_frame_has_its_own_parts(tmp_path: Path) -> None:
    put_full(tmp_path, *FRAMES, "TEST/A/0000/0006")
    data = FlyingThings3D(tmp_path)
    assert len(data) == 4
    assert tuple(data.names) == FRAMES
    assert list(data.groups) == ["TRAIN/A/0000", "TRAIN/A/0000", "TRAIN/A/0003", "TRAIN/C/0749"]
    assert not data.has_occlusion
    for name, sample in zip(data.names, data, strict=True):
        torch.testing.assert_close(sample.left, rgb(picture(f"{name}left")), rtol=1e-7, atol=0)
        torch.testing.assert_close(sample.right, rgb(picture(f"{name}right")), rtol=1e-7, atol=0)
        assert torch.equal(sample.disparity, torch.tensor(truth(name))[None])
        assert sample.valid.all()
        assert sample.valid.dtype == sample.occluded.dtype == sample.out_of_frame.dtype == torch.bool
        assert not sample.occluded.any()
        assert not sample.out_of_frame.any()
        assert sample.valid.shape == sample.occluded.shape == sample.out_of_frame.shape == (1, HEIGHT, WIDTH)
    assert FlyingThings3D(tmp_path, split="TEST").names == ["TEST/A/0000/0006"]


def test_passes_letters_and_picture_formats(tmp_path: Path) -> None:
    put_full(tmp_path, "TRAIN/A/0000/0006", views="frames_finalpass", suffix=".PNG")
    put_full(tmp_path, "TRAIN/B/0000/0006", views="frames_finalpass_webp", suffix=".webp")
    data = FlyingThings3D(str(tmp_path), render_pass="finalpass")
    assert data.names == ["TRAIN/A/0000/0006", "TRAIN/B/0000/0006"]
    for name, sample in zip(data.names, data, strict=True):
        torch.testing.assert_close(sample.left, rgb(picture(f"{name}left")), rtol=1e-7, atol=0)
    assert FlyingThings3D(tmp_path, render_pass="finalpass", subsets=["B"]).names == ["TRAIN/B/0000/0006"]
    with pytest.raises(InputError, match="frames_cleanpass/TRAIN"):
        FlyingThings3D(tmp_path)
    with pytest.raises(InputError, match="no frame of TRAIN C"):
        FlyingThings3D(tmp_path, render_pass="finalpass", subsets=["C"])


@pytest.mark.parametrize(
    "missing",
    [
        "frames_cleanpass/TRAIN/A/0000/left/0007.png",
        "frames_cleanpass/TRAIN/A/0000/right/0007.png",
        "disparity/TRAIN/A/0000/left/0007.pfm",
    ],
)
def test_a_missing_file_is_named_and_shifts_nothing(tmp_path: Path, missing: str) -> None:
    put_full(tmp_path, *FRAMES)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"1 of 4 frames.*{missing} missing.*dataset.official_exclusions"):
        FlyingThings3D(tmp_path)
    (tmp_path / "unused.txt").write_text("TRAIN/A/0000/left/0007.png\n")
    data = FlyingThings3D(tmp_path, excluded=tmp_path / "unused.txt")
    assert tuple(data.names) == FRAMES[:1] + FRAMES[2:]
    for name, sample in zip(data.names, data, strict=True):
        assert torch.equal(sample.disparity[0], torch.tensor(truth(name)))


def test_a_missing_tree_and_an_extra_file_are_named(tmp_path: Path) -> None:
    put_full(tmp_path, *FRAMES)
    put(tmp_path / "frames_cleanpass/TRAIN/A/0003/right/0099.png", picture("extra"))
    with pytest.raises(InputError, match=r"A/0003/left/0099\.png and .*0099\.pfm missing while .*right/0099\.png"):
        FlyingThings3D(tmp_path)
    (tmp_path / "disparity").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"5 of 5 frames are incomplete.*and 2 more"):
        FlyingThings3D(tmp_path)


def test_the_excluded_list(tmp_path: Path) -> None:
    put_full(tmp_path, *FRAMES)
    listed = tmp_path / "all_unused_files.txt"
    listed.write_bytes(
        b"\xef\xbb\xbfTRAIN/A/0000/left/0006.png \r\n# all black\n\n./TRAIN\\A\\0003\\right\\0015.webp  # blurred\n"
        b"TEST/A/0000/left/0006.png\nframes_cleanpass/TRAIN/C/0749/left/0010.png"
    )
    assert FlyingThings3D(tmp_path, excluded=listed).names == ["TRAIN/A/0000/0007"]
    listed.write_text("TRAIN/A/0000/left/0006.png\nA/0000/0007\n")
    with pytest.raises(InputError, match=r"line 2.*A/0000/0007"):
        FlyingThings3D(tmp_path, excluded=listed)
    listed.write_text("".join(f"{name.rsplit('/', 1)[0]}/left/{name[-4:]}.png\n" for name in FRAMES))
    with pytest.raises(InputError, match="no frame"):
        FlyingThings3D(tmp_path, excluded=listed)
    for bad in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match=str(bad)):
            FlyingThings3D(tmp_path, excluded=bad)


def test_disparities_that_are_no_truth(tmp_path: Path) -> None:
    put_full(tmp_path, FRAMES[0])
    pixels = truth("x")
    pixels[0, :4] = [np.nan, np.inf, -np.inf, -0.5]
    pixels[1, 0] = 0
    put_pfm(tmp_path / "disparity/TRAIN/A/0000/left/0006.pfm", pixels)
    sample = FlyingThings3D(tmp_path)[0]
    expected = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    expected[0, :4] = False
    assert torch.equal(sample.valid[0], expected)
    assert torch.equal(sample.disparity[0], torch.where(expected, torch.tensor(pixels), 0))


def test_all_negative_maps_stay_invalid_in_the_full_layout(tmp_path: Path) -> None:
    put_full(tmp_path, FRAMES[0])
    put_pfm(tmp_path / "disparity/TRAIN/A/0000/left/0006.pfm", -truth("x"))
    sample = FlyingThings3D(tmp_path)[0]
    assert not sample.valid.any()
    assert not sample.disparity.any()


def test_files_that_do_not_fit_are_named_when_read(tmp_path: Path) -> None:
    put_full(tmp_path, *FRAMES[:3])
    right = tmp_path / "frames_cleanpass/TRAIN/A/0000/right/0006.png"
    put(right, np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    disparity = tmp_path / "disparity/TRAIN/A/0000/left/0007.pfm"
    put_pfm(disparity, np.ones((HEIGHT + 1, WIDTH), np.float32))
    colour = tmp_path / "disparity/TRAIN/A/0003/left/0015.pfm"
    colour.write_bytes(b"PF\n7 5\n-1\n" + bytes(7 * 5 * 12))
    data = FlyingThings3D(tmp_path)
    for index, says in enumerate((f"{right}: is 8x5 .*7x5", f"{disparity}: is 7x6 .*7x5", f"{colour}: is a colour")):
        with pytest.raises(InputError, match=says):
            data[index]
    right.write_bytes(right.read_bytes()[:40])
    with pytest.raises(InputError, match=str(right)):
        data[0]


def test_the_subset_layout(tmp_path: Path) -> None:
    stems = ("0000003", "0000009", "0000010", "0000123")
    put_flat(tmp_path, "train", *stems)
    put_flat(tmp_path, "val", "0000000", sign=1)
    for layout in ("auto", "subset"):
        data = FlyingThings3D(tmp_path, layout=layout)
        assert data.names == [f"train/{stem}" for stem in stems]
        assert data.groups == ["train/000000", "train/000000", "train/000001", "train/000012"]
        for stem, sample in zip(stems, data, strict=True):
            assert torch.equal(sample.disparity[0], torch.tensor(truth(stem)))
            assert sample.valid.all()
    sample = FlyingThings3D(tmp_path, split="TEST")[0]
    assert torch.equal(sample.disparity[0], torch.tensor(truth("0000000")))
    (tmp_path / "train/disparity/left/0000009.pfm").unlink()
    with pytest.raises(InputError, match=r"train/disparity/left/0000009\.pfm missing"):
        FlyingThings3D(tmp_path)


def test_the_sign_turns_only_where_nothing_is_positive(tmp_path: Path) -> None:
    put_flat(tmp_path, "train", "0000000", "0000001")
    negative, mixed = -truth("x"), truth("y")
    negative[0, 0] = np.nan
    negative[0, 1] = 0
    mixed[0, 0] = -1
    put_pfm(tmp_path / "train/disparity/left/0000000.pfm", negative)
    put_pfm(tmp_path / "train/disparity/left/0000001.pfm", mixed)
    turned, kept = FlyingThings3D(tmp_path)
    assert turned.valid.sum() == kept.valid.sum() == HEIGHT * WIDTH - 1
    assert float(turned.disparity[0, 2, 3]) == -float(negative[2, 3])
    assert float(kept.disparity[0, 2, 3]) == float(mixed[2, 3])


def test_the_subset_layout_refuses_what_it_cannot_honour(tmp_path: Path) -> None:
    put_flat(tmp_path, "train", "0000000")
    for setting in ({"excluded": "list.txt"}, {"subsets": ["A"]}):
        with pytest.raises(InputError, match="FlyingThings3D subset"):
            FlyingThings3D(tmp_path, **setting)
    with pytest.raises(InputError, match="frames_cleanpass/TRAIN"):
        FlyingThings3D(tmp_path, layout="full")
    with pytest.raises(InputError, match="train/image_final"):
        FlyingThings3D(tmp_path, render_pass="finalpass", layout="subset")


def test_masks_of_a_written_copy(tmp_path: Path) -> None:
    put_full(tmp_path, *FRAMES, "TEST/A/0000/0006")
    put_masks(tmp_path, *FRAMES)
    data = FlyingThings3D(tmp_path)
    assert data.has_occlusion
    for name, sample in zip(data.names, data, strict=True):
        assert torch.equal(sample.occluded[0], torch.tensor(picture(f"occlusions{name}")[..., 0] > 200))
        assert torch.equal(sample.out_of_frame[0], torch.tensor(picture(f"outofframe{name}")[..., 0] > 200))
    assert not FlyingThings3D(tmp_path, split="TEST").has_occlusion
    (tmp_path / "outofframe/TRAIN/A/0003/left/0015.png").unlink()
    with pytest.raises(InputError, match=r"outofframe/TRAIN/A/0003/left/0015\.png missing"):
        FlyingThings3D(tmp_path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"root": None}, "is not set.*frames_cleanpass/TRAIN.*lmb.*Scene Flow Datasets.*shapes3d"),
        ({"root": "/nowhere/at/all"}, "/nowhere/at/all.*no such folder.*lmb.*shapes3d"),
        ({"root": ".", "split": "train"}, "split='train'.*TRAIN, TEST"),
        ({"root": ".", "render_pass": "clean"}, "render_pass='clean'.*cleanpass, finalpass"),
        ({"root": ".", "layout": "flat"}, "layout='flat'"),
        ({"root": ".", "subsets": ["A", "D"]}, "subsets=.*'D'"),
        ({"root": ".", "subsets": []}, "subsets"),
        ({"root": ".", "subsets": "ABC"}, "subsets"),
    ],
)
def test_wrong_settings(settings: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        FlyingThings3D(**settings)


def random_sample(seed: int) -> StereoSample:
    rng = np.random.default_rng(seed)
    views = torch.tensor(rng.integers(0, 256, (2, 3, HEIGHT, WIDTH)) / 255, dtype=torch.float32)
    valid, occluded, gone = torch.tensor(rng.random((3, 1, HEIGHT, WIDTH)) < 0.7)
    disparity = torch.tensor(rng.random((1, HEIGHT, WIDTH)) * 100, dtype=torch.float32)
    return StereoSample(views[0], views[1], torch.where(valid, disparity, 0), valid, occluded & ~gone, gone)


def test_a_written_frame_is_read_back_equal(tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    places = [("TRAIN", "A", 0, 6), ("TRAIN", "C", 12, 15), ("TEST", "B", 9999, 0)]
    for seed, (split, subset, scene, frame) in enumerate(places):
        write_frame(root, split=split, subset=subset, scene=scene, frame=frame, sample=random_sample(seed))
    assert (root / "disparity/TRAIN/A/0000/left/0006.pfm").read_bytes().startswith(b"Pf \n7 5 \n-1.0\n")
    train, test = FlyingThings3D(root), FlyingThings3D(root, split="TEST")
    assert train.names == ["TRAIN/A/0000/0006", "TRAIN/C/0012/0015"]
    assert test.names == ["TEST/B/9999/0000"]
    assert train.has_occlusion
    assert test.has_occlusion
    for seed, read in enumerate((train[0], train[1], test[0])):
        for name, got, expected in zip(StereoSample._fields, read, random_sample(seed), strict=True):
            assert torch.equal(got, expected), name


@pytest.mark.parametrize("wrong", [{"split": "train"}, {"subset": "D"}, {"scene": -1}, {"frame": 10_000}])
def test_no_frame_outside_the_layout_is_written(tmp_path: Path, wrong: dict) -> None:
    place = {"split": "TRAIN", "subset": "A", "scene": 0, "frame": 0} | wrong
    with pytest.raises(ValueError, match="no frame of FlyingThings3D"):
        write_frame(tmp_path, sample=random_sample(0), **place)
    assert not list(tmp_path.iterdir())


def test_a_list_leaves_frames_out(tmp_path: Path) -> None:
    put_full(tmp_path, "TRAIN/A/0000/0006", "TRAIN/A/0000/0007", "TRAIN/B/0003/0006", "TEST/A/0000/0006")
    listed = tmp_path / "list.txt"
    listed.write_text("TRAIN/A/0000/0007 # dark\nTRAIN/C/0000/0006\nTEST/A/0000/0006\n")
    with pytest.raises(InputError, match=r"line 2, 'TRAIN/C/0000/0006', names no sample"):
        FlyingThings3D(tmp_path, exclude=listed)
    # A letter that is not read, and the other split, are no slips.
    assert FlyingThings3D(tmp_path, exclude=listed, subsets=["A"]).names == ["TRAIN/A/0000/0006"]
    with pytest.raises(InputError, match=r"leaves no frame of .*TEST/A/"):
        FlyingThings3D(tmp_path, exclude=listed, subsets=["A"], split="TEST")
    for slip in ("TRAIN/A/0000/left/0007.png", "TRAIN/A/0007", "train/0000007", "TEST/D/0000/0006"):
        listed.write_text(slip)
        with pytest.raises(InputError, match="names no sample"):
            FlyingThings3D(tmp_path, exclude=listed)


def test_a_list_serves_both_splits_of_the_subset_release(tmp_path: Path) -> None:
    put_flat(tmp_path, "train", "0000007", "0000008")
    put_flat(tmp_path, "val", "0000001", "0000002")
    listed = tmp_path / "list.txt"
    listed.write_text("val/0000001\ntrain/0000008\n")
    assert FlyingThings3D(tmp_path, exclude=listed).names == ["train/0000007"]
    assert FlyingThings3D(tmp_path, exclude=listed, split="TEST").names == ["val/0000002"]
    listed.write_text("train/0000009")
    with pytest.raises(InputError, match="names no sample"):
        FlyingThings3D(tmp_path, exclude=listed)
    assert len(FlyingThings3D(tmp_path, exclude=listed, split="TEST")) == 2
