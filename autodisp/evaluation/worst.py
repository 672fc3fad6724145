"""Keeps the samples that a disparity was worst on, so that they can be looked at."""

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from autodisp.datasets.samples import StereoSample
from autodisp.evaluation.runner import Metrics

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Case:
    """A sample and what became of it, on the CPU."""

    index: int
    """Its place among the samples."""
    epe: float
    """Pixels, over the pixels whose truth is known; infinite where one of them has no finite prediction."""
    left: Tensor
    """(3, H, W), RGB in 0..1."""
    truth: Tensor
    """(1, H, W), pixels; likewise the two below."""
    valid: Tensor
    prediction: Tensor


class WithWorst(Generic[Figures]):
    """Metrics that keep the samples with the largest EPE besides.

    Args:
        metrics: take every batch, and give the figures.
        count: of samples that are kept. Those without a known truth are passed over.

    Raises:
        ValueError: count is negative.
    """

    def __init__(self, metrics: Metrics[Figures], count: int) -> None:
        if count < 0:
            raise ValueError(f"count={count}: must be 0 or more")
        self.metrics = metrics
        self.count = count
        self._seen = itertools.count()
        self._heap: list[tuple[float, int, Case]] = []

    def update(self, prediction: Tensor, batch: StereoSample) -> None:
        """Adds one batch."""
        self.metrics.update(prediction, batch)
        if not self.count:
            return
        for place in range(len(prediction)):
            index = next(self._seen)
            valid = batch.valid[place]
            error = (prediction[place].detach() - batch.disparity[place]).abs()[valid].double()
            if not error.numel():
                continue
            epe = float(error.mean())
            epe = epe if math.isfinite(epe) else math.inf
            # Of equal ones the earlier stays: the second entry tells them apart, and no case is compared.
            if len(self._heap) < self.count or (epe, -index) > self._heap[0][:2]:
                parts = (batch.left[place], batch.disparity[place], valid, prediction[place].detach())
                case = Case(index, epe, *(part.cpu().clone() for part in parts))
                push = heapq.heappush if len(self._heap) < self.count else heapq.heapreplace
                push(self._heap, (epe, -index, case))

    def figures(self) -> Figures:
        """The figures of all batches so far."""
        return self.metrics.figures()

    def worst(self) -> list[Case]:
        """The worst first."""
        return [case for _, _, case in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
