"""A plain implementation of the papers' search, the reference for the numbers and the speed of the product.

One operation at a time in NCHW, a Python sum over the weighted operations of each edge, plain torch modules; an
unrolled copy of the network for each second-order step with finite differences (Liu et al. 2019);
the Hessian entry by entry through double backward (Zela et al. 2020). Stems, heads, correlation and loss are those of
the product. Parameters have the names of the product's, so that weights can be copied.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autodisp.cells.cell import BaseCell, MixedCells
from autodisp.cells.operations import FactorizedReduction, Style
from autodisp.search.supernet import Supernet


def operation(name: str, channels: int, stride: int, style: Style) -> nn.Module:
    """A candidate operation in plain modules: (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
    if name == "none":
        return Nothing(stride)
    if name == "skip_connect" and stride == 1:
        return nn.Identity()
    if name == "skip_connect" and style.flavour == "darts":
        return FactorizedReduction(channels, channels, style)
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        pooling = nn.MaxPool2d(3, stride, 1) if "max" in name else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(pooling, nn.BatchNorm2d(channels, affine=False)) if style.batch_norm else pooling
    kernel = 3 if name == "skip_connect" else int(name[-1])
    whole = [nn.Conv2d(channels, channels, kernel, stride, kernel // 2, bias=style.flavour == "dense")]
    if name.startswith("sep_conv"):
        first = _depthwise_pointwise(channels, kernel, stride, 1, style)
        second = _depthwise_pointwise(channels, kernel, 1, 1, style)
        return nn.Sequential(*_block(first, channels, style), *_block(second, channels, style))
    dilated = name.startswith("dil_conv")
    parts = _depthwise_pointwise(channels, kernel, stride, 2, style) if dilated else whole
    return nn.Sequential(*_block(parts, channels, style))


def _depthwise_pointwise(channels: int, kernel: int, stride: int, dilation: int, style: Style) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=style.flavour == "dense"),
    ]


def _block(parts: Sequence[nn.Module], channels: int, style: Style) -> list[nn.Module]:
    norm = [nn.BatchNorm2d(channels, affine=style.affine)] if style.batch_norm else []
    if style.flavour == "darts":
        return [nn.ReLU(), *parts, *norm]
    return [*parts, nn.LeakyReLU(0.1), *norm]


class Nothing(nn.Module):
    """The operation of an absent edge."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Returns zeros."""
        return 0.0 * x[:, :, :: self.stride, :: self.stride]


class TextbookEdge(nn.Module):
    """sum_o w_o o(x): the mixed operation (Liu et al. 2019)."""

    def __init__(self, names: tuple[str, ...], channels: int, stride: int, style: Style) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operation(name, channels, stride, style) for name in names)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """(B, C, H, W) and (K,) or longer -> (B, C, ceil(H / stride), ceil(W / stride))."""
        return sum(weight * operation(x) for weight, operation in zip(weights, self.operations, strict=False))  # type: ignore[return-value]


class TextbookCell(BaseCell):
    """A node is the sum of its edges, the output all nodes side by side."""

    def __init__(self, kind: str, prepare: nn.ModuleList, nodes: Any, channels: int, style: Style) -> None:
        super().__init__()
        self.kind, self.channels, self.outputs = kind, channels, channels * len(nodes)
        self.prepare = prepare
        self.sources = [[edge.source for edge in node] for node in nodes]
        self.edges = nn.ModuleList(
            TextbookEdge(edge.operations, channels, 2 if kind == "reduce" and edge.source < 2 else 1, style)
            for node in nodes
            for edge in node
        )

    def forward(self, inputs: Sequence[Tensor], weights: Mapping[str, Tensor] | None) -> Tensor:
        """See the product's cell."""
        assert weights is not None
        states = [prepare(x) for prepare, x in zip(self.prepare, inputs, strict=True)]
        edge = 0
        for sources in self.sources:
            node: Any = 0
            for source in sources:
                node = node + self.edges[edge](states[source], weights[self.kind][edge])
                edge += 1
            states.append(node)
        return torch.cat(states[len(self.prepare) :], dim=1)


