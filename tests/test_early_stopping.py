import json
import math
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from autodisp.errors import InputError
from autodisp.search.early_stopping import Decision, EarlyStopping, Rule

NAN, INF = math.nan, math.inf
EPOCHS = [*range(0, 50, 2), 49]

# The authors' own logs, at full length (Apache-2.0, automl/RobustDARTS, experiments/search_logs).
S1_L2_3 = [
    0.17884429, 0.14816719, 0.17029721, 0.14641329, 0.12114006, 0.24883331, 0.2311301, 0.35953535, 0.22455981,
    0.38594992, 0.20847165, 0.42975742, 0.50825623, 0.22868667, 0.40984405, 0.5024001, 0.49973386, 0.24995126,
    0.45738408, 0.51676617, 0.64377027, 0.45915776, 0.70712321, 1.31919609, 0.52715461, 0.52116776,
]  # fmt: skip
S1_L2_27 = [
    0.14367768, 0.10324315, 0.13971532, 0.13629718, 0.11720543, 0.2383753, 0.18976674, 0.1707677, 0.15365895,
    0.1490424, 0.12139428, 0.19411936, 0.18771586, 0.08451119, 0.19892795, 0.22164278, 0.15386924, 0.12242373,
    0.16401019, 0.32078843, 0.26128823, 0.28102122, 0.44051435, 0.61399938, 0.50539019, 0.43913202,
]  # fmt: skip
S1_L2_243 = [
    0.10132989, 0.10806832, 0.09856408, 0.24488702, 0.14338072, 0.12036426, 0.14732498, 0.25859075, 0.23948734,
    0.17306925, 0.23249568, 0.17641094, 0.13534442, 0.26093152, 0.19625368, 0.27181091, 0.17989544, 0.15491705,
    0.23272034, 0.18666509, 0.24603292, 0.17832766, 0.137053, 0.20630184, 0.09557907, 0.17120465,
]  # fmt: skip
S3_SVHN_L2_9 = [
    0.25663694, 0.09937866, 0.10222674, 0.14234715, 0.0833107, 0.07624061, 0.06462778, 0.16264219, 0.12393619,
    0.16181774, 0.06533886, 0.16690453, 0.09201512, 0.07551553, 0.16158593, 0.1170016, 0.13257835, 0.20878674,
    0.07952263, 0.11044461, 0.09625174, 0.1768892, 0.16672681, 0.11186359, 0.28789558, 0.16935326,
]  # fmt: skip


def first_decision(
    rule: EarlyStopping, history: Sequence[tuple[int, float]], last_epoch: int = 49
) -> tuple[int, int] | None:
    """Feeds the history pair by pair, as a run does."""
    for known in range(len(history) + 1):
        decision = rule.decide(history[:known], last_epoch)
        if decision is not None:
            return decision.decided_epoch, decision.returned_epoch
    return None


def step(low: int, high: int, *, every: int = 2, start: int = 0, value: float = 4.0) -> list[tuple[int, float]]:
    """``low`` measurements of 1, then ``high`` measurements of ``value``."""
    return list(zip(count(start, every), [1.0] * low + [value] * high, strict=False))


@pytest.mark.parametrize(
    ("eigenvalues", "expected"),
    [(S1_L2_3, (22, 10)), (S1_L2_27, (42, 30)), (S1_L2_243, None), (S3_SVHN_L2_9, (48, 36))],
)
def test_published_traces(eigenvalues: list[float], expected: tuple[int, int] | None) -> None:
    assert first_decision(EarlyStopping(), list(zip(EPOCHS, eigenvalues, strict=True))) == expected


def test_all_shared_traces(genuine: Callable[[str], Path]) -> None:
    traces = json.loads(genuine("curvature_traces.json").read_text())["traces"]
    assert len(traces) == 12
    for trace in traces:
        expected = None if trace["decided"] is None else (trace["decided"], trace["returned"])
        history = list(zip(trace["epochs"], trace["eigenvalues"], strict=True))
        assert first_decision(EarlyStopping(), history) == expected, trace["run"]


