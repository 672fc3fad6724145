"""What stands on an edge: all candidate operations, weighted (DARTS; Liu et al. 2019), or the one that was found."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.folded import Block, Source, blocks_of, mixed_node
from autodisp.cells.mixture import Row
from autodisp.cells.operations import Style, build_operation, drop_path, skip


class Edge(nn.Module):
    """One operation on one edge: what an edge is once the search is over."""

    def __init__(self, operation: str, *, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.operation = build_operation(operation, channels=channels, stride=stride, style=style)

    def forward(self, x: Tensor, weights: Tensor | None, drop_probability: float) -> Tensor:
        """(B, C, H, W) -> (B, C, ceil(H/stride), ceil(W/stride)); an identity is never dropped."""
        y: Tensor = self.operation(x)
        if drop_probability > 0.0 and not isinstance(self.operation, nn.Identity):
            y = drop_path(y, drop_probability)
        return y


class MixedOperation(nn.Module):
    """All candidate operations of one edge: sum_o w_o o(x).

    Pooling is followed by batch normalisation without scale and shift, where the style normalises at all. Each batch
    is normalised by itself in either mode: a supernet's running statistics would say nothing of a found cell, and
    nothing reads them.
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
        self.blocks: Sequence[Sequence[Block] | None] = [blocks_of(operation) for operation in self.operations]

    @staticmethod
    def _candidate(name: str, *, channels: int, stride: int, style: Style) -> nn.Module:
        operation = build_operation(name, channels=channels, stride=stride, style=style)
        if "pool" in name and style.batch_norm:
            return nn.Sequential(operation, *replace(style, affine=False).norms(channels))
        return operation

    def forward(self, x: Tensor, weights: Tensor | None, drop_probability: float) -> Tensor:
        """The weighted sum; a cell evaluates all edges of a node at once instead.

        Args:
            x: (B, C, H, W).
            weights: (K,), one for each candidate in order; further entries are padding and not read.
            drop_probability: drop-path on the sum: a sample loses the whole edge, the identity as well.

        Raises:
            ValueError: there are no weights, or fewer than candidates.
        """
        if self.is_plain:
            y = self.active_sum(x, Row(self.checked(weights), None, None), drop_probability)
            assert y is not None
            return y
        return mixed_node([(self, Source(x), self.checked(weights))], drop_probability)

    @property
    def is_plain(self) -> bool:
        """True where the edge is more than a weighted sum of its operations, which is all that folding knows."""
        return self.share > 1 or self.auxiliary is not None

    def active_sum(self, x: Tensor, row: Row, drop_probability: float, auxiliary_factor: float = 0.0) -> Tensor | None:
        """The factor times sum_o w_o o(x), evaluated one after another, over the active operations alone.

        With a share of k, the operations take the first C/k channels, the others pass by them (through a 2x2 maximum
        at stride 2), and all are shuffled (PC-DARTS). The auxiliary skip is added with a factor of its own (DARTS-).

        Returns:
            (B, C, ceil(H/stride), ceil(W/stride)); None where no operation is active.
        """
        weights = self.checked(row.weights)
        active = range(len(self.operations)) if row.active is None else row.active
        taken = x.shape[1] // self.share
        first = x[:, :taken] if self.share > 1 else x
        terms = [weights[place] * self.operations[place](first) for place in active]
        if not terms:
            return None
        y: Tensor = sum(terms[1:], start=terms[0])
        if self.share > 1:
            y = functional.channel_shuffle(torch.cat([y, self.around(x[:, taken:])], dim=1), self.share)
        if row.factor is not None:
            y = row.factor * y
        if self.auxiliary is not None and auxiliary_factor > 0.0:
            y = y + auxiliary_factor * self.auxiliary(x)
        return drop_path(y, drop_probability) if drop_probability > 0.0 else y

    def checked(self, weights: Tensor | None) -> Tensor:
        """The weights.

        Raises:
            ValueError: there are none, or fewer than candidates.
        """
        if weights is None:
            raise ValueError("a mixed operation needs its edge weights: pass the architecture's weights to the network")
        if len(weights) < len(self.operations):
            raise ValueError(
                f"an edge has {len(self.operations)} operations but {len(weights)} weights: "
                "network and architecture must be of one space"
            )
        return weights
