"""Normal, reduction and upsampling cells over edges that are mixed (supernet) or single (found network).

A cell first brings its inputs to its width and resolution, then computes its nodes, each the sum of its incoming
edges, and concatenates all nodes. The factory chooses the modules on the edges.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from autodisp.cells.genotype import Genotype
from autodisp.cells.mixed import Edge, IncomingEdge, MixedOperation, Node, Source, plain_node
from autodisp.cells.mixture import Mixture, Row
from autodisp.cells.operations import Style, convolution, halving, transposed_convolution
from autodisp.cells.spaces import EdgeSpace, SearchSpace

CellEdges = tuple[tuple[EdgeSpace, ...], ...]


class BaseCell(nn.Module):
    """Building block of the networks: ``cell(inputs, weights)`` -> (B, outputs, H, W).

    Inputs are two tensors (four for an upsampling cell); weights are the edge weights of all kinds, or None for single
    operations. A normal cell keeps the resolution of its second input, a reduction cell halves it
    (rounding up), an upsampling cell doubles it.

    Attributes:
        kind: "normal", "reduce" or "upsample".
        channels: width.
        outputs: channels of the output.
    """

    kind: str
    channels: int
    outputs: int


class CellFactory(Protocol):
    """Builds the cells of a network."""

    style: Style

    def outputs(self, kind: str, *, channels: int) -> int:
        """Channels of the output of a cell of that kind and width."""

    def encoder_cell(self, kind: str, *, inputs: tuple[int, int], channels: int, after_reduction: bool) -> BaseCell:
        """A normal or reduction cell.

        Args:
            kind: "normal" or "reduce".
            inputs: channels of the cell before the previous one, and of the previous one.
            channels: width.
            after_reduction: the previous cell reduced, so input 0 has twice the resolution of input 1.
        """

    def upsampling_cell(self, *, inputs: tuple[int, int, int, int], channels: int, after_upsampling: bool) -> BaseCell:
        """An upsampling cell: twice the resolution of the previous cell's output.

        Args:
            inputs: channels of the cell before the previous one, of the previous one, of the previous prediction and
                of the encoder's feature at the new resolution ("support"). The last two come at the new resolution.
            channels: width.
            after_upsampling: the previous cell upsampled, so input 0 has half the resolution of input 1.
        """


class GraphCells(ABC):
    """Builds cells that are graphs of edges; subclasses define the edges and the modules on them."""

    style: Style
    node: Node = staticmethod(plain_node)
    """Evaluates the nodes of mixed edges."""
    recompute: bool = False
    """Stores no activations of the mixed edges: the backward pass evaluates them again."""

    @abstractmethod
    def plan(self, kind: str) -> CellEdges:
        """Returns the incoming edges of each node of that kind of cell."""

    @abstractmethod
    def edge(self, operations: tuple[str, ...], *, channels: int, stride: int) -> nn.Module:
        """The module on an edge; one without edge weights is called as ``edge(x, drop_probability)``."""

    def outputs(self, kind: str, *, channels: int) -> int:
        """Channels of all nodes, concatenated."""
        return channels * len(self.plan(kind))

    def encoder_cell(self, kind: str, *, inputs: tuple[int, int], channels: int, after_reduction: bool) -> "Cell":
        """A normal or reduction cell over two inputs of one resolution: after a reduction, input 0 is halved."""
        style = self.style
        first = halving if after_reduction else _pointwise
        prepare = [first(inputs[0], channels, style), _pointwise(inputs[1], channels, style)]
        return Cell(kind, self, prepare, channels=channels)

    def upsampling_cell(self, *, inputs: tuple[int, int, int, int], channels: int, after_upsampling: bool) -> "Cell":
        """An upsampling cell of AutoDispNet; inputs 0 and 1 are brought to the new resolution."""
        style = self.style
        first = transposed_convolution if after_upsampling else _pointwise
        prepare = [
            nn.Sequential(first(inputs[0], channels, style), transposed_convolution(channels, channels, style)),
            nn.Sequential(_pointwise(inputs[1], channels, style), transposed_convolution(channels, channels, style)),
            _pointwise(inputs[2], channels, style),
            _pointwise(inputs[3], channels, style),
        ]
        return Cell("upsample", self, prepare, channels=channels)


@dataclass(eq=False)
class MixedCells(GraphCells):
    """Builds the supernet: every edge of the space, with all its operations.

    Args:
        space: the search space.
        style: style of the convolutions.
        share: one in ``share`` channels goes through the operations of an edge.
        auxiliary: adds a second skip to each edge, whose factor ``set_auxiliary`` sets.
        node, recompute: see ``GraphCells``.
    """

    space: SearchSpace
    _: KW_ONLY
    style: Style
    share: int = 1
    auxiliary: bool = False
    node: Node = plain_node
    recompute: bool = False

    def plan(self, kind: str) -> CellEdges:
        """All edges of the space."""
        return self.space.cells[kind].nodes

    def edge(self, operations: tuple[str, ...], *, channels: int, stride: int) -> nn.Module:
        """A mixed operation."""
        return MixedOperation(
            operations, channels=channels, stride=stride, style=self.style, share=self.share, auxiliary=self.auxiliary
        )


class FoundCells(GraphCells):
    """Builds the found network: the edges of the genotype with one operation each."""

    def __init__(self, genotype: Genotype, *, style: Style) -> None:
        self.genotype = genotype
        self.style = style

    def plan(self, kind: str) -> CellEdges:
        """The edges of the genotype."""
        return self.genotype.plan(kind)

    def edge(self, operations: tuple[str, ...], *, channels: int, stride: int) -> nn.Module:
        """The operation of the edge."""
        return Edge(operations[0], channels=channels, stride=stride, style=self.style)


class Cell(BaseCell):
    """A directed acyclic graph of edges over prepared inputs.

    Attributes:
        channels: width of each node; the output has ``outputs`` = nodes x channels.
        drop_probability: drop-path while training, set by ``set_drop_path``.
        auxiliary_factor: factor of the second skips, if the edges have any, set by ``set_auxiliary``.
    """

    def __init__(self, kind: str, factory: GraphCells, prepare: Sequence[nn.Module], *, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.channels = channels
        self.drop_probability: float | Tensor = 0.0
        self.auxiliary_factor = 1.0
        self.prepare = nn.ModuleList(prepare)
        self.sources: list[list[int]] = []
        self.edges = nn.ModuleList()
        for node in factory.plan(kind):
            self.sources.append([edge.source for edge in node])
            for edge in node:
                stride = 2 if kind == "reduce" and edge.source < len(prepare) else 1
                self.edges.append(factory.edge(edge.operations, channels=channels, stride=stride))
        self.outputs = factory.outputs(kind, channels=channels)
        self.node = factory.node
        self.recompute = factory.recompute

    def forward(self, inputs: Sequence[Tensor], weights: Mapping[str, Tensor] | None) -> Tensor:
        """The concatenated nodes.

        Args:
            inputs: two tensors (four for an upsampling cell), (B, C_i, H_i, W_i) each.
            weights: edge weights of all kinds; None where edges are single operations.

        Returns:
            (B, outputs, H, W).
        """
        states = [prepare(x) for prepare, x in zip(self.prepare, inputs, strict=True)]
        drop = self.drop_probability if self.training else 0.0
        if weights is None:
            nodes = self._single(states, drop)
        else:
            mixture = weights if isinstance(weights, Mixture) else Mixture(weights)
            auxiliary = 0.0 if mixture.is_discrete else self.auxiliary_factor
            arguments = states, [row._replace(auxiliary=auxiliary) for row in mixture.rows(self.kind)], drop
            if self.recompute and torch.is_grad_enabled():
                # No running statistics are updated, and both evaluations draw the same random numbers. The weights are
                # bound now, since the backward pass may run outside of the functional_call that gave them.
                mixed = _MixedNodes(self)
                computed = partial(functional_call, mixed, dict(mixed.named_parameters()))
                nodes = checkpoint(computed, arguments, use_reentrant=False)
            else:
                nodes = self._mixed(*arguments)
        return torch.cat(nodes, dim=1)

    def _single(self, states: list[Tensor], drop: float | Tensor) -> list[Tensor]:
        """Evaluates nodes whose edges are single operations."""
        edges = iter(self.edges)
        for sources in self.sources:
            incoming = [edge(states[source], drop) for source, edge in zip(sources, edges, strict=False)]
            states = [*states, sum(incoming[1:], start=incoming[0])]
        return states[len(self.prepare) :]

    def _mixed(self, states: list[Tensor], rows: Sequence[Row], drop: float | Tensor) -> list[Tensor]:
        """Evaluates nodes whose edges are mixed operations, weighted by their rows.

        Raises:
            ValueError: a node has no active operation.
        """
        edges: Any = self.edges
        weighted = zip(edges, rows, strict=True)
        known, nodes = [Source(x) for x in states], []
        for number, sources in enumerate(self.sources):
            leading = zip(sources, weighted, strict=False)
            y = self.node([IncomingEdge(edge, known[source], row) for source, (edge, row) in leading], drop)
            if y is None:
                raise ValueError(f"{self.kind} cell, node {number}: no operation is active, must be one at least")
            nodes.append(y)
            known.append(Source(y))
        return nodes


class _MixedNodes(nn.Module):
    """The nodes of a cell of mixed edges as a module, for functional_call."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, states: list[Tensor], rows: Sequence[Row], drop: float | Tensor) -> list[Tensor]:
        """See ``Cell._mixed``."""
        return self.cell._mixed(states, rows, drop)


