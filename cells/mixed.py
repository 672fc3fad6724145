"""What stands on an edge: all candidate operations, weighted (DARTS; Liu et al. 2019), or the one that was found."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from autodisp.cells.folded import Block, Source, blocks_of, mixed_node
from autodisp.cells.mixture import Row
from autodisp.cells.operations import Style, build_operation, drop_path


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

    def __init__(self, operations: tuple[str, ...], *, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        style = replace(style, running=False)
        self.names = operations
        self.operations = nn.ModuleList(
            self._candidate(name, channels=channels, stride=stride, style=style) for name in operations
        )
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
        return mixed_node([(self, Source(x), self.checked(weights))], drop_probability)

    def active_sum(self, x: Tensor, row: Row, drop_probability: float) -> Tensor | None:
        """The factor times sum_o w_o o(x), evaluated one after another, over the active operations alone.

        Returns:
            (B, C, ceil(H/stride), ceil(W/stride)); None where no operation is active.
        """
        weights = self.checked(row.weights)
        active = range(len(self.operations)) if row.active is None else row.active
        terms = [weights[place] * self.operations[place](x) for place in active]
        if not terms:
            return None
        y: Tensor = sum(terms[1:], start=terms[0])
        if row.factor is not None:
            y = row.factor * y
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
