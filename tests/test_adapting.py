"""Whole small adaptations without ground truth: recipe=adapt on the user's pairs and on pairs with ground truth."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp import model_file
from autodisp.assembly.train_data import build_train_data
from autodisp.assembly.training import build_train_network, build_training
from autodisp.cli.train import resume, train
from autodisp.config.train import parse
from autodisp.datasets.images import write_png
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.report.next_steps import next_commands
from autodisp.report.reading import read_run
from autodisp.tasks.disparity.photometric import PhotometricDisparity
from autodisp.tracking import ConsoleProgress
from tests.programs import composed, differences, untimed
from tests.test_cli_train import killed_at_step

TINY = ("network=disparity_tiny", "dataset.height=40", "dataset.width=72", "dataset.max_disparity=16",
        "training.steps=1", "training.batch_size=2", "validation.every=1", "validation.samples=1", "run.workers=0",
        "dataset.length=2")  # fmt: skip
FEW = ("training.steps=4", "training.batch_size=2", "training.average=0.5", "validation.every=2", "run.workers=0",
       "optimizer.warmup_steps=0", "dataset.crop=[32,64]", "dataset.max_disparity=16")  # fmt: skip
MODELS = ("best.safetensors", "last.safetensors")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network of a few steps."""
    folder = tmp_path_factory.mktemp("model") / "run"
    train(composed("train", f"run.folder={folder}", *TINY))
    return folder / "last.safetensors"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pairs without ground truth."""
    root = tmp_path_factory.mktemp("rig")
    samples = Shapes3D(length=5, seed=7, height=40, width=72, max_disparity=16)
    for side in ("left", "right"):
        (root / side).mkdir()
        for index in range(5):
            write_png(root / side / f"{index}.png", getattr(samples[index], side))
    return root


def run(folder: Path, *overrides: str) -> Path:
    return train(composed("train", f"run.folder={folder}", "recipe=adapt", *FEW, *overrides))


def told(folder: Path) -> list[str]:
    """The records as text, in which NaN equals NaN, without times."""
    return [str({key: value for key, value in record.items() if "second" not in key}) for record in untimed(folder)]


@pytest.mark.slow
def test_the_users_pairs(model: Path, rig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = (f"init={model}", f"dataset.root={rig}", "validation.fraction=0.4")
    folder = run(tmp_path / "run", *overrides)
    said = capsys.readouterr().out
    assert "before the first step: valid photometric" in said
    assert "autodisp-evaluate" not in said, "without ground truth there is nothing to evaluate"
    assert "autodisp-predict checkpoint=" in said
    records = [record for record in untimed(folder) if "event" not in record]
    assert [record["step"] for record in records] == [2, 4]
    assert all(math.isnan(record["valid/epe"]) and record["valid/photometric"] > 0 for record in records)
    _, before = model_file.load(model)
    card, after = model_file.load(folder / "last.safetensors")
    assert card.task == "disparity"
    assert any(not torch.equal(before[name], after[name]) for name in before)
    read = read_run(folder)
    assert (read.figure.name, read.metric) == (
        "photometric",
        min(record["valid/photometric"] for record in records),
    )
    assert not any("autodisp-evaluate" in command for _, command in next_commands(read))
    other = killed_at_step(3, run, tmp_path / "killed", *overrides)
    words = [f"resume={other}"]
    resume(composed("train", "run.folder=unused", *words), words)
    assert told(other) == told(folder)
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in MODELS)


@pytest.mark.slow
def test_ground_truth_is_measured_but_not_learnt_from(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = (f"init={model}", "dataset=shapes3d", "dataset.length=4", "dataset.height=40", "dataset.width=72",
                 "validation.samples=1", "training.steps=2")  # fmt: skip
    folder = run(tmp_path / "run", *generated)
    records = [record for record in untimed(folder) if "event" not in record]
    assert all(record["valid/epe"] > 0 and record["train/epe"] > 0 for record in records)
    start = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert start["event"] == "start"
    assert start["valid/epe"] > 0
    whole = Shapes3D.__getitem__

    def other(data: Shapes3D, index: int) -> Any:
        sample = whole(data, index)
        return sample._replace(disparity=sample.disparity + 5)

    monkeypatch.setattr(Shapes3D, "__getitem__", other)
    again = run(tmp_path / "again", *generated)
    assert [record["valid/epe"] for record in untimed(again)] != [record["valid/epe"] for record in untimed(folder)]
    weights = [model_file.load(place / "last.safetensors")[1] for place in (folder, again)]
    assert differences(*weights) == [], "only metrics differ"


def test_the_recipe(model: Path, rig: Path, tmp_path: Path) -> None:
    words = ("recipe=adapt", f"init={model}", f"dataset.root={rig}", *FEW)
    config = parse(composed("train", "run.folder=unused", *words))
    assert (config.dataset.name, config.task.loss, config.augmentation.scale) == ("pairs", "photometric", 0)
    data = build_train_data(config)
    assert (len(data.trained_on), len(data.held_out)) == (4, 1)
    assert not set(data.trained_on) & set(data.held_out)
    parts = build_training(config, data, tmp_path, ConsoleProgress(), build_train_network(config, data))
    task = parts.training.task
    assert isinstance(task, PhotometricDisparity)
    assert (task.smoothness_weight, task.teacher_weight) == (0.01, 0.3)
    assert parts.folder.figure.name == "photometric"
    parts.close()