def _pointwise(inputs: int, outputs: int, style: Style) -> nn.Module:
    return convolution(inputs, outputs, 1, style)


def set_drop_path(network: nn.Module, probability: float) -> None:
    """Sets the drop-path probability of every cell of the network.

    Off the CPU, a probability above 0 is a tensor that all cells share, and is changed in place.

    Raises:
        ValueError: not in [0, 1).
    """
    if not 0.0 <= probability < 1.0:
        raise ValueError(f"drop-path probability is {probability} but must be at least 0 and below 1")
    cells = [module for module in network.modules() if isinstance(module, Cell)]
    value: float | Tensor = probability
    if probability > 0.0 and cells and (device := next(network.parameters()).device).type != "cpu":
        known = cells[0].drop_probability
        value = known.fill_(probability) if isinstance(known, Tensor) else torch.full((), probability, device=device)
    for cell in cells:
        cell.drop_probability = value


def drop_path_memory(network: nn.Module) -> int:
    """Returns the address of the drop-path probability on a GPU; 0 without one, such as for a probability of 0."""
    cells = (module for module in network.modules() if isinstance(module, Cell))
    known = next((cell.drop_probability for cell in cells), 0.0)
    return known.data_ptr() if isinstance(known, Tensor) else 0


def set_auxiliary(network: nn.Module, factor: float) -> None:
    """Sets the factor of the second skips of every cell of the network, if there are any (DARTS-)."""
    for module in network.modules():
        if isinstance(module, Cell):
            module.auxiliary_factor = factor


def auxiliary_factor(network: nn.Module) -> float:
    """Returns the factor of the second skips; 1 for a network without cells."""
    return next((module.auxiliary_factor for module in network.modules() if isinstance(module, Cell)), 1.0)


@contextmanager
def without_drop_path(network: nn.Module) -> Iterator[None]:
    """Disables drop-path in every cell of the network inside the block, in either mode."""
    cells = [module for module in network.modules() if isinstance(module, Cell)]
    probabilities = [cell.drop_probability for cell in cells]
    for cell in cells:
        cell.drop_probability = 0.0
    try:
        yield
    finally:
        for cell, probability in zip(cells, probabilities, strict=True):
            cell.drop_probability = probability
