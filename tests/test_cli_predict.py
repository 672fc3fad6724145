"""Predictions through the program's own function and as it is called: what is written, what is refused, exit codes."""

from collections.abc import Callable
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
import torch

import autodisp
from autodisp.cli.predict import predict
from autodisp.datasets.images import read_rgb
from autodisp.datasets.pfm import read_pfm
from autodisp.errors import InputError
from autodisp.prediction.corrections import REACH, ResidualMatcher
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.pairs import StereoPair, read_pair
from autodisp.prediction.scales import MultiScaleMatcher
from autodisp.prediction.segmentation_images import PALETTE
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.segmentation import SegmentationTask
from tests.made_models import write_model
from tests.programs import composed, start

STEREO = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3,
                       head="matching", max_disparity=16)  # fmt: skip
IMAGES = ClassificationTask(channels=1, layers=3, classes=3, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
HEIGHT, WIDTH = 21, 38
PLAIN = ["-colour.png", "-disparity.pfm", "-disparity.png"]
METRIC = ["-colour.png", "-depth.pfm", "-depth.png", "-disparity.pfm", "-disparity.png", "-points.ply"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "best.safetensors"
    return write_model(path, STEREO, "autodispnet")


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    """A folder whose pairs are 1, 2 and 3."""
    for number in (1, 2, 3):
        put_pair(tmp_path / "rig", f"{number}.png", seed=number)
    return tmp_path / "rig"


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def put_pair(root: Path, name: str, *, seed: int, grey: bool = False) -> None:
    for side, shift in (("left", 3), ("right", 0)):
        view = picture(seed, width=WIDTH + 3)[:, shift : shift + WIDTH]
        (root / side).mkdir(parents=True, exist_ok=True)
        iio.imwrite(root / side / name, view[..., 1] if grey else view)


def run(model: Path, out: Path, *overrides: str) -> list[str]:
    return predict(composed("predict", f"checkpoint={model}", f"out={out}", "run.device=cpu", *overrides))


def folders(rig: Path) -> list[str]:
    return [f"left={rig / 'left'}", f"right={rig / 'right'}"]


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def expected(model: Path, left: Path, right: Path) -> npt.NDArray[np.float32]:
    matcher = autodisp.load(model)
    assert isinstance(matcher, StereoMatcher)
    return np.asarray(matcher(read_rgb(left), read_rgb(right))[0, 0].numpy())


def test_a_folder_of_pairs(model: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, tmp_path / "out", *folders(rig)) == []
    assert files(tmp_path / "out") == [f"{number}{ending}" for number in (1, 2, 3) for ending in PLAIN]
    said = capsys.readouterr().out
    for number in (1, 2, 3):
        disparity = expected(model, rig / "left" / f"{number}.png", rig / "right" / f"{number}.png")
        assert disparity.shape == (HEIGHT, WIDTH)
        assert np.array_equal(read_pfm(tmp_path / "out" / f"{number}-disparity.pfm"), disparity)
        stored = cv2.imread(str(tmp_path / "out" / f"{number}-disparity.png"), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        np.testing.assert_allclose(stored / 256, disparity, atol=1 / 256)
        low, high = np.percentile(disparity, (0.5, 99.5))
        high = max(high, low + 1)
        colours = f"(colours {low:.1f} to {high:.1f})"
        assert f"{number}: {WIDTH}x{HEIGHT}, {disparity.min():.1f} to {disparity.max():.1f} px {colours}, " in said
    assert f"3 pairs; files: {tmp_path / 'out'}/" in said


def test_two_files(model: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    views = [rig / "left" / "2.png", rig / "right" / "2.png"]
    assert run(model, tmp_path / "out", f"left={views[0]}", f"right={views[1]}", "outputs=[pfm]") == []
    assert files(tmp_path / "out") == ["2-disparity.pfm"]
    assert np.array_equal(read_pfm(tmp_path / "out" / "2-disparity.pfm"), expected(model, *views))
    assert "1 pair; files: " in capsys.readouterr().out


@pytest.mark.parametrize("correction", [None, "residual"])
def test_the_shipped_network_names_its_correction(
    correction: str | None, rig: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [] if correction is None else [f"correction={correction}"]
    left, right = (rig / side / "2.png" for side in ("left", "right"))
    assert call("predict", f"left={left}", f"right={right}", "run.threads=1", *words) == 0
    assert ("correction=fusion" in capsys.readouterr().out) == (correction is None)


def test_one_folder_and_patterns(model: Path, rig: Path, tmp_path: Path) -> None:
    assert run(model, tmp_path / "one", f"left={rig}", "outputs=[pfm]") == []
    assert files(tmp_path / "one") == [f"left/{number}-disparity.pfm" for number in (1, 2, 3)]
    patterns = [f"left='{rig}/left/[12].png'", f"right='{rig}/right/*.png'"]
    problems = run(model, tmp_path / "two", *patterns, "outputs=[pfm]")
    assert len(problems) == 1
    assert problems[0].startswith(f"{rig / 'right' / '3.png'}: has no left view")
    assert files(tmp_path / "two") == ["1-disparity.pfm", "2-disparity.pfm"]


def test_what_was_written_before_is_no_input(model: Path, rig: Path) -> None:
    """The output folder may lie among the inputs."""
    for _ in range(2):
        assert run(model, rig / "predictions", f"left={rig}", "overwrite=true") == []
    assert len(files(rig / "predictions")) == 9


def spoil(rig: Path) -> None:
    """2 is of two sizes, 3 is no picture, 4 and 5 have one view only, 6 is cut off."""
    iio.imwrite(rig / "right" / "2.png", picture(7, height=HEIGHT + 2))
    (rig / "left" / "3.png").write_bytes(b"no picture")
    iio.imwrite(rig / "left" / "4.png", picture(4))
    iio.imwrite(rig / "right" / "5.png", picture(5))
    put_pair(rig, "6.png", seed=6)
    (rig / "right" / "6.png").write_bytes((rig / "right" / "6.png").read_bytes()[:-30])
    put_pair(rig, "7.png", seed=7)


PROBLEMS = (
    ("left/2.png", f"is {WIDTH}x{HEIGHT} but "),
    ("left/3.png", "is not a readable image"),
    ("left/4.png", "has no right view"),
    ("right/5.png", "has no left view"),
    ("right/6.png", "is not a readable image (Truncated File Read); is it truncated"),
)


def assert_problems(rig: Path, problems: list[str]) -> None:
    """One line each, which names the file."""
    assert len(problems) == len(PROBLEMS)
    for name, says in PROBLEMS:
        (line,) = [problem for problem in problems if problem.startswith((f"{rig / name}: ", f"{rig / name} is "))]
        assert says in line
        assert "\n" not in line


def test_the_rest_of_a_folder_goes_on(
    model: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(rig)
    problems = run(model, tmp_path / "out", *folders(rig), "outputs=[pfm,png16]")
    assert_problems(rig, problems)
    assert files(tmp_path / "out") == [
        "1-disparity.pfm", "1-disparity.png", "7-disparity.pfm", "7-disparity.png",
    ]  # fmt: skip
    said = capsys.readouterr()
    assert [line.partition(": ")[2] for line in said.err.splitlines()] == problems
    assert f"5 pairs, 5 problems (above); files: {tmp_path / 'out'}/" in said.out


def test_a_pair_too_large_for_the_memory_does_not_end_the_rest(
    model: Path, rig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(pair: StereoPair) -> tuple[torch.Tensor, torch.Tensor]:
        if pair.name == "2":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return read_pair(pair)

    monkeypatch.setattr("autodisp.prediction.stereo_program.read_pair", read)
    assert run(model, tmp_path / "out", *folders(rig), "outputs=[pfm]") == ["2: out of memory; take smaller images"]
    assert files(tmp_path / "out") == ["1-disparity.pfm", "3-disparity.pfm"]


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (64, 33)])
def test_pictures_of_any_size(model: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        iio.imwrite(tmp_path / side / "a.png", picture(3, *size))
    assert run(model, tmp_path / "out", *folders(tmp_path)) == []
    assert read_pfm(tmp_path / "out" / "a-disparity.pfm").shape == size


def test_a_calibration_gives_depth_and_points(model: Path, rig: Path, tmp_path: Path) -> None:
    calibration = ["focal=100", "baseline=0.25", "doffs=1.5", "centre=[10,8]", "unknown=0"]
    assert run(model, tmp_path / "out", *folders(rig), *calibration) == []
    assert files(tmp_path / "out") == [f"{number}{ending}" for number in (1, 2, 3) for ending in METRIC]
    disparity = read_pfm(tmp_path / "out" / "1-disparity.pfm")
    depth = read_pfm(tmp_path / "out" / "1-depth.pfm")
    np.testing.assert_allclose(depth, 25 / (disparity.astype(np.float64) + 1.5), rtol=1e-6)
    header, _, points = (tmp_path / "out" / "1-points.ply").read_bytes().partition(b"end_header\n")
    assert f"element vertex {HEIGHT * WIDTH}\n".encode() in header
    table = np.frombuffer(points, dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].reshape(2, -1)
    np.testing.assert_allclose(table["xyz"][:, 2], depth.ravel(), rtol=1e-6)
    np.testing.assert_allclose(table["xyz"][:, 0], (columns - 10) * depth.ravel() / 100, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(table["xyz"][:, 1], (rows - 8) * depth.ravel() / 100, rtol=1e-5, atol=1e-7)
    assert np.array_equal(table["rgb"].reshape(HEIGHT, WIDTH, 3), iio.imread(rig / "left" / "1.png"))


@pytest.mark.slow
def test_the_settings_arrive(model: Path, rig: Path, tmp_path: Path) -> None:
    base = [*folders(rig), "outputs=[ply]", "unknown=0", "focal=100", "baseline=0.25", "doffs=0.5"]
    counts = []
    disparity = expected(model, rig / "left" / "1.png", rig / "right" / "1.png")
    limit = float(np.median(25 / (disparity + 0.5)))
    for name, more in (("all", []), ("near", [f"max_depth={limit}"])):
        run(model, tmp_path / name, *base, *more)
        header = (tmp_path / name / "1-points.ply").read_bytes().partition(b"end_header")[0].decode()
        counts.append(int(header.partition("element vertex ")[2].split()[0]))
    assert counts[0] == disparity.size
    assert 0 < counts[1] < counts[0]
    colours = []
    for number, limits in enumerate(("null", "[0,5]", "[0,50]")):
        run(model, tmp_path / str(number), *folders(rig), "outputs=[colour]", f"colour_range={limits}")
        colours.append((tmp_path / str(number) / "1-colour.png").read_bytes())
    assert len(set(colours)) == 3


CALIBRATION = ("focal=20", "baseline=0.1")


def confidence_by(model: Path, left: Path, right: Path) -> npt.NDArray[np.float32]:
    matcher = autodisp.load(model)
    both = matcher.with_confidence(read_rgb(left), read_rgb(right))[0].numpy()
    assert np.array_equal(both[0], expected(model, left, right))
    return np.asarray(both[1])


def points(folder: Path) -> int:
    return int((folder / "2-points.ply").read_bytes().split(b"element vertex ")[1].split()[0])


def test_unknown_pixels_are_off_in_the_images_and_on_in_the_point_cloud(
    model: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views = [rig / "left" / "2.png", rig / "right" / "2.png"]
    pair = [f"left={views[0]}", f"right={views[1]}"]
    confidence, disparity = confidence_by(model, *views), expected(model, *views)
    assert 0 <= confidence.min() < confidence.max() <= 1
    assert not (confidence[np.arange(WIDTH) - disparity < 0] >= 0.5).any(), "the match is outside of the right view"
    run(model, tmp_path / "usual", *pair, *CALIBRATION)
    assert np.array_equal(read_pfm(tmp_path / "usual" / "2-disparity.pfm"), disparity)
    assert points(tmp_path / "usual") == ((confidence >= 0.5) & (disparity > 0)).sum()
    assert f", {(confidence < 0.5).mean():.1%} unknown, " in capsys.readouterr().out
    threshold = float(np.median(confidence))
    run(model, tmp_path / "set", *pair, *CALIBRATION, f"unknown={threshold}",
        "outputs=[pfm,png16,colour,depth,ply,confidence]")  # fmt: skip
    doubtful = confidence < np.float32(threshold)
    assert 0.4 < doubtful.mean() < 0.6
    assert np.array_equal(read_pfm(tmp_path / "set" / "2-disparity.pfm"), np.where(doubtful, np.inf, disparity))
    stored = cv2.imread(str(tmp_path / "set" / "2-disparity.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert np.array_equal(stored == 0, doubtful)
    assert np.isinf(read_pfm(tmp_path / "set" / "2-depth.pfm"))[doubtful].all()
    assert not iio.imread(tmp_path / "set" / "2-colour.png")[doubtful].any()
    assert points(tmp_path / "set") == (~doubtful & (disparity > 0)).sum()
    drawn = iio.imread(tmp_path / "set" / "2-confidence.png")
    np.testing.assert_allclose(drawn / 255, confidence, atol=0.51 / 255)
    run(model, tmp_path / "off", *pair, *CALIBRATION, "unknown=0", "outputs=[ply]")
    assert points(tmp_path / "off") == (disparity > 0).sum()


def test_the_precision_is_that_of_the_network(model: Path, rig: Path, tmp_path: Path) -> None:
    views = [rig / "left" / "2.png", rig / "right" / "2.png"]
    run(model, tmp_path / "out", f"left={views[0]}", f"right={views[1]}", "outputs=[pfm]", "run.precision=bfloat16")
    found = read_pfm(tmp_path / "out" / "2-disparity.pfm")
    difference = np.abs(found - expected(model, *views))
    assert 0 < np.median(difference) < 0.5
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(found, expected(model, *views))


def test_residual_matching_corrects_the_disparity(model: Path, rig: Path, tmp_path: Path) -> None:
    views = [rig / "left" / "2.png", rig / "right" / "2.png"]
    smooth = cv2.GaussianBlur(picture(5), (0, 0), 1.5)
    iio.imwrite(views[0], np.roll(smooth, 3, axis=1))
    iio.imwrite(views[1], smooth)
    words = [f"left={views[0]}", f"right={views[1]}", "outputs=[pfm,confidence]"]
    run(model, tmp_path / "out", *words, "correction=residual")
    found, plain = read_pfm(tmp_path / "out" / "2-disparity.pfm"), expected(model, *views)
    matcher = ResidualMatcher(autodisp.load(model))
    assert np.array_equal(found, matcher(*map(read_rgb, views))[0, 0])
    assert 0 < np.abs(found - plain).max() <= REACH
    run(model, tmp_path / "plain", *words)
    one, other = (iio.imread(tmp_path / name / "2-confidence.png") for name in ("out", "plain"))
    assert np.array_equal(one, other)


def test_several_scales_and_their_correction(model: Path, rig: Path, tmp_path: Path) -> None:
    views = [rig / "left" / "2.png", rig / "right" / "2.png"]
    words = [f"left={views[0]}", f"right={views[1]}", "outputs=[pfm]", "scales=[2,1]"]
    scaled = MultiScaleMatcher(autodisp.load(model), [1, 2])
    for folder, matcher, more in (("plain", scaled, ()), ("out", ResidualMatcher(scaled), ("correction=residual",))):
        run(model, tmp_path / folder, *words, *more)
        found = read_pfm(tmp_path / folder / "2-disparity.pfm")
        assert np.array_equal(found, matcher(*map(read_rgb, views))[0, 0])


@pytest.mark.parametrize(
    ("setting", "words"), [("unknown=0.5", "unknown=0.5: must be null"), ("outputs=[confidence]", "outputs=")]
)
def test_a_network_without_a_volume_has_no_confidence(rig: Path, tmp_path: Path, setting: str, words: str) -> None:
    task = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3)
    model = write_model(tmp_path / "plain.safetensors", task, "autodispnet")
    with pytest.raises(InputError, match=r"without a confidence, which checkpoint=.* lacks; take") as caught:
        run(model, tmp_path / "out", *folders(rig), setting)
    assert str(caught.value).startswith(words)
    assert not (tmp_path / "out").exists()
    views = [rig / "left" / "2.png", rig / "right" / "2.png"]
    run(model, tmp_path / "silent", f"left={views[0]}", f"right={views[1]}", *CALIBRATION)
    assert points(tmp_path / "silent") == (expected(model, *views) > 0).sum()


def test_nothing_is_overwritten_unless_it_may_be(model: Path, rig: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "2-disparity.png").write_text("precious")
    problems = run(model, out, *folders(rig))
    assert problems == [
        f"{out / '2-disparity.png'}: is there already; set overwrite=true, or write into another folder"
    ]
    assert (out / "2-disparity.png").read_text() == "precious"
    assert files(out) == sorted([f"{number}{ending}" for number in (1, 3) for ending in PLAIN] + ["2-disparity.png"])
    again = run(model, out, *folders(rig))
    assert len(again) == 3
    assert run(model, out, *folders(rig), "overwrite=true") == []
    assert (out / "2-disparity.png").read_bytes().startswith(b"\x89PNG")


def test_a_view_is_never_overwritten(model: Path, tmp_path: Path) -> None:
    """A right view whose name is that of an output of the left one."""
    left, right = tmp_path / "a.png", tmp_path / "a-disparity.png"
    for path in (left, right):
        iio.imwrite(path, picture(1))
    content = right.read_bytes()
    problems = run(model, tmp_path, f"left={left}", f"right={right}", "overwrite=true")
    assert len(problems) == 1
    assert problems[0].startswith(f"{right}: is one of the views and will not be replaced")
    assert right.read_bytes() == content


def test_the_home_folder(model: Path, rig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    said = [f"checkpoint={model}", "left='~/rig/left'", "right='~/rig/right'", "out='~/out'", "outputs=[pfm]"]
    assert predict(composed("predict", *said)) == []
    assert len(files(tmp_path / "out")) == 3
    assert not (tmp_path / "~").exists()


def test_a_checkpoint_that_does_not_fit_is_refused(rig: Path, tmp_path: Path) -> None:
    images = write_model(tmp_path / "images.safetensors", IMAGES, "darts_v2")
    with pytest.raises(InputError, match="is a model for classification, but this needs one for disparity"):
        run(images, tmp_path / "out", *folders(rig))
    with pytest.raises(InputError, match=r"1\.png: no readable safetensors"):
        run(rig / "left/1.png", tmp_path / "out", *folders(rig))
    assert not (tmp_path / "out").exists()


# --- the program as it is called ---


@pytest.mark.slow
def test_some_pairs_fail_and_the_exit_code_says_so(model: Path, rig: Path, tmp_path: Path) -> None:
    spoil(rig)
    done = start(tmp_path, "predict", f"checkpoint={model}", *folders(rig), "outputs=[pfm]")
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("autodisp-predict: ") for line in lines)
    assert_problems(rig, [line.removeprefix("autodisp-predict: ") for line in lines])
    assert files(tmp_path / "predictions") == ["1-disparity.pfm", "7-disparity.pfm"]
    assert "1: 38x21, " in done.stdout


def test_all_is_well(
    model: Path, rig: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("predict", f"checkpoint={model}", *folders(rig), "out=out", "run.threads=1") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1] == "3 pairs; files: out/"
    assert len(files(tmp_path / "out")) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "rig"]


SEGMENTED = SegmentationTask(classes=3, channels=2, stem_scale=2.0, encoder_cells=1, decoder_cells=1)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("segmenter") / "best.safetensors"
    return write_model(path, SEGMENTED, "autodispnet")


def test_classes_of_single_images(tmp_path: Path, segmenter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in ((1, "a.png"), (2, "b/c.png")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        iio.imwrite(path, picture(seed))
    out = tmp_path / "images/out"
    settings = [f"checkpoint={segmenter}", f"left={tmp_path / 'images'}", f"out={out}"]
    assert predict(composed("predict", *settings)) == []
    shown = capsys.readouterr().out
    assert "a: 38x21, class " in shown
    assert "2 images" in shown
    opened = autodisp.load(segmenter)
    for name in ("a", "b/c"):
        view = read_rgb(tmp_path / f"images/{name}.png")
        expected = opened(view)[0].argmax(dim=0).numpy()
        assert np.array_equal(iio.imread(out / f"{name}-index.png"), expected)
        colours = PALETTE[expected]
        assert np.array_equal(iio.imread(out / f"{name}-colour.png"), colours)
        mean = (255 * view.permute(1, 2, 0).numpy() + colours) / 2
        assert np.abs(iio.imread(out / f"{name}-overlay.png") - mean).max() <= 0.51
    problems = predict(composed("predict", *settings))
    assert len(problems) == 2  # the folder of the predictions is no input
    assert "overwrite=true" in problems[0]


@pytest.mark.parametrize("classes", [5, ["one"]])
def test_class_names_that_are_not_those_of_the_network(tmp_path: Path, classes: object) -> None:
    model = write_model(tmp_path / "best.safetensors", SEGMENTED, "autodispnet", classes=classes)
    iio.imwrite(tmp_path / "a.png", picture(1))
    assert run(model, tmp_path / "out", f"left={tmp_path / 'a.png'}", "outputs=[index]") == []


def test_settings_of_pairs_are_refused_for_single_images(tmp_path: Path, segmenter: Path) -> None:
    iio.imwrite(tmp_path / "a.png", picture(1))
    one = [f"checkpoint={segmenter}", f"left={tmp_path / 'a.png'}", f"out={tmp_path / 'out'}"]
    with pytest.raises(InputError, match=r"right=.*is for stereo pairs, but this model takes single images"):
        predict(composed("predict", *one, f"right={tmp_path / 'a.png'}"))
    with pytest.raises(InputError, match=r"outputs=\['pfm'\]: pfm is not for a model of segmentation; take some of co"):
        predict(composed("predict", *one, "outputs=[pfm]"))
    with pytest.raises(InputError, match="correction=residual: is not for a model of segmentation; leave it null"):
        predict(composed("predict", *one, "correction=residual"))
    with pytest.raises(InputError, match=r"scales=\[1.0, 2.0\]: is not for a model of segmentation; leave it at \[1\]"):
        predict(composed("predict", *one, "scales=[1,2]"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"left=.*no image"):
        predict(composed("predict", *one, f"left={tmp_path / 'empty'}"))
    assert predict(composed("predict", *one, "outputs=[index]")) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-index.png"]


def test_the_palette_is_that_of_pascal_voc() -> None:
    """Colours of the development kit, as published with the data."""
    assert PALETTE[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert PALETTE[15].tolist() == [192, 128, 128]  # person
    assert PALETTE[255].tolist() == [224, 224, 192]  # the border
