"""Search spaces as data: for each kind of cell its nodes, its edges, the operations allowed on each edge.

S1 to S4 are those of RobustDARTS (Zela et al. 2020), ``darts`` is the space of Liu et al. 2019,
``tiny81`` the exhaustively evaluated one of RobustDARTS ("S5"), ``autodispnet`` that of Saikia et al. 2019,
``tiny81_disparity`` one of the same size for stereo.
The authors of AutoDispNet did not release their search: the candidates are the operations used by their released
cells; reduction cells have no dilated convolutions, as in those networks.
"""

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodisp.cells.operations import OPERATIONS, Flavour
from autodisp.errors import InputError, in_one_line

KINDS = ("normal", "reduce", "upsample")
INPUTS = {"normal": 2, "reduce": 2, "upsample": 4}
"""Number of inputs of a cell, by kind."""

Choice = tuple[str, int]
"""(operation, source) of one kept edge; sources count the cell's inputs first, then its nodes."""
NodeChoice = tuple[Choice, ...]


@dataclass(frozen=True)
class EdgeSpace:
    """The source of an edge and its candidate operations."""

    source: int
    operations: tuple[str, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """The operations that a derived cell may use on this edge: all except ``none``."""
        return tuple(name for name in self.operations if name != "none")


@dataclass(frozen=True)
class CellSpace:
    """One kind of cell: for each intermediate node its incoming edges and how many of them it keeps."""

    kind: str
    nodes: tuple[tuple[EdgeSpace, ...], ...]
    keep: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"cell kind '{self.kind}' is unknown: take one of {', '.join(KINDS)}")
        if not self.nodes:
            raise InputError(f"{self.kind} cell: no nodes; a cell needs at least one")
        if len(self.keep) != len(self.nodes):
            raise InputError(f"{self.kind} cell: {len(self.nodes)} nodes but {len(self.keep)} numbers of kept edges")
        for index, (edges, keep) in enumerate(zip(self.nodes, self.keep, strict=True)):
            self._check_node(index, edges, keep)

    def _check_node(self, index: int, edges: tuple[EdgeSpace, ...], keep: int) -> None:
        where = f"{self.kind} cell, node {index}"
        if not 1 <= keep <= len(edges):
            raise InputError(f"{where}: keeps {keep} of {len(edges)} edges; it must keep between 1 and all of them")
        for edge in edges:
            if not 0 <= edge.source < self.inputs + index:
                raise InputError(
                    f"{where}: source {edge.source} does not exist; take 0 to {self.inputs + index - 1} "
                    f"({self.inputs} inputs, then the nodes before this one)"
                )
            unknown = [name for name in edge.operations if name not in OPERATIONS]
            if unknown or not edge.choices or len(set(edge.operations)) < len(edge.operations):
                raise InputError(
                    f"{where}, edge from {edge.source}: operations {list(edge.operations)} must be distinct, "
                    f"hold one that is not 'none', and be among {', '.join(OPERATIONS)}"
                )
        if len({edge.source for edge in edges}) < len(edges):
            raise InputError(f"{where}: two edges from one source; give that edge all the operations instead")

    @property
    def inputs(self) -> int:
        """Number of inputs of the cell."""
        return INPUTS[self.kind]

    @property
    def edges(self) -> tuple[EdgeSpace, ...]:
        """All edges in the order of the rows of the weight table: node by node, source by source."""
        return tuple(itertools.chain.from_iterable(self.nodes))

    @property
    def alphas(self) -> int:
        """Number of architecture parameters."""
        return sum(len(edge.operations) for edge in self.edges)

    @property
    def width(self) -> int:
        """Columns of the weight table: the most operations on one edge."""
        return max(len(edge.operations) for edge in self.edges)

    def node_choices(self, index: int) -> Iterator[NodeChoice]:
        """All choices of kept edges and operations at a node."""
        for edges in itertools.combinations(self.nodes[index], self.keep[index]):
            for names in itertools.product(*(edge.choices for edge in edges)):
                yield tuple((name, edge.source) for name, edge in zip(names, edges, strict=True))

    def count_node(self, index: int) -> int:
        """The number of such choices: the elementary symmetric polynomial of degree ``keep``."""
        ways = [1] + [0] * self.keep[index]
        for edge in self.nodes[index]:
            for degree in range(self.keep[index], 0, -1):
                ways[degree] += ways[degree - 1] * len(edge.choices)
        return ways[-1]

    def sample_node(self, index: int, draw: random.Random) -> NodeChoice:
        """A uniform sample of such choices, without listing them."""
        edges, chosen = list(self.nodes[index]), []
        degree = self.keep[index]
        # tail[i][k]: ways to keep k of the edges i, i+1, ...; walking down it draws each set by its weight
        tail = [[1] + [0] * degree]
        for edge in reversed(edges):
            last = tail[-1]
            tail.append([1] + [last[k] + last[k - 1] * len(edge.choices) for k in range(1, degree + 1)])
        for position, edge in enumerate(edges):
            if degree == 0:
                break
            after = tail[len(edges) - position - 1]
            taken = after[degree - 1] * len(edge.choices)
            if draw.randrange(taken + after[degree]) < taken:
                chosen.append((draw.choice(edge.choices), edge.source))
                degree -= 1
        return tuple(chosen)

    def draw_node(self, index: int, draw: random.Random) -> NodeChoice:
        """Samples kept edges and operations as in random search with weight sharing.

        Draws ``keep`` edges without replacement, and for each an operation with replacement, including ``none``.
        """
        edges = sorted(draw.sample(self.nodes[index], self.keep[index]), key=lambda edge: edge.source)
        return tuple((draw.choice(edge.operations), edge.source) for edge in edges)


