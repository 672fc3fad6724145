"""autodisp-study as it is called, on a local cluster."""

import csv
import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from autodisp.cells import genotype
from autodisp.tables import load
from tests.programs import command_of, start

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow
TOY = ["budget=smoke", "seeds=[0]", "folder=made", "cluster.workers=1"]
WORDS = ["study=table", "study.samples=1", *TOY]


def table_of(folder: Path, name: str) -> list[dict[str, str]]:
    """Report a study, which has to work, and return a table of its page."""
    reported = start(folder.parent, "report", f"study={folder.name}")
    assert reported.returncode == 0, reported.stderr
    assert (folder / "report" / f"{name}.tex").is_file()
    with (folder / "report" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_is_made_planned_and_reported(tmp_path: Path) -> None:
    planned = start(tmp_path, "study", *WORDS, "plan=true")
    assert "to run: 1 x train, 1 x evaluate" in planned.stdout
    assert not (tmp_path / "made").exists()
    done = start(tmp_path, "study", *WORDS)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "study: 2 of 2 runs done\nfiles: made/ (table.json, runs/)\nlook:  autodisp-report study=made" in done.stdout
    (entry,) = load(tmp_path / "made" / "table.json").entries
    assert (entry.index, len(entry.runs[0].curve), entry.runs[0].test is not None) == (0, 2, True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "made" / "runs").rglob("*")}
    again = start(tmp_path, "study", *WORDS)
    assert "study: 2 of 2 runs done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "made" / "runs").rglob("*")} == before
    reported = start(tmp_path, "report", "study=made")
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "made" / "report" / "architectures.tex").is_file()
    other = start(tmp_path, "study", "study=spaces", *TOY)
    assert other.returncode == 2
    assert "folder=made: has a study with study.name=table, not spaces; take another folder" in other.stderr
    table = (tmp_path / "made" / "table.json").read_bytes()
    other = start(tmp_path, "study", *WORDS, "study.space=autodispnet")
    assert other.returncode == 2
    assert "has a study with study.space=tiny81_disparity, not autodispnet; take another folder" in other.stderr
    assert (tmp_path / "made" / "table.json").read_bytes() == table


@pytest.mark.parametrize(
    ("study", "words", "counts"),
    [
        ("spaces", ["study.policies=[none]"], {"search": 1, "train": 1, "evaluate": 1}),
        ("rdarts", ["study.values=[0,1e-3]"], {"search": 2, "train": 3, "evaluate": 1}),
        (
            "regularization",
            ["study.policies=[none]", "study.values=[0,1e-3]"],
            {"search": 2, "train": 2, "evaluate": 2},
        ),
        ("augmentation", ["study.policies=[es]", "study.values=[0,1,2]"], {"search": 3, "train": 3, "evaluate": 3}),
    ],
)
def test_a_study_with_searches_reports_what_its_evaluations_give(
    tmp_path: Path, study: str, words: list[str], counts: dict[str, int]
) -> None:
    done = start(tmp_path, "study", f"study={study}", "study.spaces=[tiny81_disparity]", *words, *TOY)
    assert done.returncode == 0, done.stderr
    made = tmp_path / "made"
    assert Counter(log.name.split("-")[0] for log in made.glob("runs/*.log")) == counts
    evaluated = {
        json.loads(path.read_text())["methods"]["network"]["figures"]["regions"]["all"]["pooled"]["epe"]
        for path in made.glob("runs/evaluate-*/evaluation.json")
    }
    rows = table_of(made, study)
    assert len(rows) == counts["evaluate"]
    assert {float(row["test epe, px, mean"]) for row in rows} == evaluated
    if counts["search"] == 3:
        drop = start(tmp_path, "study", "study=drop", "study.runs=[made]", "folder=drop")
        assert drop.returncode == 0, drop.stderr
        assert {(row["searches"], row["space"]) for row in table_of(tmp_path / "drop", "drop")} == {
            ("3", "all"),
            ("3", "tiny81_disparity"),
        }


def test_the_regret_of_a_search_is_that_of_its_cells_in_the_table(tmp_path: Path) -> None:
    done = start(tmp_path, "study", "study=regret", "study.table=tiny81_shapes3d", "study.policies=[none]", *TOY)
    assert done.returncode == 0, done.stderr
    (found,) = (tmp_path / "made").glob("runs/search-*/genotype.json")
    row = table_of(tmp_path / "made", "regret")[0]
    assert row["policy"] == "none"
    assert float(row["regret, px"]) == load("tiny81_shapes3d").regret(genotype.load(found))


def test_the_trials_of_hyperparameters_are_pruned_and_reported(tmp_path: Path) -> None:
    done = start(tmp_path, "study", "study=hyperparameters", "study.trials=2", *TOY)
    assert done.returncode == 0, done.stderr
    trials = [json.loads(path.read_text()) for path in (tmp_path / "made").glob("runs/tune-*/trial.json")]
    rows = {int(row["trial"]): row for row in table_of(tmp_path / "made", "trials")}
    assert sorted(rows) == [0, 1]
    for trial in trials:
        row = rows[trial["number"]]
        assert float(row["learning_rate"]) == trial["params"]["optimizer.learning_rate"]
        shown = {step: row[f"epe, px after {step} steps"] for step in ("2", "6")}
        assert {step: float(value) for step, value in shown.items() if value} == trial["values"]


def test_a_failed_run_has_its_line_and_its_log(tmp_path: Path) -> None:
    words = [*WORDS, "seeds=[0,1]", 'budget.short=["network=disparity_tiny","init=nowhere.safetensors"]']
    done = start(tmp_path, "study", *words)
    assert done.returncode == 2
    assert done.stdout.count("failed: init=nowhere.safetensors: no such file") == 1
    assert "not run, since they need runs that failed: 1" in done.stdout
    first, second = (tmp_path / "made" / "runs").glob("train-*.log")
    assert all(f" {log.stem}" in done.stdout or f"/{log.name}\n" in done.stdout for log in (first, second))
    assert first.read_text().startswith("autodisp-train: init=nowhere.safetensors: no such file")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_study_says_how_it_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        command_of("study", *WORDS),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored if the tests run in the background
    )
    while not list(tmp_path.glob("made/runs/train-*.log")) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(number)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "stopped: the same command resumes the runs that were in progress, and runs the others" in output
    again = start(tmp_path, "study", *WORDS)
    assert "study: 2 of 2 runs done" in again.stdout


def test_missing_data_is_told_in_one_line_before_a_folder_exists(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    for words, expected in (
        ((f"root={missing}",), f"root={missing}: there is no such folder"),
        ((), "root is not set"),
    ):
        done = start(tmp_path, "study", "study=spaces", "task=classification", "folder=made", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"autodisp-study: {expected}")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "made").exists()
