"""Genotypes: the cells found by a search, as data with their provenance.

A genotype is derived from edge weights as in DARTS (Liu et al. 2019), saved to and loaded from versioned JSON, parsed
from the strings published by DARTS, RobustDARTS and AutoDispNet (without evaluating them), and checked against its
search space.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from autodisp.cells.spaces import INPUTS, KINDS, SPACES, Choice, EdgeSpace, NodeChoice, SearchSpace
from autodisp.errors import InputError, in_one_line

SCHEMA = "autodisp/genotype"
VERSION = 1
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat", "upsample", "upsample_concat")
"""Fields of the published named tuple, in order."""
ALIASES = {"upsampling": "upsample", "upconv": "upsample", "up": "upsample"}
NUMPY_SCALAR = re.compile(r"(np|numpy)\.(u?int(8|16|32|64|_)?|str_)")
"""Names that numpy 2 prints around its scalars and strings."""
LONGEST_CALL = 1 << 16
"""Upper limit of characters in a published string, which has two or three thousand."""
LARGEST = 100
"""Largest number accepted in a published string."""
CALL = re.compile(r"(?<!class )\bGenotype\s*\(")
COMMENTED = re.compile(r"^\s*#|\s#\s")
"""Comment sign before a call on its line; a log line may contain ``run #3``."""
TOKEN = re.compile(r"""#[^\n]*|\'{3}.*?\'{3}|"{3}.*?"{3}|\'(?:\\.|[^\'\\\n])*\'|"(?:\\.|[^"\\\n])*"|[()]""", re.DOTALL)
"""Comments, strings, round brackets."""
SPACES_THAT_FIT = "spaces"
"""Provenance key of a string that names no space and fits several."""
ZOO = Path(__file__).parent / "zoo"


@dataclass(frozen=True)
class Genotype:
    """The found cells by kind; the edges of each node in descending order of weight.

    An edge may be ``none`` if its space includes it: this occurs in published cells and in those of random search with
    weight sharing, but never in derived ones.
    """

    space: str
    cells: Mapping[str, tuple[NodeChoice, ...]]
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Run, epoch, validation metric, eigenvalue, config hash, or the publication of the cells."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Returns the kinds of cell in a fixed order."""
        return tuple(kind for kind in KINDS if kind in self.cells)

    def plan(self, kind: str) -> tuple[tuple[EdgeSpace, ...], ...]:
        """Returns the cell of that kind as edges with one operation each."""
        return tuple(tuple(EdgeSpace(source, (name,)) for name, source in node) for node in self.cells[kind])

    @property
    def notes(self) -> list[str]:
        """Returns notes for the user, one per line."""
        fitting = self.provenance.get(SPACES_THAT_FIT)
        if not isinstance(fitting, list) or fitting[:1] != [self.space]:
            return []
        return [f"the cells fit the spaces {_listed(fitting)}; they are taken to be of {self.space}"]

    def with_provenance(self, **entries: Any) -> "Genotype":
        """Returns the same cells with additional provenance entries."""
        return replace(self, provenance={**self.provenance, **entries})

    def in_words(self) -> str:
        """Formats one line per cell: ``normal: node 0 = sep_conv_3x3(0) + skip_connect(1); ...``."""
        lines = []
        for kind in self.kinds:
            nodes = (
                f"node {index} = " + " + ".join(f"{name}({source_name(kind, source)})" for name, source in node)
                for index, node in enumerate(self.cells[kind])
            )
            lines.append(f"{kind}: " + "; ".join(nodes))
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Converts to plain data in the current schema."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "space": self.space,
            "cells": {kind: [[list(choice) for choice in node] for node in self.cells[kind]] for kind in self.kinds},
            "provenance": dict(self.provenance),
        }

    def save(self, path: Path) -> None:
        """Writes the JSON file."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def source_name(kind: str, source: int) -> str:
    """Returns the display name of a source: ``in0``, ``in1``, ... then ``n0``, ``n1``, ..."""
    return f"in{source}" if source < INPUTS[kind] else f"n{source - INPUTS[kind]}"


def derive(space: SearchSpace, weights: Mapping[str, Tensor]) -> Genotype:
    """Derives the genotype with the largest weights.

    At each node the edges are ranked by their largest weight on an operation other than ``none``, the best ``keep`` are
    kept, and each is assigned that operation. Ties are resolved in favour of the lower source and the earlier
    operation.

    Args:
        space: the search space of the weights.
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
        weight, position = max((row[index], -index) for index, name in enumerate(edge.operations) if name != "none")
        best.append((weight, edge.operations[-position], edge.source))
    best.sort(key=lambda entry: (-entry[0], entry[2]))
    return tuple((name, source) for _, name, source in best[:keep])