@dataclass(frozen=True)
class SearchSpace:
    """The kinds of cell of a search space, and the flavour of its operations."""

    name: str
    flavour: Flavour
    cells: Mapping[str, CellSpace]

    def __post_init__(self) -> None:
        if not self.cells:
            raise InputError(f"space '{self.name}': no cells; it needs one or more of {', '.join(KINDS)}")
        if self.flavour not in ("darts", "dense"):
            raise InputError(f"space '{self.name}': flavour '{self.flavour}' must be 'darts' or 'dense'")
        for kind, cell in self.cells.items():
            if kind != cell.kind:
                raise InputError(f"space '{self.name}': a {cell.kind} cell has the name '{kind}'")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cell, in a fixed order."""
        return tuple(kind for kind in KINDS if kind in self.cells)

    @property
    def alphas(self) -> int:
        """Number of architecture parameters of all kinds of cell."""
        return sum(self.cells[kind].alphas for kind in self.kinds)

    @property
    def size(self) -> int:
        """The number of distinct genotypes (as labelled graphs: edges and operations)."""
        return math.prod(
            self.cells[kind].count_node(index) for kind in self.kinds for index in range(len(self.cells[kind].nodes))
        )

    def at(self, index: int) -> dict[str, tuple[NodeChoice, ...]]:
        """Returns the choice of cells at that place of the space, in which the last node changes first.

        Raises:
            InputError: there is no such place.
        """
        if not 0 <= index < self.size:
            raise InputError(f"{self.name}:{index}: space '{self.name}' has the genotypes 0 to {self.size - 1}")
        found: dict[str, tuple[NodeChoice, ...]] = dict.fromkeys(self.kinds, ())
        for kind in reversed(self.kinds):
            cell = self.cells[kind]
            for node in reversed(range(len(cell.nodes))):
                index, place = divmod(index, cell.count_node(node))
                found[kind] = (next(itertools.islice(cell.node_choices(node), place, None)), *found[kind])
        return found

    def sample(self, seed: int) -> dict[str, tuple[NodeChoice, ...]]:
        """A uniform sample of the space, determined by the seed."""
        draw = random.Random(seed)
        return {
            kind: tuple(self.cells[kind].sample_node(index, draw) for index in range(len(self.cells[kind].nodes)))
            for kind in self.kinds
        }

    def draw(self, draw: random.Random) -> dict[str, tuple[NodeChoice, ...]]:
        """A sample as in random search with weight sharing; see ``CellSpace.draw_node``."""
        return {
            kind: tuple(self.cells[kind].draw_node(index, draw) for index in range(len(self.cells[kind].nodes)))
            for kind in self.kinds
        }

    def to_json(self) -> dict[str, Any]:
        """The space as plain data, in the format of ``space.file``."""
        return {
            "name": self.name,
            "flavour": self.flavour,
            "cells": {
                kind: {
                    "keep": list(cell.keep),
                    "nodes": [[[edge.source, list(edge.operations)] for edge in node] for node in cell.nodes],
                }
                for kind, cell in self.cells.items()
            },
        }

    @classmethod
    def load(cls, path: Path) -> "SearchSpace":
        """Loads a space from a JSON file.

        Raises:
            InputError: the file cannot be read as a space.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: cannot be read as the JSON of a search space ({type(error).__name__}); "
                "SearchSpace.to_json shows the form"
            ) from None
        return cls.from_json(data, file=str(path))

    @classmethod
    def from_json(cls, data: Any, *, file: str) -> "SearchSpace":
        """Reads the format of ``to_json``.

        Raises:
            InputError: the data is not a space; the message names the file.
        """
        try:
            cells = {
                str(kind): CellSpace(
                    kind=str(kind),
                    nodes=tuple(tuple(_edge(source, names) for source, names in node) for node in cell["nodes"]),
                    keep=tuple(_whole(keep) for keep in cell["keep"]),
                )
                for kind, cell in data["cells"].items()
            }
            space = cls(name=_word(data["name"]), flavour=data["flavour"], cells=cells)
        except InputError as error:
            raise InputError(f"{file}: {in_one_line(error, at_most=600)}") from None
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            found = in_one_line(error, at_most=100)
            raise InputError(
                f"{file}: not a search space ({type(error).__name__}: {found}); it needs 'name', 'flavour' "
                "and 'cells' with 'keep' and 'nodes' of [source, [operations]]"
            ) from None
        if SPACES.get(space.name, space) != space:
            raise InputError(
                f"{file}: name '{space.name}' belongs to a built-in space with other cells; choose another, since "
                "genotypes name their space"
            )
        return space


