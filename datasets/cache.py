"""In-memory cache for samples that are slow to generate."""

from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from autodisp.datasets.streams import MapDataset

Sample = TypeVar("Sample", bound=NamedTuple)


class Cached(Generic[Sample]):
    """Computes each sample of a dataset once and caches it.

    Images with 8-bit values are stored as bytes, without loss; each process has its own cache.
    """

    def __init__(self, dataset: MapDataset[Sample]) -> None:
        self.dataset = dataset
        self._kept: dict[int, tuple[type, list[tuple[object, bool]]]] = {}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Returns the sample."""
        if index not in self._kept:
            sample = self.dataset[index]
            self._kept[index] = (type(sample), [_packed(entry) for entry in sample])
            return sample
        kind, entries = self._kept[index]
        restored: Sample = kind(*(_unpacked(entry, as_bytes) for entry, as_bytes in entries))
        return restored


def _packed(entry: object) -> tuple[object, bool]:
    if not isinstance(entry, Tensor):
        return entry, False
    if entry.dtype == torch.float32:
        rounded = (entry * 255).round()
        if bool((rounded >= 0).all() & (rounded <= 255).all()):
            packed = rounded.to(torch.uint8)
            if torch.equal((packed.to(torch.float32) / 255).view(torch.int32), entry.view(torch.int32)):
                return packed, True
    return entry.clone(), False


def _unpacked(entry: object, as_bytes: bool) -> object:
    if as_bytes and isinstance(entry, Tensor):
        return entry.to(torch.float32) / 255
    return entry.clone() if isinstance(entry, Tensor) else entry
