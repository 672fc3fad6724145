"""autodisp-evaluate: figures of a model and of baselines, on files in their official formats; what is refused."""

import csv
import json
import re
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

import autodisp
from autodisp import model_file
from autodisp.cli.evaluate import evaluate
from autodisp.datasets import shapes3d
from autodisp.errors import InputError
from autodisp.prediction.corrections import ResidualMatcher
from autodisp.prediction.disparity_images import panel
from autodisp.prediction.scales import MultiScaleMatcher
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.segmentation import SegmentationTask
from tests.made_data import write_cifar10, write_folders
from tests.made_models import write_model
from tests.programs import composed

HEIGHT, WIDTH = 48, 96


@pytest.fixture(scope="module")
def stereo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3,
                         head="matching", max_disparity=24)  # fmt: skip
    return write_model(tmp_path_factory.mktemp("model") / "best.safetensors", task, "autodispnet")


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = ClassificationTask(channels=2, layers=3, classes=10, mean=(0.5,) * 3, std=(0.25,) * 3)
    return write_model(tmp_path_factory.mktemp("model") / "best.safetensors", task, "darts_v2")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of TRAIN and two of TEST, with masks."""
    root = tmp_path_factory.mktemp("frames")
    samples = shapes3d.Shapes3D(length=5, seed=0, height=HEIGHT, width=WIDTH, max_disparity=24)
    shapes3d.write(samples, root, train=3)
    return root


def run(folder: Path, *overrides: str) -> dict[str, dict[str, object]]:
    """The methods' results as they stand in evaluation.json."""
    evaluate(composed("evaluate", f"out={folder}", "run.device=cpu", *overrides))
    results: dict[str, dict[str, object]] = json.loads((folder / "evaluation.json").read_text())
    return results


