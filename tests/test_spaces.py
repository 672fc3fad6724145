import copy
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from autodisp.cells.genotype import load
from autodisp.cells.operations import OPERATIONS
from autodisp.cells.spaces import (
    INPUTS,
    KINDS,
    SPACES,
    CellSpace,
    EdgeSpace,
    NodeChoice,
    SearchSpace,
    dense_cell,
    find_space,
)
from autodisp.errors import InputError

SKIP, SEP, MAX, AVG = "skip_connect", "sep_conv_3x3", "max_pool_3x3", "avg_pool_3x3"
DIL3, DIL5 = "dil_conv_3x3", "dil_conv_5x5"

S1 = {
    "normal": [
        [(SKIP, DIL3), (SKIP, DIL5)],
        [(SKIP, DIL5), (SKIP, SEP), (SKIP, DIL3)],
        [(MAX, SKIP), (SKIP, SEP), (SKIP, SEP), (SKIP, DIL3)],
        [(SKIP, SEP), (MAX, SKIP), (SKIP, DIL3), (DIL3, DIL5), (DIL3, DIL5)],
    ],
    "reduce": [
        [(MAX, AVG), (MAX, DIL3)],
        [(MAX, AVG), (MAX, AVG), (SKIP, DIL5)],
        [(MAX, AVG), (MAX, SEP), (SKIP, DIL3), (SKIP, DIL5)],
        [(MAX, AVG), (MAX, AVG), (SKIP, DIL5), (SKIP, DIL5), (SKIP, DIL5)],
    ],
}
"""Operations by node and source."""


@st.composite
def cell_spaces(draw: st.DrawFn, kind: str = "normal", nodes: int = 2) -> CellSpace:
    found = []
    for index in range(draw(st.integers(1, nodes))):
        reachable = range(INPUTS[kind] + index)
        sources = draw(st.lists(st.sampled_from(reachable), min_size=1, max_size=3, unique=True))
        edges = []
        for source in sources:
            names = draw(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3, unique=True))
            edges.append(EdgeSpace(source, tuple(names) if names != ["none"] else ("none", SKIP)))
        found.append(tuple(edges))
    return CellSpace(kind, tuple(found), tuple(draw(st.integers(1, len(edges))) for edges in found))


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True))
    cells = {kind: draw(cell_spaces(kind)) for kind in kinds}
    return SearchSpace("random", draw(st.sampled_from(("darts", "dense"))), cells)


def choices_of(edges: Sequence[EdgeSpace], keep: int) -> set[NodeChoice]:
    """Everything a node may be, by trying all combinations of operations and absence."""
    options = [[None, *((name, edge.source) for name in edge.operations if name != "none")] for edge in edges]
    return {
        kept
        for combination in itertools.product(*options)
        if len(kept := tuple(choice for choice in combination if choice is not None)) == keep
    }


@pytest.mark.parametrize(
    ("name", "alphas", "flavour"),
    [("s1", 56, "darts"), ("s2", 56, "darts"), ("s3", 84, "darts"), ("s4", 56, "darts"), ("darts", 224, "darts")],
)
def test_published_numbers_of_alphas(name: str, alphas: int, flavour: str) -> None:
    space = find_space(name)
    assert (space.name, space.alphas, space.flavour) == (name, alphas, flavour)
    assert space.kinds == ("normal", "reduce")
    for cell in space.cells.values():
        assert [[edge.source for edge in node] for node in cell.nodes] == [list(range(n)) for n in (2, 3, 4, 5)]
        assert cell.keep == (2, 2, 2, 2)
        assert cell.edges == tuple(itertools.chain(*cell.nodes))


def test_s1_edge_by_edge() -> None:
    for kind, table in S1.items():
        nodes = SPACES["s1"].cells[kind].nodes
        assert [[edge.source for edge in node] for node in nodes] == [list(range(len(row))) for row in table]
        assert [[set(edge.operations) for edge in node] for node in nodes] == [[*map(set, row)] for row in table]


@pytest.mark.parametrize(
    ("name", "operations"),
    [
        ("s2", {SKIP, SEP}),
        ("s3", {"none", SKIP, SEP}),
        ("s4", {"noise", SEP}),
        ("darts", {"none", MAX, AVG, SKIP, SEP, "sep_conv_5x5", DIL3, DIL5}),
        ("tiny81", {MAX, SKIP, SEP}),
    ],
)
def test_uniform_spaces_have_the_same_operations_on_every_edge(name: str, operations: set[str]) -> None:
    for cell in SPACES[name].cells.values():
        assert {frozenset(edge.operations) for edge in cell.edges} == {frozenset(operations)}
        assert cell.width == len(operations)


def all_of(space: SearchSpace) -> list[dict[str, tuple[NodeChoice, ...]]]:
    return [space.at(index) for index in range(space.size)]


