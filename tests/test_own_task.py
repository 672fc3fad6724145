"""A task of the user's own, by its kit in a file, in all programs; a model never brings its file along."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp.cli import check, evaluate, export, predict, report, search, train
from autodisp.config import evaluate as evaluate_config
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError
from autodisp.model_file import load
from autodisp.tasks.registry import KITS, open_kit, rebuild
from tests.made_models import write_model
from tests.programs import composed

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_task.py"
OWN = ("task=own", f"task.factory={EXAMPLE}:KIT")
DATA = ("dataset=shapes3d", "dataset.length=8", "dataset.height=32", "dataset.width=64", "dataset.max_disparity=12")


@pytest.mark.slow
def test_it_goes_through_the_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["experiment=smoke", "network=own", "network.channels=2", "space=s2"]
    found = search.search(composed("search", *OWN, *DATA, *more, f"run.folder={tmp_path / 'search'}"))
    assert found is not None
    assert f"autodisp-train task=own task.factory={EXAMPLE}:KIT dataset=shapes3d" in capsys.readouterr().out
    more = [f"genotype={found / 'genotype.json'}", "network.channels=2", "training.steps=2", "training.batch_size=2"]
    more += ["validation.samples=2", "validation.every=1", "run.workers=0", f"run.folder={tmp_path / 'train'}"]
    best = train.train(composed("train", *OWN, *DATA, *more)) / "best.safetensors"
    assert load(best)[0].about["factory"] == f"{EXAMPLE}:KIT"
    again = train.resume(composed("train", f"resume={best.parent}"), [])
    assert again == best.parent
    out = evaluate.evaluate(
        composed("evaluate", *OWN, *DATA, "split=train", f"checkpoint={best}", f"out={tmp_path / 'e'}")
    )
    (figures,) = json.loads((out / "evaluation.json").read_text())["methods"].values()
    assert figures["figures"]["pooled"]["mae"] > 0
    export.export(composed("export", *OWN, f"checkpoint={best}", "format=pt2", f"out={tmp_path / 'x'}"))
    exported = tmp_path / "x" / "best.pt2"
    out = evaluate.evaluate(
        composed("evaluate", *OWN, *DATA, "split=train", f"checkpoint={exported}", f"out={tmp_path / 'e2'}")
    )
    (same,) = json.loads((out / "evaluation.json").read_text())["methods"].values()
    assert same["figures"]["pooled"]["mae"] == pytest.approx(figures["figures"]["pooled"]["mae"], rel=1e-4)
    assert report.report(composed("report", *OWN, f"run={best.parent}")).is_file()
    assert not check.check(composed("check", *OWN, *DATA, "run.workers=1", f"out={tmp_path / 'c'}"), []).problems


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predict", *OWN, "left=a.png"], r"task\.factory=.*monocular has no prediction of own images"),
        (["evaluate", "task=own", "baseline=constant"], r"^task\.factory=null: must be a file and"),
        (["search", "task=own"], r"^task\.factory=null: must be a file and"),
        (["search", *OWN], r"^space=autodispnet does not fit task=own: take space=s"),
        (["search", *OWN, "dataset=svhn"], r"^dataset=svhn does not fit task=own"),
        (["evaluate", *OWN, "dataset=svhn", "checkpoint=x"], r"^dataset=svhn does not fit task"),
        (["evaluate", *OWN, "baseline=sgbm"], r"^baseline=sgbm: is for disparity, but"),
        (["search", "task=own", "task.factory=no.py:KIT"], r"^task\.factory=.*no\.py:KIT"),
        (["search", "task=own", f"task.factory={EXAMPLE}:KITT"], r"has no TaskKit 'KITT'"),
        (["search", "task=own", "task.factory=KIT"], r"^task\.factory=KIT: must be a file"),
    ],
)
def test_what_does_not_fit_gets_its_line(words: list[str], line: str) -> None:
    run = {"predict": predict.predict, "evaluate": evaluate.evaluate, "search": search.search}[words[0]]
    with pytest.raises(InputError, match=line):
        run(composed(*words, *(["run.folder=x"] if words[0] == "search" else [])))


def test_a_model_does_not_bring_its_file_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from a stranger may name any file: it is named to the user, and not run."""
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nKIT = None\n")
    open_kit(f"{EXAMPLE}:KIT")
    path, task = tmp_path / "a.safetensors", rebuild("monocular", {"channels": 2})
    write_model(path, task, "darts_v2", factory=f"{trap}:KIT")
    assert load(path)[0].task == "monocular"
    monkeypatch.delitem(KITS, "monocular")
    with pytest.raises(InputError, match=rf"is for task 'monocular'.*task\.factory={trap}:KIT, a file that is run"):
        load(path)
    assert not (tmp_path / "sprung").exists()


