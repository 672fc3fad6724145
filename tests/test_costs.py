"""Cost tables: the expected cost against a plain loop, its gradient, the limits, files, and the penalty."""

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autodisp.cells.architecture import Architecture, single_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.cli.search import warn_of_target
from autodisp.errors import InputError
from autodisp.search.costs import CellCosts, CostPenalty, CostTable, differences, load
from autodisp.search.relaxations import Dirichlet, Gumbel, Partial, Relaxation, Sigmoid, Softmax

RELAXATIONS: dict[str, Relaxation] = {
    "softmax": Softmax(),
    "dirichlet": Dirichlet(),
    "gumbel": Gumbel(),
    "partial": Partial(),
    "sigmoid": Sigmoid(),
}


def made_table(space: SearchSpace, *, seed: int = 0, cells: int = 2) -> CostTable:
    """A table of random costs, with several cells of each kind."""
    draw = random.Random(seed)
    made = [
        CellCosts(
            f"cell.{number}",
            kind,
            tuple((1, 4, 8, 8) for _ in cell.edges),
            tuple(tuple(draw.uniform(0.1, 2.0) for _ in edge.operations) for edge in cell.edges),
        )
        for number in range(cells)
        for kind, cell in space.cells.items()
    ]
    return CostTable("latency", space, 3.5, tuple(made), {"network": {"channels": 4}})


def by_a_loop(table: CostTable, mixture: Mixture) -> float:
    """The expected cost, cell by cell, node by node, operation by operation."""
    cost = table.rest
    for cell in table.cells:
        rows = list(zip(mixture.rows(cell.kind), cell.edges, strict=True))
        space = table.space.cells[cell.kind]
        for edges, keep in zip(space.nodes, space.keep, strict=True):
            weights, costs = [], []
            for edge in edges:
                row, known = rows.pop(0)
                for place, name in enumerate(edge.operations):
                    if name != "none":
                        weights.append(row.weights[place].item() * (1.0 if row.factor is None else row.factor.item()))
                        costs.append(known[place])
            cost += keep * sum(w * c for w, c in zip(weights, costs, strict=True)) / sum(weights)
    return cost


