import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodisp.search.adaptive import AdaptiveRegularization
from autodisp.search.early_stopping import EarlyStopping
from autodisp.search.regularization import Regularization, RollBack, Stop

RISING = [(epoch, 1.5**epoch) for epoch in range(0, 26, 2)]


def test_without_policies_nothing_happens() -> None:
    policy = Regularization()
    assert policy.answer(RISING, last_epoch=49, weight_decay=3e-4) is None
    assert policy.returnable(RISING, 24, weight_decay=3e-4) == {24}


def test_early_stopping_alone_stops() -> None:
    policy = Regularization(EarlyStopping())
    answer = policy.answer(RISING, last_epoch=49, weight_decay=3e-4)
    assert isinstance(answer, Stop)
    assert (answer.decision.decided_epoch, answer.decision.returned_epoch) == (24, 12)
    assert policy.answer([(epoch, 1.0) for epoch, _ in RISING], last_epoch=49, weight_decay=3e-4) is None
    assert policy.returnable(RISING, 24, weight_decay=3e-4) == {24}


def test_adaptive_regularization_rolls_back_until_the_cap() -> None:
    policy = Regularization(EarlyStopping(), AdaptiveRegularization(factor=10, cap=3e-2))
    answer = policy.answer(RISING, last_epoch=49, weight_decay=3e-4)
    assert isinstance(answer, RollBack)
    assert answer.restart.epoch == answer.decision.returned_epoch == 12
    assert answer.restart.weight_decay == pytest.approx(3e-3)
    assert policy.answer(RISING, last_epoch=49, weight_decay=3e-2) is None
    assert policy.answer([], last_epoch=49, weight_decay=3e-4) is None


@pytest.mark.parametrize(
    ("epoch", "weight_decay", "expected"),
    [
        (40, 3e-2, {40}),  # at the cap nothing is ever returned to
        (40, 3e-3, set(range(28, 41, 2))),  # one restart, twelve epochs back
        (40, 3e-4, set(range(16, 41, 2))),  # a second one begins two epochs after the first returned
        (41, 3e-3, {41, *range(28, 41, 2)}),  # an epoch between measurements
        (20, 3e-4, set(range(10, 21, 2))),  # nothing before start_epoch
        (9, 3e-4, {9}),
    ],
)
def test_epochs_within_reach(epoch: int, weight_decay: float, expected: set[int]) -> None:
    policy = Regularization(EarlyStopping(), AdaptiveRegularization(factor=10, cap=3e-2))
    history = [(measured, 1.0) for measured in range(0, epoch + 1, 2)]
    assert policy.returnable(history, epoch, weight_decay=weight_decay) == expected


def test_an_unknown_eigenvalue_moves_the_reach_back() -> None:
    policy = Regularization(EarlyStopping(), AdaptiveRegularization(factor=10, cap=3e-2))
    history = [(epoch, math.nan if epoch in (26, 28) else 1.0) for epoch in range(0, 41, 2)]
    assert policy.returnable(history, 40, weight_decay=3e-3) == {24, *range(30, 41, 2)}


def eigenvalues(draw: random.Random) -> float:
    return draw.choice([draw.uniform(-1, 1), math.exp(draw.gauss(0, 2)), math.nan, math.inf, -math.inf, 0.0])


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**9),
    every=st.integers(1, 3),
    window=st.sampled_from([1, 3, 5]),
    delta=st.integers(1, 5),
    start=st.integers(0, 12),
    factor=st.sampled_from([1.5, 3.0, 10.0]),
)
def test_what_a_later_answer_asks_for_is_always_there(
    *, seed: int, every: int, window: int, delta: int, start: int, factor: float
) -> None:
    """Plays the search loop: measure, keep, answer, roll back; with random eigenvalues and gaps."""
    draw = random.Random(seed)
    rule = EarlyStopping(window=window, start_epoch=start, delta=delta, factor=1.1, every=every)
    policy = Regularization(rule, AdaptiveRegularization(factor=factor, cap=1.0))
    raises = math.ceil(math.log(1000, factor))
    unknown = draw.choice([0.0, 0.1, 0.5])
    epochs, weight_decay = 60, 1e-3
    epoch, history, kept, restarts = 0, [], set(), 0
    while epoch < epochs:
        measured = epoch % every == 0 or epoch == epochs - 1
        if measured:
            value = math.nan if draw.random() < unknown else eigenvalues(draw)
            if draw.random() > unknown / 2:
                history.append((epoch, value))
        kept.add(epoch)
        kept &= policy.returnable(history, epoch, weight_decay=weight_decay)
        assert epoch in kept
        if not unknown and all(value > -math.inf for _, value in history):
            assert len(kept) <= 2 + (window // 2 + delta + 1) * (raises - restarts)
        answer = policy.answer(history, last_epoch=epochs - 1, weight_decay=weight_decay) if measured else None
        if isinstance(answer, RollBack):
            assert answer.restart.epoch in kept
            epoch, weight_decay = answer.restart.epoch, answer.restart.weight_decay
            history = [pair for pair in history if pair[0] <= epoch]
            restarts += 1
        epoch += 1
    assert restarts <= raises


def test_the_number_of_kept_epochs_does_not_grow_with_the_run() -> None:
    policy = Regularization(EarlyStopping(), AdaptiveRegularization())
    sizes = set()
    for epoch in range(100, 2000, 100):
        history = [(measured, 1.0) for measured in range(0, epoch + 1, 2)]
        sizes.add(len(policy.returnable(history, epoch, weight_decay=3e-4)))
    assert len(sizes) == 1


def test_a_rule_that_returns_to_where_it_was_ends_too() -> None:
    rule = EarlyStopping(window=1, delta=1, every=1, start_epoch=0)
    policy = Regularization(rule, AdaptiveRegularization(factor=1.000001, cap=1e3))
    assert policy.returnable([(epoch, 1.0) for epoch in range(9)], 8, weight_decay=1e-5) == {7, 8}
