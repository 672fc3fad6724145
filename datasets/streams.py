"""Endless streams of batches for a run, read by persistent workers.

Batch k of a run only depends on the seed and on k: not on the number of workers, torch's random state or previous
reads. A run that stops or rolls back saves one integer and resumes from there.
"""

import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from autodisp import distributed
from autodisp.errors import InputError, RunFault, WrongSetting

Sample = TypeVar("Sample")
Sample_co = TypeVar("Sample_co", covariant=True)
Transform = Callable[[Sample, np.random.Generator], Sample]

_SHUFFLE, _AUGMENT = 0, 1


class MapDataset(Protocol[Sample_co]):
    """Source of a stream; the samples are named tuples."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int, /) -> Sample_co:
        """Returns the sample, always the same for the same index."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One use of one sample."""

    index: int
    """Index of the sample in its dataset."""
    epoch: int
    """Number of complete passes over the dataset before this use."""
    batch: int
    """Number of the batch in the run."""


@dataclass(frozen=True, slots=True)
class Scheduled(Generic[Sample]):
    """A transform that changes in the course of a run, independently of the process and time of its application."""

    at: Callable[[int], Transform[Sample]]
    """Maps the number of a batch to the transform of its samples."""


class EndlessBatches(Sampler[list[Draw]]):
    """Sampler of batches 0, 1, 2, ... of a run: each pass in a new order, its incomplete last batch dropped.

    Args:
        n: number of samples in the dataset.
        batch_size: samples per batch.
        seed: not negative; determines the order of each pass together with the number of the pass.

    Each process of a run takes its share of every batch, so that the samples of a batch do not depend on their number.

    Raises:
        InputError: batch_size is not positive or not a multiple of the number of processes, or there are fewer samples
            than one batch takes.
    """

    def __init__(self, n: int, batch_size: int, *, seed: int) -> None:
        _require_batch_size(batch_size)
        if batch_size % distributed.world():
            raise InputError(
                f"batch_size={batch_size}: is divided among {distributed.world()} processes: take a multiple of that"
            )
        if n < batch_size:
            raise InputError(
                f"batch_size={batch_size}: there are only {n} samples, which make no whole batch: "
                "lower the batch size or give more samples (dataset.limit, another split)"
            )
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.position = 0
        """The first batch of the next iteration."""
        self._share = slice(distributed.rank(), None, distributed.world())
        self._order: tuple[int, list[int]] = (-1, [])

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in one pass over the dataset."""
        return self.n // self.batch_size

    def batch(self, k: int) -> list[Draw]:
        """Returns this process's samples of batch k, counted from the beginning of the run."""
        epoch, slot = divmod(k, self.batches_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, _generator(self.seed, _SHUFFLE, epoch).permutation(self.n).tolist())
        start = slot * self.batch_size
        return [Draw(index, epoch, k) for index in self._order[1][start : start + self.batch_size][self._share]]

    def __iter__(self) -> Iterator[list[Draw]]:
        k = self.position
        while True:
            yield self.batch(k)
            k += 1


