"""The fast evaluation of a cell of mixed operations: the same sums as one operation after another, in fewer passes.

A mixed operation is sum_o w_o o(x) (DARTS; Liu et al. 2019), a node the sum of those on its incoming edges. What
is done otherwise here than that says, and why:

- The ReLU and the poolings of a source node are the same for all edges that leave it: each is computed once.
- Most operations end in batch normalisation, those of the darts flavour after a pointwise convolution. Their weighted
  sum over all edges of a node is taken at once, and no convolved, normalised or weighted tensor is ever written
  (``normalised_sum``, ``normalised_products``).
- The first half of a separable convolution is such a sum of one operation; its ReLU writes over it.
- Sums accumulate in place.

Whatever has another form (factorized reductions, noise) is evaluated as it is. Held to a textbook implementation,
benchmarks/textbook.py, by tests/test_textbook.py.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.normalised_sum import EPS, normalised_products, normalised_sum
from autodisp.cells.operations import Zero, drop_path


class Block(NamedTuple):
    """Layers that end in batch normalisation by the batch alone."""

    layers: Sequence[nn.Module]
    """Without the ReLU that begins a block of the darts flavour, and without what the fields below stand for."""
    rectified: bool
    """It begins with a ReLU."""
    pointwise: nn.Conv2d | None
    """Of the darts flavour: the convolution right before the normalisation."""


class MixedEdge(Protocol):
    """The candidates of an edge, by name."""

    names: tuple[str, ...]
    operations: Any
    """Modules, one a name."""
    blocks: Sequence[Sequence[Block] | None]
    """For each operation what ``blocks_of`` says of it."""


class Source:
    """A node's output, with what the edges that leave it have in common.

    Args:
        x: (B, C, H, W).
    """

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._shared: dict[str, Tensor] = {}

    def shared(self, name: str, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The computed tensor, the first time and again."""
        if name not in self._shared:
            self._shared[name] = compute(self.x)
        return self._shared[name]


class _Node:
    """What a node sums up, collected edge by edge."""

    def __init__(self) -> None:
        self.products: list[tuple[Tensor, Tensor, Tensor]] = []
        """z, P and w of w N(P z)."""
        self.normalised: list[tuple[Tensor, Tensor]] = []
        """p and w of w N(p)."""
        self.terms: list[tuple[Tensor, Tensor]] = []
        """y and w of w y."""

    def add(self, y: Tensor, pointwise: nn.Conv2d | None, weight: Tensor) -> None:
        """Takes in w N(P y), or w N(y) without a pointwise convolution."""
        if pointwise is None:
            self.normalised.append((y, weight))
        else:
            self.products.append((y, pointwise.weight.flatten(1), weight))

    def total(self) -> Tensor | None:
        """The sum; None where there is nothing to sum up."""
        sums = []
        if self.products:
            inputs, matrices, weights = zip(*self.products, strict=True)
            sums.append(normalised_products(inputs, matrices, torch.stack(weights)))
        if self.normalised:
            inputs, weights = zip(*self.normalised, strict=True)
            sums.append(normalised_sum(inputs, torch.stack(weights)))
        total = sums[0].add_(sums[1]) if len(sums) == 2 else next(iter(sums), None)
        for y, weight in self.terms:
            total = y * weight if total is None else total.addcmul_(y, weight)
        return total


def mixed_node(edges: Iterable[tuple[MixedEdge, Source, Tensor]], drop_probability: float) -> Tensor:
    """The sum of a node's incoming edges.

    Args:
        edges: for each its operations, where it comes from, and the weights (K,) of its operations in order; further
            entries are padding and not read.
        drop_probability: drop-path on whole edges: a sample loses all operations of an edge, the identity among them.

    Returns:
        (B, C, H, W).
    """
    if drop_probability == 0.0:
        return _weighted_sum(edges)
    # a sum over all edges would need a weight a sample; edge by edge costs one addition each
    return reduce(Tensor.add_, (drop_path(_weighted_sum([edge]), drop_probability) for edge in edges))


def _weighted_sum(edges: Iterable[tuple[MixedEdge, Source, Tensor]]) -> Tensor:
    """The sum over all operations of some edges, (B, C, H, W)."""
    node = _Node()
    for edge, source, weights in edges:
        plain = torch.is_autocast_enabled(source.x.device.type)  # statistics in half precision would be none
        candidates = zip(edge.names, edge.operations, edge.blocks, weights.unbind(), strict=False)
        for name, operation, blocks, weight in candidates:
            if isinstance(operation, Zero):
                nowhere = operation, source.x
            elif blocks is None or plain or "pool" in name:
                y = source.shared(name, operation) if "pool" in name else operation(source.x)
                node.terms.append((y, weight))
            else:
                node.add(*_up_to_the_last_norm(blocks, source), weight)
    total = node.total()
    return nowhere[0](nowhere[1]) if total is None else total


def _up_to_the_last_norm(blocks: Sequence[Block], source: Source) -> tuple[Tensor, nn.Conv2d | None]:
    """What the last block normalises, or its pointwise convolution does."""
    x = source.shared("relu", functional.relu) if blocks[0].rectified else source.x
    for place, block in enumerate(blocks):
        for layer in block.layers:
            x = layer(x)
        if place + 1 < len(blocks):
            one = _Node()
            one.add(x, block.pointwise, x.new_ones(()))
            y = one.total()
            assert y is not None
            x = y.relu_() if blocks[place + 1].rectified else y
    return x, blocks[-1].pointwise


def blocks_of(operation: nn.Module) -> list[Block] | None:
    """The operation as blocks, or None where it has another form."""
    if not isinstance(operation, nn.Sequential) or not _is_bare(operation[-1]):
        return None
    blocks, layers = [], list[nn.Module]()
    for layer in operation:
        if not isinstance(layer, nn.BatchNorm2d):
            layers.append(layer)
            continue
        if not _is_bare(layer):
            return None
        rectified = isinstance(layers[0], nn.ReLU)
        last = layers[-1]
        pointwise = last if rectified and isinstance(last, nn.Conv2d) and _is_pointwise(last) else None
        blocks.append(Block(layers[rectified : len(layers) - (pointwise is not None)], rectified, pointwise))
        layers = []
    return blocks


def _is_pointwise(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1 and layer.bias is None


def _is_bare(layer: nn.Module) -> bool:
    """Batch normalisation that learns nothing and looks at nothing but the batch."""
    return isinstance(layer, nn.BatchNorm2d) and not layer.affine and not layer.track_running_stats and layer.eps == EPS
