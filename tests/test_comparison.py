"""Finding runs and lining them up."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.errors import InputError
from autodisp.evaluation.classification_metrics import ClassificationMetrics
from autodisp.evaluation.runner import evaluate
from autodisp.evaluation.stereo_metrics import StereoMetrics
from autodisp.evaluation.tables import write_json
from autodisp.report.comparison import common_folder, find_runs, numeric_settings, varying_keys
from autodisp.report.evaluations import MeasuredNetwork, read_tested
from autodisp.tasks.classification import ClassificationTask
from tests.made_models import write_model
from tests.made_runs import config_of, record_of, write_evaluation, write_run, write_search, write_training


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two searches and a training, two levels deep, beside folders that are none."""
    root = tmp_path / "runs"
    write_search(root / "a", optimizer={"weights": {"weight_decay": 1e-4}})
    write_search(root / "deep" / "b", optimizer={"weights": {"weight_decay": 1e-2}}, policy="es")
    write_training(root / "deep" / "c", genotype=str(root / "a" / "genotype.json"))
    (root / "a" / "checkpoints").mkdir()
    (root / "an evaluation").mkdir()
    (root / "an evaluation" / "evaluation.json").write_text("{}")
    (root / "empty").mkdir()
    return root


@pytest.mark.parametrize("pattern", ["{}", "{}/**", "{}/**/"])
def test_all_below_a_folder(runs: Path, pattern: str) -> None:
    found = find_runs([pattern.format(runs)], skip=runs / "report")
    assert [entry.run.name for entry in found.entries] == ["a", "b", "c"]
    assert [entry.number for entry in found.entries] == [1, 2, 3]
    assert found.passed_over == 1


def test_patterns_add_up_and_name_a_run_once(runs: Path) -> None:
    found = find_runs([f"{runs}/a", f"{runs}/*", f"{runs}/../runs/a"])
    assert [entry.run.name for entry in found.entries] == ["a"]


def test_a_reports_own_folder_is_not_looked_into(runs: Path) -> None:
    write_search(runs / "report" / "stray")
    assert len(find_runs([f"{runs}/**"], skip=runs / "report").entries) == 3


