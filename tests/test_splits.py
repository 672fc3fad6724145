"""Halves and subsets against exhaustive search."""

import itertools
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodisp.datasets.splits import deal, halves, subset
from autodisp.errors import InputError


@given(st.integers(2, 200), st.integers(0, 2**32), st.floats(0.01, 0.99))
def test_counts_are_divided(n: int, seed: int, fraction: float) -> None:
    weights, architecture = halves(n, seed=seed, fraction=fraction)
    assert sorted(weights + architecture) == list(range(n))
    assert weights == sorted(weights)
    assert architecture == sorted(architecture)
    assert weights
    assert architecture
    if 1 <= fraction * n <= n - 1:
        assert abs(len(weights) - fraction * n) <= 0.5 + 1e-9


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=9),
    st.integers(0, 99),
    st.sampled_from([0.1, 0.5, 0.7]),
    st.randoms(),
)
def test_groups_stay_whole_and_as_near_as_can_be(sizes: list[int], seed: int, fraction: float, random: Random) -> None:
    groups = [f"scene {i}" for i, size in enumerate(sizes) for _ in range(size)]
    random.shuffle(groups)
    weights, architecture = halves(groups, seed=seed, fraction=fraction)
    assert sorted(weights + architecture) == list(range(len(groups)))
    assert weights
    assert architecture
    assert not {groups[i] for i in weights} & {groups[i] for i in architecture}
    target = fraction * len(groups)
    choices = (c for r in range(1, len(sizes)) for c in itertools.combinations(sizes, r))
    assert abs(len(weights) - target) == pytest.approx(min(abs(sum(choice) - target) for choice in choices))


def test_the_seed_decides() -> None:
    groups = [f"{i // 10:04d}" for i in range(300)]
    for what in (groups, 300):
        assert halves(what, seed=3) == halves(what, seed=3)
        assert halves(what, seed=3) != halves(what, seed=4)
    assert halves([f"{i}" for i in range(30)], seed=3) != halves([f"{i}" for i in range(30)], seed=4)


def test_the_division_of_scenes_ignores_the_order_of_the_files() -> None:
    groups = [f"scene {i % 7}" for i in range(50)]
    order = np.random.default_rng(0).permutation(50)
    chosen = {groups[i] for i in halves(groups, seed=5)[0]}
    assert {groups[order[i]] for i in halves([groups[i] for i in order], seed=5)[0]} == chosen


def test_this_division_holds_on_every_platform() -> None:
    assert halves(10, seed=0) == ([2, 3, 4, 6, 7], [0, 1, 5, 8, 9])
    assert halves(list("aabbbccdde"), seed=0)[0] == [5, 6, 7, 8, 9]


def test_every_sample_is_equally_likely() -> None:
    counts = Counter(i for seed in range(2000) for i in halves(6, seed=seed)[0])
    # Binomial(2000, 1/2): a standard deviation of 22.
    assert all(abs(counts[i] - 1000) < 110 for i in range(6))


def test_the_size_of_flyingthings3d() -> None:
    groups = [f"TRAIN/A/{scene:04d}" for scene in range(2239) for _ in range(10 - scene % 3 // 2)]
    weights, architecture = halves(groups, seed=1)
    assert abs(len(weights) - len(architecture)) <= 1


@pytest.mark.parametrize("what", [0, 1, [], ["a"], ["a"] * 9])
def test_nothing_to_divide(what: int | list[str]) -> None:
    with pytest.raises(InputError, match=r"two or more.*limit"):
        halves(what, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_wrong_fractions(fraction: float) -> None:
    with pytest.raises(InputError, match="fraction"):
        halves(10, seed=0, fraction=fraction)


def test_subset() -> None:
    assert subset(5, limit=None, seed=0) == subset(5, limit=5, seed=0) == subset(5, limit=9, seed=1) == [0, 1, 2, 3, 4]
    taken = [subset(40, limit=k, seed=7) for k in range(1, 41)]
    for smaller, larger in itertools.pairwise(taken):
        assert set(smaller) < set(larger)
        assert larger == sorted(larger)
        assert len(larger) == len(set(larger)) == len(smaller) + 1
    assert subset(40, limit=10, seed=7) != subset(40, limit=10, seed=8)
    for limit in (0, -3):
        with pytest.raises(InputError, match=f"limit={limit}"):
            subset(5, limit=limit, seed=0)


@given(n=st.integers(4, 40), limit=st.integers(4, 40) | st.none(), seed=st.integers(0, 5))
def test_a_search_takes_some_and_deals_them(n: int, limit: int | None, seed: int) -> None:
    weights, architecture = deal(n, limit=limit, seed=seed)
    assert sorted(weights + architecture) == subset(n, limit=limit, seed=seed)
    groups = [str(index // 2) for index in range(n)]
    sides = [{groups[index] for index in half} for half in deal(groups, limit=limit, seed=seed)]
    assert not sides[0] & sides[1]
