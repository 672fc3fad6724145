"""The search loop on a task of its own, which shows that the engine knows none."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autodisp.errors import InputError, Interrupted
from autodisp.search import loop
from autodisp.search.adaptive import AdaptiveRegularization, Restart
from autodisp.search.curvature import frozen_statistics, hessian
from autodisp.search.early_stopping import Decision, EarlyStopping
from autodisp.search.loop import Search
from autodisp.search.regularization import Regularization, RollBack, Stop
from tests.made_searches import Batches, Scripted, make, tensors
from tests.programs import same
from tests.shared_runs import Sample


@pytest.mark.slow
@pytest.mark.parametrize("order", ["first", "exact", "finite_difference"])
def test_one_seed_gives_one_result(tmp_path: Path, order: str) -> None:
    results = []
    for name in "ab":
        search, listener = make(tmp_path / name, order=order, drop_path=0.3)
        outcome = search.run()
        results.append((tensors(search), outcome.genotype, [record["eigenvalue"] for record in listener.records]))
    assert same(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]
    other, _ = make(tmp_path / "c", seed=1, order=order, drop_path=0.3)
    other.run()
    assert not same(tensors(other), results[0][0])


def test_each_level_moves_its_own_parameters(tmp_path: Path) -> None:
    search, _ = make(tmp_path)
    supernet = search.supernet
    weights = {id(parameter) for parameter in supernet.network.parameters()}
    alphas = {id(parameter) for parameter in supernet.alphas}
    assert not weights & alphas
    batch = Batches(1).next()
    before = tensors(search)
    search.alpha_step(batch, "first")
    after = tensors(search)
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert moved == [False] * (len(moved) - 2) + [True, True]
    assert all(parameter.grad is None for parameter in supernet.network.parameters())
    search.weight_step(batch)
    assert same(after[-2:], tensors(search)[-2:])
    assert all(alpha.grad is None for alpha in supernet.alphas)


def test_alphas_wait_for_the_warm_up(tmp_path: Path) -> None:
    search, _ = make(tmp_path, warmup_epochs=2, curvature_every=3)
    start = [alpha.detach().clone() for alpha in search.supernet.alphas]
    search.run_epoch()
    search.run_epoch()
    assert same(start, search.supernet.alphas)
    search.run_epoch()
    assert not same(start, search.supernet.alphas)


def test_second_order_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[tuple[int, str]] = []
    original = Search.alpha_step

    def spy(search: Search, batch: Sample, order: Any) -> None:
        orders.append((search.progress.epochs, order))
        original(search, batch, order)

    monkeypatch.setattr(Search, "alpha_step", spy)
    settings: dict[str, Any] = {"warmup_epochs": 1, "first_order_epochs": 1, "order": "exact", "curvature_every": 4}
    search, _ = make(tmp_path, epochs=4, steps_per_epoch=1, **settings)
    search.run()
    assert orders == [(1, "first"), (2, "exact"), (3, "exact")]


def test_half_precision_is_for_the_weight_step_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[bool]] = {}
    for name in ("weight_step", "alpha_step", "measure_curvature", "validate"):
        original = getattr(Search, name)

        def told(self: Search, *args: Any, name: str = name, original: Any = original) -> Any:
            forward = self.supernet.task.loss

            def spy(*inputs: Any) -> Tensor:
                seen.setdefault(name, set()).add(torch.is_autocast_enabled("cpu"))
                return forward(*inputs)

            with monkeypatch.context() as patch:
                patch.setattr(self.supernet.task, "loss", spy)
                return original(self, *args)

        monkeypatch.setattr(Search, name, told)
    search, _ = make(tmp_path, precision="bfloat16")
    search.run_epoch()
    assert seen == {"weight_step": {True}, "alpha_step": {False}, "measure_curvature": {False}, "validate": {False}}
    assert all(parameter.dtype == torch.float32 for parameter in search.supernet.network.parameters())
    full, _ = make(tmp_path / "full")
    full.run_epoch()
    pairs = list(zip(tensors(search), tensors(full), strict=True))
    assert not same(*zip(*pairs, strict=True))
    assert all(torch.allclose(a, b, atol=0.1, rtol=0.1) for a, b in pairs if a.is_floating_point())


def test_a_validation_reads_each_batch_once(tmp_path: Path) -> None:
    search, _ = make(tmp_path)
    batches, read = search.validation, []
    search.validation = (read.append(batch) or batch for batch in batches)
    both, supernet = search.validate(), search.supernet
    assert len(read) == len(batches)
    for name, weights in (("valid", None), ("valid_discrete", supernet.discretised())):
        assert both[f"{name}/mse"] == supernet.evaluate(batches, weights)["mse"]


def test_measuring_changes_nothing(tmp_path: Path) -> None:
    search, _ = make(tmp_path, curvature_full=True)
    search.run_epoch()
    before, random = tensors(search), torch.get_rng_state()
    search.measure_curvature()
    search.validate()
    assert same(before, tensors(search))
    assert torch.equal(random, torch.get_rng_state())


def eigenvalues(search: Search) -> list[tuple[int, float]]:
    return list(search.progress.history)


def resumed(folder: Path, **settings: Any) -> Search:
    """The search that goes on from the newest state in a folder."""
    search, _ = make(folder, **settings)
    state = search.checkpoints.newest(print)
    assert state is not None
    search.state.restore(state)
    search.run()
    return search


@pytest.mark.slow
def test_measuring_never_changes_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the curvature of each epoch or of the last alone, with and without validation: the same to the last bit."""
    results = []
    for every in (1, 2, 100):
        search, _ = make(
            tmp_path / str(every), epochs=5, curvature_every=every, warmup_epochs=1, drop_path=0.3, order="exact"
        )
        search.run()
        results.append(tensors(search))
    search, _ = make(tmp_path / "blind", epochs=5, curvature_every=100, warmup_epochs=1, drop_path=0.3, order="exact")
    with monkeypatch.context() as patch:
        patch.setattr(Search, "validate", lambda _: {})
        search.run()
    assert all(same(results[0], other) for other in (*results[1:], tensors(search)))