@pytest.mark.parametrize("space", [SPACES["tiny81"], SPACES["tiny81_disparity"]], ids=lambda space: space.name)
def test_a_place_is_that_of_the_enumeration(space: SearchSpace) -> None:
    nodes = [(kind, node) for kind in space.kinds for node in range(len(space.cells[kind].nodes))]
    expected = itertools.product(*(list(space.cells[kind].node_choices(node)) for kind, node in nodes))
    found = [tuple(itertools.chain.from_iterable(cells.values())) for cells in all_of(space)]
    assert found == list(expected)
    for index in (-1, space.size):
        with pytest.raises(InputError, match=rf"^{space.name}:{index}: space '{space.name}' has the genotypes 0 to 80"):
            space.at(index)


def test_tiny81_disparity_has_the_upsampling_cell_that_is_published() -> None:
    space, published = SPACES["tiny81_disparity"], [sorted(node) for node in load("autodispnet").cells["upsample"]]
    found = all_of(space)
    assert len({tuple(sorted(cells.items())) for cells in found}) == space.size == 81
    assert all([sorted(node) for node in cells["upsample"]] == published for cells in found)


def test_sizes_in_closed_form() -> None:
    pairs = math.prod(math.comb(n, 2) for n in (2, 3, 4, 5))
    assert SPACES["s2"].size == SPACES["s3"].size == SPACES["s4"].size == (pairs * 4**4) ** 2
    assert SPACES["darts"].size == (pairs * 7**8) ** 2
    assert SPACES["tiny81"].size == 3**4
    threes = math.comb(2, 2) * math.comb(3, 2) * math.comb(4, 2)
    upsample = 5**4 * math.comb(5, 2) * 5**2 * math.comb(6, 2) * 5**2
    assert SPACES["autodispnet"].size == threes * 5**6 * threes * 3**6 * upsample


def test_autodispnet_is_the_published_topology() -> None:
    cells = SPACES["autodispnet"].cells
    assert SPACES["autodispnet"].flavour == "dense"
    assert {kind: cell.keep for kind, cell in cells.items()} == {
        "normal": (2, 2, 2),
        "reduce": (2, 2, 2),
        "upsample": (4, 2, 2),
    }
    assert [len(node) for node in cells["upsample"].nodes] == [4, 5, 6]
    assert not [name for edge in cells["reduce"].edges for name in edge.operations if name.startswith("dil")]


@settings(max_examples=60)
@given(cell_spaces())
def test_counts_agree_with_enumeration(cell: CellSpace) -> None:
    space = SearchSpace("random", "darts", {"normal": cell})
    per_node = [choices_of(edges, keep) for edges, keep in zip(cell.nodes, cell.keep, strict=True)]
    assert space.size == math.prod(map(len, per_node))
    if space.size <= 3000:
        found = [cells["normal"] for cells in all_of(space)]
        assert len(found) == space.size
        assert set(found) == set(itertools.product(*per_node))


@settings(max_examples=30)
@given(spaces(), st.integers(0, 10**6))
def test_samples_belong_to_the_space_and_to_the_seed(space: SearchSpace, seed: int) -> None:
    found = space.sample(seed)
    assert found == space.sample(seed)
    assert tuple(found) == space.kinds
    for kind, nodes in found.items():
        cell = space.cells[kind]
        for node, edges, keep in zip(nodes, cell.nodes, cell.keep, strict=True):
            assert node in choices_of(edges, keep)


UNEVEN = SearchSpace(
    "uneven",
    "darts",
    {
        "normal": CellSpace(
            "normal",
            (
                (EdgeSpace(0, (SKIP,)), EdgeSpace(1, ("none", SKIP, SEP))),
                (EdgeSpace(0, (SKIP,)), EdgeSpace(1, (SEP, MAX, AVG, DIL3)), EdgeSpace(2, (SKIP, "none", DIL5))),
            ),
            (1, 2),
        )
    },
)


@pytest.mark.parametrize("space", [SPACES["tiny81"], UNEVEN], ids=lambda space: space.name)
def test_sampling_is_uniform(space: SearchSpace) -> None:
    everything = [str(cells) for cells in all_of(space)]
    counts = Counter(str(space.sample(seed)) for seed in range(60 * space.size))
    assert set(counts) == set(everything)
    assert stats.chisquare([counts[cells] for cells in everything]).pvalue > 1e-3


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_named_spaces_go_to_json_and_back(space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space.to_json()))
    assert SearchSpace.load(path) == space == find_space(space.name)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert SearchSpace.load(path) == space


@settings(max_examples=30)
@given(spaces())
def test_any_space_goes_to_json_and_back(space: SearchSpace) -> None:
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json())), file="f.json") == space


def valid() -> dict[str, Any]:
    data = UNEVEN.to_json()
    data["name"] = "mine"
    return copy.deepcopy(data)


def replaced(path: Sequence[Any], value: Any) -> dict[str, Any]:
    data = valid()
    target: Any = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return data


