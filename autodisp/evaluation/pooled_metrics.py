"""Metrics of a task's ``measure`` over a whole split, sufficient for a custom task."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor

from autodisp.tasks.base import Sums, means, pool


@dataclass(frozen=True, slots=True)
class PooledFigures:
    """Each metric, pooled over all batches, by name."""

    images: int
    pooled: Mapping[str, float]
    units: Mapping[str, str]
    regions: Mapping[str, Mapping[str, float]]
    """The metrics of further regions of the images, by the name of the region."""

    def as_dict(self) -> dict[str, Any]:
        """Converts to plain data; NaN stays NaN."""
        regions = {"regions": {name: dict(one) for name, one in self.regions.items()}} if self.regions else {}
        return {"images": self.images, "pooled": dict(self.pooled), **regions}

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """Yields a row for each region, see ``tables.Figures``."""
        for region, pooled in {"all": self.pooled, **self.regions}.items():
            values = {f"{name}_{self.units.get(name, 'percent')}": value for name, value in pooled.items()}
            yield {"region": region, "images": self.images, **values}


class PooledMetrics:
    """Accumulates the sums of batches.

    Args:
        measure: the method of a task, called with predictions and batch.
        units: units of the metrics that are not in percent, such as ``px``.
        regions: by name, functions that restrict the ground truth of a batch to a region of the images.
    """

    def __init__(
        self,
        measure: Callable[[Any, Any], Sums],
        *,
        units: Mapping[str, str],
        regions: Mapping[str, Callable[[Any], Any]] = MappingProxyType({}),
    ) -> None:
        self._measure, self._units, self._regions = measure, units, regions
        self._sums: Sums = {}
        self._regional: dict[str, Sums] = {name: {} for name in regions}
        self._images = 0

    def update(self, prediction: Tensor, batch: Any) -> None:
        """Adds one batch."""
        pool(self._sums, self._measure(prediction, batch))
        for name, restricted in self._regions.items():
            pool(self._regional[name], self._measure(prediction, restricted(batch)))
        self._images += len(prediction)

    def figures(self) -> PooledFigures:
        """Returns the metrics of all batches so far."""
        regions = {name: means(sums) for name, sums in self._regional.items()}
        return PooledFigures(self._images, means(self._sums), self._units, regions)
