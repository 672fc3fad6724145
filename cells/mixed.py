"""Modules on an edge: all candidate operations, weighted (DARTS; Liu et al. 2019), or a single one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.mixture import Row
from autodisp.cells.operations import Style, build_operation, drop_path, skip

T = TypeVar("T")


class Edge(nn.Module):
    """A single operation, as in a found network."""

    def __init__(self, operation: str, *, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.operation = build_operation(operation, channels=channels, stride=stride, style=style)

    def forward(self, x: Tensor, drop_probability: float | Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H/stride), ceil(W/stride)); an identity is never dropped."""
        y: Tensor = self.operation(x)
        return y if isinstance(self.operation, nn.Identity) else drop_path(y, drop_probability)


class MixedOperation(nn.Module):
    """All candidate operations of one edge: sum_o w_o o(x).

    Pooling is followed by batch normalisation without scale and shift if the style normalises. Each batch is normalised
    by its own statistics in either mode: the running statistics of a supernet do not fit a found cell.
    """

    def __init__(
        self,
        operations: tuple[str, ...],
        *,
        channels: int,
        stride: int,
        style: Style,
        share: int = 1,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        if channels % share:
            raise ValueError(f"share is {share} but an edge has {channels} channels: share must divide them")
        style = replace(style, running=False)
        self.names = operations
        self.share = share
        self.operations = nn.ModuleList(
            self._candidate(name, channels=channels // share, stride=stride, style=style) for name in operations
        )
        self.around = nn.MaxPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.auxiliary = skip(channels, stride, style) if auxiliary else None

    @staticmethod
    def _candidate(name: str, *, channels: int, stride: int, style: Style) -> nn.Module:
        operation = build_operation(name, channels=channels, stride=stride, style=style)
        if "pool" in name and style.batch_norm:
            return nn.Sequential(operation, *replace(style, affine=False).norms(channels))
        return operation

    def forward(self, x: Tensor, drop_probability: float | Tensor) -> Tensor:
        """Raises an error, since ``active_sum`` needs weights too."""
        raise ValueError("a mixed operation needs its edge weights: pass the architecture's weights to the network")

    def active_sum(self, x: Tensor, row: Row, drop_probability: float | Tensor) -> Tensor | None:
        """The factor times sum_o w_o o(x), one operation after another, over the active operations only.

        With a share of k, the operations read the first C/k channels, the others bypass them (through a 2x2 maximum at
        stride 2), and all are shuffled (PC-DARTS). The auxiliary skip is added with its own factor (DARTS-).

        Args:
            x: (B, C, H, W).
            row: the weights of the edge.
            drop_probability: drop-path on the sum: a sample loses the whole edge, the identity as well.

        Returns:
            (B, C, ceil(H/stride), ceil(W/stride)); None if no operation is active.
        """
        weights, first = self.checked(row.weights), self.first(x)
        y = total([weights[place] * self.operations[place](first) for place in self.active(row)])
        if y is None:
            return None
        if self.share > 1:
            y = self.shuffled(y, self.passed(x))
        if row.factor is not None:
            y = row.factor * y
        if self.auxiliary is not None and row.auxiliary > 0.0:
            y = y + row.auxiliary * self.auxiliary(x)
        return drop_path(y, drop_probability)

    def first(self, x: Tensor) -> Tensor:
        """Returns the channels that the operations read, (B, C/k, H, W)."""
        return x if self.share == 1 else x[:, : x.shape[1] // self.share]

    def passed(self, x: Tensor) -> Tensor:
        """Returns the other channels in the size of the output, (B, C - C/k, ceil(H/stride), ceil(W/stride))."""
        y: Tensor = self.around(x[:, x.shape[1] // self.share :])
        return y

    def shuffled(self, y: Tensor, passed: Tensor) -> Tensor:
        """Concatenates and shuffles the output of the operations and the channels that bypass them."""
        return functional.channel_shuffle(torch.cat([y, passed], dim=1), self.share)

    def active(self, row: Row) -> Sequence[int]:
        """Returns the positions of the operations that run."""
        return range(len(self.operations)) if row.active is None else row.active

    def checked(self, weights: Tensor) -> Tensor:
        """Returns the weights.

        Raises:
            ValueError: there are fewer weights than operations.
        """
        if len(weights) < len(self.operations):
            raise ValueError(
                f"an edge has {len(self.operations)} operations but {len(weights)} weights: "
                "network and architecture must be of one space"
            )
        return weights


class Source:
    """The input of some edges, (B, C, H, W), with values that they share."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._shared: dict[str, Any] = {}

    def shared(self, name: str, compute: Callable[[Tensor], T]) -> T:
        """The computed value, the same at every call."""
        if name not in self._shared:
            self._shared[name] = compute(self.x)
        found: T = self._shared[name]
        return found


class IncomingEdge(NamedTuple):
    """An edge with its input and its weights."""

    mixed: MixedOperation
    source: Source
    row: Row


Node = Callable[[Sequence[IncomingEdge], float | Tensor], Tensor | None]
"""Evaluates a node: (incoming edges, drop-path probability) -> their sum, None if no operation is active."""


def plain_node(edges: Sequence[IncomingEdge], drop_probability: float | Tensor) -> Tensor | None:
    """The sum of the edges, one operation after another: the reference for other ways to evaluate a node."""
    sums = [edge.mixed.active_sum(edge.source.x, edge.row, drop_probability) for edge in edges]
    return total([y for y in sums if y is not None])


def total(terms: Sequence[Tensor]) -> Tensor | None:
    """Returns the sum of the terms; None if there are none."""
    return sum(terms[1:], start=terms[0]) if terms else None
