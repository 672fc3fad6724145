"""Learning rates and level weights by the step, against closed forms and torch's own schedulers."""

import math

import pytest
import torch

from autodisp.training.schedules import constant, cosine, levels_at, milestones, warmed_up


def rates(scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_cosine_is_torchs() -> None:
    expected = rates(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(), 20, eta_min=0.1), 21)
    factor = cosine(20, floor=0.1)
    assert [factor(step) for step in range(21)] == pytest.approx(expected)
    assert factor(1000) == pytest.approx(0.1)


def test_milestones_are_torchs() -> None:
    expected = rates(torch.optim.lr_scheduler.MultiStepLR(optimizer(), [3, 4, 9], gamma=0.5), 12)
    factor = milestones([3, 4, 9])
    assert [factor(step) for step in range(12)] == pytest.approx(expected)


def test_warm_up_is_linear_and_then_the_schedule() -> None:
    factor = warmed_up(constant(), 4)
    assert [factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    plain, warm = cosine(10), warmed_up(cosine(10), 3)
    assert all(warm(step) == plain(step) for step in range(3, 11))
    assert warmed_up(constant(), 0)(0) == 1


@pytest.mark.parametrize(("step", "expected"), [(0, (1, 0)), (9, (1, 0)), (10, (0.5, 1)), (19, (0.5, 1)), (20, (0, 1)),
                                                (10**9, (0, 1))])  # fmt: skip
def test_level_weights_count_from_their_step_on(step: int, expected: tuple[float, ...]) -> None:
    assert levels_at([(0, [1, 0]), (10, [0.5, 1]), (20, [0, 1])], step) == expected


def test_the_published_halvings() -> None:
    factor = milestones([300_000, 400_000, 500_000])
    at = [0, 299_999, 300_000, 400_000, 500_000, 599_999]
    assert [1e-4 * factor(step) for step in at] == pytest.approx([1e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 1.25e-5])
    assert math.isclose(factor(500_000), 1 / 8)