class Augmented(Generic[Sample]):
    """Applies a random transform that only depends on the seed, the pass, the index and the batch number.

    Args:
        dataset: the dataset that is read at the index of the draw.
        transform: takes the sample and a random generator, its only permitted source of randomness, or is scheduled
            to change from batch to batch; None returns the sample unchanged.
        seed: not negative.
    """

    def __init__(
        self, dataset: MapDataset[Sample], transform: Transform[Sample] | Scheduled[Sample] | None, *, seed: int
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample:
        """Returns the transformed sample of this draw."""
        sample = self.dataset[draw.index]
        if self.transform is None:
            return sample
        transform = self.transform.at(draw.batch) if isinstance(self.transform, Scheduled) else self.transform
        return transform(sample, _generator(self.seed, _AUGMENT, draw.epoch, draw.index))


class _Failure(NamedTuple):
    """Carries an InputError out of a worker; torch would add the worker's traceback to its message."""

    message: str
    kind: type[InputError] = InputError


class Stream(Generic[Sample]):
    """An endless, seekable sequence of batches.

    The workers start with the first batch and persist until `close`, also across `seek`.

    Args:
        dataset: at least `batch_size` samples, of equal size after the transform.
        batch_size: samples per batch.
        seed: not negative; streams over different splits need different seeds to be independent.
        transform: see `Augmented`.
        workers: number of prefetching processes; 0 reads within `next`.
        pinned: stores batches in page-locked memory, from which copies to a GPU are asynchronous; needs a CUDA device.

    Raises:
        InputError: see `EndlessBatches`.
    """

    def __init__(
        self,
        dataset: MapDataset[Sample],
        *,
        batch_size: int,
        seed: int,
        transform: Transform[Sample] | Scheduled[Sample] | None = None,
        workers: int = 0,
        pinned: bool = False,
    ) -> None:
        self._sampler = EndlessBatches(len(dataset), batch_size, seed=seed)
        self._reader = _BatchReader(Augmented(dataset, transform, seed=seed))
        self._workers = workers
        self._pinned = pinned
        self._loader: DataLoader[Sample | _Failure] | None = None
        self._batches: Iterator[Sample | _Failure] | None = None
        self._position = 0
        self.waited = 0.0
        """Seconds spent in `next` so far."""

    @property
    def position(self) -> int:
        """Number of batches consumed since the beginning of the run; save it and pass it to `seek` to resume."""
        return self._position

    def next(self) -> Sample:
        """Returns the batch at `position` and advances `position` by one.

        Raises:
            InputError: a sample cannot be read; the message is that of the reader, in any process.
            RunFault: a worker died. A later call starts new ones at the same position.
        """
        start = time.perf_counter()
        try:
            batch = next(self._restart() if self._batches is None else self._batches)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            self.close()
            raise RunFault(
                f"a worker that reads samples ahead died ({_last_words(error)}); if memory is short, take fewer "
                f"workers than run.workers={self._workers}, or smaller batches"
            ) from error
        self.waited += time.perf_counter() - start
        if isinstance(batch, _Failure):
            self._batches = None
            raise batch.kind(batch.message)
        self._position += 1
        return batch

    def at(self, position: int) -> Sample:
        """Reads the batch at a position in this process, without changing `position` or the prefetched batches.

        Raises:
            InputError: a sample cannot be read.
        """
        batch = self._reader[self._sampler.batch(position)]
        if isinstance(batch, _Failure):
            raise batch.kind(batch.message)
        return batch

    def seek(self, position: int) -> None:
        """Sets the position of `next`; prefetched batches of other positions are discarded.

        Raises:
            ValueError: position is negative.
        """
        if position < 0:
            raise ValueError(f"position={position} lies before the beginning of the run")
        if position != self._position:
            self._position = position
            self._batches = None

    def close(self) -> None:
        """Stops the workers. A later `next` starts new ones at the same position."""
        self._batches = None
        self._loader = None

    def _restart(self) -> Iterator[Sample | _Failure]:
        if self._loader is None:
            self._loader = DataLoader(
                cast("Dataset[Sample | _Failure]", self._reader),
                batch_size=None,
                sampler=self._sampler,
                num_workers=self._workers,
                pin_memory=self._pinned,
                collate_fn=_as_is,
                worker_init_fn=_start_worker,
                persistent_workers=self._workers > 0,
                # Without a separate generator the loader would draw from torch's global one.
                generator=torch.Generator(),
            )
        self._sampler.position = self._position
        before = signal.getsignal(signal.SIGCHLD)
        self._batches = iter(self._loader)
        if before is not None and threading.current_thread() is threading.main_thread():
            # torch's handler would raise an error for a dead worker in the middle of a step; without it `next` detects
            # the death.
            signal.signal(signal.SIGCHLD, before)
        return self._batches


def fixed_batches(dataset: MapDataset[Sample], batch_size: int) -> Iterable[Sample]:
    """Returns an iterable over every sample once, in order, which can be iterated repeatedly.

    The last batch may be smaller, and a batch ends if the next sample has another size, so that whole images of several
    sizes can be evaluated at any batch size.

    Raises:
        InputError: batch_size is not positive, or the dataset is empty.
    """
    _require_batch_size(batch_size)
    if len(dataset) == 0:
        raise InputError("there is no sample to validate on: give more data or another split")
    return _FixedBatches(dataset, batch_size)


class _FixedBatches(Generic[Sample]):
    def __init__(self, dataset: MapDataset[Sample], batch_size: int) -> None:
        self.dataset = dataset
        self.batch_size = batch_size

    def __length_hint__(self) -> int:
        """Returns the number of batches if all samples have the same size."""
        return math.ceil(len(self.dataset) / self.batch_size)

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self.dataset), self.batch_size):
            places = range(start, min(start + self.batch_size, len(self.dataset)))
            for _, alike in itertools.groupby((self.dataset[place] for place in places), key=_shapes):
                yield collate(list(alike))


def collate(samples: Sequence[Sample]) -> Sample:
    """Stacks named tuples of tensors and numbers into one named tuple of tensors with a leading batch axis.

    Raises:
        WrongSetting: the shapes of a tensor differ between samples.
    """
    for several in zip(*map(_shapes, samples), strict=True):
        if len(shapes := sorted(set(several))) > 1:
            first, second = ("x".join(map(str, shape)) for shape in shapes[:2])
            raise WrongSetting(
                f"samples of one batch are of different size, {first} and {second}: take dataset.crop=[HEIGHT,WIDTH], "
                "or a batch size of 1 (search.batch_size, training.batch_size)"
            )
    return cast(Sample, default_collate(list(samples)))


def _shapes(sample: object) -> list[tuple[int, ...]]:
    """Returns the shapes of the tensors in a named tuple."""
    return [tuple(value.shape) for value in cast("tuple[object, ...]", sample) if isinstance(value, Tensor)]


class _BatchReader(Generic[Sample]):
    def __init__(self, samples: Augmented[Sample]) -> None:
        self._samples = samples

    def __getitem__(self, draws: list[Draw]) -> Sample | _Failure:
        try:
            return collate([self._samples[draw] for draw in draws])
        except InputError as error:
            return _Failure(str(error), WrongSetting if isinstance(error, WrongSetting) else InputError)


def _as_is(batch: Sample) -> Sample:
    return batch


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    # When interrupted, the main process still needs its workers for the current step; they end with it. If the stream
    # was not closed, it ends them by SIGTERM, so they keep the default action.
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _last_words(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "DataLoader worker" in line]
    return lines[-1].strip().rstrip(".")


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _require_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be 1 or more")
