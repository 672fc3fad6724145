"""Optical flow through all programs, and its prediction of the user's own images."""

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from torchvision.datasets._optical_flow import _read_flo as read_middlebury
from torchvision.utils import flow_to_image

import autodisp
from autodisp.cli import check, evaluate, export, predict, report, search, train
from autodisp.datasets.images import read_rgb
from autodisp.errors import InputError
from autodisp.prediction import flow_program
from autodisp.prediction.flow_images import colour_flow, panel
from autodisp.tasks.flow import FlowTask
from tests.image_files import read_kitti_flow
from tests.made_models import write_model
from tests.programs import composed

SHAPES = ("dataset=shapes3d_flow", "dataset.length=8", "dataset.height=32", "dataset.width=64", "dataset.max_flow=6")
SIZE = (21, 38)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flow") / "best.safetensors"
    task = FlowTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=1, max_displacement=1)
    return write_model(path, task, "autodispnet")


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        iio.imwrite(folder / f"{name}.png", pixels)


def evaluated(out: Path, checkpoint: Path, *more: str) -> dict[str, Any]:
    """Figures by method on three scenes of the test split."""
    words = [*SHAPES, f"checkpoint={checkpoint}", "dataset.limit=3", f"out={out}", *more]
    folder = evaluate.evaluate(composed("evaluate", *words))
    methods = json.loads((folder / "evaluation.json").read_text())["methods"]
    return {name: method["figures"] for name, method in methods.items()}


@pytest.mark.slow
def test_a_search_ends_in_a_trained_network(tmp_path: Path) -> None:
    words = ["task=flow", *SHAPES]
    found = search.search(composed("search", *words, "experiment=smoke", f"run.folder={tmp_path / 'search'}"))
    assert found is not None
    more = [f"genotype={found / 'genotype.json'}", "network=flow_tiny", "training.steps=2", "training.batch_size=2"]
    more += ["validation.samples=2", "validation.every=1", "run.workers=0", f"run.folder={tmp_path / 'train'}"]
    best = train.train(composed("train", *words, *more)) / "best.safetensors"
    assert report.report(composed("report", f"run={best.parent}")).is_file()
    figures = evaluated(tmp_path / "e", best, "baseline=constant", "pictures=1")
    assert figures["network"]["regions"].keys() == {"matched", "unmatched"}
    assert figures["constant"]["pooled"]["epe"] > 0
    assert iio.imread(tmp_path / "e/worst_network_1.png").shape == (32, 4 * 64, 3)
    assert not check.check(composed("check", *SHAPES, "run.workers=1", f"out={tmp_path / 'c'}"), []).problems


@pytest.mark.export
def test_exported_networks_are_the_same(tmp_path: Path, model: Path) -> None:
    export.export(composed("export", f"checkpoint={model}", "format=[pt2,onnx]", f"out={tmp_path}"))
    paths = (model, tmp_path / "best.pt2", tmp_path / "best.onnx")
    epe = [evaluated(tmp_path / path.suffix[1:], path)["network"]["pooled"]["epe"] for path in paths]
    assert epe == pytest.approx([epe[0]] * 3, rel=1e-3)
    write_images(tmp_path / "frames", "0", "1")
    words = [f"checkpoint={paths[2]}", f"left={tmp_path / 'frames'}", f"out={tmp_path / 'out'}"]
    assert predict.predict(composed("predict", *words)) == []


def test_a_sequence_is_predicted_pair_by_pair(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "frames", "0001", "0002", "0003")
    words = [f"checkpoint={model}", f"left={tmp_path / 'frames'}", f"out={tmp_path / 'frames/out'}"]
    assert predict.predict(composed("predict", *words)) == []
    assert "2 pairs" in capsys.readouterr().out
    estimator = autodisp.load(model)
    for one, other in (("0001", "0002"), ("0002", "0003")):
        flow = estimator(*(read_rgb(tmp_path / f"frames/{name}.png") for name in (one, other)))[0].numpy()
        out = tmp_path / "frames/out" / one
        assert np.array_equal(read_middlebury(f"{out}-flow.flo"), flow)
        stored, known = read_kitti_flow(f"{out}-flow.png")
        assert known.all()
        assert np.abs(stored - flow).max() <= 1 / 128 + 1e-6
        assert np.array_equal(iio.imread(f"{out}-colour.png"), flow_to_image(torch.from_numpy(flow)).permute(1, 2, 0))
    assert not (tmp_path / "frames/out/0003-flow.flo").exists()
    problems = predict.predict(composed("predict", *words))
    assert len(problems) == 2  # the written images are no input
    assert "overwrite=true" in problems[0]


