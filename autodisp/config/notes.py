"""Reads the comments of the YAML files, which are the only description of a setting's meaning and unit."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources.abc import Traversable

from autodisp import configs


@dataclass(frozen=True)
class Notes:
    """The comments of one YAML."""

    head: str
    """The comment above its first key."""
    settings: dict[str, str]
    """The comments after its keys, by dotted name."""


def read_notes(text: str) -> Notes:
    """Returns the comments of a YAML: those above its first key and those after keys."""
    head, found, begun = list[str](), dict[str, str](), False
    for line, key in with_keys(text.splitlines()):
        if key == "hydra":
            break
        begun = begun or key is not None
        if line.startswith("# ") and not begun and not line.startswith("# @"):
            head.append(line.removeprefix("# "))
        if key and (comment := re.search(r"\s# (.*)", line)):
            found[key] = comment[1]
    return Notes(" ".join(head), found)


def with_keys(lines: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yields the lines of a YAML, each with the dotted name of the key in it; None for a line without one."""
    path: list[tuple[int, str]] = []
    for line in lines:
        if parsed := re.match(r"( *)(\w+):(?=\s|$)", line):
            depth = len(parsed[1])
            path = [*(above for above in path if above[0] < depth), (depth, parsed[2])]
        yield line, ".".join(name for _, name in path) if parsed else None


def head_of(file: Traversable) -> str:
    """Returns the comment above the first key of a YAML file."""
    return read_notes(file.read_text(encoding="utf-8")).head


def meanings_of(program: str) -> dict[str, str]:
    """Returns the comments on all settings of a program, by dotted name."""
    found = read_notes(configs.primary(program).read_text(encoding="utf-8")).settings
    for group, choices in configs.groups(program).items():
        found = meanings_of_choices(program, group, choices) | found
    return found


def meanings_of_choices(program: str, group: str, choices: Iterable[str]) -> dict[str, str]:
    """Returns the comments on the settings of some choices of a group; the first choice with a comment counts."""
    found: dict[str, str] = {}
    for choice in choices:
        own: dict[str, str] = {}
        for file in configs.files(program, group, choice):
            text = file.read_text(encoding="utf-8")
            prefix = "" if "@package _global_" in text else f"{group}."
            own |= {f"{prefix}{key}": words for key, words in read_notes(text).settings.items()}
        found = own | found
    return found
