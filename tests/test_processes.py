"""Work in processes that may die: everything is done once, and what is lost is named."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from autodisp.datasets.processes import Lost, apply_to_all, cores


def square(number: int) -> int:
    return number * number


def dies(number: int) -> int:
    if number in (3, 7):
        os.kill(os.getpid(), signal.SIGKILL if number == 3 else signal.SIGTERM)
    return number


def leaves(number: int) -> int:
    if number == 2:
        os._exit(5)
    return number


def hangs(number: int) -> int:
    if number == 1:
        time.sleep(60)
    return number


@pytest.mark.parametrize(("n", "workers"), [(0, 2), (1, 4), (10, 1), (37, 3)])
def test_everything_is_done_once(n: int, workers: int) -> None:
    done = list(apply_to_all(square, n, workers=workers, timeout=1e20))
    assert sorted(done) == [(number, number * number) for number in range(n)]


@pytest.mark.parametrize(
    ("work", "lost"),
    [
        (dies, {3: "was killed, as happens when memory runs out", 7: f"was ended by signal {signal.SIGTERM.value}"}),
        (leaves, {2: "left with exit code 5"}),
    ],
)
def test_a_death_costs_one_number(work: Callable[[int], int], lost: dict[int, str]) -> None:
    done = dict(apply_to_all(work, 10, workers=2))
    assert set(done) == set(range(10))
    for number, result in done.items():
        if number in lost:
            assert isinstance(result, Lost)
            assert lost[number] in result.reason
        else:
            assert result == number


def test_what_hangs_is_given_up() -> None:
    done = dict(apply_to_all(hangs, 4, workers=2, timeout=0.3))
    assert done == {0: 0, 1: Lost("took more than 0.3 s and was given up"), 2: 2, 3: 3}


def test_no_process_outlives_its_user() -> None:
    walk = apply_to_all(pid, 100, workers=2)
    _, first = next(walk)
    walk.close()
    assert not isinstance(first, Lost)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def pid(number: int) -> int:
    del number
    return os.getpid()


def test_there_is_a_core() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
