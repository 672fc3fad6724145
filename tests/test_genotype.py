import json
import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodisp.cells.genotype import Genotype, check, derive, from_json, load, parse, source_name, zoo_names
from autodisp.cells.spaces import SPACES, CellSpace, EdgeSpace, NodeChoice, SearchSpace, uniform_space
from autodisp.errors import InputError

SKIP, SEP3, SEP5, MAX, AVG = "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "max_pool_3x3", "avg_pool_3x3"
DIL3, DIL5 = "dil_conv_3x3", "dil_conv_5x5"

DARTS_V1_NORMAL = (((SEP3, 1), (SEP3, 0)), ((SKIP, 0), (SEP3, 1)), ((SKIP, 0), (SEP3, 1)), ((SEP3, 0), (SKIP, 2)))
DARTS_V1_REDUCE = (((MAX, 0), (MAX, 1)), ((SKIP, 2), (MAX, 0)), ((MAX, 0), (SKIP, 2)), ((SKIP, 2), (AVG, 0)))
DARTS_V2_NORMAL = (((SEP3, 0), (SEP3, 1)), ((SEP3, 0), (SEP3, 1)), ((SEP3, 1), (SKIP, 0)), ((SKIP, 0), (DIL3, 2)))
DARTS_V2_REDUCE = (((MAX, 0), (MAX, 1)), ((SKIP, 2), (MAX, 1)), ((MAX, 0), (SKIP, 2)), ((SKIP, 2), (MAX, 1)))
DARTS_V2 = {"normal": DARTS_V2_NORMAL, "reduce": DARTS_V2_REDUCE}
AUTODISPNET = {
    "normal": (((SKIP, 0), (SEP5, 1)), ((SEP3, 2), (SKIP, 0)), ((DIL3, 2), (DIL3, 0))),
    "reduce": (((SEP5, 1), (SEP3, 0)), ((SEP5, 2), (SKIP, 0)), ((SKIP, 1), (SEP5, 3))),
    "upsample": (((SEP3, 3), (DIL3, 2), (SEP3, 1), (SKIP, 0)), ((SEP3, 3), (SEP3, 4)), ((SEP3, 2), (DIL5, 4))),
}
S1_DEGENERATE = (((SKIP, 1), (DIL3, 0)), ((SKIP, 2), (SKIP, 0)), ((SKIP, 0), (SKIP, 2)), ((SKIP, 2), (SKIP, 1)))
"""What DARTS found in S1 on CIFAR-10 (RobustDARTS' log, L2 3e-4, seed 1); only the normal cell is published."""
S1_REDUCE = (((MAX, 0), (DIL3, 1)), ((AVG, 0), (AVG, 1)), ((MAX, 0), (SEP3, 1)), ((DIL5, 4), (DIL5, 3)))
S1_CELLS = {"normal": S1_DEGENERATE, "reduce": S1_REDUCE}
NONE_CELLS = {
    "normal": ((("none", 0), ("none", 1)), ((SEP3, 0), ("none", 2)), ((SKIP, 1), (SEP3, 3)), (("none", 0), (SKIP, 4))),
    "reduce": ((("none", 0), (SKIP, 1)), (("none", 1), ("none", 2)), ((SEP3, 0), (SKIP, 2)), ((SKIP, 3), (SEP3, 4))),
}
"""As random search with weight sharing finds them in S3."""

MIXED_NONE = SearchSpace(
    "mixed none",
    "darts",
    {
        "normal": CellSpace(
            "normal",
            (
                (EdgeSpace(1, ("none", SKIP)), EdgeSpace(0, (SEP3, "none", DIL3))),
                (EdgeSpace(0, (MAX, SKIP, "none")), EdgeSpace(1, (SEP5,)), EdgeSpace(2, ("none", AVG, SKIP))),
            ),
            (1, 2),
        )
    },
)


def flat(nodes: tuple[NodeChoice, ...]) -> list[tuple[str, int]]:
    return [choice for node in nodes for choice in node]


def published(cells: Mapping[str, tuple[NodeChoice, ...]], concat: str = "range(2, 6)") -> str:
    fields = ", ".join(f"{kind}={flat(nodes)}, {kind}_concat={concat}" for kind, nodes in cells.items())
    return f"Genotype({fields})"


