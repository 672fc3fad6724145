"""Evaluates the nodes of a supernet's cell by the compiled kernels where they apply, else by the plain path."""

from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autodisp.cells.depthwise import DepthwiseConvolution
from autodisp.cells.mixed import IncomingEdge, MixedOperation, Node, Source, plain_node, total
from autodisp.cells.operations import FactorizedReduction, Zero, drop_path, rectified_phases
from autodisp.errors import InputError
from autodisp.kernels.library import Unavailable, prepare
from autodisp.kernels.native import DTYPES, EPS, GEOMETRIES, KERNELS, Block, NodeSum, Term, node_sum


def build_node(
    kernels: str, device: torch.device, say: Callable[[str], object], remark: Callable[[str], object] = str
) -> Node:
    """Returns the function that evaluates nodes.

    Args:
        kernels: "native", "plain", or "auto" for native where that is possible.
        device: of the network.
        say: called with a line if "auto" finds no compiler on the CPU.
        remark: called with a line before the kernels are compiled.

    Raises:
        InputError: "native" is not possible.
    """
    if kernels == "plain" or (kernels == "auto" and device.type != "cpu"):
        return plain_node
    if device.type != "cpu":
        raise InputError(f"run.kernels=native: runs on the CPU, but run.device is {device}; take run.kernels=auto")
    try:
        prepare(remark)
    except Unavailable as why:
        if kernels == "native":
            raise InputError(f"run.kernels=native: {why}; mend that, or take run.kernels=auto") from None
        say(f"no native kernels, so the search is slower: {why}")
        return plain_node
    return native_node


class _Link(NamedTuple):
    """A block of an operation; the modules hold its parameters."""

    depthwise: DepthwiseConvolution
    pointwise: nn.Conv2d
    slope_in: float
    slope_out: float

    def block(self, tensors: list[Tensor]) -> Block:
        """Returns the block, and appends its parameters to the tensors."""
        given = [self.depthwise.weight, self.pointwise.weight]
        if self.pointwise.bias is not None:
            given.append(self.pointwise.bias)
        places = tuple(range(len(tensors), len(tensors) + len(given)))
        tensors.extend(given)
        layer = self.depthwise
        return Block(layer.kernel_size[0], layer.stride[0], layer.dilation[0], self.slope_in, self.slope_out, places)


class _Candidate(NamedTuple):
    """An operation in the form of the kernels: (B, C, H, W) -> start(x), then the chain, then the normalisation."""

    start: Callable[[Source], Tensor]
    """Evaluated by torch; the input itself if there is nothing to evaluate."""
    chain: tuple[_Link, ...]
    normalised: bool


_KNOWN: WeakKeyDictionary[nn.Module, list[_Candidate | None]] = WeakKeyDictionary()


def native_node(edges: Sequence[IncomingEdge], drop_probability: float | Tensor) -> Tensor | None:
    """Computes the sum of a node's incoming edges, see ``autodisp.cells.mixed.plain_node``.

    Half precision and other devices take the plain path.
    """
    x = edges[0].source.x
    if x.device.type != "cpu" or x.dtype not in DTYPES or torch.is_autocast_enabled("cpu"):
        return plain_node(edges, drop_probability)
    edges = [edge for edge in edges if edge.mixed.active(edge.row)]
    if drop_probability == 0.0:
        return _sum(edges) if edges else None
    # a sum over all edges would need a weight for each sample
    return total([drop_path(_sum([edge]), drop_probability) for edge in edges])


def _sum(edges: Sequence[IncomingEdge]) -> Tensor:
    """Sums edges with active operations; what is linear in an edge is computed once for all of them."""
    mixed = edges[0].mixed
    if mixed.share == 1:
        y = _operations(edges)
    else:
        y = _operations([edge._replace(source=edge.source.shared("first", _first(mixed))) for edge in edges])
        passed = [(edge.source.shared("passed", edge.mixed.passed), edge.row.factor) for edge in edges]
        others = total([x if factor is None else factor * x for x, factor in passed])
        assert others is not None
        y = mixed.shuffled(y, others)
    for edge in edges:
        if edge.mixed.auxiliary is not None and edge.row.auxiliary > 0.0:
            y = y + edge.row.auxiliary * edge.mixed.auxiliary(edge.source.x)
    return y


def _first(mixed: MixedOperation) -> Callable[[Tensor], Source]:
    return lambda x: Source(mixed.first(x).contiguous(memory_format=torch.channels_last))