def check(genotype: Genotype, space: SearchSpace, *, origin: str = "genotype") -> None:
    """Checks that the space contains the genotype.

    Raises:
        InputError: the genotype does not fit; the message names the cell, the node and the operation or source.
    """
    for problem in _problems(genotype, space):
        raise _wrong(origin, problem)


def _wrong(origin: str, problem: str) -> InputError:
    """Creates a one-line error, for any names that a file contains."""
    return InputError(f"{origin}: {in_one_line(problem, at_most=600)}")


def _problems(genotype: Genotype, space: SearchSpace) -> Iterator[str]:
    """Yields the reasons why the space does not contain the genotype; checks nodes only if kinds and counts fit."""
    hint = f"; was it found in another space? It names space: {genotype.space}" if genotype.space != space.name else ""
    if set(genotype.cells) != set(space.cells):
        yield f"has the cells {_listed(genotype.cells)} but space '{space.name}' has {_listed(space.kinds)}{hint}"
        return
    counts = {kind: (len(genotype.cells[kind]), len(space.cells[kind].nodes)) for kind in space.kinds}
    for kind, (has, needs) in counts.items():
        if has != needs:
            yield f"{kind} cell has {has} nodes but space '{space.name}' has {needs}{hint}"
    for kind, cell in space.cells.items():
        for index, (node, keep, edges) in enumerate(zip(genotype.cells[kind], cell.keep, cell.nodes, strict=False)):
            for problem in _node_problems(node, edges, keep, space.name):
                yield f"{kind} cell, node {index}{problem}{hint}"


def _node_problems(node: NodeChoice, edges: Sequence[EdgeSpace], keep: int, space: str) -> Iterator[str]:
    if len(node) != keep:
        yield f": {len(node)} edges but space '{space}' keeps {keep}"
    allowed = {edge.source: edge.operations for edge in edges}
    seen = set()
    for name, source in node:
        if source not in allowed:
            yield f": no edge from source {source} in space '{space}' (sources {_listed(allowed)})"
        elif name not in allowed[source]:
            yield f", edge from {source}: operation '{name}' is not in space '{space}' ({_listed(allowed[source])})"
        if source in seen:
            yield f": two edges from source {source}; each source is kept at most once"
        seen.add(source)


def _listed(entries: Iterable[object]) -> str:
    return ", ".join(map(str, entries))


