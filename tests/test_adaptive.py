import math

import pytest

from autodisp.errors import InputError
from autodisp.search.adaptive import AdaptiveRegularization, Restart
from autodisp.search.early_stopping import Decision

DECISION = Decision(decided_epoch=22, returned_epoch=10, earlier_average=0.2, newest_average=0.3)


@pytest.mark.parametrize(
    ("factor", "cap", "weight_decay", "raised"),
    [
        (10.0, 3e-2, 3e-4, 3e-3),
        (10.0, 3e-2, 3e-3, 3e-2),
        (10.0, 3e-2, 3e-2, None),
        (10.0, 3e-2, 3e-4 * 10 * 10, None),  # 0.030000000000000002 or so
        (10.0, 3e-2, 3e-2 * (1 - 1e-12), None),
        (10.0, 3e-2, 0.29, None),  # above it from the start
        (10.0, 3e-2, 5e-3, 3e-2),  # not a whole number of factors away
        (10.0, 3e-2, 2.9e-2, 3e-2),
        (3.0, 81e-4, 9e-4, 27e-4),
        (3.0, 81e-4, 27e-4, 81e-4),
        (3.0, 81e-4, 81e-4, None),
    ],
)
def test_raise(factor: float, cap: float, weight_decay: float, raised: float | None) -> None:
    restart = AdaptiveRegularization(factor=factor, cap=cap).next(DECISION, weight_decay)
    assert restart == (None if raised is None else Restart(10, pytest.approx(raised, rel=1e-12)))


@pytest.mark.parametrize("factor", [1.1, 2.0, math.sqrt(10), 10.0, 1e6])
def test_ladder_ends_exactly_at_the_cap(factor: float) -> None:
    policy = AdaptiveRegularization(factor=factor)
    ladder = [3e-4]
    while (restart := policy.next(DECISION, ladder[-1])) is not None:
        ladder.append(restart.weight_decay)
    assert ladder == sorted(set(ladder))
    assert ladder[-1] == 3e-2
    # A rung that rounding put just below the cap would make one more.
    assert len(ladder) == 1 + math.ceil(math.log(100, factor) - 1e-9)


@pytest.mark.parametrize("weight_decay", [0.0, -3e-4, math.nan, math.inf])
def test_weight_decay_that_cannot_be_raised(weight_decay: float) -> None:
    with pytest.raises(InputError, match=f"weight decay is {weight_decay}, must be finite and above 0"):
        AdaptiveRegularization().next(DECISION, weight_decay)


@pytest.mark.parametrize("factor", [1.0, 0.1, 0.0, -10.0, math.nan, math.inf])
def test_factor_out_of_range(factor: float) -> None:
    with pytest.raises(InputError, match=r"factor is .*, must be finite and above 1"):
        AdaptiveRegularization(factor=factor)


@pytest.mark.parametrize("cap", [0.0, -3e-2, math.nan, math.inf])
def test_cap_out_of_range(cap: float) -> None:
    with pytest.raises(InputError, match=r"cap is .*, must be finite and above 0"):
        AdaptiveRegularization(cap=cap)