def naive(space: SearchSpace, tables: Mapping[str, list[list[float]]]) -> dict[str, tuple[NodeChoice, ...]]:
    """Takes the best remaining (weight, edge, operation) until enough edges are kept; the first of equals wins."""
    found = {}
    for kind, cell in space.cells.items():
        row, nodes = 0, []
        for edges, keep in zip(cell.nodes, cell.keep, strict=True):
            left = []
            for edge in edges:
                for column, name in enumerate(edge.operations):
                    left.append((edge.source, column, name, tables[kind][row][column]))
                row += 1
            left = sorted((entry for entry in left if entry[2] != "none"), key=lambda entry: entry[:2])
            chosen: list[tuple[str, int]] = []
            for _ in range(keep):
                best = max(weight for *_, weight in left)
                source, _, name, _ = next(entry for entry in left if entry[3] == best)
                chosen.append((name, source))
                left = [entry for entry in left if entry[0] != source]
            nodes.append(tuple(chosen))
        found[kind] = tuple(nodes)
    return found


def tables_of(space: SearchSpace, draw: random.Random, levels: int) -> dict[str, list[list[float]]]:
    return {
        kind: [[draw.randrange(levels) / levels for _ in range(cell.width)] for _ in cell.edges]
        for kind, cell in space.cells.items()
    }


@settings(max_examples=150)
@given(st.sampled_from([*SPACES.values(), MIXED_NONE]), st.integers(0, 10**9), st.sampled_from([2, 5, 1 << 20]))
def test_derivation_against_a_naive_one(space: SearchSpace, seed: int, levels: int) -> None:
    tables = tables_of(space, random.Random(seed), levels)
    weights: dict[str, Tensor] = {}
    for kind, table in tables.items():
        weights[kind] = torch.tensor(table, dtype=torch.float64)
        for row, edge in enumerate(space.cells[kind].edges):
            weights[kind][row, len(edge.operations) :] = random.Random(seed).choice([9.0, math.nan, 0.0])
            if "none" in edge.operations:
                tables[kind][row][edge.operations.index("none")] = 5.0
                weights[kind][row, edge.operations.index("none")] = 5.0
    found = derive(space, weights)
    assert found.cells == naive(space, tables)
    check(found, space)


@settings(max_examples=40)
@given(st.sampled_from(sorted(SPACES)), st.integers(0, 10**6))
def test_json_round_trip(name: str, seed: int) -> None:
    genotype = Genotype(name, SPACES[name].sample(seed), {"run": "r", "epoch": seed, "eigenvalue": None})
    back = from_json(json.loads(json.dumps(genotype.to_json())), origin="g.json")
    assert back == genotype
    assert back.provenance == genotype.provenance


def test_files_round_trip(tmp_path: Path) -> None:
    genotype = Genotype("darts", DARTS_V2).with_provenance(epoch=3, dataset="Größe").with_provenance(run="x")
    genotype.save(tmp_path / "genotype.json")
    back = load(tmp_path / "genotype.json")
    assert back == genotype
    assert back.provenance == {"epoch": 3, "dataset": "Größe", "run": "x"}
    assert load(str(tmp_path / "genotype.json"), space=SPACES["darts"]) == genotype


def spoilt(**changes: Any) -> dict[str, Any]:
    return {**Genotype("darts", DARTS_V2).to_json(), **changes}


DEEP: list[Any] = []
for _ in range(950):
    DEEP = [DEEP]