def test_a_damaged_run_is_passed_over_with_a_note(runs: Path) -> None:
    (runs / "a" / "metrics.jsonl").write_text("nonsense\n{}\n")
    found = find_runs([str(runs)])
    assert [entry.run.name for entry in found.entries] == ["b", "c"]
    assert any("line 1" in note for note in found.notes)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("{}/gone", "no such folder"), ("{}/gone*", "no run"), ("{}/empty", "no run"), ("{}/[", "no run")],
)
def test_nothing_found_is_one_line(runs: Path, pattern: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_runs([pattern.format(runs)])


def test_runs_of_several_machines_are_linked_to_their_own(tmp_path: Path) -> None:
    """Copied side by side, their configs name the same folders."""
    for machine in ("one", "two"):
        root = tmp_path / machine
        write_search(root / "search", run={"folder": "search"})
        write_training(root / "training", genotype="search/genotype.json", run={"folder": "training"})
        write_evaluation(root / "evaluation", checkpoint="training/best.safetensors")
    entries = {
        f"{entry.run.folder.parent.name} {entry.run.name}": entry for entry in find_runs([str(tmp_path)]).entries
    }
    for machine in ("one", "two"):
        training = entries[f"{machine} training"]
        assert entries[f"{machine} search"].trainings == [training]
        assert training.evaluation is not None


def test_a_training_of_other_cells_is_not_that_of_a_search(tmp_path: Path) -> None:
    """The search is gone, and another one is in a folder of its name."""
    write_search(tmp_path / "search", run={"folder": "search"})
    training = write_training(tmp_path / "training", genotype="search/genotype.json")
    task = ClassificationTask(channels=2, layers=3, classes=10, mean=(0.5,) * 3, std=(0.25,) * 3)
    write_model(training / "last.safetensors", task, "darts_v2")
    search, _ = find_runs([str(tmp_path)]).entries
    assert search.trainings == []


def test_trainings_on_several_datasets_are_not_averaged(tmp_path: Path) -> None:
    """Nor those that are not complete."""
    write_search(tmp_path / "search")
    genotype = str(tmp_path / "search" / "genotype.json")

    def trained() -> float | None:
        return find_runs([str(tmp_path)]).entries[0].result("trained")

    write_training(tmp_path / "stopped", genotype=genotype, training={"steps": 900})
    assert trained() is None
    write_training(tmp_path / "transferred", genotype=genotype, intervals=5, dataset={"name": "cifar100"})
    assert trained() == 44.0
    write_training(tmp_path / "transferred again", genotype=genotype, dataset={"name": "svhn"})
    assert trained() is None
    write_training(tmp_path / "usual", genotype=genotype)
    assert trained() == 42.0


def test_links_that_go_in_circles_end(runs: Path) -> None:
    (runs / "a" / "loop").symlink_to(runs)
    found = find_runs([f"{runs}/*"])
    assert [entry.run.name for entry in found.entries] == ["a"]


def test_a_search_and_the_training_of_its_cells(runs: Path) -> None:
    first, second, training = find_runs([str(runs)]).entries
    assert first.trainings == [training]
    assert (first.result("trained"), second.result("trained")) == (42.0, None)
    assert first.eigenvalue == pytest.approx(0.35)
    assert [first.result(name) for name in ("validated", "discretised", "drop")] == [33.0, 23.0, 10.0]
    assert (first.policy, second.policy, training.policy) == ("none", "es", "")
    assert (first.group, training.group) == (("search", "accuracy", "cifar10"), ("training", "accuracy", "cifar10"))


def test_the_data_of_a_group_is_one(tmp_path: Path) -> None:
    data = [
        {"name": "sintel", "root": "/a"}, {"name": "sintel", "root": "/b"}, {"name": "sintel", "half_resolution": True},
        {"name": "own", "factory": "rig.py:Rig", "root": "/a"}, {"name": "own", "factory": "rig.py:Rig", "root": "/b"},
        {"name": "own", "factory": "rig.py:Test", "root": "/a"}, {"name": 3},
    ]  # fmt: skip
    for number, dataset in enumerate(data):
        write_search(tmp_path / str(number), dataset=dataset, task="disparity", space="autodispnet")
    assert [entry.group[2] for entry in find_runs([str(tmp_path)]).entries] == [
        "sintel", "sintel", "sintel at half resolution", "own rig.py:Rig /a", "own rig.py:Rig /b", "own rig.py:Test /a",
        "",
    ]  # fmt: skip


def test_the_test_split_of_a_search_is_that_of_its_trainings(runs: Path) -> None:
    write_evaluation(runs / "2026_evaluation", str(runs / "deep" / "c" / "best.safetensors"), top1=80.0)
    write_evaluation(runs / "2027_evaluation", str(runs / "deep" / "c" / "last.safetensors"), top1=90.0)
    write_evaluation(runs / "2028_evaluation", str(runs / "deep" / "c" / "best.safetensors"), dataset="svhn")
    write_evaluation(runs / "2029_evaluation", "runs/gone/best.safetensors", top1=10.0)
    write_training(runs / "d", genotype=str(runs / "a" / "genotype.json"))
    write_evaluation(runs / "d" / "evaluation", str(runs / "d" / "best.safetensors"), top1=70.0)
    found = find_runs([str(runs)])
    tested = {entry.run.name: entry.result("tested") for entry in found.entries}
    assert tested == {"a": 80.0, "b": None, "c": 90.0, "d": 70.0}
    assert found.passed_over == 1


def test_the_eigenvalue_is_the_newest_up_to_the_chosen_epoch(tmp_path: Path) -> None:
    records = [record_of(0, eigenvalue=1.0), record_of(1, eigenvalue=2.0), record_of(2, eigenvalue=None)]
    records += [{"event": "early_stop", "decided_epoch": 3, "returned_epoch": 2}]
    run = write_run(tmp_path / "run", [*records[:3], record_of(3, eigenvalue=9.0), records[3]], config=config_of())
    assert find_runs([str(run)]).entries[0].eigenvalue == 2.0


def test_settings_that_differ(runs: Path) -> None:
    entries = find_runs([str(runs)]).entries
    assert varying_keys(entries[:2]) == ["optimizer.weights.weight_decay"]
    assert varying_keys(entries[:1]) == []
    assert varying_keys([]) == []


def test_the_seed_and_the_run_are_not_compared(tmp_path: Path) -> None:
    for number in range(2):
        write_search(tmp_path / str(number), seed=number, run={"threads": number})
    assert varying_keys(find_runs([str(tmp_path)]).entries) == []


def test_numbers_of_a_config() -> None:
    config = {"a": {"b": 1, "c": {"d": 2.5}}, "e": True, "f": "3", "g": [1], "h": float("nan"), 1: 2, "i": 10**400}
    assert numeric_settings(config) == {"a.b": 1.0, "a.c.d": 2.5, "1": 2.0}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["runs/**"], "runs"),
        (["runs/a*/b"], "runs"),
        (["runs"], "runs"),
        (["*"], "."),
        (["runs/a/*", "runs/b/*"], "runs"),
        (["/x/y/*", "/x/z"], "/x"),
    ],
)
def test_where_a_comparison_belongs(patterns: list[str], expected: str) -> None:
    assert common_folder(patterns).absolute() == Path(expected).absolute()


