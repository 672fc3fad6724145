"""Trials of Optuna on a function with a known optimum, resumed and pruned."""

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from autodisp.errors import InputError
from autodisp.studies.trials import JOURNAL, TRIAL, Tuning, carry_out, importances

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
RANGES = {"optimizer.learning_rate": (1e-4, 1e-1), "optimizer.weight_decay": (1e-6, 1e-2)}


def tuning(trial: int, steps: Sequence[int] = (1, 3, 9)) -> Tuning:
    return Tuning(["genotype=x"], steps, RANGES, "min", trial)


class Bowl:
    """A loss with its best learning rate at 3e-3, whatever the weight decay."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, words: Sequence[str], folder: Path) -> float:
        given = dict(word.split("=") for word in words)
        self.calls.append((folder.parent.name, int(given["training.steps"])))
        assert given["validation.every"] == given["training.steps"]
        assert folder.name == f"steps_{given['training.steps']}"
        return (math.log10(float(given["optimizer.learning_rate"])) - math.log10(3e-3)) ** 2


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def test_trials_find_the_optimum_and_poor_ones_are_pruned(runs: Path) -> None:
    bowl = Bowl()
    found = [carry_out(tuning(trial), runs / str(trial), bowl) for trial in range(25)]
    complete = [value for value in found if value is not None]
    assert min(complete) < 0.05
    assert 0 < len(complete) < 25
    assert 25 < len(bowl.calls) < 75
    shares = importances(runs.parent / JOURNAL)
    assert set(shares) == set(RANGES)
    assert sum(shares.values()) == pytest.approx(1.0)
    first = json.loads((runs / "0" / TRIAL).read_text())
    assert first["number"] == 0
    assert set(first["params"]) == set(RANGES)


def test_a_killed_trial_is_resumed_with_its_values(runs: Path) -> None:
    bowl = Bowl()

    def killed(words: Sequence[str], folder: Path) -> float:
        if "training.steps=9" in words:
            raise KeyboardInterrupt
        return bowl(words, folder)

    with pytest.raises(KeyboardInterrupt):
        carry_out(tuning(0), runs / "a", killed)
    before = json.loads((runs / "a" / TRIAL).read_text())
    value = carry_out(tuning(0), runs / "a", bowl)
    assert json.loads((runs / "a" / TRIAL).read_text())["params"] == before["params"]
    assert bowl.calls == [("a", 1), ("a", 3), ("a", 9)]
    assert carry_out(tuning(0), runs / "a", bowl) == value
    assert len(bowl.calls) == 3


def test_a_lost_journal_is_written_again(runs: Path) -> None:
    carry_out(tuning(0), runs / "other", Bowl())
    value = carry_out(tuning(0), runs / "a", Bowl())
    before = json.loads((runs / "a" / TRIAL).read_text())
    (runs.parent / JOURNAL).unlink()
    again = Bowl()
    found = carry_out(tuning(0), runs / "a", again)
    after = json.loads((runs / "a" / TRIAL).read_text())
    assert (before["number"], after["number"], after["params"]) == (1, 0, before["params"])
    assert value is not None
    assert (found, again.calls) == (value, [])


def test_trials_that_are_all_alike_have_no_importances(runs: Path) -> None:
    for trial in range(3):
        assert carry_out(tuning(trial, [1]), runs / str(trial), lambda words, folder: 0.5) == 0.5
    assert importances(runs.parent / JOURNAL) == {}


def test_a_damaged_trial_or_journal_is_one_line(runs: Path) -> None:
    carry_out(tuning(0), runs / "a", Bowl())
    for damaged in (
        "{",
        "[]",
        "[" * 100_000,
        '{"params": {}, "values": {}}',
        '{"number": NaN, "params": {}, "values": {}}',
        '{"number": 0, "params": {"a": "b"}, "values": {}}',
        '{"number": 0, "params": {}, "values": {"1": 1%s}}' % ("0" * 400),
    ):
        (runs / "a" / TRIAL).write_text(damaged)
        with pytest.raises(InputError, match=r"trial\.json: cannot be read \(.*\); delete its folder"):
            carry_out(tuning(0), runs / "a", Bowl())
    journal = runs.parent / JOURNAL
    written = journal.read_text()
    for damaged in ("damaged\n", "[5]\n", '{"op_code": "x"}\n'):
        journal.write_text(damaged + written)
        with pytest.raises(InputError, match=r"optuna\.journal: cannot be read \(.*\); move it away"):
            carry_out(tuning(1), runs / "b", Bowl())
        assert importances(journal) == {}


@pytest.mark.slow
def test_two_processes_share_the_journal(runs: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from autodisp.studies.trials import carry_out;"
        "from tests.test_trials import Bowl, tuning; runs, first = Path(sys.argv[1]), int(sys.argv[2]);"
        "[carry_out(tuning(trial), runs / str(trial), Bowl()) for trial in range(first, 12, 2)]"
    )
    root = Path(__file__).parent.parent
    words = [sys.executable, "-W", "ignore", "-c", code, str(runs)]
    started = [subprocess.Popen([*words, str(first)], cwd=root) for first in (0, 1)]
    assert [process.wait() for process in started] == [0, 0]
    trials = [json.loads((runs / str(trial) / TRIAL).read_text()) for trial in range(12)]
    assert sorted(trial["number"] for trial in trials) == list(range(12)), "no number twice"
    assert len({tuple(trial["params"].values()) for trial in trials}) == 12
    assert set(importances(runs.parent / JOURNAL)) == set(RANGES)
