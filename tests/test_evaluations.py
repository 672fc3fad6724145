"""What is read of an evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.evaluation.classification_metrics import ClassificationMetrics
from autodisp.evaluation.runner import evaluate
from autodisp.evaluation.stereo_metrics import StereoMetrics
from autodisp.evaluation.tables import write_json
from autodisp.report.evaluations import MeasuredNetwork, read_tested
from tests.made_runs import write_evaluation


def test_of_classification(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "runs/a/best.safetensors")
    assert read_tested(folder) == MeasuredNetwork(Path("runs/a/best.safetensors"), "cifar10", {"accuracy": 91.5})


@pytest.mark.parametrize(
    "entries", [{"split": "train"}, {"top1": None}, {"top1": float("nan")}, {"checkpoint": None}, {"dataset": None}]
)
def test_what_does_not_count(tmp_path: Path, entries: dict[str, object]) -> None:
    made = {"checkpoint": "best.safetensors", **entries}
    assert read_tested(write_evaluation(tmp_path, **made)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"about": 3}', "{" * 9, "[" * 100_000, "\udcff", '{"about": {"config": []}}']
)
def test_damage_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_tested(tmp_path) is None


def test_what_the_program_writes(tmp_path: Path) -> None:
    about = {"config": {"checkpoint": "best.safetensors", "dataset": {"name": "any"}}, "split": "test"}
    disparity = torch.from_numpy(np.random.default_rng(0).uniform(1, 9, (2, 1, 4, 5))).float()
    known = torch.ones_like(disparity, dtype=torch.bool)
    views = torch.zeros(2, 3, 4, 5)
    batch = StereoSample(views, views, disparity, known, ~known, ~known)
    stereo = evaluate(lambda b: b.disparity + 1.5, [batch], StereoMetrics(has_occlusion=False))
    write_json(tmp_path / "evaluation.json", {"network": stereo}, about=about)
    found = read_tested(tmp_path)
    assert found is not None
    assert found.figures == {"epe": pytest.approx(1.5)}
    images = ClassificationMetrics([str(number) for number in range(6)])
    images.update(torch.eye(6)[[0, 1, 2, 3]], LabelledImage(torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 2, 5])))
    classified = evaluate(lambda b: b, [], images)
    write_json(tmp_path / "evaluation.json", {"network": classified}, about=about)
    found = read_tested(tmp_path)
    assert found is not None
    assert found.figures == {"accuracy": 75.0}
    assert json.loads((tmp_path / "evaluation.json").read_text())["about"]["split"] == "test"