def test_frames_follow_by_number_and_not_across_folders(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "frames/a", "f9", "f10", "f11")
    write_images(tmp_path / "frames/b", "f1", "f2")
    words = [f"checkpoint={model}", f"left={tmp_path / 'frames'}", f"out={tmp_path / 'out'}", "outputs=[flo]"]
    assert predict.predict(composed("predict", *words)) == []
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.flo"))
    assert written == ["a/f10-flow.flo", "a/f9-flow.flo", "b/f1-flow.flo"]
    estimator = autodisp.load(model)
    flow = estimator(*(read_rgb(tmp_path / f"frames/a/{name}.png") for name in ("f9", "f10")))[0].numpy()
    assert np.array_equal(read_middlebury(str(tmp_path / "out/a/f9-flow.flo")), flow)


def test_sequences_in_one_folder_stay_apart(tmp_path: Path) -> None:
    write_images(tmp_path, "1_left", "1_right", "2_left", "2_right", "9_left", "10_left", "cover")
    found = flow_program.find(composed("predict", f"left={tmp_path}", "right=null", f"out={tmp_path / 'out'}"))
    pairs = sorted((pair.left.stem, pair.right.stem) for pair in found.pairs)
    assert pairs == [("1_left", "2_left"), ("1_right", "2_right"), ("2_left", "9_left"), ("9_left", "10_left")]
    assert not found.problems


def test_two_images(tmp_path: Path, model: Path) -> None:
    write_images(tmp_path, "a", "b")
    words = [f"checkpoint={model}", f"left={tmp_path / 'a.png'}", f"out={tmp_path / 'out'}", "outputs=[flo]"]
    with pytest.raises(InputError, match=r"left=.*a\.png: is one image and right is not set"):
        predict.predict(composed("predict", *words))
    folder = [words[0], f"left={tmp_path}", words[2]]
    with pytest.raises(InputError, match="has no two images whose names differ by their numbers alone and right is"):
        predict.predict(composed("predict", *folder))
    with pytest.raises(InputError, match=r"colour_range=.*is for stereo pairs"):
        predict.predict(composed("predict", *words[:3], "outputs=[colour]", "colour_range=[0,1]"))
    with pytest.raises(InputError, match=r"unknown=0\.5: is for stereo pairs"):
        predict.predict(composed("predict", *words, "unknown=0.5"))
    assert predict.predict(composed("predict", *words, f"right={tmp_path / 'b.png'}")) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-flow.flo"]


def test_images_of_other_shapes_are_refused(model: Path) -> None:
    estimator = autodisp.load(model)
    two = torch.zeros(2, 8, 8)
    for wrong, error in (((two, two), ValueError), ((torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)), ValueError)):
        with pytest.raises(error, match="must be"):
            estimator(*wrong)
    with pytest.raises(TypeError, match="uint8"):
        estimator(*(torch.zeros(3, 8, 8, dtype=torch.int32),) * 2)


def test_unknown_vectors_are_black() -> None:
    flows = torch.zeros(1, 2, 2, 2)
    flows[0, 0, 0, 0], flows[0, 1, 1, 1] = 3.0, torch.nan
    assert colour_flow(flows)[0].tolist() == [[[255, 0, 0], [255] * 3], [[255] * 3, [0] * 3]]


def test_the_panel_shows_the_error() -> None:
    truth, found = torch.zeros(2, 1, 3), torch.zeros(2, 1, 3)
    found[0, 0] = torch.tensor([2.0, 1.0, torch.nan])
    valid = torch.tensor([[[True, True, True]]])
    image = panel(torch.zeros(3, 1, 3), truth, found, valid)
    assert image.shape == (1, 12, 3)
    assert image[0, 9:, 0].tolist() == [255, 127, 255]
    assert image[0, 8].tolist() == [0, 0, 0]
    assert panel(torch.zeros(3, 1, 3), truth, found, ~valid)[0, 9:].max() == 0
