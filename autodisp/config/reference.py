"""Writes docs/config.md: every program's settings, out of the schema and the YAML that the programs themselves read.

    python -m autodisp.config.reference docs/config.md

Types and defaults come from what Hydra composes, meanings from the comments of the YAML. What a setting must be is not
written down anywhere a second time: values that cannot be right are tried, and the refusals are quoted.
"""

import functools
import importlib.resources
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from autodisp.config import check, evaluate, export, predict, report, search, sections, train
from autodisp.config.checks import shown
from autodisp.config.notes import read_notes
from autodisp.config.reference_words import CONSTRAINTS, MEANINGS
from autodisp.errors import InputError
from autodisp.tasks.registry import KITS


@dataclass(frozen=True, eq=False)
class Program:
    """One program's config."""

    name: str
    schema: type
    parse: Callable[[DictConfig], Any]
    needs: tuple[str, ...] = ()
    """Without these words nothing can be parsed."""
    by_name: Mapping[str, Mapping[str, type]] = field(default_factory=dict)
    """The groups whose choices differ in their settings, and the section that each ``name`` stands for."""


_SETS = {"dataset": sections.DATASETS}
_PARTS = {"task": sections.TASKS, **_SETS}
_TRAINED = {**sections.NETWORKS, "from_checkpoint": train.FromCheckpointConfig}
PROGRAMS = (
    Program("search", search.SearchConfig, search.parse, by_name={**_PARTS, "network": sections.NETWORKS}),
    Program("train", train.TrainConfig, train.parse, by_name={**_PARTS, "network": _TRAINED}),
    Program("evaluate", evaluate.EvaluateConfig, evaluate.parse, ("checkpoint=shipped",), _SETS),
    Program("predict", predict.PredictConfig, predict.parse, ("left=left.png",)),
    Program("export", export.ExportConfig, export.parse, ("checkpoint=shipped",)),
    Program("report", report.ReportConfig, report.parse, ("run=RUN",)),
    Program("check", check.CheckConfig, check.parse, by_name=_SETS),
)
_SHARED = {"train": ("dataset", "network"), "check": ("dataset",)}
"""Groups that are links to those of the search, and so are told there only."""
_ADAPTED = {"evaluate": ("dataset",)}
"""Groups with the schema of the search's, but values of their own."""
_NEEDED_BY_CHOICE = {
    "task=classification": ("task=classification",),
    "network=own": ("task=own",),
    "regularization=none": ("regularization=ada",),
    "network=from_checkpoint": ("network=from_checkpoint", "init=shipped", "genotype=null"),
}

_TYPES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    list[int]: "list of whole numbers",
    list[float]: "list of numbers",
    list[str]: "list of words",
    list[list[Any]]: "list of lists of numbers",
    Any: "word or list of words",
    type(None): "null",
}
_IMPOSSIBLE: dict[Any, tuple[Any, ...]] = {
    int: (-1, 0, 1, 2, 3, 10**9),
    float: (-1.0, 0.0, 1.0, 1e9, math.inf),
    bool: (),
    str: ("", "?"),
    list[int]: ([], [-1], [1, 1], [5, 1, 1]),
    list[float]: ([], [-1.0], [1.0, 1.0], [5.0, 1.0, 1.0]),
    list[str]: ([], ["?"], ["A", "A"]),
    list[list[Any]]: ([[]],),
    Any: ("?", []),
    type(None): (),
}
"""Values to try; those that are possible after all are no matter."""


@dataclass(frozen=True)
class Entry:
    """One setting of a schema."""

    key: str
    """With dots."""
    kind: Any
    default: Any


def reference() -> str:
    """The whole page."""
    parts = [
        "# Settings of every program",
        "Made by `make docs` from the schema; do not edit. A setting is written `section.key=value` behind the "
        "program's name, a group's choice `group=choice`; `--cfg job` prints what comes of it and `--help` the "
        "choices. A setting that does not fit is refused in one line; none is ignored.",
        "In **must be**, words are those of the refusals: each setting is tried by itself with all others at their "
        "defaults. Rules that join several settings are told when they are broken.",
    ]
    for program in PROGRAMS:
        parts += _of_program(program)
    return "\n\n".join(parts) + "\n"


