"""Architecture parameters, separate from the network, whose forward pass takes them as edge weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SearchSpace

EdgeWeights = Mapping[str, Tensor]
"""For each kind of cell (edges, width): row e has the weights of the operations of edge e; unused columns are zero."""


class Architecture(nn.Module):
    """A vector of alphas for each kind of cell, shared by all cells of that kind (DARTS; Liu et al. 2019).

    The alphas of an edge are contiguous, edges in the order of ``CellSpace.edges``; the number of operations may
    differ between edges.

    Args:
        space: the search space.
        seed: seed of the initial values.
        scale: standard deviation of the initial values.
        edges: adds one alpha per edge (PC-DARTS; Xu et al. 2020).
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0, scale: float = 1e-3, edges: bool = False) -> None:
        super().__init__()
        self.space = space
        generator = torch.Generator().manual_seed(seed)
        self.alphas = nn.ParameterDict()
        for kind in space.kinds:
            cell = space.cells[kind]
            self.alphas[kind] = nn.Parameter(scale * torch.randn(cell.alphas, generator=generator))
            present = torch.zeros(len(cell.edges), cell.width, dtype=torch.bool)
            for row, edge in enumerate(cell.edges):
                present[row, : len(edge.operations)] = True
            self.register_buffer(f"present_{kind}", present, persistent=False)
            self.register_buffer(f"place_{kind}", (present.flatten().cumsum(0) - 1).clamp(min=0), persistent=False)
        self.edges = nn.ParameterDict()
        for kind in space.kinds if edges else ():
            count = len(space.cells[kind].edges)
            self.edges[kind] = nn.Parameter(scale * torch.randn(count, generator=generator))

    def present(self, kind: str) -> Tensor:
        """Returns the mask (edges, width) of the table columns that belong to an operation."""
        return self.get_buffer(f"present_{kind}")

    def table(self, kind: str, values: Tensor, fill: float) -> Tensor:
        """Arranges a vector of alphas of one kind as (edges, width); unused columns are set to ``fill``."""
        present = self.present(kind)
        # not masked_scatter, whose derivative waits for the device
        return values.gather(0, self.get_buffer(f"place_{kind}")).view(present.shape).where(present, fill)

    def weights(self) -> dict[str, Tensor]:
        """Computes the softmax of each edge's alphas, differentiable."""
        return {
            kind: torch.softmax(self.table(kind, self.alphas[kind], float("-inf")), dim=-1) for kind in self.space.kinds
        }

    def edge_weights(self) -> dict[str, Tensor]:
        """Computes the softmax of the edge alphas over the edges that enter a node, (edges,) for each kind of cell."""
        weights = {}
        for kind, values in self.edges.items():
            sizes = [len(node) for node in self.space.cells[kind].nodes]
            weights[kind] = torch.cat([torch.softmax(part, dim=0) for part in values.split(sizes)])
        return weights

    def as_record(self, weights: EdgeWeights) -> dict[str, Any]:
        """Converts the alphas and the edge weights computed from them to plain data, for the record of an epoch."""
        record = {"alphas": {kind: alphas.detach().tolist() for kind, alphas in self.alphas.items()}}
        record["weights"] = {kind: table.detach()[self.present(kind)].tolist() for kind, table in weights.items()}
        if self.edges:
            record["edge_alphas"] = {kind: alphas.detach().tolist() for kind, alphas in self.edges.items()}
        return record


def entropy(weights: EdgeWeights) -> dict[str, float]:
    """Computes the mean entropy of the edge weights in nats, for each kind of cell."""
    return {kind: float(torch.special.entr(table.detach()).sum(dim=-1).mean()) for kind, table in weights.items()}


def one_hot(space: SearchSpace, genotype: Genotype) -> dict[str, Tensor]:
    """Returns edge weights of one on the genotype's operations and zero elsewhere: the discretised supernet."""
    weights = {}
    for kind in space.kinds:
        cell = space.cells[kind]
        weights[kind] = torch.zeros(len(cell.edges), cell.width)
        row = 0
        for node, chosen in zip(cell.nodes, genotype.cells[kind], strict=True):
            operations = {source: name for name, source in chosen}
            for edge in node:
                if edge.source in operations:
                    weights[kind][row, edge.operations.index(operations[edge.source])] = 1.0
                row += 1
    return weights


def single_path(space: SearchSpace, genotype: Genotype, device: torch.device) -> Mixture:
    """Returns the weights of ``one_hot`` as a mixture that only evaluates the operations of the genotype."""
    weights = one_hot(space, genotype)
    active = {kind: [row.nonzero().flatten().tolist() for row in table] for kind, table in weights.items()}
    return Mixture(
        {kind: table.to(device, non_blocking=True) for kind, table in weights.items()}, active=active, is_discrete=True
    )
