"""Keeps the samples with the largest errors, so that they can be drawn."""

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from autodisp.evaluation.runner import Metrics

Figures = TypeVar("Figures")


@dataclass(frozen=True)
class Case:
    """A sample with its prediction, on the CPU, without a batch axis."""

    index: int
    """Index of the sample."""
    error: float
    """Error of the sample; infinite if it is not finite."""
    sample: Any
    """Sample of the dataset, a named tuple."""
    prediction: Tensor


class WithWorst(Generic[Figures]):
    """Metrics that also store the samples with the largest errors.

    Args:
        metrics: updated with every batch.
        errors: maps predictions and batch to (B,); NaN for samples without ground truth, which are skipped.
        count: number of samples to store.

    Raises:
        ValueError: count is negative.
    """

    def __init__(self, metrics: Metrics[Figures], errors: Callable[[Tensor, Any], Tensor], count: int) -> None:
        if count < 0:
            raise ValueError(f"count={count}: must be 0 or more")
        self.metrics = metrics
        self.errors = errors
        self.count = count
        self._seen = itertools.count()
        self._heap: list[tuple[float, int, Case]] = []

    def update(self, prediction: Tensor, batch: Any) -> None:
        """Adds one batch."""
        self.metrics.update(prediction, batch)
        if not self.count:
            return
        for place, error in enumerate(self.errors(prediction, batch).tolist()):
            index = next(self._seen)
            # Ties keep the earlier sample: the second entry decides, so that cases are never compared.
            entry = (error, -index)
            if math.isnan(error) or (len(self._heap) == self.count and entry <= self._heap[0][:2]):
                continue
            sample = type(batch)(*(field[place].cpu().clone() for field in batch))
            case = Case(index, error, sample, prediction[place].detach().cpu().clone())
            push = heapq.heappush if len(self._heap) < self.count else heapq.heapreplace
            push(self._heap, (*entry, case))

    def figures(self) -> Figures:
        """Returns the metrics of all batches so far."""
        return self.metrics.figures()

    def worst(self) -> list[Case]:
        """Returns the stored samples, worst first."""
        return [case for _, _, case in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