def from_json(data: Any, *, origin: str, space: SearchSpace | None = None) -> Genotype:
    """Loads a genotype written by ``to_json`` and checks it against its space.

    Args:
        data: parsed JSON.
        origin: name of the source in messages, such as a file name.
        space: the space to check against, if it is not a built-in one.

    Raises:
        InputError: the data is not a genotype, has a newer schema, or is not in its space.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise _wrong(origin, f"not a genotype; its 'schema' must be '{SCHEMA}'")
    version = data.get("version")
    if version != VERSION:
        remedy = "; update autodisp" if isinstance(version, int) and version > VERSION else ""
        raise _wrong(origin, f"version {version!r} but this program reads version {VERSION}{remedy}")
    try:
        cells = {str(kind): _nodes(nodes) for kind, nodes in data["cells"].items()}
        provenance = data.get("provenance") or {}
        if not isinstance(provenance, dict):
            raise _wrong(origin, "not a genotype; its 'provenance' must be a mapping")
        genotype = Genotype(space=str(data["space"]), cells=cells, provenance=provenance)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        found = in_one_line(error, at_most=100)
        raise _wrong(
            origin,
            f"not a genotype ({type(error).__name__}: {found}); 'cells' must map a kind to nodes of "
            '["operation", source] pairs',
        ) from None
    if unknown := set(cells) - set(KINDS):
        raise _wrong(origin, f"cell kind '{sorted(unknown)[0]}' is unknown: take {', '.join(KINDS)}")
    if space is None:
        if genotype.space not in SPACES:
            name = in_one_line(genotype.space, at_most=60)
            remedy = "name its file by space_file="
            raise _wrong(origin, f"names space '{name}', which is none of {_listed(SPACES)}; {remedy}")
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
    """Loads a genotype by its zoo name, from a JSON file, or from a text file with a published string.

    A JSON file may also hold the published named tuple as ``json.dumps`` writes it, or its ``_asdict()``.

    Raises:
        InputError: the source is neither a name of the zoo nor a readable file with a genotype.
    """
    if str(source) in zoo_names():
        source = ZOO / f"{source}.json"
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"genotype '{source}' is neither in the zoo ({', '.join(zoo_names())}) nor a readable file "
            f"({type(error).__name__})"
        ) from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return parse(text, origin=str(path), space=space)
    if (fields := _json_fields(data, str(path))) is not None:
        return _of_fields(fields, origin=str(path), space=space)
    if CALL.search(text) and "schema" not in data:
        return parse(text, origin=str(path), space=space)  # JSON with a published string in it
    return from_json(data, origin=str(path), space=space)


def zoo_names() -> tuple[str, ...]:
    """Returns the names of the published genotypes that ship with the package."""
    return tuple(sorted(path.stem for path in ZOO.glob("*.json")))


def parse(text: str, *, origin: str = "genotype string", space: SearchSpace | None = None) -> Genotype:
    """Reads ``Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), reduce=...)``.

    Anything around that call (a name, an assignment, a log line) is skipped. Nothing is evaluated.

    Args:
        text: text with one such call, or several identical ones.
        origin: name of the source in messages.
        space: its search space; None selects the first built-in space that contains it, and the provenance lists all of
            them if there are several.

    Raises:
        InputError: there is no such call, there are different ones, a part is not plain data, or no space contains the
            cells.
    """
    return _of_fields(_fields(_call(text, origin), origin), origin=origin, space=space)


def _of_fields(fields: Mapping[str, Any], *, origin: str, space: SearchSpace | None) -> Genotype:
    """Builds the genotype of a published named tuple from its fields."""
    cells: dict[str, tuple[NodeChoice, ...]] = {}
    for key, value in fields.items():
        if key.endswith("_concat"):
            continue
        if key not in KINDS:
            raise _wrong(origin, f"'{key}' is no kind of cell; take {_listed(KINDS)}")
        keep = space.cells[key].keep if space and key in space.cells else None
        cells[key] = _nodes_of(key, value, keep, f"{origin}: {key} cell")
        _check_concat(key, len(cells[key]), fields.get(f"{key}_concat"), origin)
    candidates = [space] if space else list(SPACES.values())
    fitting = [one.name for one in candidates if not any(_problems(Genotype(space=one.name, cells=cells), one))]
    if fitting:
        return Genotype(fitting[0], cells, {SPACES_THAT_FIT: fitting} if len(fitting) > 1 else {})
    nearest = min(candidates, key=lambda candidate: _distance(cells, candidate))
    reason = next(_problems(Genotype(space=nearest.name, cells=cells), nearest))
    among = "" if space else f"in none of the spaces {_listed(SPACES)}; nearest is '{nearest.name}', but: "
    raise _wrong(origin, f"{among}{reason}")


def _distance(cells: Mapping[str, tuple[NodeChoice, ...]], space: SearchSpace) -> tuple[int, int, int]:
    """Measures the mismatch of cells and space: different kinds, different numbers of nodes, further problems."""
    kinds = len(set(cells) ^ set(space.cells))
    nodes = sum(abs(len(cells[kind]) - len(space.cells[kind].nodes)) for kind in set(cells) & set(space.cells))
    return kinds, nodes, len(list(_problems(Genotype(space=space.name, cells=cells), space)))


def _call(text: str, origin: str) -> tuple[ast.Call, str]:
    """Finds the call and its source text."""
    sources = list(_sources(text))
    if not sources:
        raise _wrong(origin, "neither JSON nor a string with 'Genotype(...)' in it")
    source = sources[0]
    different = {"".join((other or "").split()) for other in sources}
    if len(different) > 1:
        raise _wrong(origin, f"holds {len(different)} different 'Genotype(...)' calls; keep the one you want")
    if source is None:
        raise _wrong(origin, "the 'Genotype(' call is not closed; is the line cut off?")
    if len(source) > LONGEST_CALL:
        raise _wrong(origin, f"the 'Genotype(...)' call has {len(source)} characters, more than {LONGEST_CALL}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the parser about escapes in strings
            call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        deep = isinstance(error, RecursionError | MemoryError)
        reason = "nested too deeply" if deep else getattr(error, "msg", str(error))
    else:
        assert isinstance(call, ast.Call)
        return call, source
    raise _wrong(origin, f"the 'Genotype(...)' call is no valid Python expression ({reason})")


def _sources(text: str) -> Iterator[str | None]:
    """Yields the calls in a text that are not commented out, without comments; None for an unclosed one."""
    place = 0
    while match := CALL.search(text, place):
        line = text.rfind("\n", 0, match.start()) + 1
        if COMMENTED.search(text[line : match.start()]):
            place = text.find("\n", match.start())
            if place < 0:
                return
            continue
        source, place = _closed(text, match.start())
        yield source
        if source is None:
            return


def _closed(text: str, start: int) -> tuple[str | None, int]:
    """Returns the text from ``start`` to the matching bracket, without comments, and the position after it."""
    depth, kept, last = 0, "", start
    for match in TOKEN.finditer(text, start):
        if match[0].startswith("#"):
            kept, last = kept + text[last : match.start()], match.end()
        elif match[0] in ("(", ")"):
            depth += 1 if match[0] == "(" else -1
            if depth == 0:
                return kept + text[last : match.end()], match.end()
    return None, len(text)


def _fields(found: tuple[ast.Call, str], origin: str) -> dict[str, Any]:
    call, source = found
    if len(call.args) > len(FIELDS):
        raise _wrong(origin, f"{len(call.args)} positional fields but at most {len(FIELDS)} are known")
    named = [*zip(FIELDS, call.args, strict=False), *((entry.arg or "**", entry.value) for entry in call.keywords)]
    return _by_kind([(name, _plain(node, source, origin)) for name, node in named], origin)


def _json_fields(data: Any, origin: str) -> dict[str, Any] | None:
    """Returns the fields of a named tuple that was written as JSON; None for other data."""
    if isinstance(data, list) and len(data) in (2, 4, 6) and all(isinstance(entry, list) for entry in data):
        return _by_kind(list(zip(FIELDS, data, strict=False)), origin)
    if isinstance(data, dict) and "schema" not in data and any(_key(name) in KINDS for name in data):
        return _by_kind(list(data.items()), origin)
    return None


def _key(name: str) -> str:
    """Returns the name of a field as it is called here."""
    kind = name.removesuffix("_concat")
    return ALIASES.get(kind, kind) + name[len(kind) :]


def _by_kind(named: Sequence[tuple[str, Any]], origin: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in named:
        if (key := _key(name)) in fields:
            raise _wrong(origin, f"'{key}' is given twice")
        fields[key] = value
    return fields


def _plain(node: ast.expr, source: str, origin: str) -> Any:
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(element, source, origin) for element in node.elts]
    if isinstance(node, ast.Constant):
        value = node.value
        if type(value) is str or (type(value) is int and value <= LARGEST):
            return value
    if isinstance(node, ast.Call) and not node.keywords:
        called = _dotted(node.func)
        arguments = [_plain(argument, source, origin) for argument in node.args]
        if called in ("list", "tuple") and len(arguments) == 1 and isinstance(arguments[0], list):
            return arguments[0]
        small = all(isinstance(argument, int) and 0 <= argument <= LARGEST for argument in arguments)
        if called == "range" and small and 1 <= len(arguments) <= 2:
            return list(range(*arguments))
        if NUMPY_SCALAR.fullmatch(called) and len(arguments) == 1 and isinstance(arguments[0], (str, int)):
            return arguments[0]
    shown = " ".join((ast.get_source_segment(source, node) or "").split())[:60]
    raise _wrong(origin, f"'{shown}' is no plain data; lists, pairs, range(a, b) are read")


def _dotted(node: ast.expr) -> str:
    """Returns a name such as ``list`` or ``np.int64``; empty for longer expressions."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _is_pair(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], int)


