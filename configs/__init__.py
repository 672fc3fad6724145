"""The YAML of the programs: a folder for each, and folders of groups that several share (their search path)."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import yaml


def _contents(file: Traversable) -> Mapping[str, Any]:
    return _parsed(file.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> Mapping[str, Any]:
    return yaml.safe_load(text) or {}


def primary(program: str) -> Traversable:
    """The file that a program's config begins with."""
    return resources.files(__name__) / program / f"{program}.yaml"


@cache
def _search_path(program: str) -> tuple[Traversable, ...]:
    shared = _contents(primary(program))["hydra"]["searchpath"]
    return resources.files(__name__) / program, *(resources.files(place.removeprefix("pkg://")) for place in shared)


def groups(program: str) -> dict[str, dict[str, Traversable]]:
    """The groups from which a user of a program chooses, each with the file of each choice."""
    chosen = {key for entry in _contents(primary(program))["defaults"] if isinstance(entry, dict) for key in entry}
    return {group: choices for group, choices in _all_groups(program).items() if group in chosen}


def _all_groups(program: str) -> dict[str, dict[str, Traversable]]:
    found: dict[str, dict[str, Traversable]] = {}
    for folder in _search_path(program):
        for group in (entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("_")):
            for file in (entry for entry in group.iterdir() if entry.name.endswith(".yaml")):
                found.setdefault(group.name, {}).setdefault(file.name.removesuffix(".yaml"), file)
    return {group: dict(sorted(choices.items())) for group, choices in sorted(found.items())}


def files(program: str, group: str, choice: str) -> list[Traversable]:
    """The files that make up a choice of a group, the ones that override others last.

    Raises:
        KeyError: there is no such choice.
    """
    known = _all_groups(program)
    found = list(_with_bases(program, known[group], known[group][choice]))
    for entry in _contents(primary(program))["defaults"]:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            more, _, package = key.removeprefix("optional ").partition("@")
            if package == group and value == f"${{{group}}}" and choice in known[more]:
                found.append(known[more][choice])
    return found


def _with_bases(program: str, choices: Mapping[str, Traversable], file: Traversable) -> Iterator[Traversable]:
    for base in _contents(file).get("defaults", ()):
        if isinstance(base, str) and base.endswith("@_here_"):
            name = f"{base.removeprefix('/').removesuffix('@_here_')}.yaml"
            yield next(folder / name for folder in _search_path(program) if (folder / name).is_file())
        elif isinstance(base, str) and base in choices:
            yield from _with_bases(program, choices, choices[base])
    yield file


def settings(program: str, group: str, choice: str) -> dict[str, Any]:
    """The settings that a choice of a group gives.

    Raises:
        KeyError: there is no such choice.
    """
    merged = {key: value for file in files(program, group, choice) for key, value in _contents(file).items()}
    return {key: value for key, value in merged.items() if key != "defaults"}