def _of_program(program: Program) -> Iterator[str]:
    GlobalHydra.instance().clear()
    folder = importlib.resources.files("autodisp.configs") / program.name
    text = (folder / f"{program.name}.yaml").read_text()
    notes: dict[str, str] = {}
    with initialize_config_module(f"autodisp.configs.{program.name}", version_base="1.3"):
        yield f"## autodisp-{program.name}"
        yield " ".join(str(OmegaConf.create(text).hydra.help.header).split())
        groups = {entry.name: _choices(entry) for entry in folder.iterdir() if _is_group(entry)}
        if groups:
            yield "\n".join(_list_groups(program, folder, dict(sorted(groups.items()))))
        tree = compose(program.name, overrides=[*program.needs])
        entries = [entry for entry in _flat(program.schema) if entry.key.split(".")[0] not in program.by_name]
        trees = {}
        for group in groups.keys() - program.by_name.keys():
            if any(entry.key.startswith(f"{group}.") for entry in entries):
                notes |= _notes_of_group(folder / group, groups[group])
                trees[group] = {choice: _compose(program, f"{group}={choice}") for choice in groups[group]}
        notes |= read_notes(text).settings
        yield _table(_rows(program, tree, entries, notes, trees))
        for group in program.by_name:
            if group in _ADAPTED.get(program.name, ()):
                yield from _differences(folder / group)
            elif group not in _SHARED.get(program.name, ()):
                yield from _of_group(program, folder / group, group)


def _is_group(entry: Traversable) -> bool:
    return entry.is_dir() and not entry.name.startswith("_")


def _choices(folder: Traversable) -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _list_groups(program: Program, folder: Traversable, groups: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield "Groups, the default in bold:\n"
    defaults = OmegaConf.load(str(folder / f"{program.name}.yaml")).defaults
    default = {str(key): value for entry in defaults if isinstance(entry, DictConfig) for key, value in entry.items()}
    for group, choices in groups.items():
        names = ", ".join(f"**{choice}**" if choice == default.get(group) else choice for choice in choices)
        told = (*_SHARED.get(program.name, ()), *_ADAPTED.get(program.name, ()))
        shared = "; their settings are told at autodisp-search" if group in told else ""
        yield f"- `{group}`: {names}{shared}"
        if group not in program.by_name:
            heads = {choice: read_notes((folder / group / f"{choice}.yaml").read_text()).head for choice in choices}
            yield from (f"    - `{group}={choice}`: {head}" for choice, head in heads.items() if head)


def _notes_of_group(folder: Traversable, choices: Sequence[str]) -> dict[str, str]:
    """Of those choices together, where the first one that says something counts."""
    found: dict[str, str] = {}
    for choice in choices:
        text = (folder / f"{choice}.yaml").read_text()
        prefix = "" if "@package _global_" in text else f"{folder.name}."
        for key, words in read_notes(text).settings.items():
            found.setdefault(f"{prefix}{key}", words)
    return found


def _of_group(program: Program, folder: Traversable, group: str) -> Iterator[str]:
    """A table for each kind of section in a group, with the values that each choice gives."""
    trees = {choice: _compose(program, f"{group}={choice}") for choice in _choices(folder)}
    kinds: dict[type, list[str]] = {}
    for choice, tree in trees.items():
        kinds.setdefault(program.by_name[group][tree[group].name], []).append(choice)
    for schema, choices in kinds.items():
        yield f"### {', '.join(f'{group}={choice}' for choice in choices)}"
        heads = {choice: read_notes((folder / f"{choice}.yaml").read_text()).head for choice in choices}
        if any(heads.values()):
            yield "\n".join(f"- `{choice}`: {head}" for choice, head in heads.items() if head)
        entries = [entry for entry in _flat(schema, f"{group}.") if entry.key != f"{group}.name"]
        if entries:
            several = {group: {choice: trees[choice] for choice in choices}}
            yield _table(_rows(program, trees[choices[0]], entries, _notes_of_group(folder, choices), several))


def _differences(folder: Traversable) -> Iterator[str]:
    """What the choices of an adapted group say otherwise than the search's."""
    yield "Of the data, evaluation takes whole pictures; otherwise than in a search are:"
    lines = []
    for choice in _choices(folder):
        there = importlib.resources.files("autodisp.configs.search") / folder.name / f"{choice}.yaml"
        own, other = (_plain(path) for path in (folder / f"{choice}.yaml", there))
        changed = [f"`{key}={_shown(value)}`" for key, value in own.items() if value != other.get(key)]
        if changed:
            lines.append(f"- `{folder.name}={choice}`: {', '.join(changed)}")
    yield "\n".join(lines)


def _plain(path: Traversable) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.create(path.read_text()))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