class TextbookCells(MixedCells):
    """The product's cells with the same preparation of their inputs and textbook edges."""

    def encoder_cell(self, kind: str, *, inputs: tuple[int, int], channels: int, after_reduction: bool) -> TextbookCell:  # type: ignore[override]
        """A normal or reduction cell."""
        cell = super().encoder_cell(kind, inputs=inputs, channels=channels, after_reduction=after_reduction)
        return TextbookCell(kind, cell.prepare, self.plan(kind), channels, self.style)

    def upsampling_cell(
        self, *, inputs: tuple[int, int, int, int], channels: int, after_upsampling: bool
    ) -> TextbookCell:  # type: ignore[override]
        """An upsampling cell."""
        cell = super().upsampling_cell(inputs=inputs, channels=channels, after_upsampling=after_upsampling)
        return TextbookCell("upsample", cell.prepare, self.plan("upsample"), channels, self.style)


def weight_step(supernet: Supernet, batch: Any, optimizer: torch.optim.Optimizer, clip: float) -> None:
    """Makes one step of the weights."""
    optimizer.zero_grad()
    supernet.loss(batch).backward()
    nn.utils.clip_grad_norm_(supernet.network.parameters(), clip)
    optimizer.step()


def first_order_gradient(supernet: Supernet, batch: Any) -> list[Tensor]:
    """Returns the gradient of the validation loss in the alphas, by a backward pass through everything."""
    supernet.network.zero_grad()
    supernet.architecture.zero_grad()
    supernet.loss(batch).backward()
    return [_gradient(alpha) for alpha in supernet.alphas]


def second_order_gradient(supernet: Supernet, train_batch: Any, batch: Any, optimizer: torch.optim.SGD) -> list[Tensor]:
    """Returns the gradient through one step of SGD, by an unrolled copy and finite differences."""
    settings = optimizer.param_groups[0]
    rate = settings["lr"]
    network = supernet.network
    network.zero_grad()
    supernet.loss(train_batch).backward()
    unrolled = copy.deepcopy(network)
    with torch.no_grad():
        for weight, moved in zip(network.parameters(), unrolled.parameters(), strict=True):
            if weight.grad is None:
                continue
            step = weight.grad + settings["weight_decay"] * weight
            buffer = optimizer.state[weight].get("momentum_buffer")
            moved -= rate * (step if buffer is None else step + settings["momentum"] * buffer)
    ahead = Supernet(supernet.task, unrolled, supernet.architecture)
    direct = first_order_gradient(ahead, batch)
    direction = [_gradient(weight) for weight in unrolled.parameters()]
    step = 0.01 / torch.cat([part.flatten() for part in direction]).norm()
    sides = []
    for sign in (1, -2, 1):  # there, across, and back again
        with torch.no_grad():
            for weight, part in zip(network.parameters(), direction, strict=True):
                weight += sign * step * part
        if len(sides) < 2:
            sides.append(first_order_gradient(supernet, train_batch))
    return [one - rate * (plus - minus) / (2 * step) for one, plus, minus in zip(direct, *sides, strict=True)]


def gradient_with_graph(supernet: Supernet, batch: Any) -> Tensor:
    """Returns the gradient of the loss in all alphas, (n,), with its graph."""
    slopes = torch.autograd.grad(supernet.loss(batch), supernet.alphas, create_graph=True)
    return torch.cat([slope.flatten() for slope in slopes])


def hessian_rows(entries: Tensor, alphas: Sequence[Tensor]) -> Tensor:
    """Returns rows of the Hessian, (m, n), one for each of m entries of the gradient."""
    found = []
    for entry in entries:
        row = torch.autograd.grad(entry, alphas, retain_graph=True, allow_unused=True)
        parts = zip(row, alphas, strict=True)
        found.append(torch.cat([torch.zeros_like(alpha) if part is None else part for part, alpha in parts]))
    return torch.stack(found)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