@pytest.mark.parametrize("space", ["s1", "darts", "autodispnet"])
@pytest.mark.parametrize("name", RELAXATIONS)
def test_the_expected_cost_is_a_sum_over_operations(name: str, space: str) -> None:
    architecture = Architecture(SPACES[space], seed=3, scale=2.0, edges=name == "partial").double()
    mixture, table = RELAXATIONS[name].mean(architecture), made_table(SPACES[space])
    assert table.expected(mixture).item() == pytest.approx(by_a_loop(table, mixture), rel=1e-12)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_the_gradient_of_the_penalty_is_its_finite_difference(name: str) -> None:
    architecture = Architecture(SPACES["s1"], seed=1, scale=1.0, edges=name == "partial").double()
    penalty = CostPenalty(made_table(SPACES["s1"]), target=5.0, weight=2.0)
    for values in architecture.parameters():
        (slope,) = torch.autograd.grad(penalty(RELAXATIONS[name].mean(architecture)), values)
        for place in (0, 7):
            ends = []
            with torch.no_grad():
                for step in (1e-4, -2e-4, 1e-4):
                    values[place] += step
                    ends.append(penalty(RELAXATIONS[name].mean(architecture)).item())
            assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(slope[place].item(), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("space", ["s1", "darts", "autodispnet"])
def test_under_one_genotype_it_is_the_cost_of_the_genotype(space: str) -> None:
    table = made_table(SPACES[space])
    for seed in range(5):
        genotype = Genotype(space, SPACES[space].sample(seed))
        path = single_path(SPACES[space], genotype, torch.device("cpu"))
        assert table.expected(path).item() == pytest.approx(table.of(genotype), rel=1e-6)


def test_an_operation_none_of_a_genotype_has_its_cost() -> None:
    space, table = SPACES["darts"], made_table(SPACES["darts"])
    genotype = Genotype("darts", space.sample(0))
    normal = ((("none", 0), ("none", 1)), *genotype.cells["normal"][1:])
    other = Genotype("darts", {**genotype.cells, "normal": normal})
    edges = space.cells["normal"].edges[:2]
    before = {source: name for name, source in genotype.cells["normal"][0]}
    change = sum(
        cell.edges[row][edge.operations.index("none")] - cell.edges[row][edge.operations.index(before[row])]
        for cell in table.cells
        if cell.kind == "normal"
        for row, edge in enumerate(edges)
    )
    assert table.of(other) - table.of(genotype) == pytest.approx(change)


def test_the_limits_are_those_of_all_networks() -> None:
    space = SPACES["tiny81"]
    table = made_table(space)
    costs = [table.of(Genotype(space.name, space.at(index))) for index in range(space.size)]
    assert table.limits() == pytest.approx((min(costs), max(costs)))


def test_the_penalty_is_the_logarithm_above_the_target_only() -> None:
    table = made_table(SPACES["s1"])
    architecture = Architecture(SPACES["s1"], scale=1.0)
    mixture = Softmax().mean(architecture)
    cost = table.expected(mixture).item()
    assert CostPenalty(table, cost / 2, 3.0)(mixture).item() == pytest.approx(3 * math.log(2), rel=1e-5)
    for target in (2 * cost, math.inf):
        value = CostPenalty(table, target, 3.0)(mixture)
        slopes = torch.autograd.grad(value, list(architecture.parameters()), retain_graph=True)
        assert value.item() == 0
        assert all((slope == 0).all() for slope in slopes)


def test_files(tmp_path: Path) -> None:
    table = made_table(SPACES["autodispnet"])
    table.save(tmp_path / "costs.json")
    assert load(tmp_path / "costs.json") == table


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


@pytest.mark.parametrize("key", ["schema", "version", "quantity", "unit", "space", "rest", "cells", "about", "machine"])
@pytest.mark.parametrize("value", [None, "word", float("nan")])
def test_damaged_files(key: str, value: Any, tmp_path: Path) -> None:
    data = made_table(SPACES["tiny81"]).to_json()
    path = tmp_path / "costs.json"
    path.write_text(json.dumps(data | {key: value}))
    with pytest.raises(InputError, match=r"costs\.json: no cost table .* writes one"):
        load(path)
    path.write_text(json.dumps(without(data, key)))
    with pytest.raises(InputError, match="no cost table"):
        load(path)


def test_a_missing_file_and_a_missing_operation(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "costs.json")
    data = made_table(SPACES["tiny81"]).to_json()
    data["cells"][0]["edges"][0]["costs"].popitem()
    (tmp_path / "costs.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="with other operations than the space"):
        load(tmp_path / "costs.json")


@pytest.mark.parametrize(("rest", "cost"), [(3.5, -1.0), (-1e6, 1.0), (0, 0.0), (1e300, 1.0), (3.5, 10**40)])
def test_costs_whose_logarithm_is_no_number(rest: float, cost: float, tmp_path: Path) -> None:
    data = made_table(SPACES["tiny81"]).to_json() | {"rest": rest}
    for cell in data["cells"]:
        for edge in cell["edges"]:
            edge["costs"] = dict.fromkeys(edge["costs"], cost)
    (tmp_path / "costs.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"no cost table .*(within|must be above 0)"):
        load(tmp_path / "costs.json")


def test_differences_name_the_setting() -> None:
    here = {"task": "disparity", "network": {"channels": 8, "head": "refined"}, "inputs": [[1, 3, 48, 64]]}
    there = {"task": "disparity", "network": {"channels": 4, "head": "refined"}, "inputs": [[1, 3, 48, 128]]}
    assert list(differences(there, here)) == [
        "inputs is [[1, 3, 48, 128]] there and [[1, 3, 48, 64]] here",
        "network.channels is 4 there and 8 here",
    ]


@pytest.mark.parametrize(
    ("quantity", "cost", "words"),
    [("latency", 3.14159, "3.14 ms"), ("latency", 123.4, "123 ms"), ("macs", 25.6e6, "25.6 M MACs"),
     ("parameters", 512, "512 parameters")],
)  # fmt: skip
def test_costs_in_words(quantity: Any, cost: float, words: str) -> None:
    assert CostTable(quantity, SPACES["s1"], 0, ()).in_words(cost) == words


def test_a_target_that_all_networks_meet_or_none_is_said() -> None:
    table, said = made_table(SPACES["s1"]), list[str]()
    lowest, highest = table.limits()
    console: Any = SimpleNamespace(message=said.append)
    for target in (None, lowest, (lowest + highest) / 2):
        warn_of_target(table, target, console)
    assert not said
    warn_of_target(table, lowest / 2, console)
    warn_of_target(table, 5e8, console)
    assert "none within the target" in said[0]
    assert said[1].startswith("cost_penalty.target=5e+08: networks of this space cost ")
    assert "all within the target" in said[1]
