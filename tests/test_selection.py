"""How a finished search becomes a genotype."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp.cells.genotype import Genotype, check
from autodisp.cells.spaces import SPACES
from autodisp.errors import Interrupted
from autodisp.search import selection
from autodisp.search.selection import Argmax, Ranking
from autodisp.tasks.base import Figure
from tests.made_searches import make, tensors, uniform_search
from tests.programs import same


def test_the_argmax_is_what_the_epoch_recorded(tmp_path: Path) -> None:
    search, listener = make(tmp_path, epochs=2, steps_per_epoch=1)
    outcome = search.run()
    assert isinstance(search.selection, Argmax)
    assert search.selection.evaluations(100_000) == 0
    assert outcome.genotype == search.supernet.genotype()
    assert outcome.genotype.provenance == {}
    assert search.selection.select(search, 0).to_json()["cells"] == listener.records[0]["genotype"]


class Scores:
    """Gives every architecture a number of its own, another one on all batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, Genotype]] = []
        monkeypatch.setattr(selection, "_score", self.score)

    def score(self, supernet: Any, genotype: Genotype, batches: Any) -> float:
        where = "few" if len(batches) == 1 else "whole"
        self.asked.append((where, genotype))
        return self.value(where, genotype)

    @staticmethod
    def value(where: str, genotype: Genotype) -> float:
        value = random.Random(f"{where} {sorted(genotype.cells.items())}").random()
        return float("nan") if value < 0.1 else value


@pytest.mark.parametrize(("direction", "steps", "rounds"), [("min", 19_999, 1), ("max", 30_000, 3)])
def test_the_best_of_the_finalists_of_all_rounds_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: Any, steps: int, rounds: int
) -> None:
    search, listener = uniform_search(tmp_path)
    search.supernet.task.figure = Figure("mse", direction)
    monkeypatch.setattr(search, "save", lambda: None)
    scores, best = Scores(monkeypatch), min if direction == "min" else max
    search.progress.steps = steps
    ranking = Ranking([1], [1, 2], seed=1, samples=20, finalists=3)
    assert ranking.evaluations(steps) == rounds * (20 * 1 + 3 * 2)
    found = ranking.select(search, 2)
    finalists: list[Genotype] = []
    asked = iter(scores.asked)
    for _ in range(rounds):
        drawn = list(itertools.islice(asked, 20))
        ran = list(itertools.islice(asked, 3))
        assert {where for where, _ in drawn} == {"few"}
        assert {where for where, _ in ran} == {"whole"}
        known = [genotype for _, genotype in drawn if scores.value("few", genotype) >= 0]
        known.sort(key=lambda genotype: scores.value("few", genotype), reverse=direction == "max")
        assert [genotype for _, genotype in ran] == known[:3]
        finalists += [genotype for _, genotype in ran]
    assert next(asked, None) is None
    known = [genotype for genotype in finalists if scores.value("whole", genotype) >= 0]
    value = best(scores.value("whole", genotype) for genotype in known)
    assert scores.value("whole", found) == value
    assert found.provenance["figure"]["value"] == value
    assert found.provenance["ranking"] == {"rounds": rounds, "samples": 20, "finalists": 3}
    assert listener.events == [("ranking", {"rounds": rounds, "samples": 20, "mse": value})]


def test_an_interrupted_search_and_ranking_resume_bitwise(tmp_path: Path) -> None:
    whole, listener = uniform_search(tmp_path / "whole", epochs=2)
    expected = whole.run()
    asked = 0
    for stop_at in (2, 5, 9, 12):  # within both epochs, and twice within the ranking of 4 + 2 architectures
        search, told = uniform_search(tmp_path / "parts", epochs=2)
        if stop_at > 2:
            state = search.checkpoints.newest(lambda _: None)
            search.state.restore(state)
            told.records = listener.records[: state["records"]]
        asked = search.progress.steps + search.progress.epochs + len(search.progress.selection.get("scores", []))

        def stopping(stop_at: int = stop_at) -> bool:
            nonlocal asked
            asked += 1
            return asked >= stop_at

        search.stopping = stopping
        with pytest.raises(Interrupted):
            search.run()
    assert 0 < len(search.progress.selection["scores"]) < 6
    last, told = uniform_search(tmp_path / "parts", epochs=2)
    last.state.restore(last.checkpoints.newest(lambda _: None))
    told.records = listener.records[:2]
    found = last.run()
    assert found == expected
    assert found.genotype.provenance == expected.genotype.provenance
    assert same(tensors(last), tensors(whole))
    assert torch.equal(torch.get_rng_state(), last.checkpoints.newest(lambda _: None)["rng"]["cpu"])
    assert told.events == listener.events
    again, told = uniform_search(tmp_path / "parts", epochs=2)
    again.state.restore(again.checkpoints.newest(lambda _: None))
    told.records = listener.records[:2]
    assert again.run() == expected
    assert told.events == [], "a ranking that is complete is not repeated"


def test_a_candidate_is_a_random_architecture_of_the_epoch(tmp_path: Path) -> None:
    search, listener = uniform_search(tmp_path, epochs=2)
    before = torch.get_rng_state()
    first, second = (search.selection.candidate(search.supernet, epoch) for epoch in (0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert first != second
    check(first, SPACES["tiny81"])
    search.run_epoch()
    assert listener.records[0]["genotype"] == first.to_json()["cells"]


def test_scores_are_those_of_the_discretised_supernet(tmp_path: Path) -> None:
    search, _ = uniform_search(tmp_path)
    genotype = search.selection.candidate(search.supernet, 0)
    expected = search.supernet.evaluate(search.selection.whole, search.supernet.discretised(genotype))["mse"]
    assert selection._score(search.supernet, genotype, search.selection.whole) == pytest.approx(expected, rel=1e-5)