def test_a_comparison_of_a_folder_with_brackets_in_its_name_lies_in_it(tmp_path: Path) -> None:
    (folder := tmp_path / "runs [é]").mkdir()
    assert common_folder([str(folder)]) == folder
    assert common_folder([f"{folder}/**"]) == folder


def test_an_evaluation_of_classification(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "runs/a/best.safetensors")
    assert read_tested(folder) == MeasuredNetwork(Path("runs/a/best.safetensors"), "cifar10", {"accuracy": 91.5})


@pytest.mark.parametrize(
    "entries", [{"split": "train"}, {"top1": None}, {"top1": float("nan")}, {"checkpoint": None}, {"dataset": None}]
)
def test_evaluations_that_do_not_count(tmp_path: Path, entries: dict[str, object]) -> None:
    made = {"checkpoint": "best.safetensors", **entries}
    assert read_tested(write_evaluation(tmp_path, **made)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"about": 3}', "{" * 9, "[" * 100_000, "\udcff", '{"about": {"config": []}}']
)
def test_a_damaged_evaluation_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluation.json").write_bytes(text.encode(errors="surrogateescape"))
    assert read_tested(tmp_path) is None


def test_evaluations_as_the_program_writes_them(tmp_path: Path) -> None:
    about = {"config": {"checkpoint": "best.safetensors", "dataset": {"name": "any"}}, "split": "test"}
    disparity = torch.from_numpy(np.random.default_rng(0).uniform(1, 9, (2, 1, 4, 5))).float()
    known = torch.ones_like(disparity, dtype=torch.bool)
    views = torch.zeros(2, 3, 4, 5)
    batch = StereoSample(views, views, disparity, known, ~known, ~known)
    stereo = evaluate(lambda b: b.disparity + 1.5, [batch], StereoMetrics(has_occlusion=False))
    write_json(tmp_path / "evaluation.json", {"network": stereo}, about=about)
    found = read_tested(tmp_path)
    assert found is not None
    assert found.metrics == {"epe": pytest.approx(1.5)}
    images = ClassificationMetrics([str(number) for number in range(6)])
    images.update(torch.eye(6)[[0, 1, 2, 3]], LabelledImage(torch.zeros(4, 3, 2, 2), torch.tensor([0, 1, 2, 5])))
    classified = evaluate(lambda b: b, [], images)
    write_json(tmp_path / "evaluation.json", {"network": classified}, about=about)
    found = read_tested(tmp_path)
    assert found is not None
    assert found.metrics == {"accuracy": 75.0}
    assert json.loads((tmp_path / "evaluation.json").read_text())["about"]["split"] == "test"