def test_the_curvature_is_taken_on_the_batch_of_the_last_alpha_step(tmp_path: Path) -> None:
    """In a warm-up on the batch of the first alpha step to come; a search that goes on measures on the same one."""
    search, _ = make(tmp_path, warmup_epochs=1, epochs=2, curvature_full=True)
    for epoch, position in ((0, 0), (1, 2)):
        search.run_epoch()
        supernet, batch = search.supernet, Batches(2).at(position)
        with frozen_statistics(supernet.network):
            expected = hessian(lambda: supernet.loss(batch), supernet.alphas)  # noqa: B023
        assert eigenvalues(search)[-1] == (epoch, pytest.approx(torch.linalg.eigvalsh(expected)[-1].item(), rel=1e-4))
    assert search.alpha_stream.position == 3, "one batch an alpha step"


@pytest.mark.parametrize(("what", "fails_in"), [("validate", 0), ("measure_curvature", 1)])
def test_what_fails_after_the_steps_of_an_epoch_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, fails_in: int
) -> None:
    options: dict[str, Any] = {"drop_path": 0.3, "warmup_epochs": 1}
    whole, _ = make(tmp_path / "whole", **options)
    whole.run()
    search, _ = make(tmp_path / "cut", **options)
    original = getattr(Search, what)

    def failing(self: Search) -> Any:
        if self.progress.epochs == fails_in:
            raise InputError("a.png: is cut off")
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Search, what, failing)
        with pytest.raises(InputError, match="cut off"):
            search.run()
    steps = []
    with monkeypatch.context() as patch:
        step = Search.step
        patch.setattr(Search, "step", lambda self: (steps.append(self.progress.epochs), step(self)))
        again = resumed(tmp_path / "cut", **options)
    assert steps == [epoch for epoch in range(fails_in + 1, 3) for _ in range(3)]
    assert same(tensors(whole), tensors(again))
    assert eigenvalues(whole) == eigenvalues(again)


def test_a_search_that_was_stopped_measures_the_same(tmp_path: Path) -> None:
    whole, _ = make(tmp_path / "whole", epochs=2)
    whole.run()
    for stop_after in (2, 3):  # in the middle of the first epoch; right after it
        folder = tmp_path / str(stop_after)
        search, _ = make(folder, epochs=2)
        search.stopping = lambda search=search, last=stop_after: search.progress.steps == last
        with pytest.raises(Interrupted):
            search.run()
        assert eigenvalues(resumed(folder, epochs=2)) == eigenvalues(whole)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("decay", [0.0, 1e-3])
def test_the_eigenvalue_of_a_zero_hessian_is_unknown(tmp_path: Path, full: bool, decay: float) -> None:
    search, listener = make(tmp_path, curvature_full=full, alpha_decay_in_curvature=decay)
    search.supernet.task.loss = lambda output, batch: 0.0 * output.mean()  # type: ignore[method-assign]
    record = search.measure_curvature()
    assert math.isnan(record["eigenvalue"])
    assert math.isnan(search.progress.history[0][1])
    assert search.progress.eigenvector is None
    assert listener.messages == [
        "epoch 0: the dominant eigenvalue is unknown: the Hessian of this batch is zero, as for a batch without "
        "valid ground truth; take a larger search.batch_size"
    ]


def test_full_hessian_and_lanczos_agree(tmp_path: Path) -> None:
    values = []
    for full in (False, True):
        search, listener = make(tmp_path / str(full), curvature_full=full, curvature_tolerance=1e-3, epochs=2)
        search.run()
        values.append([record["eigenvalue"] for record in listener.records])
        assert (listener.records[0]["spectrum"] is not None) == full
    assert values[0] == pytest.approx(values[1], rel=2e-3)


