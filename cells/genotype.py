"""A genotype: the cells that a search found, as data, with where they come from.

It is derived from edge weights as DARTS does it (Liu et al. 2019, section 2.4), goes to versioned JSON and back,
is read from the strings that DARTS, RobustDARTS and AutoDispNet publish (without evaluating them), and is checked
against the space that it names.
"""

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from autodisp.cells.spaces import INPUTS, KINDS, SPACES, CellSpace, EdgeSpace, NodeChoice, SearchSpace
from autodisp.errors import InputError

SCHEMA = "autodisp/genotype"
VERSION = 1
ALIASES = {"upsample": "upsample", "upsampling": "upsample", "upconv": "upsample", "up": "upsample"}
ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class Genotype:
    """The found cells by kind; each node's edges in the order of their weight, strongest first."""

    space: str
    cells: Mapping[str, tuple[NodeChoice, ...]]
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Run, epoch, validation figure, eigenvalue, config hash, or the publication it comes from."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of cell, in a fixed order."""
        return tuple(kind for kind in KINDS if kind in self.cells)

    def plan(self, kind: str) -> tuple[tuple[EdgeSpace, ...], ...]:
        """The cell of that kind as edges with one operation each."""
        return tuple(tuple(EdgeSpace(source, (name,)) for name, source in node) for node in self.cells[kind])

    def with_provenance(self, **entries: Any) -> "Genotype":
        """The same cells with more said about where they come from."""
        return replace(self, provenance={**self.provenance, **entries})

    def in_words(self) -> str:
        """One line a cell: ``normal: node 0 = sep_conv_3x3(0) + skip_connect(1); ...``."""
        lines = []
        for kind in self.kinds:
            nodes = (
                f"node {index} = " + " + ".join(f"{name}({source_name(kind, source)})" for name, source in node)
                for index, node in enumerate(self.cells[kind])
            )
            lines.append(f"{kind}: " + "; ".join(nodes))
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain data in the current schema."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "space": self.space,
            "cells": {kind: [[list(choice) for choice in node] for node in self.cells[kind]] for kind in self.kinds},
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path) -> None:
        """Writes the JSON file."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n")


def source_name(kind: str, source: int) -> str:
    """How a source is called in words: ``in0``, ``in1``, ... then ``n0``, ``n1``, ..."""
    return f"in{source}" if source < INPUTS[kind] else f"n{source - INPUTS[kind]}"


def derive(space: SearchSpace, weights: Mapping[str, Tensor]) -> Genotype:
    """The genotype that the weights prefer.

    At each node the edges are ranked by their largest weight on an operation other than ``none``, the best
    ``keep`` stay, and each takes that operation. Ties go to the lower source and the earlier operation.

    Args:
        space: the space the weights belong to.
        weights: for each kind of cell (edges, width), rows in the order of ``CellSpace.edges``.
    """
    cells = {}
    for kind in space.kinds:
        rows = iter(weights[kind].detach().tolist())
        cells[kind] = tuple(
            _derive_node([(edge, next(rows)) for edge in node], keep)
            for node, keep in zip(space.cells[kind].nodes, space.cells[kind].keep, strict=True)
        )
    return Genotype(space=space.name, cells=cells)


def _derive_node(edges: Sequence[tuple[EdgeSpace, list[float]]], keep: int) -> NodeChoice:
    best = []
    for edge, row in edges:
        weight, position = max(
            ((row[index], -index) for index, name in enumerate(edge.operations) if name != "none"),
        )
        best.append((weight, edge.operations[-position], edge.source))
    best.sort(key=lambda entry: -entry[0])
    return tuple((name, source) for _, name, source in best[:keep])


def check(genotype: Genotype, space: SearchSpace, *, origin: str = "genotype") -> None:
    """Makes sure that the space holds the genotype.

    Raises:
        InputError: names the cell, the node and the operation or source that does not fit.
    """
    if set(genotype.kinds) != set(space.kinds):
        raise InputError(
            f"{origin}: has the cells {', '.join(genotype.kinds)} but space '{space.name}' has "
            f"{', '.join(space.kinds)}; was it found in another space? It says space: {genotype.space}"
        )
    for kind in space.kinds:
        cell, nodes = space.cells[kind], genotype.cells[kind]
        if len(nodes) != len(cell.nodes):
            raise InputError(
                f"{origin}: {kind} cell has {len(nodes)} nodes but space '{space.name}' has {len(cell.nodes)}"
            )
        for index, node in enumerate(nodes):
            _check_node(node, cell, index, space.name, f"{origin}: {kind} cell, node {index}", genotype.space)


def _check_node(node: NodeChoice, cell: CellSpace, index: int, space: str, where: str, says: str) -> None:
    if len(node) != cell.keep[index]:
        raise InputError(f"{where}: {len(node)} edges but space '{space}' keeps {cell.keep[index]}")
    allowed = {edge.source: edge.choices for edge in cell.nodes[index]}
    seen = set()
    for name, source in node:
        if source not in allowed:
            raise InputError(
                f"{where}: no edge from source {source} in space '{space}' (sources {', '.join(map(str, allowed))})"
            )
        if source in seen:
            raise InputError(f"{where}: two edges from source {source}; each source is kept at most once")
        seen.add(source)
        if name not in allowed[source]:
            raise InputError(
                f"{where}, edge from {source}: operation '{name}' is not in space '{space}' "
                f"({', '.join(allowed[source])}); was it found in another space? It says space: {says}"
            )


def from_json(data: Any, *, origin: str, space: SearchSpace | None = None) -> Genotype:
    """The genotype that ``to_json`` wrote, checked against its space.

    Args:
        data: parsed JSON.
        origin: what to call it in messages, a file's name.
        space: the space to check against, if it is not one of the named ones.

    Raises:
        InputError: not a genotype, a schema from the future, or not in its space.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f"{origin}: not a genotype; its 'schema' must be '{SCHEMA}'")
    if data.get("version") != VERSION:
        raise InputError(f"{origin}: version {data.get('version')!r} but this program reads version {VERSION}")
    try:
        cells = {str(kind): _nodes(nodes) for kind, nodes in data["cells"].items()}
        genotype = Genotype(space=str(data["space"]), cells=cells, provenance=dict(data.get("provenance") or {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{origin}: not a genotype ({type(error).__name__}: {error}); 'cells' must map a kind to nodes of "
            '["operation", source] pairs'
        ) from None
    if unknown := set(cells) - set(KINDS):
        raise InputError(f"{origin}: cell kind '{sorted(unknown)[0]}' is unknown: take {', '.join(KINDS)}")
    if space is None:
        if genotype.space not in SPACES:
            raise InputError(
                f"{origin}: says space '{genotype.space}', which is none of {', '.join(SPACES)}; give its space.file"
            )
        space = SPACES[genotype.space]
    check(genotype, space, origin=origin)
    return genotype


def _nodes(nodes: Any) -> tuple[NodeChoice, ...]:
    found = []
    for node in nodes:
        choices = []
        for name, source in node:
            if not isinstance(name, str) or not isinstance(source, int) or isinstance(source, bool):
                raise ValueError(f"[{name!r}, {source!r}] is no [operation, source] pair")
            choices.append((name, source))
        found.append(tuple(choices))
    return tuple(found)


def load(source: str | Path, *, space: SearchSpace | None = None) -> Genotype:
    """A genotype by its zoo name, or from a JSON file, or from a text file with a published string.

    Raises:
        InputError: neither a name of the zoo nor a readable file with a genotype in it.
    """
    if str(source) in zoo_names():
        source = ZOO / f"{source}.json"
    path = Path(source)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"genotype '{source}' is neither in the zoo ({', '.join(zoo_names())}) nor a readable file "
            f"({type(error).__name__})"
        ) from None
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return parse(text, origin=str(path), space=space)
    return from_json(data, origin=str(path), space=space)


def zoo_names() -> tuple[str, ...]:
    """The published genotypes that ship with the package."""
    return tuple(sorted(path.stem for path in ZOO.glob("*.json")))


def parse(text: str, *, origin: str = "genotype string", space: SearchSpace | None = None) -> Genotype:
    """Reads ``Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)``.

    Anything around that call (a name, an assignment, a log line) is skipped. Nothing is evaluated.

    Args:
        text: holds one such call; the first one counts.
        origin: what to call it in messages.
        space: the space it belongs to; None takes the first named space that holds it.

    Raises:
        InputError: no such call, a part of it that is no plain data, or cells that no space holds.
    """
    fields = _fields(_call(text, origin), origin)
    cells: dict[str, tuple[NodeChoice, ...]] = {}
    for key, value in fields.items():
        kind = ALIASES.get(key, key)
        if key.endswith("_concat"):
            continue
        if kind not in KINDS:
            raise InputError(f"{origin}: '{key}' is no kind of cell; take {', '.join(KINDS)}")
        cells[kind] = tuple(_split(kind, _pairs(value, f"{origin}: {kind}"), origin))
        _check_concat(kind, len(cells[kind]), fields.get(f"{key}_concat"), origin)
    candidates = [space] if space else list(SPACES.values())
    problems = []
    for candidate in candidates:
        genotype = Genotype(space=candidate.name, cells=cells)
        try:
            check(genotype, candidate, origin=origin)
        except InputError as error:
            problems.append(str(error))
        else:
            return genotype
    if space:
        raise InputError(problems[0])
    raise InputError(f"{origin}: in none of the spaces {', '.join(SPACES)}; for 'darts' the reason is: {problems[4]}")


def _call(text: str, origin: str) -> ast.Call:
    start = text.find("Genotype(")
    if start < 0:
        raise InputError(f"{origin}: neither JSON nor a string with 'Genotype(...)' in it")
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0 and text[position] == ")":
            break
    else:
        raise InputError(f"{origin}: the 'Genotype(' call is not closed; is the line cut off?")
    try:
        call = ast.parse(text[start : position + 1].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"{origin}: the 'Genotype(...)' call is no valid Python expression") from None
    if not isinstance(call, ast.Call):
        raise InputError(f"{origin}: no 'Genotype(...)' call")
    return call


def _fields(call: ast.Call, origin: str) -> dict[str, Any]:
    order = ("normal", "normal_concat", "reduce", "reduce_concat", "upsample", "upsample_concat")
    if len(call.args) > len(order):
        raise InputError(f"{origin}: {len(call.args)} positional fields but at most {len(order)} are known")
    named = dict(zip(order, call.args, strict=False))
    named |= {keyword.arg or "**": keyword.value for keyword in call.keywords}
    return {key: _plain(node, origin) for key, node in named.items()}


def _plain(node: ast.expr, origin: str) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("range", "list"):
        arguments = [_plain(argument, origin) for argument in node.args]
        if node.func.id == "list" and len(arguments) == 1 and isinstance(arguments[0], list):
            return arguments[0]
        small = all(isinstance(argument, int) and 0 <= argument < 1000 for argument in arguments)
        if node.func.id == "range" and small and 1 <= len(arguments) <= 2:
            return list(range(*arguments))
    elif isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(element, origin) for element in node.elts]
    elif isinstance(node, ast.Constant) and isinstance(node.value, (str, int)):
        return node.value
    raise InputError(f"{origin}: '{ast.unparse(node)[:60]}' is no plain data; lists, pairs, range(a, b) are read")


