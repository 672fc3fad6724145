"""Middlebury on files written here in the official layouts, and on the one pair that scikit-image brings along."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autodisp.datasets.middlebury import Middlebury2006, Middlebury2014
from autodisp.errors import InputError
from tests.image_files import put, put_pfm, rgb
from tests.made_data import colours, rng

HEIGHT, WIDTH = 6, 9
CALIBRATION = """cam0=[1000.5 0 250.2; 0 1000.5 180.1; 0 0 1]
cam1=[1000.5 0 281.3; 0 1000.5 180.1; 0 0 1]
doffs=31.1
baseline=193.001
width=9
height=6
ndisp=70
isint=0
vmin=5
vmax=61
dyavg=0
dymax=0
"""


def truth(scene: str) -> np.ndarray:
    random = rng(scene)
    pixels = (7 * random.random((HEIGHT, WIDTH))).astype(np.float32)
    pixels[random.random((HEIGHT, WIDTH)) < 0.2] = np.inf
    return pixels


def nocc(scene: str) -> np.ndarray:
    return rng(f"mask{scene}").choice(np.array([0, 128, 255], np.uint8), (HEIGHT, WIDTH), p=[0.2, 0.4, 0.4])


def put_scene(root: Path, scene: str, *, mask: bool = False, disparity: str = "disp0.pfm") -> None:
    for name in ("im0", "im1", "im1E"):
        put(root / scene / f"{name}.png", colours(scene + name))
    put_pfm(root / scene / disparity, truth(scene))
    put_pfm(root / scene / "disp1.pfm", truth(f"right {scene}"))
    (root / scene / "calib.txt").write_text(CALIBRATION)
    if mask:
        put(root / scene / "mask0nocc.png", nocc(scene))


def test_eth3d_with_both_archives_in_one_folder(tmp_path: Path) -> None:
    scene = tmp_path / "delivery_area_1l"
    for name in ("im0", "im1"):
        put(scene / f"{name}.png", colours(name)[..., 0])  # of which there are grey ones
    for other in ("cameras.txt", "images.txt", "points3D.txt"):
        (scene / other).write_text("")
    with pytest.raises(InputError, match=r"disp0GT\.pfm"):
        Middlebury2014(tmp_path)
    put_pfm(scene / "disp0GT.pfm", truth("eth3d"))
    put(scene / "mask0nocc.png", nocc("eth3d"))
    data = Middlebury2014(tmp_path)
    assert (data.names, data.has_occlusion) == (["delivery_area_1l"], True)
    known = np.isfinite(truth("eth3d")) & (nocc("eth3d") != 0)
    assert (data[0].valid[0].numpy() == known).all()
    assert (data[0].disparity[0].numpy() == np.where(known, truth("eth3d"), 0)).all()


SCENES = ("Adirondack-imperfect", "Adirondack-perfect", "Piano-perfect")


def test_every_scene_has_its_own_parts(tmp_path: Path) -> None:
    for scene in SCENES:
        put_scene(tmp_path, scene)
    data = Middlebury2014(tmp_path)
    assert tuple(data.names) == SCENES
    assert list(data.groups) == ["Adirondack", "Adirondack", "Piano"]
    assert not data.has_occlusion
    assert len(data) == 3
    for scene, sample in zip(SCENES, data, strict=True):
        torch.testing.assert_close(sample.left, rgb(colours(f"{scene}im0")), rtol=1e-7, atol=0)
        torch.testing.assert_close(sample.right, rgb(colours(f"{scene}im1")), rtol=1e-7, atol=0)
        known = np.isfinite(truth(scene))
        assert torch.equal(sample.valid[0], torch.tensor(known))
        assert torch.equal(sample.disparity[0], torch.tensor(np.where(known, truth(scene), 0)))
        assert not sample.occluded.any()
        assert not sample.out_of_frame.any()
        for plane in sample[2:]:
            assert plane.shape == (1, HEIGHT, WIDTH)


@pytest.mark.parametrize("below", ["", "trainingQ", "MiddEval3/trainingQ"])
def test_the_masks_of_middeval3(tmp_path: Path, below: str) -> None:
    scenes = [f"{below}/{name}".lstrip("/") for name in ("ArtL", "Motorcycle", "MotorcycleE")]
    for scene in scenes:
        put_scene(tmp_path, scene, mask=True, disparity="disp0GT.pfm")
        put_pfm(tmp_path / scene / "disp0.pfm", np.full((HEIGHT, WIDTH), 3, np.float32))  # somebody's result
    for name in ("im0", "im1"):
        put(tmp_path / Path(scenes[0]).parent.parent / "testQ/Bicycle2" / f"{name}.png", colours(name))
    data = Middlebury2014(tmp_path)
    assert data.has_occlusion
    assert data.names == scenes
    assert data.groups == [scenes[0], scenes[1], scenes[1]]
    kinds = set()
    for scene, sample in zip(scenes, data, strict=True):
        stored, mask = truth(scene).tolist(), nocc(scene).tolist()
        for y in range(HEIGHT):
            for x in range(WIDTH):
                valid = np.isfinite(stored[y][x]) and mask[y][x] > 0
                outside = x - stored[y][x] < 0
                hidden = valid and mask[y][x] == 128
                assert bool(sample.valid[0, y, x]) == valid
                assert float(sample.disparity[0, y, x]) == (stored[y][x] if valid else 0)
                assert bool(sample.occluded[0, y, x]) == (hidden and not outside)
                assert bool(sample.out_of_frame[0, y, x]) == (hidden and outside)
                kinds.add((valid, hidden, outside))
    assert {(True, True, True), (True, True, False), (True, False, True), (True, False, False)} <= kinds


def test_one_scene_without_a_mask_makes_occlusion_unknown(tmp_path: Path) -> None:
    put_scene(tmp_path, "A", mask=True)
    put_scene(tmp_path, "B")
    data = Middlebury2014(tmp_path)
    assert not data.has_occlusion
    assert not data[0].occluded.any()
    assert not data[0].out_of_frame.any()
    assert torch.equal(data[0].valid[0], torch.tensor(np.isfinite(truth("A")) & (nocc("A") > 0)))


def test_a_scene_folder_itself_and_upper_case_suffixes(tmp_path: Path) -> None:
    put_scene(tmp_path, "Piano")
    for name in ("im0.png", "disp0.pfm"):
        stem, suffix = name.split(".")
        (tmp_path / "Piano" / name).rename(tmp_path / "Piano" / f"{stem}.{suffix.upper()}")
    assert Middlebury2014(tmp_path / "Piano").names == ["Piano"]
    (sample,) = Middlebury2014(str(tmp_path))
    assert torch.equal(sample.valid[0], torch.tensor(np.isfinite(truth("Piano"))))


@pytest.mark.parametrize("name", ["im0.png", "im1.png", "disp0.pfm", "view1.png", "view5.png", "disp1.png"])
def test_a_missing_file_is_named_and_shifts_nothing(tmp_path: Path, name: str) -> None:
    is_new = name in ("im0.png", "im1.png", "disp0.pfm")
    for scene in SCENES:
        (put_scene if is_new else put_old_scene)(tmp_path, scene)
    (tmp_path / SCENES[1] / name).unlink()
    with pytest.raises(InputError, match=f"1 of 3.*{SCENES[1]}/{name}.* missing while"):
        (Middlebury2014 if is_new else Middlebury2006)(tmp_path)


def test_several_sizes_at_once_are_refused(tmp_path: Path) -> None:
    for size in "HQ":
        put_scene(tmp_path, f"MiddEval3/training{size}/Piano")
    with pytest.raises(InputError, match=r"trainingH, trainingQ.*half size, quarter size.*one of these"):
        Middlebury2014(tmp_path)
    assert len(Middlebury2014(tmp_path / "MiddEval3/trainingH")) == 1


@pytest.mark.parametrize(
    ("name", "pixels", "says"),
    [
        ("im1.png", np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), "10x6.*9x6"),
        ("disp0.pfm", np.ones((HEIGHT + 2, WIDTH), np.float32), "9x8.*9x6"),
        ("mask0nocc.png", np.full((HEIGHT, WIDTH - 1), 255, np.uint8), "8x6.*9x6"),
        ("mask0nocc.png", colours("colour"), "grey, of 8 bits"),
    ],
)
def test_files_that_do_not_fit_are_named_when_read(tmp_path: Path, name: str, pixels: np.ndarray, says: str) -> None:
    put_scene(tmp_path, "Piano", mask=True)
    path = tmp_path / "Piano" / name
    (put_pfm if name.endswith("pfm") else put)(path, pixels)
    with pytest.raises(InputError, match=f"{path}.*{says}"):
        Middlebury2014(tmp_path)[0]


def test_negative_and_nan_disparities_are_no_truth(tmp_path: Path) -> None:
    put_scene(tmp_path, "Piano")
    pixels = np.zeros((HEIGHT, WIDTH), np.float32)
    pixels[0, :3] = [np.nan, -1, -np.inf]
    put_pfm(tmp_path / "Piano/disp0.pfm", pixels)
    (sample,) = Middlebury2014(tmp_path)
    assert sample.valid[0, 0].tolist() == [False] * 3 + [True] * (WIDTH - 3)
    assert not sample.disparity.any()


def put_old_scene(root: Path, scene: str) -> np.ndarray:
    stored = rng(scene).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    stored[0, 0] = 0
    for name in ("view1", "view5"):
        put(root / scene / f"{name}.png", colours(scene + name))
    put(root / scene / "disp1.png", stored)
    put(root / scene / "disp5.png", stored[::-1].copy())
    (root / scene / "dmin.txt").write_text("67\n")
    return stored


@pytest.mark.parametrize(("size", "factor"), [("full", 1), ("half", 2), ("third", 3)])
def test_the_sets_of_2005_and_2006(tmp_path: Path, size: str, factor: int) -> None:
    stored = {scene: put_old_scene(tmp_path, scene) for scene in ("Aloe", "Art")}
    data = Middlebury2006(tmp_path, size=size)  # type: ignore[arg-type]
    assert list(data.names) == list(data.groups) == ["Aloe", "Art"]
    assert not data.has_occlusion
    for scene, sample in zip(stored, data, strict=True):
        torch.testing.assert_close(sample.left, rgb(colours(f"{scene}view1")), rtol=1e-7, atol=0)
        torch.testing.assert_close(sample.right, rgb(colours(f"{scene}view5")), rtol=1e-7, atol=0)
        expected = torch.tensor([[level / factor for level in row] for row in stored[scene].tolist()])
        torch.testing.assert_close(sample.disparity[0], expected, rtol=1e-7, atol=0)
        assert torch.equal(sample.valid[0], torch.tensor(stored[scene] > 0))
        assert not sample.occluded.any()


def test_half_is_the_default_and_an_official_folder_must_agree(tmp_path: Path) -> None:
    stored = put_old_scene(tmp_path, "2006/HalfSize/Aloe")
    (sample,) = Middlebury2006(tmp_path)
    assert float(sample.disparity.max()) == stored.max() / 2
    for root in (tmp_path, tmp_path / "2006/HalfSize", tmp_path / "2006/HalfSize/Aloe"):
        with pytest.raises(InputError, match=r"size=third.*HalfSize.*dataset\.size=half"):
            Middlebury2006(root, size="third")


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.ones((HEIGHT, WIDTH + 1), np.uint8), "10x6.*9x6"),
        (np.full((HEIGHT, WIDTH), 77, np.uint16), "grey, of 8 bits"),
        (colours("colour"), "grey, of 8 bits"),
    ],
)
def test_an_old_disparity_that_does_not_fit_is_named(tmp_path: Path, pixels: np.ndarray, says: str) -> None:
    put_old_scene(tmp_path, "Aloe")
    put(tmp_path / "Aloe/disp1.png", pixels)
    with pytest.raises(InputError, match=rf"Aloe/disp1\.png.*{says}"):
        Middlebury2006(tmp_path)[0]


@pytest.mark.parametrize(("kind", "first"), [(Middlebury2014, "im0.png"), (Middlebury2006, "view1.png")])
def test_wrong_settings(tmp_path: Path, kind: type[Middlebury2014] | type[Middlebury2006], first: str) -> None:
    (tmp_path / "a/b/c/d").mkdir(parents=True)
    (tmp_path / "a/b/c/d" / first).write_bytes(b"too deep")
    for root in (None, " ", tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=rf"dataset\.root.*\*/{first}.*vision\.middlebury\.edu.*shapes3d"):
            kind(root)
    with pytest.raises(InputError, match=r"dataset\.size='quarter'.*full, half, third"):
        Middlebury2006(tmp_path, size="quarter")  # type: ignore[arg-type]


def test_the_motorcycle_of_scikit_image(tmp_path: Path) -> None:
    """A genuine pair, a quarter of its size, with 31 px between the principal points: no disparity may change by it."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    left, right, disparity = data.stereo_motorcycle()
    put(tmp_path / "Motorcycle/im0.png", left)
    put(tmp_path / "Motorcycle/im1.png", right)
    put_pfm(tmp_path / "Motorcycle/disp0.pfm", disparity)
    (tmp_path / "Motorcycle/calib.txt").write_text(CALIBRATION)
    (sample,) = Middlebury2014(tmp_path)
    known = np.isfinite(disparity)
    assert 0.5 < known.mean() < 1
    assert torch.equal(sample.valid[0], torch.tensor(known))
    assert torch.equal(sample.disparity[0], torch.tensor(np.where(known, disparity, 0)))
    torch.testing.assert_close(sample.left, rgb(left), rtol=1e-7, atol=0)
    rows, columns = np.nonzero(known & (np.arange(left.shape[1]) >= np.where(known, disparity, 0) + 40))
    shifts = {shift: _difference(left, right, disparity, rows, columns, shift) for shift in (-31.086, -5, 0, 5, 31.086)}
    assert min(shifts, key=shifts.__getitem__) == 0


def _difference(
    left: np.ndarray, right: np.ndarray, disparity: np.ndarray, rows: np.ndarray, columns: np.ndarray, shift: float
) -> float:
    match = np.rint(columns - disparity[rows, columns] - shift).astype(int).clip(0, left.shape[1] - 1)
    return float(np.abs(left[rows, columns].astype(float) - right[rows, match]).mean())