def test_curvature_every_second_epoch_and_at_the_last(tmp_path: Path) -> None:
    search, listener = make(tmp_path, epochs=4, curvature_every=2)
    search.run()
    assert [record["epoch"] for record in listener.records if "eigenvalue" in record] == [0, 2, 3]
    assert [epoch for epoch, _ in search.progress.history] == [0, 2, 3]


def test_early_stopping_returns_the_earlier_genotype(tmp_path: Path) -> None:
    stop = Stop(Decision(decided_epoch=2, returned_epoch=1, earlier_average=1.0, newest_average=2.0))
    search, listener = make(tmp_path, epochs=5, regularization=Scripted(2, stop))
    outcome = search.run()
    assert outcome.record["epoch"] == 1
    assert outcome.genotype.to_json()["cells"] == listener.records[1]["genotype"]
    assert outcome.genotype.to_json()["cells"] != listener.records[2]["genotype"], "or this test says nothing"
    assert len(listener.records) == 3
    assert listener.events == [("early_stop", {"decided_epoch": 2, "returned_epoch": 1, "ratio": 2.0})]


def test_drop_path_grows_to_its_full_probability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    monkeypatch.setattr(loop, "set_drop_path", lambda network, probability: seen.append(probability))
    search, _ = make(tmp_path, epochs=4, drop_path=0.6)
    search.run()
    assert seen == pytest.approx([0.0, 0.2, 0.4, 0.6])


@pytest.mark.slow
def test_roll_back_restores_the_whole_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a roll-back is what would have followed that epoch under the new weight decay."""
    decays: list[float] = []
    original = loop.alpha_gradient

    def spy(*arguments: Any, **settings: Any) -> list[Tensor]:
        decays.append(arguments[-1].weight_decay)
        return original(*arguments, **settings)

    monkeypatch.setattr(loop, "alpha_gradient", spy)
    answer = RollBack(Decision(3, 1, 1.0, 2.0), Restart(epoch=1, weight_decay=3e-3))
    policy = Scripted(3, answer)
    options = {"epochs": 5, "order": "finite_difference", "drop_path": 0.3}
    search, listener = make(tmp_path / "rolled", regularization=policy, **options)
    search.run()
    assert [record["epoch"] for record in listener.records] == [0, 1, 2, 3, 2, 3, 4]
    assert [record["restart"] for record in listener.records] == [0, 0, 0, 0, 1, 1, 1]
    assert [record["weight_decay"] for record in listener.records] == [3e-4] * 4 + [3e-3] * 3
    assert set(decays[:12]) == {3e-4}
    assert set(decays[12:]) == {3e-3}
    assert [epoch for epoch, _ in policy.seen[4]] == [0, 1, 2], "the history is the restored one"

    direct, _ = make(tmp_path / "direct", **options)
    for _ in range(2):
        direct.run_epoch()
    for group in direct.weight_optimizer.param_groups:
        group["weight_decay"] = 3e-3
    torch.manual_seed(99)
    direct.state.restore({**direct.checkpoints.load(1)})
    for group in direct.weight_optimizer.param_groups:
        group["weight_decay"] = 3e-3
    for _ in range(2, 5):
        direct.run_epoch()
    assert same(tensors(search), tensors(direct))


def test_ada_with_the_real_rule_ends_at_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A curvature that always grows: restarts until the cap, then on to the end."""

    def growing(search: Search) -> dict[str, Any]:
        epoch = search.progress.epochs
        search.progress.history.append((epoch, 2.0**epoch))
        return {"eigenvalue": 2.0**epoch}

    monkeypatch.setattr(Search, "measure_curvature", growing)
    rule = EarlyStopping(window=1, start_epoch=1, delta=1, every=1)
    policy = Regularization(rule, AdaptiveRegularization(factor=10, cap=3e-2))
    search, listener = make(tmp_path, epochs=5, regularization=policy)
    outcome = search.run()
    assert outcome.restarts == 2
    assert [record["epoch"] for record in listener.records] == [0, 1, 2, 2, 2, 3, 4]
    assert listener.records[-1]["weight_decay"] == pytest.approx(3e-2)
    assert len(search.checkpoints.epochs()) <= 3


def test_the_auxiliary_factor_falls_with_the_epochs(tmp_path: Path) -> None:
    search, _ = make(tmp_path, epochs=4, steps_per_epoch=1, auxiliary=True)
    network, factors = search.supernet.network, []
    for _ in range(4):
        search.run_epoch()
        factors.append({network.normal.auxiliary_factor, network.reduce.auxiliary_factor})
    assert factors == [{1.0}, {0.75}, {0.5}, {0.25}]