@functools.cache
def _compose(program: Program, choice: str) -> DictConfig:
    """The config with that choice, and with what it cannot be parsed without."""
    words = list(_NEEDED_BY_CHOICE.get(choice, (choice,)))
    group, _, name = choice.partition("=")
    if group in ("dataset", "network") and choice not in _NEEDED_BY_CHOICE:
        path = importlib.resources.files(f"autodisp.configs.{program.name}") / group / f"{name}.yaml"
        section = OmegaConf.create(path.read_text()).name
        fits = (task for task, kit in KITS.items() if section in {**kit.datasets, **kit.networks})
        words.insert(0, f"task={next(fits)}")
    return compose(program.name, overrides=[*program.needs, *words])


def _flat(schema: type, prefix: str = "") -> Iterator[Entry]:
    """The settings of a schema; sections by name, which are Any, are left to the caller."""
    hints = get_type_hints(schema)
    for entry in fields(schema):
        kind = hints[entry.name]
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _flat(kind, f"{prefix}{entry.name}.")
        else:
            default = entry.default if entry.default_factory is MISSING else entry.default_factory()
            yield Entry(f"{prefix}{entry.name}", kind, default)


def _rows(
    program: Program,
    tree: DictConfig,
    entries: Sequence[Entry],
    notes: Mapping[str, str],
    trees: Mapping[str, Mapping[str, DictConfig]],
) -> list[list[str]]:
    """Key, type, default, constraint and meaning of each setting.

    Args:
        program: whose settings they are.
        tree: its config, in which they are there.
        entries: the settings.
        notes: what the YAML says of them.
        trees: for groups that hold some of them, the config with each choice.
    """
    rows = []
    for entry in entries:
        key, group = entry.key, entry.key.split(".")[0]
        probed = _compose(program, "regularization=none") if group == "regularization" else tree
        refusals = _refusals(program.parse, probed, entry)
        wanted = CONSTRAINTS.get(key) or "; ".join(refusals)
        if any(word.startswith(f"{key}=") for word in program.needs):
            default = "`null`"
        elif group in trees and not key.endswith(".name"):
            default = _defaults({choice: _value(one, entry) for choice, one in trees[group].items()})
        else:
            default = f"`{_shown(_value(tree, entry))}`"
        meaning = _meaning(key, notes.get(key, ""), refusals, has_choices=group in trees)
        rows.append([f"`{key}`", _type(entry.kind), default, wanted, meaning])
    return rows


def _meaning(key: str, note: str, refusals: Sequence[str], *, has_choices: bool) -> str:
    """What the YAML says, unless that is a unit or the choices only, or is said of one choice among several."""
    says_little = has_choices or " " not in note or f"one of {note}" in refusals
    return MEANINGS.get(key, note) if says_little else note


def _value(tree: DictConfig, entry: Entry) -> Any:
    """As the YAML has it, or else the schema."""
    section, _, name = entry.key.rpartition(".")
    node = OmegaConf.to_container(OmegaConf.select(tree, section) if section else tree, resolve=False)
    assert isinstance(node, dict)
    return node.get(name, entry.default)


def _refusals(parse: Callable[[DictConfig], Any], tree: DictConfig, entry: Entry) -> list[str]:
    """What a setting must be, as the program says when it is not."""
    found: list[str] = []
    for value in itertools.chain.from_iterable(_IMPOSSIBLE[one] for one in _kinds(entry.kind)):
        tried = tree.copy()
        OmegaConf.update(tried, entry.key, value, force_add=True)
        try:
            parse(tried)
        except InputError as error:
            said = re.fullmatch(rf"{re.escape(entry.key)}=.*?: must be (.*)", str(error))
            words = re.sub(r"; (?:\S+ (?:or \S+ )?(?:is|are) usual|did you mean.*)", "", said[1]) if said else ""
            words = re.sub(r"([a-z_]+)=[\d.]+", r"\1", words).removesuffix(", or null")
            if words and not any(other.startswith(words) for other in found):
                found = [other for other in found if not words.startswith(other)] + [words]
    return found


def _kinds(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _type(kind: Any) -> str:
    return " or ".join(_TYPES[one] for one in _kinds(kind))


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, str) else shown(value)


def _defaults(values: Mapping[str, Any]) -> str:
    """One value, or each with its choice where they differ."""
    written = {choice: _shown(value) for choice, value in values.items()}
    if len(set(written.values())) == 1:
        return f"`{next(iter(written.values()))}`"
    by_value: dict[str, list[str]] = {}
    for choice, value in written.items():
        by_value.setdefault(value, []).append(choice)
    return "; ".join(f"`{value}` ({', '.join(choices)})" for value, choices in by_value.items())


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = ["| setting | type | default | must be | meaning |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def main(arguments: Sequence[str]) -> None:
    """Writes the page to the path that is given."""
    (path,) = arguments
    Path(path).write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