@pytest.mark.parametrize(
    ("settings", "history", "expected"),
    [
        ({}, [], None),
        ({}, [(0, 1.0)], None),
        ({}, step(25, 0), None),
        # The averages that end at 22 and 14 are the first that may be compared: 22 - 2*2 - 2*4 = 10.
        ({}, step(8, 20), (22, 10)),
        ({}, step(2, 20), None),
        ({}, step(14, 20, value=1.2), None),
        # One of five at 2.5 makes the mean 1.3, which is not above 1.3; at 2.6 it is.
        ({}, step(14, 1, value=2.5), None),
        ({}, step(14, 1, value=2.6), (28, 16)),
        ({"factor": 1.2}, step(14, 1, value=2.1), (28, 16)),
        ({"start_epoch": 0}, step(3, 20), (12, 0)),
        ({"start_epoch": 11}, step(11, 20), (24, 12)),
        ({"start_epoch": 16}, step(14, 5, value=2.6), (28, 16)),
        ({"start_epoch": 17}, step(14, 1, value=2.6), None),
        ({"every": 1}, step(9, 20, every=1), None),
        ({"every": 1}, step(16, 20, every=1), (16, 10)),
        ({"every": 3}, step(10, 20, every=3), (30, 12)),
        ({"every": 3}, step(9, 1, every=3), None),
        ({"window": 1}, step(14, 1), (28, 20)),
        ({"window": 3}, step(14, 1), (28, 18)),
        ({"window": 7}, step(14, 1), (28, 14)),
        ({"delta": 1}, step(14, 1), (28, 22)),
        ({"delta": 6}, step(14, 1), (28, 12)),
        # Five measurements apart, 1 / mean < 0.75: the mean of five with one at 2.6 is 1.32, with one at 2.7 1.34.
        ({"rule": "paper"}, step(14, 1, value=2.6), None),
        ({"rule": "paper"}, step(14, 1, value=2.7), (28, 14)),
        # The first average needs three values, 24 to 28; four places later is 36, and the return is to 24.
        ({}, step(3, 10, start=24), (36, 24)),
        ({}, step(3, 3, start=24), None),
        ({}, step(12, 12, value=NAN), None),
    ],
)
def test_settings(settings: dict[str, Any], history: list[tuple[int, float]], expected: tuple[int, int] | None) -> None:
    assert first_decision(EarlyStopping(**settings), history) == expected


def test_paper_rule_at_its_threshold() -> None:
    # 3 / 4 is 0.75, and not below it.
    at = [(epoch, 3.0 if epoch < 20 else 4.0) for epoch in range(0, 22, 2)]
    assert first_decision(EarlyStopping(rule="paper", window=1, start_epoch=0), at) is None
    below = [(epoch, value * 1.001 if epoch == 20 else value) for epoch, value in at]
    assert first_decision(EarlyStopping(rule="paper", window=1, start_epoch=0), below) == (20, 10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # window 1, delta 2, start 0: each value against the one two places before.
        ([1, 1, NAN, 1], None),
        ([1, 1, NAN, 2], (6, 2)),  # NaN in between
        ([NAN, 1, 2, 1], None),  # nothing to compare with
        ([1, 1, -INF], None),  # as unknown as NaN
        ([1, 1, INF], (4, 0)),
        ([INF, 1, INF], None),  # not finite before either
        ([INF, 1, 1], None),
        ([0, 1, 5], None),  # no scale
        ([0, 1, INF], (4, 0)),
        ([-1, -1, -2], None),  # falls, though -2 / -1 is 2
        ([-1, -1, 5], None),
        ([1, 1, -5], None),
        ([1e-300, 1, 1e300], (4, 0)),  # the quotient overflows
    ],
)
@pytest.mark.parametrize("rule", ["ratio", "paper"])
def test_values_that_are_not_positive_numbers(
    values: list[float], expected: tuple[int, int] | None, rule: Rule
) -> None:
    policy = EarlyStopping(window=1, delta=2, start_epoch=0, rule=rule)
    assert first_decision(policy, list(zip(count(0, 2), values, strict=False))) == expected


def test_nan_is_left_out_of_the_averages_around_it() -> None:
    history = step(14, 1, value=2.6)
    history[11] = (22, NAN)
    # The mean of the four that are left: (3 + 2.6) / 4 = 1.4.
    assert EarlyStopping().local_average(history)[-1] == (24, pytest.approx(1.4))
    assert first_decision(EarlyStopping(), history) == (28, 16)
    history[12:14] = [(24, NAN), (26, NAN)]
    # Two of five is no average.
    assert first_decision(EarlyStopping(), history) is None


def test_a_gap_counts_like_nan() -> None:
    history = step(14, 3, value=1.9)
    for missing in range(len(history)):
        gap = [pair for place, pair in enumerate(history) if place != missing]
        unknown = [(epoch, NAN if place == missing else value) for place, (epoch, value) in enumerate(history)]
        assert first_decision(EarlyStopping(), gap) == first_decision(EarlyStopping(), unknown)


def test_returned_epoch_was_measured() -> None:
    history = step(14, 1)
    without = [pair for pair in history if pair[0] != 16]
    assert first_decision(EarlyStopping(), without) == (28, 14)
    assert first_decision(EarlyStopping(start_epoch=16), without) is None


