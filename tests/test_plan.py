"""What a search is said to cost adds up, and what is said follows from what was measured."""

from pathlib import Path

import pytest
import torch

from autodisp.assembly.search import build_data, build_search
from autodisp.cli.search import in_time, search
from autodisp.config.search import parse
from autodisp.search.loop import SearchSettings
from autodisp.search.plan import PRODUCTS, Costs, Plan, plan_search
from autodisp.tracking import ConsoleProgress
from tests.programs import composed

COSTS = Costs(
    weight_step=1.0,
    alpha_steps={"first": 0.5, "exact": 4.0},
    gradient_graph=2.0,
    product=0.25,
    validation_batch=0.125,
    checkpoint=0.0625,
    memory=100.0,
)
SMALL = (
    "experiment=smoke",
    "dataset.length=6",
    "dataset.height=32",
    "dataset.width=64",
    "dataset.max_disparity=16",
    "dataset.crop=null",
    "network=disparity_tiny",
    "run.workers=0",
    "run.threads=1",
    "plan=true",
)


def test_epochs_add_up() -> None:
    settings = SearchSettings(
        epochs=6, steps_per_epoch=10, warmup_epochs=2, order="exact", first_order_epochs=1, curvature_every=3
    )
    plan = Plan(settings, COSTS, validation_batches=4, alphas=20)
    always = 4 * 0.125 + 0.0625
    curvature = 2.0 + PRODUCTS * 0.25
    expected = [10 + curvature, 10, 15, 50 + curvature, 50, 50 + curvature]
    assert [plan.epoch(number) for number in range(6)] == [x + always for x in expected]
    assert plan.total == sum(expected) + 6 * always


def test_the_full_hessian_takes_a_product_an_alpha() -> None:
    settings = SearchSettings(epochs=1, steps_per_epoch=1, curvature_full=True)
    plan = Plan(settings, COSTS, validation_batches=1, alphas=20)
    assert plan.measurement == 2.0 + 20 * 0.25


def test_without_alphas_steps_and_selection_are_what_it_costs() -> None:
    plan = Plan(SearchSettings(epochs=2, steps_per_epoch=10), COSTS, validation_batches=4, alphas=0, evaluations=100)
    assert plan.total == 2 * (10 * COSTS.weight_step + 4 * 0.125 + 0.0625) + 100 * 0.125 / 2


def test_a_selection_that_trains_costs_its_epochs() -> None:
    settings = SearchSettings(epochs=2, steps_per_epoch=10)
    plan = Plan(settings, COSTS, validation_batches=4, alphas=20, evaluations=100, tuning=3)
    assert plan.selection == 100 * 0.125 / 2 + 3 * 10 * (COSTS.weight_step + COSTS.alpha_steps["first"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["relaxation=partial", "relaxation.share=2"], ["selection=perturbation"], ["skip=auxiliary"]]
)
def test_every_method_is_planned(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert search(composed("search", *SMALL, *words)) is None
    assert ("selection, " in capsys.readouterr().out) == (words == ["selection=perturbation"])


@pytest.mark.slow
def test_a_search_is_measured(tmp_path: Path) -> None:
    config = parse(composed("search", *SMALL, "search.warmup_epochs=1", "search.epochs=3"))
    with ConsoleProgress() as console:
        parts = build_search(config, build_data(config), tmp_path, console)
        plan = plan_search(parts.search)
        parts.close()
    assert set(plan.costs.alpha_steps) == {"first", "exact"}, "what a smoke run goes through"
    assert plan.validation_batches == sum(1 for _ in parts.search.validation)
    assert plan.alphas == sum(alpha.numel() for alpha in parts.search.supernet.alphas)
    assert all(seconds > 0 for seconds in (plan.costs.weight_step, plan.costs.product, plan.costs.checkpoint))
    assert plan.costs.memory > 50


@pytest.mark.slow
def test_the_program_says_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    tree = composed("search", *SMALL, f"run.folder={tmp_path}/run")
    assert search(tree) is None
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    for word in (
        "plan of a search of disparity",
        "memory, about",
        "weight step",
        "alpha step, first",
        "curvature, every",
        "validation, ",
        "saving the state",
        "the last epoch, of ",
        "epochs",
    ):
        assert word in out


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0123, "12 ms"), (3.0, "3.0 s"), (150, "2.5 min"), (9000, "2.5 h"), (1e6, "11.6 days")]
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_time(seconds) == words
