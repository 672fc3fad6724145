"""Every output read back, against the disparity it was made from; what may not be written is left alone."""

import math
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.datasets.images import read_rgb8
from autodisp.datasets.pfm import read_pfm
from autodisp.errors import InputError
from autodisp.prediction import outputs
from autodisp.prediction.disparity_images import colour_disparity
from autodisp.prediction.outputs import OUTPUTS, PredictionWriter, write_depth_png
from autodisp.prediction.point_cloud import Calibration

CALIBRATION = Calibration(focal=100.0, baseline=0.5)


def prediction(height: int = 9, width: int = 13) -> tuple[np.ndarray, Tensor]:
    rng = np.random.default_rng(0)
    disparity = rng.uniform(2, 60, (height, width)).astype(np.float32)
    return disparity, torch.from_numpy(rng.uniform(0, 1, (3, height, width))).float()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_all_outputs_hold_the_disparity(tmp_path: Path) -> None:
    disparity, view = prediction()
    written = PredictionWriter(tmp_path / "new" / "out", list(OUTPUTS), calibration=CALIBRATION).write(
        "scene/left/7", disparity, view, np.full_like(disparity, 0.7)
    )
    folder = tmp_path / "new" / "out" / "scene" / "left"
    assert names(folder) == [
        "7-colour.png", "7-confidence.png", "7-depth.pfm", "7-depth.png", "7-disparity.pfm", "7-disparity.png",
        "7-points.ply",
    ]  # fmt: skip
    assert sorted(written.files) == sorted(folder.iterdir())
    assert written.notes == []
    assert np.array_equal(read_pfm(folder / "7-disparity.pfm"), disparity)
    stored = cv2.imread(str(folder / "7-disparity.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 256, disparity, atol=1 / 512)
    assert np.array_equal(read_rgb8(folder / "7-colour.png"), colour_disparity(torch.from_numpy(disparity)))
    low, high = np.percentile(disparity, (0.5, 99.5))
    assert written.colours == pytest.approx((low, high))
    depth = 50.0 / disparity.astype(np.float64)
    np.testing.assert_allclose(read_pfm(folder / "7-depth.pfm"), depth, rtol=1e-6)
    millimetres = cv2.imread(str(folder / "7-depth.png"), cv2.IMREAD_UNCHANGED)
    assert millimetres.dtype == np.uint16
    np.testing.assert_allclose(millimetres, 1000 * depth, atol=0.51)
    assert np.unique(iio.imread(folder / "7-confidence.png")).tolist() == [round(0.7 * 255)]
    ply = (folder / "7-points.ply").read_bytes()
    assert b"element vertex 117\n" in ply


@pytest.mark.parametrize("wanted", [["pfm"], ["ply", "png16"], ["depth", "depth"], ["colour"]])
def test_only_what_is_wanted_is_written(tmp_path: Path, wanted: list[str]) -> None:
    metric = {"depth", "ply"} & set(wanted)
    writer = PredictionWriter(tmp_path, wanted, calibration=CALIBRATION if metric else None)
    written = writer.write("a", *prediction())
    assert written.files == writer.files("a")
    assert names(tmp_path) == sorted(f"a{ending}" for output in set(wanted) for ending in OUTPUTS[output])


def test_no_two_names_share_a_file(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path, list(OUTPUTS), calibration=CALIBRATION)
    files = [file for name in ("a", "a-disparity", "a.b", "a.c", "a/a") for file in writer.files(name)]
    assert len(set(files)) == len(files)
    assert tmp_path / "a.b-disparity.pfm" in files


def test_unknown_pixels_in_each_format(tmp_path: Path) -> None:
    disparity, view = prediction()
    disparity[0, :4] = [0.0, math.nan, math.inf, 300.0]
    files = dict(
        zip(
            ("disparity", "stored", "depth", "millimetres", "points"),
            PredictionWriter(tmp_path, ["pfm", "png16", "depth", "ply"], calibration=CALIBRATION, max_depth=2.0)
            .write("a", disparity, view)
            .files,
            strict=True,
        )
    )
    assert np.array_equal(read_pfm(files["disparity"]), disparity, equal_nan=True)
    assert cv2.imread(str(files["stored"]), cv2.IMREAD_UNCHANGED)[0, :4].tolist() == [1, 0, 0, 0]
    assert read_pfm(files["depth"])[0, :4].tolist() == [math.inf, math.inf, math.inf, pytest.approx(1 / 6)]
    assert cv2.imread(str(files["millimetres"]), cv2.IMREAD_UNCHANGED)[0, :4].tolist() == [0, 0, 0, 167]
    kept = int((disparity[np.isfinite(disparity)] >= 25).sum())
    assert f"element vertex {kept}\n".encode() in files["points"].read_bytes()


def test_what_sixteen_bits_cannot_hold_is_counted(tmp_path: Path) -> None:
    disparity, view = prediction()
    disparity[1, :3] = [256.0, 400.0, 0.01]
    notes = PredictionWriter(tmp_path, ["png16", "depth"], calibration=CALIBRATION).write("a", disparity, view).notes
    assert notes == [
        f"{tmp_path / 'a-disparity.png'}: disparities of 256 px and more, stored as unknown: 2 of 117 pixels",
        f"{tmp_path / 'a-depth.png'}: farther than 65.5 m, stored as unknown: 1 of 117 pixels",
    ]


@pytest.mark.parametrize(("baseline", "asks"), [(0.54, False), (540.0, True)])
@pytest.mark.parametrize("wanted", ["depth", "ply"])
def test_a_baseline_in_millimetres_is_asked_about(tmp_path: Path, baseline: float, asks: bool, wanted: str) -> None:
    calibration = Calibration(focal=721.5, baseline=baseline)
    notes = PredictionWriter(tmp_path, [wanted], calibration=calibration).write("a", *prediction()).notes
    questions = [
        note for note in notes if note.endswith("is baseline=540 in metres, and focal=721.5 in pixels of these images?")
    ]
    assert len(questions) == asks


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match=r"^out=.*: .* is not writable; take another folder"):
        PredictionWriter(tmp_path / "new", ["pfm"])


def test_an_offset_that_leaves_no_depth_is_asked_about(tmp_path: Path) -> None:
    calibration = Calibration(focal=721.5, baseline=0.54, doffs=-1e6)
    notes = PredictionWriter(tmp_path, ["ply"], calibration=calibration).write("a", *prediction()).notes
    assert notes == ["no pixel has a depth: is doffs=-1e+06 that of these images?"]


def test_depth_png_at_its_limits(tmp_path: Path) -> None:
    depth = np.array([[0.0, -1.0, 0.0001, 0.0016, 65.5354, 65.5356, np.inf, np.nan]], np.float32)
    assert write_depth_png(tmp_path / "d.png", depth) == 1
    assert cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED).tolist() == [[0, 0, 1, 2, 65535, 0, 0, 0]]


