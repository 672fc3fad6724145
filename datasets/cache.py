"""Caches samples that are slow to generate, in memory or on disk."""

import io
import os
import zlib
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from autodisp.datasets.streams import MapDataset
from autodisp.errors import InputError

Sample = TypeVar("Sample", bound=NamedTuple)


class Cached(Generic[Sample]):
    """Computes each sample of a dataset once and caches it.

    Images with 8-bit values are stored as bytes, without loss; each process has its own cache.
    """

    def __init__(self, dataset: MapDataset[Sample]) -> None:
        self.dataset = dataset
        self._kept: dict[int, tuple[type, list[tuple[object, bool]]]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        if index not in self._kept:
            sample = self.dataset[index]
            self._kept[index] = (type(sample), [_packed(entry) for entry in sample])
            return sample
        kind, entries = self._kept[index]
        restored: Sample = kind(*(_unpacked(entry, as_bytes) for entry, as_bytes in entries))
        return restored


class Stored(Generic[Sample]):
    """Computes each sample of a dataset once and writes it into a folder, from which every later run reads it.

    Samples are restored bit for bit. Processes may share the folder: a file is complete or absent.

    Args:
        dataset: its samples are tuples of tensors.
        folder: for these samples alone; created with the first of them.
        kind: class of the samples.
    """

    def __init__(self, dataset: MapDataset[Sample], folder: Path, kind: type[Sample]) -> None:
        self.dataset = dataset
        self.folder = folder
        self.kind = kind

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        path = self.folder / f"{index:07d}.npy.z"
        if path.is_file():
            return self._read(path)
        sample = self.dataset[index]
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_bytes(_to_bytes(sample))
        temporary.replace(path)
        return sample

    def _read(self, path: Path) -> Sample:
        try:
            stream = io.BytesIO(zlib.decompress(path.read_bytes()))
            entries = [torch.from_numpy(np.load(stream, allow_pickle=False)) for _ in self.kind._fields]
        except (zlib.error, ValueError, EOFError):
            raise InputError(f"{path}: is damaged; delete it, and it is made again") from None
        restored: Sample = cast(Any, self.kind)(*(_unpacked(entry, entry.dtype == torch.uint8) for entry in entries))
        return restored


def _to_bytes(sample: NamedTuple) -> bytes:
    stream = io.BytesIO()
    for entry in sample:
        packed, _ = _packed(entry)
        assert isinstance(packed, Tensor)
        np.save(stream, packed.numpy())
    return zlib.compress(stream.getvalue(), 1)


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