def _nodes_of(kind: str, value: Any, keep: Sequence[int] | None, where: str) -> tuple[NodeChoice, ...]:
    """Reads the nodes of a flat list of pairs, or of a list nested by node."""
    if not isinstance(value, list) or not value:
        raise _wrong(where, f"{value!r} is no list of (operation, source) pairs")
    if all(map(_is_pair, value)):
        return tuple(_split(kind, [(name, source) for name, source in value], keep, where))
    nested = [isinstance(node, list) and bool(node) and all(map(_is_pair, node)) for node in value]
    if not all(nested):
        odd = [entry for entry, fine in zip(value, nested, strict=True) if not fine and not _is_pair(entry)]
        shown = str((odd or value)[0])[:60]
        raise _wrong(where, f"{shown} is neither one of (operation, source) pairs nor one of lists of them")
    return tuple(tuple((name, source) for name, source in node) for node in value)


def _split(kind: str, pairs: list[Choice], keep: Sequence[int] | None, where: str) -> Iterator[NodeChoice]:
    """Splits pairs by node as in the space; by default two per node, and four at the first upsampling node."""
    if keep is None or sum(keep) != len(pairs):
        first = 4 if kind == "upsample" else 2
        if len(pairs) < first or (len(pairs) - first) % 2:
            raise _wrong(where, f"{len(pairs)} edges, which is not {first} at node 0 and then two a node")
        keep = [first] + [2] * ((len(pairs) - first) // 2)
    start = 0
    for count in keep:
        yield tuple(pairs[start : start + count])
        start += count


def _check_concat(kind: str, nodes: int, concat: Any, origin: str) -> None:
    expected = range(INPUTS[kind], INPUTS[kind] + nodes)
    listed = sorted(map(str, concat)) if isinstance(concat, list) else None
    if concat not in (None, str(expected)) and listed != sorted(map(str, expected)):
        nodes_here = f"here a cell's output is all its nodes, {list(expected)}"
        raise _wrong(origin, f"{kind} cell concatenates {concat} but {nodes_here}")
