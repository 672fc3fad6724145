"""The runner with predictors that say how they were called; no test looks at how long anything took."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from autodisp.evaluation.runner import Evaluation, evaluate


class Batch(NamedTuple):
    image: Tensor
    label: Tensor


class Recorder:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Any]] = []

    def update(self, prediction: Tensor, batch: Any) -> None:
        self.seen.append((prediction, batch))

    def figures(self) -> int:
        return len(self.seen)


def batches(*sizes: int) -> list[Batch]:
    return [Batch(torch.full((size, 3, 2, 2), float(k)), torch.arange(size)) for k, size in enumerate(sizes)]


def test_every_batch_is_predicted_once_beside_the_warm_up() -> None:
    calls: list[float] = []

    def predict(batch: Batch) -> Tensor:
        calls.append(batch.image[0, 0, 0, 0].item())
        return batch.image * 10

    recorder = Recorder()
    evaluation = evaluate(predict, batches(4, 4, 2), recorder)
    assert calls == [0.0, 0.0, 1.0, 2.0]
    assert [prediction.max().item() for prediction, _ in recorder.seen] == [0.0, 10.0, 20.0]
    assert [batch.image.max().item() for _, batch in recorder.seen] == [0.0, 1.0, 2.0]
    assert (evaluation.figures, evaluation.images) == (3, 10)
    assert evaluation.images_per_second == evaluation.images / evaluation.seconds
    assert evaluation.memory_of == "process"


def test_no_gradient_is_recorded() -> None:
    network = nn.Conv2d(3, 1, 1)
    recorder = Recorder()
    evaluate(lambda batch: network(batch.image), batches(2), recorder)
    assert not recorder.seen[0][0].requires_grad


def test_the_warm_up_and_reading_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def predict(batch: Batch) -> Tensor:
        nonlocal now
        now += 1.0
        return batch.image

    def read() -> Any:
        nonlocal now
        for batch in batches(4, 4):
            now += 100.0
            yield batch

    monkeypatch.setattr("time.perf_counter", lambda: now)
    evaluation = evaluate(predict, read(), Recorder())
    assert evaluation.seconds == 2.0
    assert evaluation.images_per_second == 4.0


def test_a_slow_batch_does_not_change_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.0, 1.0, 31.0, 31.0, 33.0])  # batches of 1, 30, and 2 seconds
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    evaluation = evaluate(lambda batch: batch.image, batches(2, 2, 2), Recorder())
    assert (evaluation.seconds, evaluation.median_seconds) == (33.0, 1.0)


def test_the_memory_is_that_of_the_process() -> None:
    """It holds at least what a predictor allocates, and is in bytes."""
    held = []

    def predict(batch: Batch) -> Tensor:
        held.append(torch.ones(1 << 24))
        return batch.image

    peak = evaluate(predict, batches(1), Recorder()).peak_memory
    assert (1 << 26) < peak < (1 << 40)


def test_no_batch_gives_nan() -> None:
    evaluation = evaluate(lambda batch: batch.image, [], Recorder())
    assert (evaluation.figures, evaluation.images) == (0, 0)
    assert math.isnan(evaluation.images_per_second)
    assert math.isnan(evaluation.median_seconds)
    assert math.isnan(Evaluation(0, 3, 0.0, 1, "process").images_per_second)