NODES = ("cells", "normal", "nodes")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "not a search space"),
        (None, "not a search space"),
        ({}, "KeyError: 'cells'"),
        (replaced(["cells"], {}), "no cells; it needs one or more of normal"),
        (replaced(["cells"], []), "not a search space"),
        (replaced(["flavour"], "resnet"), "flavour 'resnet' must be 'darts' or 'dense'"),
        (replaced(["flavour"], ["darts"]), "must be 'darts' or 'dense'"),
        (replaced(["name"], None), "None is not a name"),
        (replaced(["name"], ""), "is not a name"),
        (replaced(["name"], "s3"), "name 's3' belongs to a built-in space"),
        (replaced(["cells"], {"middle": valid()["cells"]["normal"]}), "cell kind 'middle' is unknown"),
        (replaced(NODES, []), "normal cell: no nodes"),
        (replaced(NODES, {"a": 1}), "not a search space"),
        (replaced([*NODES, 0], []), "node 0: keeps 1 of 0 edges"),
        (replaced([*NODES, 0, 0], [0]), "not a search space"),
        (replaced([*NODES, 0, 0, 0], 2), "node 0: source 2 does not exist; take 0 to 1"),
        (replaced([*NODES, 1, 0, 0], 3), "node 1: source 3 does not exist; take 0 to 2"),
        (replaced([*NODES, 0, 0, 0], -1), "source -1 does not exist"),
        (replaced([*NODES, 0, 0, 0], True), "True is not an integer"),
        (replaced([*NODES, 0, 0, 0], 0.0), "0.0 is not an integer"),
        (replaced([*NODES, 0, 0, 0], math.inf), "inf is not an integer"),
        (replaced([*NODES, 0, 1, 0], 0), "node 0: two edges from one source"),
        (replaced([*NODES, 0, 0, 1], "skip_connect"), "'skip_connect' is not a list of operations"),
        (replaced([*NODES, 0, 0, 1], []), "node 0, edge from 0: operations"),
        (replaced([*NODES, 0, 0, 1], ["none"]), "hold one that is not 'none'"),
        (replaced([*NODES, 0, 0, 1], [SKIP, SKIP]), "must be distinct"),
        (replaced([*NODES, 0, 0, 1], [SKIP, "sep_conv_9x9"]), "sep_conv_9x9"),
        (replaced([*NODES, 0, 0, 1], [3]), "3 is not a name"),
        (replaced(["cells", "normal", "keep"], [1]), "2 nodes but 1 numbers of kept edges"),
        (replaced(["cells", "normal", "keep"], [1, 0]), "node 1: keeps 0 of 3 edges"),
        (replaced(["cells", "normal", "keep"], [1, 4]), "node 1: keeps 4 of 3 edges"),
        (replaced(["cells", "normal", "keep"], [1, 2.5]), "2.5 is not an integer"),
        (replaced(["cells", "normal", "keep"], 2), "not a search space"),
    ],
)
def test_malformed_spaces_are_refused_with_the_name_of_the_file(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^mine.json: .*{message}"):
        SearchSpace.from_json(data, file="mine.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(sorted(OPERATIONS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    return [deeper for key in keys for deeper in [(*path, key), *places(data[key], (*path, key))]]


@pytest.mark.slow
@settings(max_examples=150)
@given(st.sampled_from(places(valid())), json_values)
def test_a_spoilt_file_is_refused_or_still_a_space(path: tuple[Any, ...], value: Any) -> None:
    try:
        space, problem = SearchSpace.from_json(replaced(path, value), file="spoilt.json"), "spoilt.json: "
    except InputError as error:
        space, problem = UNEVEN, str(error)
    assert problem.startswith("spoilt.json: ")
    assert space.size >= 1
    assert space.alphas >= max(cell.width for cell in space.cells.values()) >= 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"null", b"NaN", b'"s3"'],
    ids=["empty", "cut off", "binary", "deep", "digits", "null", "nan", "a name"],
)
def test_files_that_are_no_space(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"space.json: "):
        SearchSpace.load(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(InputError, match="cannot be read as the JSON of a search space"):
            SearchSpace.load(path)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"'s5' is unknown: take one of s1, .*autodispnet, tiny81_disparity, or space.file"
    ):
        find_space("s5")


def test_cells_stand_under_their_kind() -> None:
    with pytest.raises(InputError, match="a normal cell has the name 'reduce'"):
        SearchSpace("mine", "darts", {"reduce": dense_cell("normal", nodes=1, operations=(SKIP,))})


def test_hostile_json_is_refused_in_one_short_line() -> None:
    deep: Any = []
    for _ in range(950):
        deep = [deep]
    cell = SPACES["s2"].to_json()["cells"]["normal"]
    for cells in ({"a\x1bb": cell}, {"normal": cell | {"nodes": deep}}, {"normal": cell | {"keep": deep}},
                  {"normal": cell | {"nodes": [[[0, ["y" * 10**5]]]], "keep": [1]}},
                  {"normal": cell | {"nodes": [[[10**4000, ["skip_connect"]]]], "keep": [1]}}):  # fmt: skip
        with pytest.raises(InputError, match=r"^s\.json: ") as caught:
            SearchSpace.from_json({"name": "mine", "flavour": "darts", "cells": cells}, file="s.json")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 700
