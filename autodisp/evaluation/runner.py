"""Runs a predictor over batches and measures its errors, speed and peak memory."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from autodisp.devices import peak_memory, wait_for
from autodisp.tasks.base import move

Figures = TypeVar("Figures")
Figures_co = TypeVar("Figures_co", covariant=True)


class Metrics(Protocol[Figures_co]):
    """Accumulates metrics over batches."""

    def update(self, prediction: Tensor, batch: Any, /) -> None:
        """Adds one batch."""

    def figures(self) -> Figures_co:
        """Returns the metrics of all batches so far."""


@dataclass(frozen=True, slots=True)
class Evaluation(Generic[Figures]):
    """Metrics with the time and memory of the evaluation."""

    figures: Figures
    images: int
    seconds: float
    """Seconds in the predictor alone, excluding loading, transfer, metrics and warm-up."""
    peak_memory: int
    """Bytes."""
    memory_of: Literal["device", "process"]
    """Scope of the peak memory: tensors on the GPU since the start of this evaluation, including weights; or the whole
    process since its start, including program and data."""
    median_seconds: float = math.nan
    """Seconds an image, median over the batches, which other programs on the machine change less than the mean; NaN
    without an image."""

    @property
    def images_per_second(self) -> float:
        """Throughput; NaN without an image."""
        return self.images / self.seconds if self.images and self.seconds > 0 else float("nan")


def evaluate(
    predict: Callable[[Any], Tensor],
    batches: Iterable[Any],
    metrics: Metrics[Figures],
    *,
    device: torch.device | str = "cpu",
) -> Evaluation[Figures]:
    """Predicts every batch once and measures it.

    The first one is predicted once more beforehand, without timing, since the first call allocates memory and chooses
    algorithms.

    Args:
        predict: maps a batch on the device to the input of the metrics; called without gradients. A network must be on
            the device and in eval mode.
        batches: named tuples of tensors; the first axis of the first tensor counts images.
        metrics: updated with every batch.
        device: device to which the batches are moved.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    images, seconds, of_images = 0, 0.0, list[float]()
    for index, loaded in enumerate(batches):
        batch = move(loaded, device)
        with torch.inference_mode():
            if index == 0:
                predict(batch)
            wait_for(device)
            start = time.perf_counter()
            prediction = predict(batch)
            wait_for(device)
            passed = time.perf_counter() - start
        seconds += passed
        images += len(batch[0])
        of_images.append(passed / len(batch[0]))
        metrics.update(prediction, batch)
    peak, memory_of = peak_memory(device)
    return Evaluation(
        metrics.figures(), images, seconds, peak, memory_of, statistics.median(of_images) if of_images else math.nan
    )