def test_last_epoch_is_not_judged() -> None:
    history = step(14, 1)
    assert EarlyStopping().decide(history, last_epoch=49) is not None
    assert EarlyStopping().decide(history, last_epoch=28) is None
    assert EarlyStopping().decide(history, last_epoch=27) is None


def test_a_measurement_between_the_places_is_passed_over() -> None:
    # A run of 50 epochs measured its last one, then was prolonged.
    regular = step(26, 3)
    prolonged = sorted([*regular, (49, 100.0)])
    assert first_decision(EarlyStopping(), prolonged, last_epoch=99) == first_decision(
        EarlyStopping(), regular, last_epoch=99
    )


def test_roll_back_hands_over_a_prefix() -> None:
    policy = EarlyStopping()
    history = list(zip(EPOCHS, S1_L2_3, strict=True))
    decision = policy.decide(history[:12], 49)
    assert decision is not None
    restored = [pair for pair in history if pair[0] <= decision.returned_epoch]
    assert restored == history[:6]
    # The restored history judges as it did then, and the same rise is found again.
    assert policy.decide(restored, 49) is None
    assert first_decision(policy, restored + history[6:]) == (22, 10)
    # A calmer continuation is not haunted by what was rolled back.
    assert first_decision(policy, restored + [(epoch, 0.2) for epoch in range(12, 49, 2)]) is None


def test_history_kept_across_a_roll_back_is_refused() -> None:
    kept = list(zip(EPOCHS[:12], S1_L2_3[:12], strict=True))
    with pytest.raises(ValueError, match="from epoch 22 to epoch 12, must ascend"):
        EarlyStopping().decide([*kept, (12, 0.2)], 49)
    with pytest.raises(ValueError, match="must ascend"):
        EarlyStopping().local_average([(0, 1.0), (0, 1.0)])


def test_decision_carries_the_averages() -> None:
    decision = EarlyStopping().decide(list(zip(EPOCHS, S1_L2_3, strict=True))[:12], 49)
    assert decision is not None
    # Means over epochs 6..14 and 14..22, by hand.
    assert decision.earlier_average == pytest.approx(sum(S1_L2_3[3:8]) / 5)
    assert decision.newest_average == pytest.approx(sum(S1_L2_3[7:12]) / 5)
    assert decision.ratio == pytest.approx(1.452754, abs=1e-6)
    assert Decision(4, 0, 0.0, INF).ratio == INF


def test_local_average() -> None:
    values = [1.0, 2.0, 6.0, 3.0, 8.0, 10.0, 3.0]
    # Means of the first 3, the first 4, then sliding fives, each at the epoch two measurements before its end.
    expected = [(0, 3.0), (2, 3.0), (4, 4.0), (6, 5.8), (8, 6.0)]
    assert EarlyStopping().local_average(list(zip(count(0, 2), values, strict=False))) == [
        (epoch, pytest.approx(average)) for epoch, average in expected
    ]
    assert EarlyStopping().local_average([]) == []
    assert EarlyStopping(window=1).local_average([(0, 1.0), (2, NAN), (4, 5.0)]) == [(0, 1.0), (4, 5.0)]


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("start_epoch", [0, 1, 10, 11])
@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("rule", ["ratio", "paper"])
def test_earliest_decision(every: int, start_epoch: int, window: int, rule: Rule) -> None:
    policy = EarlyStopping(every=every, start_epoch=start_epoch, window=window, rule=rule)
    soaring = [(place * every, 10.0**place) for place in range(30)]
    decided = first_decision(policy, soaring, last_epoch=10_000)
    assert decided is not None
    assert decided[0] == policy.earliest_decision


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window is 0, must be odd"),
        ({"window": 4}, "window is 4, must be odd"),
        ({"window": -5}, "window is -5, must be odd"),
        ({"start_epoch": -1}, "start_epoch is -1, must be 0 or more"),
        ({"delta": 0}, "delta is 0, must be 1 or more: use 4"),
        ({"delta": 0, "rule": "paper"}, "use 5"),
        ({"factor": 1.0}, "factor is 1.0, must be a finite growth above 1: use 1.3"),
        ({"factor": 0.75, "rule": "paper"}, "factor is 0.75, must be a finite growth above 1: use 1.333"),
        ({"factor": NAN}, "factor is nan"),
        ({"factor": INF}, "factor is inf"),
        ({"every": 0}, "every is 0, must be 1 epoch or more"),
        ({"rule": "patience"}, "rule is 'patience', must be one of ratio, paper"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EarlyStopping(**settings)