def test_the_range_of_colours_is_honoured(tmp_path: Path) -> None:
    disparity, view = prediction()
    written = PredictionWriter(tmp_path, ["colour"], colour_range=(0.0, 99.0)).write("a", disparity, view)
    picture = read_rgb8(written.files[0])
    assert picture.shape[:2] == disparity.shape, "to be laid over the view"
    assert np.array_equal(picture, colour_disparity(torch.from_numpy(disparity), low=0.0, high=99.0))
    assert written.colours == (0.0, 99.0)


def test_existing_files_stay_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    disparity, view = prediction()
    writer = PredictionWriter(tmp_path, ["pfm", "png16"])
    (tmp_path / "a-disparity.png").write_text("old")
    for attempt in (lambda: writer.check("a"), lambda: writer.write("a", disparity, view)):
        with pytest.raises(InputError, match=r"a-disparity\.png: is there already; set overwrite"):
            attempt()
    assert names(tmp_path) == ["a-disparity.png"], "nothing is written before all is known to be free"
    writer = PredictionWriter(tmp_path, ["pfm", "png16"], overwrite=True)
    writer.check("a")
    writer.write("a", disparity, view)
    assert (tmp_path / "a-disparity.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("linked", [False, True])
def test_an_input_is_never_replaced(tmp_path: Path, linked: bool) -> None:
    view = tmp_path / "in" / "a-colour.png"
    view.parent.mkdir()
    view.write_text("a view")
    folder = view.parent
    if linked:
        folder = tmp_path / "linked"
        folder.symlink_to(view.parent)
    writer = PredictionWriter(folder, ["pfm", "colour"], overwrite=True, inputs=[view])
    with pytest.raises(InputError, match=r"a-colour\.png: is one of the views"):
        writer.write("a", *prediction())
    assert names(view.parent) == ["a-colour.png"]
    assert view.read_text() == "a view"
    writer.write("b", *prediction())


@pytest.mark.parametrize("failing", ["write_pfm", "write_disparity_png"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_an_interrupted_file_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, failure: type[BaseException]
) -> None:
    def half(path: Path, *_: object) -> None:
        path.write_text("half of i")
        raise failure

    monkeypatch.setattr(outputs, failing, half)
    disparity, view = prediction()
    with pytest.raises(failure):
        PredictionWriter(tmp_path, ["pfm", "png16"]).write("a", disparity, view)
    assert names(tmp_path) == ([] if failing == "write_pfm" else ["a-disparity.pfm"])


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file/b"):
        with pytest.raises(InputError, match=r"^out=.*: .*file is no folder; take another folder"):
            PredictionWriter(folder, ["pfm"])
    for folder, name in ((tmp_path, "file/a"), (tmp_path, 300 * "n")):
        with pytest.raises(InputError, match="cannot be written"):
            PredictionWriter(folder, ["pfm"]).write(name, *prediction())
    (tmp_path / "a-disparity.pfm").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        PredictionWriter(tmp_path, ["pfm"], overwrite=True).write("a", *prediction())
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("shape", [(1, 9, 13), (9, 12), (117,)])
def test_shapes_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(H, W\) and \(3, H, W\)"):
        PredictionWriter(tmp_path, ["pfm"]).write("a", np.ones(shape, np.float32), prediction()[1])
    assert names(tmp_path) == []


def test_an_empty_point_cloud_is_told(tmp_path: Path) -> None:
    calibration = Calibration(focal=100.0, baseline=1.0)
    disparity, view = np.array([[5.0, 2.0]], np.float32), torch.zeros(3, 1, 2)
    for limit, notes in (
        (19.9, ["the point cloud is empty: the nearest pixel is at 20 m, beyond max_depth=19.9"]),
        (20, []),
    ):
        writer = PredictionWriter(tmp_path, ["ply"], calibration=calibration, max_depth=limit, overwrite=True)
        assert writer.write("a", disparity, view).notes == notes
