"""Metrics of a task's ``measure`` over a whole split, sufficient for a custom task."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from autodisp.tasks.base import Sums, means, pool


@dataclass(frozen=True, slots=True)
class PooledFigures:
    """Each metric, pooled over all batches, by name."""

    images: int
    pooled: Mapping[str, float]
    units: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Converts to plain data; NaN stays NaN."""
        return {"images": self.images, "pooled": dict(self.pooled)}

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """Yields a single row, see ``tables.Figures``."""
        values = {f"{name}_{self.units.get(name, 'percent')}": value for name, value in self.pooled.items()}
        yield {"region": "all", "images": self.images, **values}


class PooledMetrics:
    """Accumulates the sums of batches.

    Args:
        measure: the method of a task, called with predictions and batch.
        units: units of the metrics that are not in percent, such as ``px``.
    """

    def __init__(self, measure: Callable[[Any, Any], Sums], *, units: Mapping[str, str]) -> None:
        self._measure, self._units = measure, units
        self._sums: Sums = {}
        self._images = 0

    def update(self, prediction: Tensor, batch: Any) -> None:
        """Adds one batch."""
        pool(self._sums, self._measure(prediction, batch))
        self._images += len(prediction)

    def figures(self) -> PooledFigures:
        """Returns the metrics of all batches so far."""
        return PooledFigures(self._images, means(self._sums), self._units)