def with_cell(**cells: Any) -> dict[str, Any]:
    data = spoilt()
    data["cells"] |= json.loads(json.dumps(cells))
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "not a genotype; its 'schema' must be 'autodisp/genotype'"),
        ({"schema": "other"}, "not a genotype"),
        (spoilt(version=2), "version 2 but this program reads version 1; update autodisp"),
        (spoilt(version="2"), "version '2' but this program reads version 1"),
        (spoilt(version=None), "version None"),
        (spoilt(cells=None), "not a genotype"),
        (spoilt(cells=[]), "not a genotype"),
        (spoilt(cells={}), "has the cells  but space 'darts' has normal, reduce"),
        (spoilt(cells={"middle": []}), "cell kind 'middle' is unknown"),
        (spoilt(provenance="x"), "its 'provenance' must be a mapping"),
        (spoilt(provenance=["x"]), "its 'provenance' must be a mapping"),
        (spoilt(space="s9"), "names space 's9', which is none of s1"),
        (spoilt(space=None), "names space 'None'"),
        (with_cell(normal=[[["sep_conv_3x3", True]]]), "no .operation, source. pair"),
        (with_cell(normal=[[["sep_conv_3x3", 1.0]]]), "no .operation, source. pair"),
        (with_cell(normal=["ab"]), "not a genotype"),
        (with_cell(normal=[[3]]), "not a genotype"),
        (with_cell(normal=DARTS_V2_NORMAL[:3]), "normal cell has 3 nodes but space 'darts' has 4"),
        (with_cell(reduce=((("sep_conv_9x9", 0), (MAX, 1)), *DARTS_V2_REDUCE[1:])), "reduce cell, node 0, edge from 0"),
        (spoilt(space="a\nb"), "names space 'a b', which is none of s1"),
        (spoilt(space="x" * 10**5), r"names space 'x{60}\.\.\.'"),
        (spoilt(version="\x1b[31m"), r"version '\\x1b"),
        (spoilt(cells={"a\nb": []}), "cell kind 'a b' is unknown"),
        (spoilt(cells={"normal": DEEP}), "not a genotype .ValueError"),
        (spoilt(cells={"normal": [[["y" * 10**5, 0]]]}), "has the cells normal but"),
    ],
)
def test_malformed_json_is_refused_in_one_short_line(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^g.json: .*{message}") as caught:
        from_json(data, origin="g.json")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def replaced(kind: str, node: int, choices: NodeChoice) -> Genotype:
    cells = dict(DARTS_V2)
    cells[kind] = (*cells[kind][:node], choices, *cells[kind][node + 1 :])
    return Genotype("darts", cells)


@pytest.mark.parametrize(
    ("genotype", "space", "message"),
    [
        (replaced("normal", 1, ((SEP3, 0), (SEP3, 3))), "darts", r"node 1: no edge from source 3 .*0, 1, 2"),
        (replaced("normal", 1, ((SEP3, 0), (SEP3, -1))), "darts", "no edge from source -1"),
        (replaced("reduce", 2, ((SEP3, 0), (SKIP, 0))), "darts", "reduce cell, node 2: two edges from source 0"),
        (replaced("reduce", 2, ((SEP3, 0),)), "darts", "reduce cell, node 2: 1 edges but space 'darts' keeps 2"),
        (Genotype("s2", NONE_CELLS), "s2", r"edge from 0: operation 'none' is not in space 's2' \(skip_connect, sep_c"),
        (
            Genotype("darts", DARTS_V2),
            "s3",
            r"normal cell, node 3, edge from 2: operation 'dil_conv_3x3' is not in space 's3' "
            r"\(none, skip_connect, sep_conv_3x3\); was it found in another space\? It names space: darts",
        ),
        (Genotype("autodispnet", AUTODISPNET), "darts", "has the cells normal, reduce, upsample but space 'darts' has"),
        (Genotype("darts", DARTS_V2), "tiny81", "normal cell has 4 nodes but space 'tiny81' has 1"),
        (Genotype("x", {**DARTS_V2, "other": ()}), "darts", "has the cells normal, reduce, other"),
    ],
)
def test_cells_that_a_space_does_not_hold(genotype: Genotype, space: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^g.json: .*{message}"):
        check(genotype, SPACES[space], origin="g.json")


def test_the_degenerate_cell_belongs_to_s1_only() -> None:
    check(Genotype("s1", S1_CELLS), SPACES["s1"])
    assert parse(published(S1_CELLS)) == Genotype("s1", S1_CELLS)
    for name in ("s2", "s3"):
        with pytest.raises(InputError, match="node 0, edge from 0: operation 'dil_conv_3x3'"):
            parse(published(S1_CELLS), space=SPACES[name])


def test_none_is_read_where_the_space_has_it_and_never_derived() -> None:
    assert parse(published(NONE_CELLS)) == Genotype("s3", NONE_CELLS)
    assert from_json(json.loads(json.dumps(Genotype("s3", NONE_CELLS).to_json())), origin="g.json").cells == NONE_CELLS
    weights = {kind: torch.tensor([[0.9, 0.06, 0.04]] * 14) for kind in ("normal", "reduce")}
    assert "none" not in str(derive(SPACES["s3"], weights).cells)
    assert "none" not in str(SPACES["s3"].sample(0))


def test_a_string_that_fits_several_spaces_says_so() -> None:
    cells = dict.fromkeys(("normal", "reduce"), (((SEP3, 0), (SKIP, 1)),) * 4)
    found = parse(published(cells))
    assert (found.space, found.provenance) == ("s2", {"spaces": ["s2", "s3", "darts"]})
    assert found.notes == ["the cells fit the spaces s2, s3, darts; they are taken to be of s2"]
    assert from_json(found.to_json(), origin="g.json").notes == found.notes
    for sure in (parse(published(cells), space=SPACES["s3"]), parse(published(DARTS_V2)), load("darts_v2")):
        assert sure.notes == []


DARTS_FILE = f"""
DARTS_V2 = Genotype(normal={flat(DARTS_V2_NORMAL)}, normal_concat=[2, 3, 4, 5],
    reduce={flat(DARTS_V2_REDUCE)}, reduce_concat=[2, 3, 4, 5])

DARTS = DARTS_V2
"""
NUMPY = published(DARTS_V2)
for digit in range(6):
    NUMPY = NUMPY.replace(f", {digit})", f", np.int64({digit}))")


@pytest.mark.parametrize(
    "text",
    [
        published(DARTS_V2),
        published(DARTS_V2, "[2, 3, 4, 5]"),
        published(DARTS_V2, "(2, 3, 4, 5)"),
        published(DARTS_V2, "list(range(2, 6))"),
        published(DARTS_V2, "[5, 4, 3, 2]"),
        DARTS_FILE,
        f"from collections import namedtuple\nGenotype = namedtuple('Genotype', 'normal reduce')\n{DARTS_FILE}",
        f"class Genotype(NamedTuple):\n    normal: list\n\n{DARTS_FILE}",
        f"04/07 10:32:01 PM genotype = {published(DARTS_V2)}",
        f"2019-04-07 10:32:01,123 INFO (epoch 49) genotype = {published(DARTS_V2)}\n04/07 PM it's done (ok",
        f"{published(DARTS_V2)}\n{published(DARTS_V2)}\n",
        f"x = genotypes.{published(DARTS_V2)};",
        published(DARTS_V2).replace("), (", "),\n        (  # a comment\n        "),
        published(DARTS_V2).replace("), (", "),  # the best (of 3\n (", 1),
        published(DARTS_V2).replace("), (", "),  # :) it's good\n (", 1),
        f"# OLD = {published(S1_CELLS)}\n#   Genotype(\nx = 1  # was {published(S1_CELLS)}\n{published(DARTS_V2)}",
        f"run #3 of 4: {published(DARTS_V2)}",
        published(DARTS_V2).replace("), (", "),  # again\n (", 1) + "\n" + published(DARTS_V2),
        published(DARTS_V2).replace("Genotype(", "Genotype (\n"),
        published(DARTS_V2).replace("'", '"'),
        published(DARTS_V2)
        .replace("(", "[")
        .replace(")", "]")
        .replace("Genotype[", "Genotype(")[:-1]
        .replace("range[2, 6]", "range(2, 6)")
        + ")",
        f"Genotype(normal={list(DARTS_V2_NORMAL)}, reduce={list(map(list, DARTS_V2_REDUCE))})",
        f"Genotype({flat(DARTS_V2_NORMAL)}, range(2, 6), {flat(DARTS_V2_REDUCE)}, range(2, 6))",
        f"Genotype(normal={flat(DARTS_V2_NORMAL)}, reduce={flat(DARTS_V2_REDUCE)},)",
        f"Genotype(reduce_concat=range(2, 6), reduce={flat(DARTS_V2_REDUCE)}, normal={flat(DARTS_V2_NORMAL)})",
        NUMPY,
        published(DARTS_V2).replace("'max_pool_3x3'", "np.str_('max_pool_3x3')"),
        f"\ufeff\r\n{published(DARTS_V2)}\r\n",
    ],
)
def test_published_strings_of_darts(text: str) -> None:
    assert parse(text) == Genotype("darts", DARTS_V2)


@pytest.mark.parametrize("name", ["upsample", "upsampling", "upconv", "up"])
def test_published_strings_of_autodispnet(name: str) -> None:
    text = published({key: AUTODISPNET[key] for key in ("normal", "reduce")}, "range(2, 5)")[:-1]
    text += f", {name}={flat(AUTODISPNET['upsample'])}, {name}_concat=range(4, 7))"
    assert parse(text) == Genotype("autodispnet", AUTODISPNET)
    with pytest.raises(InputError, match="upsample cell concatenates"):
        parse(text.replace("range(4, 7)", "range(2, 5)"))


def test_the_first_space_that_holds_the_cells_is_taken() -> None:
    cells = dict.fromkeys(("normal", "reduce"), (((SEP3, 0), (SEP3, 1)),) * 4)
    assert parse(published(cells)).space == "s2"
    assert parse(published(cells), space=SPACES["s4"]).space == "s4"
    tiny = dict.fromkeys(("normal", "reduce"), (((MAX, 0), (SKIP, 1)),))
    assert parse(published(tiny, "[2]")).space == "tiny81"


@settings(max_examples=30)
@given(st.sampled_from([*SPACES.values(), MIXED_NONE]), st.integers(0, 10**6))
def test_any_genotype_is_read_from_its_string(space: SearchSpace, seed: int) -> None:
    """Flat strings are cut by what the given space keeps."""
    cells = space.sample(seed)
    text = f"Genotype({', '.join(f'{kind}={flat(nodes)}' for kind, nodes in cells.items())})"
    assert parse(text, space=space) == Genotype(space.name, cells)


AMOEBANET = (
    "AmoebaNet = Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), "
    "('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), "
    "('avg_pool_3x3', 1)], normal_concat=[4, 5, 6], reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1)], "
    "reduce_concat=[3, 4, 6])"
)
PLAIN = published(DARTS_V2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither JSON nor a string with 'Genotype"),
        ("Genotype", "neither JSON nor"),
        ("MyGenotype(normal=[])", "neither JSON nor"),
        (PLAIN[:200], "call is not closed; is the line cut off"),
        ("Genotype(" * 3, "not closed"),
        (f"{PLAIN}\n{PLAIN.replace('max_pool', 'avg_pool')}", "holds 2 different 'Genotype"),
        (f"{PLAIN}\n{PLAIN[:50]}", "holds 2 different 'Genotype"),
        ("Genotype(normal=[('a', 0)), 1])", "no valid Python expression"),
        ("Genotype(normal=lambda)", "no valid Python expression"),
        (PLAIN.replace("'", "\u2019"), r"no valid Python expression \(invalid character '\u2019' \(U\+2019\)\)"),
        ("Genotype(normal='\\_')", "no list of .operation, source. pairs"),
        ("Genotype(normal=__import__('os').system('false'))", "is no plain data"),
        ("Genotype(normal=[__import__('os').system('false')])", "is no plain data"),
        ("Genotype(normal=[('a', open('x'))])", "'open..x..' is no plain data"),
        ("Genotype(**{'normal': []})", "is no plain data"),
        ("Genotype(*[1])", "is no plain data"),
        ("Genotype(normal=[x for x in y])", "is no plain data"),
        ("Genotype(normal=f'{x}')", "is no plain data"),
        ("Genotype(normal=range(10**9))", "is no plain data"),
        ("Genotype(normal=range(0, 1000000000))", "is no plain data"),
        ("Genotype(normal=range(2, 6, 1))", "is no plain data"),
        ("Genotype(normal=list(range(2, 6), key=print()))", "is no plain data"),
        ("Genotype(normal=None)", "'None' is no plain data"),
        ("Genotype(normal=[('skip_connect', True)])", "'True' is no plain data"),
        ("Genotype(normal=[('skip_connect', -1)])", "'-1' is no plain data"),
        ("Genotype(normal=[('skip_connect', 1.0)])", "'1.0' is no plain data"),
        ("Genotype(normal=np.int64([1]))", "is no plain data"),
        ("Genotype(normal=np.system('x'))", "is no plain data"),
        ("Genotype(normal=" + "[" * 500 + "]" * 500 + ")", "no valid Python expression"),
        ("Genotype(normal=" + "1+" * 5000 + "1)", "no plain data|no valid Python"),
        ("Genotype(normal=" + "1+" * 500 + "1)", "no plain data|no valid Python"),
        ("Genotype(normal=" + "9" * 5000 + ")", "no valid Python expression"),
        ("Genotype(normal='\0')", "no valid Python expression"),
        ("Genotype(1, 2, 3, 4, 5, 6, 7)", "7 positional fields but at most 6"),
        ("Genotype([('skip_connect', 0)], normal=[('skip_connect', 1)])", "'normal' is given twice"),
        ("Genotype(up=[1], upconv=[2])", "'upsample' is given twice"),
        ("Genotype(middle=[('skip_connect', 0)])", "'middle' is no kind of cell; take normal"),
        ("Genotype(normal=[])", "normal cell: .* is no list of .operation, source. pairs"),
        ("Genotype(normal=3)", "normal cell: 3 is no list"),
        ("Genotype(normal=[('skip_connect', 0), 3])", "3 is neither one of .operation, source. pairs nor one of lists"),
        ("Genotype(normal=[(0, 'skip_connect')])", r"\[0, 'skip_connect'\] is neither"),
        ("Genotype(normal=[[('skip_connect', 0)], []])", r"\[\] is neither"),
        ("Genotype(normal=[('a', 0), [('a', 0)]])", r"\['a', 0\] is neither"),
        (
            "Genotype(normal=[('skip_connect', 0)])",
            "normal cell: 1 edges, which is not 2 at node 0 and then two a node",
        ),
        (
            "Genotype(normal=[[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 2)], [('skip_connect', 0)]])",
            "in none of the spaces",
        ),
        (PLAIN.replace("range(2, 6)", "range(2, 5)"), r"normal cell concatenates \[2, 3, 4\] but .* \[2, 3, 4, 5\]"),
        (PLAIN.replace("range(2, 6)", "6"), "normal cell concatenates 6"),
        (AMOEBANET, r"normal cell concatenates \[4, 5, 6\] but here a cell's output is all its nodes"),
        ("Genotype()", "in none of the spaces"),
        ("Genotype(" * 50_000, "is not closed"),
        ("Genotype(" * 9_000 + ")" * 9_000, "has 90000 characters, more than 65536"),
        ("Genotype(normal=[('none', 0x" + "f" * 9000 + ")])", "is no plain data"),
        ("Genotype(normal=[('none', 101)])", "'101' is no plain data"),
        ("Genotype(normal=range(101))", "'101' is no plain data"),
        ("Genotype(normal=" + "-" * 60_000 + "1)", "no valid Python expression"),
        (
            "Genotype(normal=[('a\\nb', 0), ('\\x1b[31m', 1)], reduce=[('none', 0), ('none', 1)])",
            "in none of the spaces",
        ),
        ("Genotype(normal=[('" + "y" * 50_000 + "', 0), ('none', 1)], reduce=[])", "reduce cell: \\[\\] is no list"),
    ],
)
def test_strings_that_are_refused_in_one_short_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^log.txt: .*({message})") as caught:
        parse(text, origin="log.txt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_nothing_is_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for attack in (f"open({str(trace)!r}, 'w')", f"__import__('pathlib').Path({str(trace)!r}).touch()"):
        for text in (
            f"Genotype(normal={attack})",
            f"Genotype(normal=[('skip_connect', {attack})])",
            f"Genotype({attack})",
        ):
            with pytest.raises(InputError):
                parse(text)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("cells", "nearest", "reason"),
    [
        (replaced("normal", 2, (("sep_conv_9x9", 1), (SKIP, 0))).cells, "darts", "normal cell, node 2, edge from 1"),
        (replaced("normal", 2, ((SEP5, 1), (SKIP, 5))).cells, "darts", "normal cell, node 2: no edge from source 5"),
        (
            {**AUTODISPNET, "reduce": (((DIL5, 1), (SEP3, 0)), *AUTODISPNET["reduce"][1:])},
            "autodispnet",
            "reduce cell, node 0, edge from 1: operation 'dil_conv_5x5'",
        ),
        (
            {"normal": (((SEP5, 0), (MAX, 1)),), "reduce": (((MAX, 0), (MAX, 1)),)},
            "tiny81",
            "normal cell, node 0, edge from 0: .*sep_conv_5x5",
        ),
        ({"normal": DARTS_V2_NORMAL}, "s1", "has the cells normal but space 's1' has normal, reduce"),
    ],
)
def test_the_reason_is_that_of_the_nearest_space(
    cells: Mapping[str, tuple[NodeChoice, ...]], nearest: str, reason: str
) -> None:
    text = f"Genotype({', '.join(f'{kind}={flat(nodes)}' for kind, nodes in cells.items())})"
    with pytest.raises(InputError, match=f"none of the spaces s1, .*; nearest is '{nearest}', but: {reason}") as caught:
        parse(text)
    assert "It names space" not in str(caught.value)


@settings(max_examples=200)
@given(st.text(alphabet="Genotype()[]{},='\"\\ \nnorma_l0123.", max_size=60), st.integers(0, len(PLAIN)))
def test_no_text_gives_anything_but_a_genotype_or_an_input_error(noise: str, position: int) -> None:
    for text in (noise, f"Genotype({noise})", PLAIN[:position] + noise + PLAIN[position:]):
        try:
            found, problem = parse(text, origin="f"), "f: "
        except InputError as error:
            found, problem = load("darts_v2"), str(error)
        assert problem.startswith("f: ")
        check(found, SPACES[found.space])


def test_published_cells_ship_with_the_package() -> None:
    assert zoo_names() == ("autodispnet", "darts_v1", "darts_v2")
    assert load("darts_v1") == Genotype("darts", {"normal": DARTS_V1_NORMAL, "reduce": DARTS_V1_REDUCE})
    assert load("darts_v2") == Genotype("darts", DARTS_V2)
    assert load("autodispnet") == Genotype("autodispnet", AUTODISPNET)
    for name in zoo_names():
        found = load(name)
        assert {"publication", "source"} <= set(found.provenance)
        check(found, SPACES[found.space])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither JSON nor"),
        (b"\xff\xfe", "nor a readable file .UnicodeDecodeError"),
        (b"[" * 100_000, "neither JSON nor"),
        (b"9" * 5000, "neither JSON nor"),
        (b"3", "not a genotype; its 'schema'"),
        (b'{"schema": "autodisp/genotype", "ver', "neither JSON nor"),
    ],
)
def test_files_that_hold_no_genotype(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(path)


def test_text_files_and_absent_ones(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(f"04/07 10:32:01 PM genotype = {PLAIN}\n", encoding="utf-8-sig")
    assert load(path) == Genotype("darts", DARTS_V2)
    for source in (tmp_path, tmp_path / "absent", "darts_v3", "a\0b", "x" * 5000):
        with pytest.raises(
            InputError, match=r"neither in the zoo \(autodispnet, darts_v1, darts_v2\) nor a readable file"
        ):
            load(source)


def as_fields(cells: dict[str, Any]) -> dict[str, Any]:
    flat_cells = {kind: [list(pair) for node in nodes for pair in node] for kind, nodes in cells.items()}
    return {name: value for kind, flat_cell in flat_cells.items()
            for name, value in ((kind, flat_cell), (f"{kind}_concat", [2, 3, 4, 5]))}  # fmt: skip


def test_a_named_tuple_written_as_json(tmp_path: Path) -> None:
    path, fields = tmp_path / "genotype.json", as_fields(DARTS_V2)
    for data in (fields, [fields[name] for name in ("normal", "normal_concat", "reduce", "reduce_concat")],
                 {kind: fields[kind] for kind in ("reduce", "normal")}, {**fields, "reduce_concat": "range(2, 6)"},
                 PLAIN, {"accuracy": 97.2, "genotype": PLAIN}):  # fmt: skip
        path.write_text(json.dumps(data))
        assert load(path) == Genotype("darts", DARTS_V2)
    for data, message in (
        ({**fields, "normal_concat": [3, 4, 5]}, "normal cell concatenates"),
        ({**fields, "normals": []}, "'normals' is no kind of cell"),
        ({**fields, "up": 3, "upsample": 3}, "'upsample' is given twice"),
        ({"normal": {"a": 1}}, "is no list of"),
        ([[], [], [], []], r"\[\] is no list of"),
    ):
        path.write_text(json.dumps(data))
        with pytest.raises(InputError, match=message):
            load(path)


def test_own_spaces_are_given(tmp_path: Path) -> None:
    own = uniform_space("own", (SKIP, SEP3), nodes=2)
    genotype = Genotype("own", own.sample(0))
    genotype.save(tmp_path / "g.json")
    assert load(tmp_path / "g.json", space=own) == genotype
    with pytest.raises(InputError, match=r"names space 'own', which is none of .*; name its file by space_file="):
        load(tmp_path / "g.json")


def test_in_words() -> None:
    assert source_name("normal", 2) == source_name("upsample", 4) == "n0"
    assert source_name("upsample", 3) == "in3"
    first, *rest = Genotype("autodispnet", AUTODISPNET).in_words().split("\n")
    assert first == (
        "normal: node 0 = skip_connect(in0) + sep_conv_5x5(in1); node 1 = sep_conv_3x3(n0) + skip_connect(in0); "
        "node 2 = dil_conv_3x3(n0) + dil_conv_3x3(in0)"
    )
    assert [line.split(":")[0] for line in rest] == ["reduce", "upsample"]
