"""What a training leaves in its folder: records, pictures, the best and the newest model."""

import dataclasses
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from autodisp import model_file
from autodisp.cells.genotype import load
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.observers.train_folder import TrainFolder
from autodisp.records import read_json_lines
from autodisp.tasks.classification import ClassificationTask
from autodisp.tracking import ConsoleProgress, Tracker
from tests.programs import tensorboard

NAN, INF = math.nan, math.inf
TASK = ClassificationTask(channels=1, layers=3, classes=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
CARD = model_file.card_of(TASK, Style(affine=True), load("darts_v2"), SPACES["darts"], {"dataset": "mine", "seed": 4})


def picture(step: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((6, 9, 3), step % 256, dtype=np.uint8)


class Told:
    """A run folder, its network and what the console showed."""

    def __init__(self, root: Path, *, pictures: bool = True) -> None:
        self.root, self.console, self.step = root, io.StringIO(), 0
        torch.manual_seed(0)
        self.network: nn.Module = CARD.build()[1]
        self.tracker = Tracker(root, console=ConsoleProgress(self.console, unit="interval"))
        self.tracker.console.start(5, 100)
        self.folder = TrainFolder(
            self.tracker, figure=TASK.figure, card=CARD, network=self.network,
            pictures=self.pictures if pictures else None,
        )  # fmt: skip

    def pictures(self) -> Mapping[str, Any]:
        return {"prediction": picture(self.step)}

    def interval(self, number: int, *, best: bool, **entries: Any) -> dict[str, Any]:
        """The network has another weight in each interval."""
        self.step = 100 * (number + 1)
        with torch.no_grad():
            next(self.network.parameters()).fill_(float(number))
        record = record_of(number, **entries)
        self.folder.interval(record, best=best)
        return record


def record_of(number: int, **entries: Any) -> dict[str, Any]:
    return {
        "epoch": number,
        "step": 100 * (number + 1),
        "learning_rate": 0.1 / (number + 1),
        "train/loss": 1.5 - 0.25 * number,
        "train/accuracy": 30.0 + number,
        "valid/loss": 2.0,
        "valid/accuracy": 25.0 + number,
        "seconds": 12.5,
        "steps_per_second": 8.0,
        **entries,
    }


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    told = Told(tmp_path)
    yield told
    told.tracker.close()


def test_records_are_as_they_were_given(told: Told) -> None:
    records = [told.interval(number, best=False) for number in range(3)]
    assert read_json_lines(told.root / "metrics.jsonl") == records


def test_a_line_for_the_console(told: Told) -> None:
    told.interval(0, best=True)
    told.interval(1, best=False)
    assert told.console.getvalue().splitlines() == [
        "interval 0 [1/5]  step 100 · train loss 1.500 · accuracy 30.00 · valid accuracy 25.00 % (best) · 8.00 steps/s",
        "interval 1 [2/5]  step 200 · train loss 1.250 · accuracy 31.00 · valid accuracy 26.00 % · 8.00 steps/s",
    ]


def test_best_and_last_are_the_networks_of_their_time(told: Told) -> None:
    first = next(iter(dict(told.network.named_parameters())))
    for number, best in enumerate((True, False, True, False, False)):
        told.interval(number, best=best)
        for name, expected in (("last", number), ("best", 0 if number < 2 else 2)):
            card, weights = model_file.load(told.root / f"{name}.safetensors")
            assert (weights[first] == expected).all()
            assert dataclasses.replace(card, about={}) == dataclasses.replace(CARD, about={})
            assert card.about == {
                "dataset": "mine",
                "seed": 4,
                "steps": 100 * (expected + 1),
                "figures": {"valid/loss": 2.0, "valid/accuracy": 25.0 + expected},
            }
    assert CARD.about == {"dataset": "mine", "seed": 4}


def test_a_kept_model_is_whole(told: Told) -> None:
    told.interval(0, best=True)
    _, task, network = model_file.load_network(told.root / "best.safetensors")
    assert task.settings == TASK.settings
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found, expected = network(images), told.network.to(memory_format=torch.channels_last).eval()(images)
    assert torch.equal(found.logits, expected.logits)


def test_without_a_best_there_is_only_the_last(told: Told) -> None:
    told.interval(0, best=False)
    assert sorted(path.name for path in told.root.glob("*.safetensors")) == ["last.safetensors"]
    assert not list(told.root.glob(".*.safetensors"))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_figures_that_are_no_numbers(told: Told, value: float) -> None:
    """JSON has none: the record marks them, a model file leaves them out."""
    record = told.interval(0, best=True, **{"valid/accuracy": value, "train/loss": value})
    (found,) = read_json_lines(told.root / "metrics.jsonl")
    assert found == pytest.approx(record, nan_ok=True)
    for name in ("best", "last"):
        card, _ = model_file.load(told.root / f"{name}.safetensors")
        assert card.about["figures"] == {"valid/loss": 2.0}


def test_scalars_and_pictures_stand_at_their_step(told: Told) -> None:
    records = [told.interval(number, best=False) for number in range(3)]
    told.tracker.close()
    found = tensorboard(told.root / "tensorboard")
    for name in records[0]:
        points = [(event.step, event.value) for event in found.Scalars(name)]
        assert points == [(record["step"], pytest.approx(record[name])) for record in records]
    shown = found.Images("prediction")
    assert [event.step for event in shown] == [100, 200, 300]
    for event in shown:
        decoded = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert np.array_equal(decoded, picture(event.step))


def test_a_task_without_pictures(tmp_path: Path) -> None:
    told = Told(tmp_path, pictures=False)
    told.interval(0, best=False)
    told.tracker.close()
    found = tensorboard(tmp_path / "tensorboard")
    assert found.Tags()["images"] == []
    assert "valid/accuracy" in found.Tags()["scalars"]


def test_steps_go_to_the_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(tmp_path)
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(told.tracker.console, "step", lambda epoch, step, figures: seen.append((epoch, step)))
    told.folder.step(1, 7, lambda: {"loss": 1.0})
    told.tracker.close()
    assert seen == [(1, 7)]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_newest_prediction_lies_in_the_folder(told: Told) -> None:
    for number in range(2):
        told.interval(number, best=False)
    assert (cv2.imread(str(told.root / "prediction.png")) == 200).all()
