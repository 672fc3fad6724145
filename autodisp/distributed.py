"""The processes of one run, started by torchrun: each computes on its share of every batch.

All processes make the same steps on the same numbers: gradients, losses and metrics are reduced before anything is
done with them, and random generators draw the same numbers everywhere. Reductions on the device use NCCL or gloo;
what the processes decide together (to stop, to save, that one has failed) is exchanged between the hosts by gloo.

Outside ``joined`` there is one process, the first, and every function returns what it was given.
"""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from autodisp import torchrun
from autodisp.errors import InputError, RunFault, first_line

Item = TypeVar("Item")


@dataclass
class _Processes:
    rank: int = 0
    world: int = 1
    lost: bool = False
    """A process has ended, so that nothing can be exchanged any more."""


_processes = _Processes()


def rank() -> int:
    """Returns the number of this process, from 0."""
    return _processes.rank


def world() -> int:
    """Returns the number of processes."""
    return _processes.world


def is_first() -> bool:
    """Returns True in the process that writes files and the console."""
    return _processes.rank == 0


@contextmanager
def joined() -> Iterator[None]:
    """Connects the processes that torchrun has started; does nothing for a single one, or inside another such block.

    Only the first process writes to standard output.

    Raises:
        RunFault: they cannot reach each other.
    """
    global _processes
    if torchrun.processes() == 1 or world() > 1:
        yield
        return
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    except (RuntimeError, ValueError) as error:
        raise RunFault(f"the {torchrun.processes()} processes cannot reach each other ({first_line(error)})") from error
    before, _processes = _processes, _Processes(distributed.get_rank(), distributed.get_world_size())
    try:
        with ExitStack() as held:
            if not is_first():
                nothing = held.enter_context(open(os.devnull, "w", encoding="utf-8"))
                held.enter_context(redirect_stdout(nothing))
            yield
    finally:
        _processes = before
        with suppress(RuntimeError):  # if a process is lost
            distributed.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Makes reductions inside the block return what they are given, for work that is not the same everywhere."""
    global _processes
    before, _processes = _processes, _Processes()
    try:
        yield
    finally:
        _processes = before


def total(values: Tensor) -> Tensor:
    """Returns the sum of a tensor over the processes."""
    if world() == 1:
        return values
    summed = values.detach().clone(memory_format=torch.contiguous_format)
    with _reaching_all():
        distributed.all_reduce(summed)
    return summed


def mean(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Returns the mean of each tensor over the processes, without a graph; one reduction per dtype."""
    if world() == 1:
        return list(tensors)
    means = list(tensors)
    for dtype in {tensor.dtype: None for tensor in tensors}:
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        flat = total(torch.cat([tensors[place].detach().reshape(-1) for place in places])) / world()
        for place, part in zip(places, flat.split([tensors[place].numel() for place in places]), strict=True):
            means[place] = part.view(tensors[place].shape)
    return means


def mean_(tensors: Iterable[Tensor]) -> None:
    """Replaces the values of tensors by their mean over the processes."""
    if world() > 1:
        changed = [tensor.detach() for tensor in tensors]
        for tensor, value in zip(changed, mean(changed), strict=True):
            tensor.copy_(value)


def any_of(flag: bool) -> bool:
    """Returns True if the flag is set in any process."""
    return bool(total(torch.tensor(int(flag)))) if world() > 1 else flag


def gather(item: Item) -> list[Item]:
    """Returns the item of every process, in their order; plain data and tensors of the CPU."""
    if world() == 1:
        return [item]
    items: list[Any] = [None] * world()
    with _reaching_all():
        distributed.all_gather_object(items, item)
    return items


def share(items: Iterable[Item]) -> Iterable[Item]:
    """Returns every n-th item, for n processes."""
    return items if world() == 1 else itertools.islice(items, rank(), None, world())


@contextmanager
def agreed() -> Iterator[None]:
    """Makes a failure of the block in one process a failure of all; nothing may be exchanged inside.

    Raises:
        InputError, RunFault: as in the first process that failed.
    """
    failure: InputError | RunFault | None = None
    try:
        yield
    except (InputError, RunFault) as error:
        failure = error
    if not any_of(failure is not None):
        return
    raise next(found for found in gather(failure) if found is not None)


def on_first(action: Callable[[], Item]) -> Item:
    """Returns the result of an action that only the first process takes, while the others wait for it.

    If a process is lost, the first one acts and nothing is exchanged.

    Raises:
        InputError, RunFault: in all processes, as in the first.
    """
    if world() == 1:
        return action()
    if _processes.lost:
        if is_first():
            return action()
        raise _loss()
    found: list[Any] = [None, None]
    if is_first():
        try:
            found[0] = action()
        except (InputError, RunFault) as error:
            found[1] = error
    with _reaching_all():
        distributed.broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    result: Item = found[0]
    return result


def require_same(what: str, *values: Tensor | str) -> None:
    """Refuses values that differ between the processes, bit by bit.

    Raises:
        RunFault: they differ.
    """
    if world() == 1:
        return
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.encode() if isinstance(value, str) else value.detach().cpu().numpy().tobytes())
    if len(set(gather(digest.hexdigest()))) > 1:
        raise RunFault(f"the {world()} processes have different {what}; the machines compute differently: take one")


@contextmanager
def _reaching_all() -> Iterator[None]:
    if _processes.lost:
        raise _loss()
    try:
        yield
    except RuntimeError as error:
        _processes.lost = True
        raise _loss() from error


def _loss() -> RunFault:
    return RunFault(f"one of the {world()} processes has ended; its own message, if any, is above")
