"""The contract between the engine and a task."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from autodisp import distributed
from autodisp.cells.cell import CellFactory

Sums = dict[str, Tensor]
"""For each metric a tensor (2,): the sum and the number of its terms, so that batches pool exactly.

A metric that is the mean of several ratios, such as one per class, has a tensor (2, K).
"""


@dataclass(frozen=True)
class Figure:
    """The metric by which a task selects its best model."""

    name: str
    direction: Literal["min", "max"]
    unit: str = ""

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise ValueError(f"direction is {self.direction!r}, must be 'min' or 'max'")

    def better(self, value: float, than: float) -> bool:
        """Returns True if ``value`` is better than ``than``; NaN is worse than any number."""
        if value != value or than != than:
            return value == value
        return value < than if self.direction == "min" else value > than


class Task(Protocol):
    """A task over batches of its own type.

    A further task is one more class with these members; the engine needs no change.
    """

    name: str
    kinds: ClassVar[tuple[str, ...]]
    """Kinds of cell in its network."""
    figure: Figure

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments that rebuild the same network, as plain data."""

    def build_network(self, cells: CellFactory) -> nn.Module:
        """Builds the network; called as ``network(*inputs(batch), weights)`` with edge weights or None.

        Its output is a tensor, or a named tuple that begins with one: the prediction.
        """

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """Returns (height, width) of the smallest feature map in a training step on images of the given size."""

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Extracts the network's inputs from a batch."""

    def loss(self, output: Any, batch: Any) -> Tensor:
        """Computes the scalar loss; zero, with zero gradient, if no sample of the batch has ground truth.

        A mean over the valid pixels is computed by ``mean_over``.
        """

    def measure(self, output: Any, batch: Any) -> Sums:
        """Sums the metrics over one batch, without gradient."""

    def constant(self, batches: Iterable[Any]) -> float:
        """Returns the task's metric for the best constant prediction, a baseline for any network."""


class LevelledTask(Task, Protocol):
    """A task whose loss is a sum over levels of resolution."""

    def loss(self, output: Any, batch: Any, level_weights: Sequence[float] | None = None) -> Tensor:
        """See ``Task.loss``; ``level_weights``, coarse to fine, replace the task's own if given."""


class SelfTaughtTask(Task, Protocol):
    """A task that learns from its own predictions instead of ground truth."""

    def labelled(self, teacher: nn.Module, batch: Any) -> Any:
        """Returns the batch for the loss, with predictions of the teacher in place of the ground truth."""


class StoredTask:
    """Base of tasks that are dataclasses; ``settings`` are their fields except the ``unstored`` ones."""

    unstored: ClassVar[frozenset[str]] = frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments that rebuild the same network."""
        names = [field.name for field in fields(self) if field.name not in self.unstored]  # type: ignore[arg-type]
        return {name: getattr(self, name) for name in names}


def main_output(output: Any) -> Tensor:
    """Returns the prediction of a network: its output, or the first entry of it."""
    prediction: Tensor = output if isinstance(output, Tensor) else output[0]
    return prediction


class MainOutput(nn.Module):
    """A network that returns its prediction alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *images: Tensor) -> Tensor:
        """Returns ``main_output`` for the images."""
        return main_output(self.network(*images))


def pool(into: Sums, more: Sums) -> Sums:
    """Adds the sums of one more batch; those of a restored state are on the CPU at first."""
    for name, pair in more.items():
        into[name] = into[name].to(pair.device) + pair if name in into else pair
    return into


def pooled_over_processes(many: Sequence[Sums]) -> list[Sums]:
    """Adds each of several sums over the processes, of which some may have none."""
    if distributed.world() == 1:
        return list(many)
    everywhere = distributed.gather([{name: pair.cpu() for name, pair in sums.items()} for sums in many])
    return [reduce(pool, several, {}) for several in zip(*everywhere, strict=True)]


def over_processes(loss: Tensor, sums: Sums) -> tuple[Tensor, Sums]:
    """Returns the mean loss and the summed metrics of a step over the processes, each with its share of the batch."""
    if distributed.world() == 1:
        return loss, sums
    pairs = distributed.total(torch.stack([pair.to(torch.float64) for pair in sums.values()]))
    return distributed.mean([loss])[0], dict(zip(sums, pairs, strict=True))


def means(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """Divides sums by counts, and averages the ratios of a metric with several; NaN where nothing was summed.

    A ratio whose count is 0 does not enter the average.
    """
    return {name: _mean_ratio(*pair.reshape(2, -1).tolist()) for name, pair in sums.items()}


def _mean_ratio(totals: Sequence[float], counts: Sequence[float]) -> float:
    ratios = [total / count for total, count in zip(totals, counts, strict=True) if count]
    return sum(ratios) / len(ratios) if ratios else float("nan")


def sum_of(values: Tensor, among: Tensor | None = None) -> Tensor:
    """Returns the sum of the values and their count, (2,) float64; with a mask, over the marked values only."""
    if among is None:
        return torch.stack([values.sum(dtype=torch.float64), values.new_full((), values.numel(), dtype=torch.float64)])
    return torch.stack([torch.where(among, values, 0.0).sum(dtype=torch.float64), among.sum(dtype=torch.float64)])


def mean_over(total: Tensor, count: Tensor) -> Tensor:
    """Returns total / count, 0 if there is nothing to count, for a loss that is a mean over the valid pixels.

    Among several processes, each with its share of the batch, the count is that of the whole batch: the mean of the
    results over the processes is then the loss of the whole batch, although the shares have different counts.
    """
    return total * distributed.world() / distributed.total(count).clamp(min=1)


def move(batch: Any, device: torch.device) -> Any:
    """Moves a batch (a named tuple of tensors) to the device, images in channels_last."""
    moved = []
    for entry in batch:
        if isinstance(entry, Tensor):
            is_image = entry.dim() == 4 and entry.is_floating_point() and entry.shape[1] > 1
            layout = torch.channels_last if is_image else torch.preserve_format
            entry = entry.to(device, memory_format=layout, non_blocking=True)
        moved.append(entry)
    return type(batch)(*moved)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Returns the context of a forward pass: autocast to bfloat16 or float16, none for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def channels_last(network: nn.Module) -> nn.Module:
    """Converts the 2-D convolutions to channels_last; ``Module.to`` fails on networks that contain 3-D ones too."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network
