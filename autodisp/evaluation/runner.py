"""Runs a predictor over batches and measures its errors, speed and memory."""

import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from autodisp.tasks.base import move

Figures = TypeVar("Figures")
Figures_co = TypeVar("Figures_co", covariant=True)


class Metrics(Protocol[Figures_co]):
    """Accumulates metrics over batches."""

    def update(self, prediction: Tensor, batch: Any, /) -> None:
        """Adds one batch."""
        ...

    def figures(self) -> Figures_co:
        """Metrics of all batches so far."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation(Generic[Figures]):
    """Metrics and their cost."""

    figures: Figures
    images: int
    seconds: float
    """In the predictor alone: without reading, moving and measuring, and without the warm-up."""
    peak_memory: int
    """Bytes."""
    memory_of: Literal["device", "process"]
    """Scope of the memory: the tensors on the GPU since the beginning of this evaluation, weights included; or the
    whole process since its start, with the program and the data."""

    @property
    def images_per_second(self) -> float:
        """NaN without an image."""
        return self.images / self.seconds if self.images and self.seconds > 0 else float("nan")


def evaluate(
    predict: Callable[[Any], Tensor],
    batches: Iterable[Any],
    metrics: Metrics[Figures],
    *,
    device: torch.device | str = "cpu",
    warm_up: int = 1,
) -> Evaluation[Figures]:
    """Predicts every batch once and measures it.

    Args:
        predict: from a batch on the device to what the metrics take; is called without gradients. A network must be on
            the device and in eval mode.
        batches: named tuples of tensors, the first one with an axis of images.
        metrics: are updated.
        device: where the predictor wants the batches.
        warm_up: how often the first batch is predicted beforehand, for nothing: the first calls allocate memory and
            choose algorithms. All batches are timed.

    Raises:
        ValueError: warm_up is negative.
    """
    if warm_up < 0:
        raise ValueError(f"warm_up={warm_up}: must be 0 or more")
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    images, seconds = 0, 0.0
    for index, loaded in enumerate(batches):
        batch = move(loaded, device)
        with torch.inference_mode():
            for _ in range(0 if index else warm_up):
                predict(batch)
            _wait_for(device)
            start = time.perf_counter()
            prediction = predict(batch)
            _wait_for(device)
            seconds += time.perf_counter() - start
        images += len(batch[0])
        metrics.update(prediction, batch)
    peak, memory_of = _peak_memory(device)
    return Evaluation(metrics.figures(), images, seconds, peak, memory_of)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> tuple[int, Literal["device", "process"]]:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "device"
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, the others in KiB.
    return (largest if sys.platform == "darwin" else 1024 * largest), "process"
