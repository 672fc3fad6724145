"""The contract between the engine and a task."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from autodisp.cells.cell import CellFactory

Sums = dict[str, Tensor]
"""For each metric (2,): a sum and the number of summands, so that batches pool exactly."""


@dataclass(frozen=True)
class Figure:
    """The metric that a task selects by."""

    name: str
    direction: Literal["min", "max"]
    unit: str = ""

    def better(self, value: float, than: float) -> bool:
        """True if the first value beats the second; NaN beats nothing and everything beats NaN."""
        if value != value or than != than:
            return value == value
        return value < than if self.direction == "min" else value > than


class Task(Protocol):
    """A task over batches of its own type.

    Another task (segmentation, flow, depth) is one more class with these members; nothing in the engine changes.
    """

    name: str
    kinds: tuple[str, ...]
    """The kinds of cell that its network needs."""
    figure: Figure

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor arguments that build the same network again, as plain data."""
        ...

    def build_network(self, cells: CellFactory) -> nn.Module:
        """The network; called as ``network(*inputs(batch), weights)`` with edge weights or None."""
        ...

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the smallest feature map of a training step, for images of that size."""
        ...

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """The network's inputs, taken from a batch."""
        ...

    def loss(self, output: Any, batch: Any) -> Tensor:
        """A scalar; zero with a gradient of zero where a batch holds nothing to learn from."""
        ...

    def measure(self, output: Any, batch: Any) -> Sums:
        """Sums of the metrics over one batch, without gradient."""
        ...

    def constant(self, batches: Iterable[Any]) -> float:
        """The task's metric for the best constant prediction, the baseline of any network."""
        ...


class LevelledTask(Task, Protocol):
    """A task whose loss is a sum over levels of resolution."""

    def loss(self, output: Any, batch: Any, level_weights: Sequence[float] | None = None) -> Tensor:
        """See ``Task.loss``; the weights of the levels, coarse to fine, are those of the task unless given."""
        ...


def pool(into: Sums, more: Sums) -> Sums:
    """Adds the sums of one more batch."""
    for name, pair in more.items():
        into[name] = into[name] + pair if name in into else pair
    return into


def means(sums: Mapping[str, Tensor]) -> dict[str, float]:
    """The metrics: each sum over its number; NaN where nothing was summed."""
    values = {name: pair.tolist() for name, pair in sums.items()}
    return {name: total / count if count else float("nan") for name, (total, count) in values.items()}


def sum_of(values: Tensor, among: Tensor | None = None) -> Tensor:
    """(2,) float64: the sum of the values and their number, among those marked where a mask is given."""
    if among is None:
        return torch.stack([values.sum(dtype=torch.float64), values.new_tensor(values.numel(), dtype=torch.float64)])
    return torch.stack([torch.where(among, values, 0.0).sum(dtype=torch.float64), among.sum(dtype=torch.float64)])


def move(batch: Any, device: torch.device) -> Any:
    """The batch (a named tuple of tensors) on that device, images in channels_last."""
    moved = []
    for entry in batch:
        if isinstance(entry, Tensor):
            is_image = entry.dim() == 4 and entry.is_floating_point() and entry.shape[1] > 1
            layout = torch.channels_last if is_image else torch.preserve_format
            entry = entry.to(device, memory_format=layout, non_blocking=True)
        moved.append(entry)
    return type(batch)(*moved)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass: autocast to bfloat16 or float16, none for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def channels_last(network: nn.Module) -> nn.Module:
    """The same network with its 2-D convolutions in channels_last; ``to`` refuses networks that have 3-D ones too."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network