def test_a_network_and_a_baseline_stand_side_by_side(
    tmp_path: Path, frames: Path, stereo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = run(tmp_path / "out", f"checkpoint={stereo_model}", "baseline=sgbm", "dataset=flyingthings3d",
                  f"dataset.root={frames}", "dataset.max_disparity=32", "ranges=[4,12]",
                  "correction=residual")  # fmt: skip
    with (tmp_path / "out" / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    everywhere = {row["method"]: row for row in rows if row["region"] == "all" and row["average"] == "pixels"}
    assert set(everywhere) == {"sgbm", "network", "residual"}
    regions = {row["region"] for row in rows}
    assert regions == {"all", "non_occluded", "occluded", "out_of_frame", "0-4", "4-12", "12-", "known",
                       "confident_95%", "confident_90%", "confident_80%", "confident_70%"}  # fmt: skip
    assert all(row["images"] == "2" for row in everywhere.values()), "the TEST split has two frames"
    assert all(int(row["pixels"]) == 2 * HEIGHT * WIDTH for row in everywhere.values())
    # the network by hand, over all pixels
    _, _, network = model_file.load_network(stereo_model)
    samples = shapes3d.Shapes3D(length=5, seed=0, height=HEIGHT, width=WIDTH, max_disparity=24)
    errors, corrected, matcher = [], [], ResidualMatcher(autodisp.load(stereo_model))
    for index in (3, 4):
        sample = samples[index]
        with torch.no_grad():
            predicted = network(sample.left[None], sample.right[None]).disparity[0]
        errors.append((predicted - sample.disparity).abs().double())
        corrected.append((matcher(sample.left, sample.right)[0] - sample.disparity).abs().mean().item())
    expected = torch.stack(errors)
    row = everywhere["residual"]
    assert float(row["epe_px"]) == pytest.approx(np.mean(corrected), rel=1e-4)
    row = everywhere["network"]
    assert float(row["epe_px"]) == pytest.approx(expected.mean().item(), rel=1e-4)
    assert float(row["bad3_percent"]) == pytest.approx(100 * (expected > 3).double().mean().item(), abs=0.05)
    out = capsys.readouterr().out
    assert "flyingthings3d, test split" in out
    assert "sgbm" in out
    assert content["about"]["split"] == "test"


def test_a_closed_pipe_loses_no_results(tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("autodisp.cli.evaluate.print_table", closed)
    with pytest.raises(BrokenPipeError):
        run(tmp_path / "out", "baseline=constant", "dataset=flyingthings3d", f"dataset.root={frames}")
    assert {"evaluation.json", "evaluation.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_network_is_evaluated_at_several_scales(tmp_path: Path, frames: Path, stereo_model: Path) -> None:
    words = [
        f"checkpoint={stereo_model}",
        "dataset=flyingthings3d",
        f"dataset.root={frames}",
        "dataset.max_disparity=32",
    ]
    content = run(tmp_path / "out", *words, "scales=[1,2]")
    matcher = MultiScaleMatcher(autodisp.load(stereo_model), [1, 2])
    samples = shapes3d.Shapes3D(length=5, seed=0, height=HEIGHT, width=WIDTH, max_disparity=24)
    errors = [
        (matcher(samples[i].left, samples[i].right)[0] - samples[i].disparity).abs().mean().item() for i in (3, 4)
    ]
    epe = content["methods"]["network"]["figures"]["regions"]["all"]["pooled"]["epe"]  # type: ignore[index]
    assert epe == pytest.approx(np.mean(errors), rel=1e-4)


def test_errors_at_densities_beside_those_of_sgbm_without_filled_holes(
    tmp_path: Path, frames: Path, stereo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = run(tmp_path / "out", f"checkpoint={stereo_model}", "baseline=sgbm", "sgbm.mode=3way",
                  "dataset=flyingthings3d", f"dataset.root={frames}", "dataset.max_disparity=32",
                  "densities=[90,50]")  # fmt: skip
    regions = content["methods"]["network"]["figures"]["regions"]  # type: ignore[index]
    matcher = autodisp.load(stereo_model)
    errors, confidences = [], []
    samples = shapes3d.Shapes3D(length=5, seed=0, height=HEIGHT, width=WIDTH, max_disparity=24)
    for index in (3, 4):
        found = matcher.with_confidence(samples[index].left, samples[index].right)[0]
        errors.append((found[0] - samples[index].disparity[0]).abs().flatten())
        confidences.append(found[1].flatten())
    error, confidence = (torch.cat(parts).double().numpy() for parts in (errors, confidences))
    falling = error[np.argsort(-confidence)]
    for density in (90, 50):
        part = falling[: round(density / 100 * len(falling))]
        region = regions[f"confident_{density}%"]
        assert region["pixels"] == pytest.approx(len(part), abs=1)
        assert region["pooled"]["epe"] == pytest.approx(part.mean(), rel=5e-3)
        assert region["confidence"] == pytest.approx(np.sort(confidence)[-len(part)], abs=5e-3)
    assert regions["known"]["pixels"] == pytest.approx((confidence >= 0.5).sum(), abs=2)
    known = content["methods"]["sgbm"]["figures"]["regions"]["known"]  # type: ignore[index]
    assert not any(name.startswith("confident") for name in content["methods"]["sgbm"]["figures"]["regions"])  # type: ignore[index]
    share = known["pixels"] / len(error)
    out = capsys.readouterr().out
    assert f"at the density of sgbm without filled holes, {share:.1%}: sgbm EPE {known['pooled']['epe']:.2f} px" in out
    part = falling[: round(share * len(falling))]
    assert float(out.split("network EPE ")[1].split()[0]) == pytest.approx(part.mean(), rel=1e-2, abs=0.006)
    assert " ms), peak memory" in out


def test_ground_truth_beyond_the_range_of_the_baseline_is_told(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("baseline=sgbm", "dataset=flyingthings3d", f"dataset.root={frames}", "split=train")
    samples = shapes3d.Shapes3D(length=5, seed=0, height=HEIGHT, width=WIDTH, max_disparity=24)
    largest = max(float(samples[index].disparity.max()) for index in range(3))
    assert 16 < largest < 32
    run(tmp_path / "low", *settings, "dataset.max_disparity=16")
    assert (
        f"note:  the ground truth goes up to {largest:.1f} px, but baseline=sgbm finds disparities below 16 px "
        "(dataset.max_disparity=16): nearer surfaces count as errors; take dataset.max_disparity=32"
    ) in capsys.readouterr().out
    run(tmp_path / "enough", *settings, "dataset.max_disparity=32")
    assert "note:" not in capsys.readouterr().out


def test_ground_truth_beyond_the_volume_of_the_network_is_told(
    tmp_path: Path, frames: Path, stereo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    low = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3,
                        head="matching", max_disparity=15)  # fmt: skip
    write_model(tmp_path / "low.safetensors", low, "autodispnet")
    settings = ("dataset=flyingthings3d", f"dataset.root={frames}", "split=train")
    run(tmp_path / "low", f"checkpoint={tmp_path / 'low.safetensors'}", *settings)
    out = capsys.readouterr().out.replace("\n", " ")
    assert re.search(
        r"note:  the ground truth goes up to \d\d\.\d px, but the matching volume of .* ends at 16 px with "
        r"scales=\[1.0\]: nearer surfaces count as errors; add a smaller factor, or take a network",
        out,
    )
    run(tmp_path / "half", f"checkpoint={tmp_path / 'low.safetensors'}", *settings, "scales=[0.25,1]")
    assert "note:" not in capsys.readouterr().out
    run(tmp_path / "enough", f"checkpoint={stereo_model}", *settings)
    assert "note:" not in capsys.readouterr().out


def test_swapped_views_are_told(tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(frames, tmp_path / "data")
    for scene in sorted((tmp_path / "data/frames_cleanpass/TRAIN/A").iterdir())[1:]:
        (scene / "left").rename(scene / "middle")
        (scene / "right").rename(scene / "left")
        (scene / "middle").rename(scene / "right")
    run(tmp_path / "out", "baseline=constant", "dataset=flyingthings3d", f"dataset.root={tmp_path / 'data'}",
        "split=train")  # fmt: skip
    out = capsys.readouterr().out
    assert "note:  ground truth and views disagree in 2 of 3 checked samples: " in out
    assert "are left and right swapped? autodisp-check checks all of them" in out


def test_the_worst_samples_are_shown_and_named(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = run(tmp_path / "out", "baseline=constant", "dataset=flyingthings3d", f"dataset.root={frames}",
                  "split=train", "pictures=2")  # fmt: skip
    shown = content["about"]["pictures"]["constant"]  # type: ignore[index]
    assert [entry["picture"] for entry in shown] == ["worst_constant_1.png", "worst_constant_2.png"]
    assert shown[0]["epe"] >= shown[1]["epe"]
    assert f"constant: worst on {shown[0]['sample']}, EPE {shown[0]['epe']:.2f} px" in capsys.readouterr().out
    samples = shapes3d.Shapes3D(length=5, seed=0, height=HEIGHT, width=WIDTH, max_disparity=24)
    truths = torch.stack([samples[index].disparity for index in range(3)])
    errors = (truths - truths.median()).abs().mean((1, 2, 3))
    expected = errors.sort(descending=True).values[:2].tolist()
    assert [entry["epe"] for entry in shown] == pytest.approx(expected, abs=0.01)
    worst = int(errors.argmax())
    assert shown[0]["sample"].startswith(f"TRAIN/A/{worst:04}/")
    known = torch.ones_like(truths[worst], dtype=torch.bool)
    picture = panel(samples[worst].left, truths[worst], torch.full_like(truths[worst], float(truths.median())), known)
    written = iio.imread(tmp_path / "out" / "worst_constant_1.png")
    assert written.shape == picture.shape
    assert np.abs(written.astype(int) - picture.astype(int)).max() <= 2, "8 bits of the view, and a rounded median"


def test_shapes3d_needs_no_data_and_a_crop_is_honoured(tmp_path: Path) -> None:
    run(tmp_path / "out", "baseline=constant", "dataset.height=64", "dataset.width=96", "dataset.max_disparity=24",
        "dataset.limit=4", "dataset.crop=[32,48]")  # fmt: skip
    with (tmp_path / "out" / "evaluation.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["images"], row["pixels"]) == ("4", str(4 * 32 * 48))


def test_classification(tmp_path: Path, image_model: Path) -> None:
    _, images = write_cifar10(tmp_path, test=40)
    labels = np.arange(40) % 10
    run(tmp_path / "out", f"checkpoint={image_model}", "dataset=cifar10", f"dataset.root={tmp_path}", "batch_size=7")
    _, _, network = model_file.load_network(image_model)
    with torch.no_grad():
        scores = network(torch.from_numpy(images) / 255).logits
    expected = 100 * (scores.argmax(1) == torch.from_numpy(labels)).double().mean().item()
    with (tmp_path / "out" / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 11, "all classes and each"
    figures = [float(value) for key, value in rows[0].items() if key.startswith("top1")]
    assert figures == [pytest.approx(expected)]


@pytest.mark.parametrize("dataset", ["shapes3d", "flyingthings3d", "sintel", "kitti2012", "kitti2015",
                                     "middlebury2014", "middlebury2006", "cifar10", "cifar100", "svhn"])  # fmt: skip
def test_every_dataset_composes(dataset: str) -> None:
    from autodisp.config.evaluate import parse

    config = parse(composed("evaluate", f"dataset={dataset}", "checkpoint=shipped", "out=unused"))
    assert config.dataset.name == dataset
    assert getattr(config.dataset, "crop", None) is None
    assert getattr(config.dataset, "half_resolution", False) is False


def test_other_classes_than_those_of_the_data(tmp_path: Path) -> None:
    task = SegmentationTask(classes=3, channels=2, stem_scale=2.0, encoder_cells=1, decoder_cells=1)
    path = write_model(tmp_path / "best.safetensors", task, "autodispnet", classes=["a", "b", "c"])
    data = ("dataset=folders", f"dataset.root={write_folders(tmp_path / 'data')}")
    says = r"predicts 3 classes, but dataset=folders has 5; take dataset\.classes=3, or data with the classes of its tr"
    with pytest.raises(InputError, match=says):
        run(tmp_path / "out", f"checkpoint={path}", *data)
    assert not (tmp_path / "out").exists()
    write_cifar10(tmp_path / "data")
    images = ClassificationTask(channels=2, layers=3, classes=2, mean=(0.5,) * 3, std=(0.25,) * 3)
    path = write_model(tmp_path / "two.safetensors", images, "darts_v2", classes=["a", "b"])
    with pytest.raises(InputError, match="predicts 2 classes, but dataset=cifar10 has 10; take data with the classes"):
        run(tmp_path / "out", f"checkpoint={path}", "dataset=cifar10", f"dataset.root={tmp_path / 'data'}")
