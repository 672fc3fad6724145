"""Costs of the networks that a search can find: their latency, multiplications or parameters.

A table has the cost of each operation at each edge of each cell, and that of the rest of the network. Costs add up, so
that the cost of a derived network is a sum, and that of a mixture an expectation. ``search.measuring`` makes tables.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SearchSpace
from autodisp.errors import InputError, in_one_line

Quantity = Literal["latency", "macs", "parameters"]
UNITS: Mapping[str, str] = {"latency": "ms", "macs": "MACs", "parameters": "parameters"}
SCHEMA = "autodisp/costs"
VERSION = 1
_LARGEST = 1e30
"""Costs add up in float32."""


@dataclass(frozen=True)
class CellCosts:
    """Costs of the operations of one cell of the network."""

    name: str
    """Name of the module, such as ``encoder.0``."""
    kind: str
    outputs: tuple[tuple[int, ...], ...]
    """(B, C, H, W) of the output of each edge, in the order of ``CellSpace.edges``."""
    edges: tuple[tuple[float, ...], ...]
    """For each edge the costs of its operations, in order."""


@dataclass(frozen=True)
class CostTable:
    """Costs of all operations of a network, and of its rest.

    The kinds, edges and operations of the cells must be those of the space.
    """

    quantity: Quantity
    space: SearchSpace
    rest: float
    """Cost of the network without the operations on the edges of its cells."""
    cells: tuple[CellCosts, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    """Task, network, style and input sizes, as plain data; a table is only used for the same ones."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Processor, device, threads and versions, for the reader."""

    @property
    def unit(self) -> str:
        """Unit of all costs."""
        return UNITS[self.quantity]

    @cached_property
    def sums(self) -> dict[str, list[list[float]]]:
        """Cost of each operation of each edge by kind of cell, summed over the cells of that kind."""
        sums = {}
        for kind, cell in self.space.cells.items():
            tables = [cell.edges for cell in self.cells if cell.kind == kind]
            sums[kind] = [
                [sum(table[row][place] for table in tables) for place in range(len(edge.operations))]
                for row, edge in enumerate(cell.edges)
            ]
        return sums

    def of(self, genotype: Genotype) -> float:
        """Returns the cost of the network with the cells of a genotype of the space."""
        cost = self.rest
        for kind, cell in self.space.cells.items():
            rows = iter(self.sums[kind])
            for node, chosen in zip(cell.nodes, genotype.cells[kind], strict=True):
                names = {source: name for name, source in chosen}
                for edge, row in zip(node, rows, strict=False):
                    if edge.source in names:
                        cost += row[edge.operations.index(names[edge.source])]
        return cost

    def expected(self, mixture: Mixture) -> Tensor:
        """Computes the expected cost of a derived network, differentiable in the edge weights.

        The probability of an operation is its share of the weights of its node, times the number of edges that the
        node keeps: a node of a derived network has that many operations, whatever the sum of its edge weights. The
        operation ``none``, which derived cells do not contain, is left out. Under the weights of one genotype it is the
        cost of that genotype.
        """
        ranked = mixture.ranked()
        terms: list[Tensor] = []
        for kind, cell in self.space.cells.items():
            weights = ranked[kind]
            costs, choices = (table.to(weights) for table in self._tables[kind])
            first = 0
            for node, keep in zip(cell.nodes, cell.keep, strict=True):
                rows = slice(first, first + len(node))
                chances = weights[rows] * choices[rows]
                terms.append(keep * (chances * costs[rows]).sum() / chances.sum())
                first += len(node)
        return torch.stack(terms).sum() + self.rest

    @cached_property
    def _tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By kind of cell the costs and the mask of the operations other than ``none``, both (edges, width)."""
        tables = {}
        for kind, cell in self.space.cells.items():
            costs, choices = torch.zeros(2, len(cell.edges), cell.width, dtype=torch.float64)
            for row, edge in enumerate(cell.edges):
                for place, name in enumerate(edge.operations):
                    costs[row, place] = self.sums[kind][row][place]
                    choices[row, place] = name != "none"
            tables[kind] = costs, choices
        return tables

    def limits(self) -> tuple[float, float]:
        """Returns the costs of the cheapest and of the most expensive derived network of the space."""
        lowest = highest = self.rest
        for kind, cell in self.space.cells.items():
            rows = iter(self.sums[kind])
            for node, keep in zip(cell.nodes, cell.keep, strict=True):
                known = [
                    [cost for cost, name in zip(row, edge.operations, strict=True) if name != "none"]
                    for edge, row in zip(node, rows, strict=False)
                ]
                lowest += sum(sorted(map(min, known))[:keep])
                highest += sum(sorted(map(max, known))[-keep:])
        return lowest, highest

    def in_words(self, cost: float) -> str:
        """Formats a cost with its unit."""
        return f"{self.number(cost)} {self.unit}"

    def number(self, cost: float) -> str:
        """Formats a cost without its unit."""
        for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
            if abs(cost) >= size:
                return f"{cost / size:.3g}{letter}"
        return f"{cost:.3g}"

    def to_json(self) -> dict[str, Any]:
        """Converts to plain data."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "quantity": self.quantity,
            "unit": self.unit,
            "machine": dict(self.machine),
            "about": dict(self.about),
            "space": self.space.to_json(),
            "rest": self.rest,
            "cells": [self._cell_to_json(cell) for cell in self.cells],
        }

    def _cell_to_json(self, costs: CellCosts) -> dict[str, Any]:
        cell = self.space.cells[costs.kind]
        return {
            "name": costs.name,
            "kind": costs.kind,
            "edges": [
                {
                    "source": edge.source,
                    "stride": 2 if costs.kind == "reduce" and edge.source < cell.inputs else 1,
                    "output": list(output),
                    "costs": dict(zip(edge.operations, row, strict=True)),
                }
                for edge, output, row in zip(cell.edges, costs.outputs, costs.edges, strict=True)
            ],
        }

    def save(self, path: Path) -> None:
        """Writes the JSON file."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> CostTable:
    """Loads a table written by ``CostTable.save``.

    Raises:
        InputError: the file cannot be read as a table; the message names it.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if data["schema"] != SCHEMA or data["version"] != VERSION:
            raise ValueError(f"schema {data['schema']} version {data['version']}, not {SCHEMA} version {VERSION}")
        if data["quantity"] not in get_args(Quantity):
            raise ValueError(f"quantity {data['quantity']} is unknown")
        if data["unit"] != UNITS[data["quantity"]]:
            raise ValueError(f"unit {data['unit']}, but {data['quantity']} has the unit {UNITS[data['quantity']]}")
        space = SearchSpace.from_json(data["space"], file="space")
        cells = tuple(_cell_from_json(cell, space) for cell in data["cells"])
        if missing := set(space.cells) - {cell.kind for cell in cells}:
            raise ValueError(f"no {', '.join(sorted(missing))} cell")
        about, machine = dict(data["about"]), dict(data["machine"])
        table = CostTable(data["quantity"], space, _number(data["rest"]), cells, about, machine)
        if (lowest := table.limits()[0]) <= 0:
            raise ValueError(f"the cheapest network costs {lowest:g}, must be above 0")
        return table
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as error:
        found = in_one_line(error, at_most=200)
        raise InputError(
            f"{path}: no cost table ({type(error).__name__}: {found}); `autodisp-search plan=true "
            "cost_penalty=latency cost_penalty.save=FILE` writes one"
        ) from None


