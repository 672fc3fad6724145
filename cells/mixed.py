"""The mixed operation of DARTS: an edge as the weighted sum of its candidate operations (Liu et al. 2019, eq. 2)."""

import torch
from torch import Tensor, nn

from autodisp.cells.operations import Style, Zero, build_operation


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zeroes whole samples with that probability and rescales the others (Larsson et al. 2017).

    Args:
        x: (B, C, H, W).
        probability: 0 <= p < 1, of losing a sample's path.
    """
    keep = 1.0 - probability
    kept = torch.empty((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device).bernoulli_(keep)
    return x * (kept / keep)


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
    """All candidate operations of one edge, weighted.

    Pooling is followed by batch normalisation without scale and shift, where the style normalises at all.
    """

    def __init__(self, operations: tuple[str, ...], *, channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            self._candidate(name, channels=channels, stride=stride, style=style) for name in operations
        )

    @staticmethod
    def _candidate(name: str, *, channels: int, stride: int, style: Style) -> nn.Module:
        operation = build_operation(name, channels=channels, stride=stride, style=style)
        if "pool" in name and style.batch_norm:
            return nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False))
        return operation

    def forward(self, x: Tensor, weights: Tensor | None, drop_probability: float) -> Tensor:
        """The weighted sum.

        Args:
            x: (B, C, H, W).
            weights: (K,), one for each candidate in order; further entries are padding and not read.
            drop_probability: drop-path on every candidate but the identity.

        Raises:
            ValueError: there are no weights, or fewer than candidates.
        """
        if weights is None:
            raise ValueError("a mixed operation needs its edge weights: pass the architecture's weights to the network")
        if len(weights) < len(self.operations):
            raise ValueError(
                f"an edge has {len(self.operations)} operations but {len(weights)} weights: "
                "network and architecture must be of one space"
            )
        total: Tensor | None = None
        for operation, weight in zip(self.operations, weights.unbind(), strict=False):
            if isinstance(operation, Zero):
                continue
            y = operation(x)
            if drop_probability > 0.0 and not isinstance(operation, nn.Identity):
                y = drop_path(y, drop_probability)
            total = weight * y if total is None else total + weight * y
        if total is None:
            total = self.operations[0](x)
        return total