def test_its_name_may_not_be_that_of_another(tmp_path: Path) -> None:
    file = tmp_path / "taken.py"
    file.write_text("from autodisp.tasks.disparity.kit import KIT\n")
    with pytest.raises(InputError, match="its name 'disparity' is taken"):
        open_kit(f"{file}:KIT")
    file.write_text(EXAMPLE.read_text().replace("name=Monocular.name", "name='mono'"))
    with pytest.raises(InputError, match="its name 'mono' is not 'monocular', that of its task; give both one name"):
        open_kit(f"{file}:KIT")


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ('"mae", "min"', '"mae", "lower"', "importing it raised ValueError: direction is 'lower', must be 'min' or"),
        ('("normal", "reduce")', '("normal")', "kinds of its task is 'normal', must be a tuple of some of normal,"),
        ("task=Monocular,", "task=Monocular(),", r"its task is Monocular\(channels=4\), must be type"),
        ("datasets=DATASETS", "datasets=[1]", r"its datasets is \[1\], must be Mapping"),
        ("augment=augmented(StereoAugmentation)", "augment=None", "its augment is None, must be Callable"),
    ],
)
def test_a_wrong_kit_gets_its_line(tmp_path: Path, right: str, wrong: str, line: str) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(EXAMPLE.read_text().replace(right, wrong))
    with pytest.raises(InputError, match=rf"^task\.factory={file}:KIT: {line}"):
        open_kit(f"{file}:KIT")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("def loss(self, output, batch): return output", "loss of Wrong returns a tensor .* must be a scalar tensor"),
        ("def loss(self, output, batch): return output.detach().mean()", "loss .* without a gradient, must be"),
        ("def measure(self, output, batch): return {'mae': 1.0}", "measure of Wrong returns {'mae': 1.0}, must be a"),
        ("def measure(self, output, batch): return {'epe': output[0, 0, 0]}", ".* a count, with 'mae'$"),
        ("def inputs(self, batch): return batch.left", "inputs of Wrong returns .* must be a tuple of tensors"),
        ("def constant(self, batches): pass", "constant of Wrong returns None, must be a number"),
    ],
)
def test_what_a_task_returns_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, line: str) -> None:
    monkeypatch.delitem(KITS, "monocular", raising=False)  # restored afterwards
    file = tmp_path / "wrong.py"
    kind = f"class Wrong(Monocular):\n    {wrong}\n\nKIT = TaskKit("
    text = EXAMPLE.read_text().replace("KIT = TaskKit(", kind).replace("task=Monocular,", "task=Wrong,")
    file.write_text(text)
    task: Any = open_kit(f"{file}:KIT").task()
    output, truth = torch.ones(1, 1, 2, 2, requires_grad=True), torch.ones(1, 1, 2, 2)
    batch = StereoSample(truth, truth, truth, truth > 0, truth < 0, truth < 0)
    with pytest.raises(InputError, match=rf"^task\.factory={file}:KIT: {line}"):
        task.inputs(batch), task.loss(output, batch), task.measure(output, batch), task.constant([batch])


def test_experiment_smoke_has_a_network_for_it() -> None:
    assert composed("search", *OWN, "experiment=smoke", "space=s2").network == {"name": "own", "channels": 4}


def test_the_dataset_decides_where_no_kit_is_named() -> None:
    open_kit(f"{EXAMPLE}:KIT")
    config = evaluate_config.parse(composed("evaluate", "baseline=constant", "out=x"))
    assert config.kit.name == "disparity"