def _cell_from_json(data: Any, space: SearchSpace) -> CellCosts:
    name, kind = str(data["name"]), data["kind"]
    if kind not in space.cells:
        raise ValueError(f"cell {name} is of the kind {kind}, which the space has not")
    edges, outputs = [], []
    for edge, row in zip(space.cells[kind].edges, data["edges"], strict=True):
        if (row["source"], set(row["costs"])) != (edge.source, set(edge.operations)):
            raise ValueError(f"cell {name} has an edge from {row['source']} with other operations than the space")
        edges.append(tuple(_number(row["costs"][operation], least=0) for operation in edge.operations))
        outputs.append(tuple(int(size) for size in row["output"]))
    return CellCosts(name, kind, tuple(outputs), tuple(edges))


def _number(value: Any, *, least: float = -_LARGEST) -> float:
    """Returns a number, a whole one exactly."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _LARGEST:
        raise ValueError(f"a cost must be a number within {least:g} .. {_LARGEST:g}, not {value!r}")
    return value


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yields the entries in which the ``about`` of a table differs from that of a search."""
    for key in sorted({*found, *wanted}):
        mine, other = found.get(key), wanted.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            yield from differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            yield f"{prefix}{key} is {_short(mine)} there and {_short(other)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class CostPenalty:
    """A term of the alphas' loss that grows with the expected cost above a target."""

    table: CostTable
    target: float
    """In the unit of the table; inf for no penalty."""
    weight: float

    def __call__(self, mixture: Mixture) -> Tensor:
        """Computes weight * log(cost / target) of the expected cost; 0 at or below the target.

        Below the target the logarithm is cut off: its gradient does not depend on the target, so that without this
        every target would lead to the same cells.
        """
        return self.weight * (torch.log(self.table.expected(mixture)) - math.log(self.target)).clamp(min=0.0)

    def record(self, mixture: Mixture, genotype: Genotype) -> dict[str, float]:
        """Returns the expected cost under a mixture and the cost of a genotype, for the record of an epoch."""
        with torch.no_grad():
            return {"cost/expected": float(self.table.expected(mixture)), "cost/derived": self.table.of(genotype)}


def random_costs(table: CostTable, seeds: Sequence[int]) -> list[float]:
    """Returns the costs of random genotypes of the space."""
    return [table.of(Genotype(table.space.name, table.space.sample(seed))) for seed in seeds]