def _pairs(value: Any, where: str) -> list[tuple[str, int]]:
    """Flat pairs, whatever their nesting by node."""
    pairs = list(_flatten(value, where))
    if not pairs:
        raise InputError(f"{where}: no (operation, source) pairs")
    return pairs


def _flatten(value: Any, where: str) -> Iterator[tuple[str, int]]:
    if not isinstance(value, list):
        raise InputError(f"{where}: {value!r} is no list of (operation, source) pairs")
    if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
        yield value[0], value[1]
        return
    for entry in value:
        yield from _flatten(entry, where)


def _split(kind: str, pairs: list[tuple[str, int]], origin: str) -> Iterator[NodeChoice]:
    """Nodes keep two edges each; the first node of an upsampling cell keeps all four inputs."""
    first = 4 if kind == "upsample" else 2
    if len(pairs) < first or (len(pairs) - first) % 2:
        raise InputError(f"{origin}: {kind} cell has {len(pairs)} edges, which is not {first} and then two a node")
    yield tuple(pairs[:first])
    for start in range(first, len(pairs), 2):
        yield tuple(pairs[start : start + 2])


def _check_concat(kind: str, nodes: int, concat: Any, origin: str) -> None:
    expected = list(range(INPUTS[kind], INPUTS[kind] + nodes))
    if concat is not None and (not isinstance(concat, list) or sorted(map(str, concat)) != sorted(map(str, expected))):
        raise InputError(
            f"{origin}: {kind} cell concatenates {concat} but here a cell's output is all its nodes, {expected}"
        )