def _operations(edges: Sequence[IncomingEdge]) -> Tensor:
    """Computes the weighted sum of the operations of edges, each edge times its factor."""
    inputs: list[Tensor] = []
    places: dict[int, int] = {}
    chosen: list[tuple[int, int, _Candidate]] = []
    weights: list[Tensor] = []
    absent: tuple[Callable[[Tensor], Tensor], Tensor] | None = None
    offset = 0
    for edge in edges:
        row = edge.mixed.checked(edge.row.weights)[: len(edge.mixed.operations)]
        weights.append(row if edge.row.factor is None else row * edge.row.factor)
        candidates = _candidates(edge.mixed)
        for place in edge.mixed.active(edge.row):
            candidate = candidates[place]
            if candidate is None:
                absent = edge.mixed.operations[place], edge.source.x
                continue
            y = candidate.start(edge.source)
            if id(y) not in places:
                places[id(y)] = len(inputs)
                inputs.append(y)
            chosen.append((offset + place, places[id(y)], candidate))
        offset += len(row)
    if not chosen:
        assert absent is not None
        return absent[0](absent[1])
    tensors = list(inputs)
    terms = [
        Term(weight, source, tuple(link.block(tensors) for link in candidate.chain), candidate.normalised)
        for weight, source, candidate in chosen
    ]
    between = any(candidate.normalised for _, _, candidate in chosen if candidate.chain)
    return node_sum(NodeSum(tuple(terms), len(inputs), between), torch.cat(weights), tensors)


def _candidates(mixed: MixedOperation) -> list[_Candidate | None]:
    """Returns all operations of an edge; None for ``none``."""
    if mixed not in _KNOWN:
        _KNOWN[mixed] = [None if isinstance(one, Zero) else _candidate(one) for one in mixed.operations]
    return _KNOWN[mixed]


def _candidate(operation: nn.Module) -> _Candidate:
    if isinstance(operation, nn.Identity):
        return _Candidate(_input, (), False)
    if isinstance(operation, FactorizedReduction) and len(operation.norm) == 1 and _is_bare(operation.norm[0]):
        return _Candidate(lambda source: operation.convolved(source.shared("phases", rectified_phases)), (), True)
    layers = list(operation) if isinstance(operation, nn.Sequential) else [operation]
    normalised = _is_bare(layers[-1])
    chain = _chain(layers, normalised)
    if chain is not None:
        return _Candidate(_input, chain, normalised)
    start = nn.Sequential(*layers[: len(layers) - normalised])
    if isinstance(layers[0], nn.MaxPool2d | nn.AvgPool2d):
        name = type(layers[0]).__name__  # strides alike on all edges that leave a node
        return _Candidate(lambda source: source.shared(name, start), (), normalised)
    return _Candidate(lambda source: start(source.x), (), normalised)


def _input(source: Source) -> Tensor:
    return source.x


def _chain(layers: Sequence[nn.Module], normalised: bool) -> tuple[_Link, ...] | None:
    """Returns the layers as blocks of the kernels, each normalised if the last one is; None for anything else."""
    links, left = [], list(layers)
    while left:
        slope_in = 0.0 if isinstance(left[0], nn.ReLU) else 1.0
        block = left[1:] if isinstance(left[0], nn.ReLU) else left
        if len(block) < 2:
            return None
        first, second, *left = block
        if not (isinstance(first, DepthwiseConvolution) and _is_known(first)):
            return None
        if not (isinstance(second, nn.Conv2d) and _is_pointwise(second)):
            return None
        slope_out = 1.0
        if left and isinstance(left[0], nn.LeakyReLU):
            slope_out, left = left[0].negative_slope, left[1:]
        if normalised != bool(left and _is_bare(left[0])):
            return None
        left = left[normalised:]
        links.append(_Link(first, second, slope_in, slope_out))
    return tuple(links)


def _is_known(layer: DepthwiseConvolution) -> bool:
    return layer.kernel_size[0] in KERNELS and (layer.stride[0], layer.dilation[0]) in GEOMETRIES


def _is_pointwise(layer: nn.Conv2d) -> bool:
    square = layer.in_channels == layer.out_channels
    return square and layer.kernel_size == layer.stride == (1, 1) and layer.groups == 1


def _is_bare(layer: nn.Module) -> bool:
    """Returns True for batch normalisation without parameters and running statistics."""
    return type(layer) is nn.BatchNorm2d and not layer.affine and not layer.track_running_stats and layer.eps == EPS