def _edge(source: Any, names: Any) -> EdgeSpace:
    if not isinstance(names, list):
        raise TypeError(f"{names!r} is not a list of operations")
    return EdgeSpace(_whole(source), tuple(map(_word, names)))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is not a name")
    return value


def dense_cell(kind: str, *, nodes: int, operations: tuple[str, ...], keep: tuple[int, ...] | None = None) -> CellSpace:
    """A cell in which every node has an edge from each input and each earlier node, all with the same operations."""
    sources = [range(INPUTS[kind] + index) for index in range(nodes)]
    return CellSpace(
        kind=kind,
        nodes=tuple(tuple(EdgeSpace(source, operations) for source in reachable) for reachable in sources),
        keep=keep or tuple(min(2, len(reachable)) for reachable in sources),
    )


def edgewise_cell(kind: str, letters: str) -> CellSpace:
    """A cell of four nodes with different operations on each of the 14 edges, given as one word of letters per edge."""
    words = iter(letters.split())
    nodes = tuple(
        tuple(EdgeSpace(source, tuple(S1_LETTERS[letter] for letter in next(words))) for source in range(2 + index))
        for index in range(4)
    )
    return CellSpace(kind=kind, nodes=nodes, keep=(2, 2, 2, 2))


def uniform_space(name: str, operations: tuple[str, ...], nodes: int = 4) -> SearchSpace:
    """A classification space with the same operations on every edge of both cells."""
    cells = {kind: dense_cell(kind, nodes=nodes, operations=operations) for kind in ("normal", "reduce")}
    return SearchSpace(name=name, flavour="darts", cells=cells)


S1_LETTERS = {
    "S": "skip_connect",
    "M": "max_pool_3x3",
    "A": "avg_pool_3x3",
    "P": "sep_conv_3x3",
    "3": "dil_conv_3x3",
    "5": "dil_conv_5x5",
}
DARTS_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
DISPARITY_OPERATIONS = ("skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")


def _autodispnet() -> SearchSpace:
    cells = {
        "normal": dense_cell("normal", nodes=3, operations=DISPARITY_OPERATIONS),
        "reduce": dense_cell("reduce", nodes=3, operations=DISPARITY_OPERATIONS[:3]),
        "upsample": dense_cell("upsample", nodes=3, operations=DISPARITY_OPERATIONS, keep=(4, 2, 2)),
    }
    return SearchSpace(name="autodispnet", flavour="dense", cells=cells)


def _tiny81_disparity() -> SearchSpace:
    """Returns a space as small as ``tiny81``, in which the upsampling cell is the published one of AutoDispNet."""
    upsample = (
        (("skip_connect", 0), ("sep_conv_3x3", 1), ("dil_conv_3x3", 2), ("sep_conv_3x3", 3)),
        (("sep_conv_3x3", 3), ("sep_conv_3x3", 4)),
        (("sep_conv_3x3", 2), ("dil_conv_5x5", 4)),
    )
    fixed = tuple(tuple(EdgeSpace(source, (name,)) for name, source in node) for node in upsample)
    cells = {kind: dense_cell(kind, nodes=1, operations=DISPARITY_OPERATIONS[:3]) for kind in ("normal", "reduce")}
    cells["upsample"] = CellSpace("upsample", nodes=fixed, keep=tuple(map(len, fixed)))
    return SearchSpace(name="tiny81_disparity", flavour="dense", cells=cells)


def _s1() -> SearchSpace:
    normal = edgewise_cell("normal", "S3 S5 S5 SP S3 MS SP SP S3 SP MS S3 35 35")
    reduce = edgewise_cell("reduce", "MA M3 MA MA S5 MA MP S3 S5 MA MA S5 S5 S5")
    return SearchSpace(name="s1", flavour="darts", cells={"normal": normal, "reduce": reduce})


SPACES: dict[str, SearchSpace] = {
    space.name: space
    for space in (
        _s1(),
        uniform_space("s2", ("skip_connect", "sep_conv_3x3")),
        uniform_space("s3", ("none", "skip_connect", "sep_conv_3x3")),
        uniform_space("s4", ("noise", "sep_conv_3x3")),
        uniform_space("darts", DARTS_OPERATIONS),
        uniform_space("tiny81", ("max_pool_3x3", "skip_connect", "sep_conv_3x3"), nodes=1),
        _autodispnet(),
        _tiny81_disparity(),
    )
}


def find_space(name: str) -> SearchSpace:
    """Returns the built-in space of that name.

    Raises:
        InputError: no built-in space has this name.
    """
    if name not in SPACES:
        raise InputError(f"space '{name}' is unknown: take one of {', '.join(SPACES)}, or space.file=PATH for your own")
    return SPACES[name]
