"""Edge weights of a forward pass: for each edge the weight of every operation, and which of them run.

A plain mapping of tables is a mixture without factors in which every operation runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

Tables = Mapping[str, Tensor]
"""A table for each kind of cell."""


class Row(NamedTuple):
    """Weights of one edge."""

    weights: Tensor
    """(K,), one for each operation in order; further entries are padding and not read."""
    factor: Tensor | None
    """Scalar, multiplies the whole edge; None is 1."""
    active: Sequence[int] | None
    """Positions of the operations that run; None is all of them."""
    auxiliary: float = 0.0
    """Factor of the edge's auxiliary skip, if it has one."""


@dataclass(frozen=True, eq=False)
class Mixture(Mapping[str, Tensor]):
    """Edge weights by kind of cell; as a mapping, the tables of operation weights."""

    operations: Mapping[str, Tensor]
    """For each kind of cell (edges, width): row e weighs the operations of edge e; unused columns are zero."""
    edges: Mapping[str, Tensor] | None = None
    """For each kind of cell (edges,): a factor of each edge."""
    active: Mapping[str, Sequence[Sequence[int]]] | None = None
    """For each kind of cell and edge the operations that run, known to the host; the weights of the others are 0."""
    is_discrete: bool = False
    """The operations of a single architecture, as in its found network: without auxiliary skips."""

    def __getitem__(self, kind: str) -> Tensor:
        return self.operations[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def ranked(self) -> dict[str, Tensor]:
        """Returns the tables by which edges are ranked: the operation weights times the factors of the edges."""
        if self.edges is None:
            return dict(self.operations)
        return {kind: self.edges[kind][:, None] * table for kind, table in self.operations.items()}

    def rows(self, kind: str) -> list[Row]:
        """Returns one row per edge, in the order of the table."""
        weights = self.operations[kind].unbind()
        factors = [None] * len(weights) if self.edges is None else self.edges[kind].unbind()
        active = [None] * len(weights) if self.active is None else self.active[kind]
        return [Row(*row) for row in zip(weights, factors, active, strict=True)]

    @property
    def tables(self) -> tuple[Tables, Tables | None]:
        """The weights of the operations and the factors of the edges."""
        return self.operations, self.edges

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors of both tables."""
        return [*self.operations.values(), *(self.edges or {}).values()]

    def with_tables(self, operations: Tables, edges: Tables | None) -> "Mixture":
        """The same mixture with other numbers."""
        return replace(self, operations=operations, edges=edges)

    def detach(self) -> "Mixture":
        """The same numbers as constants."""
        return self._each(Tensor.detach)

    def leaves(self) -> "Mixture":
        """The same numbers as leaves that require a gradient."""
        return self._each(lambda table: table.detach().requires_grad_())

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Mixture":
        edges = None if self.edges is None else {kind: change(factors) for kind, factors in self.edges.items()}
        return self.with_tables({kind: change(table) for kind, table in self.operations.items()}, edges)
