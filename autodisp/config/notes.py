"""What the comments of the YAML files say of settings: the one place for their units and meanings."""

import itertools
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Notes:
    """What the comments of one YAML say."""

    head: str
    """Of the file as a whole."""
    settings: dict[str, str]
    """Of its keys, with dots."""


def read_notes(text: str) -> Notes:
    """The comments of a YAML: those above its first key, and the ones behind keys."""
    head: list[str] = []
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        if line.startswith("hydra:"):
            break
        if line.startswith("# ") and not path and not line.startswith("# @"):
            head.append(line.removeprefix("# "))
        if not (parsed := re.fullmatch(r"( *)(\w+):(?: .*?)??(?:\s+# (.*))?", line)):
            continue
        depth = len(parsed[1])
        path = [*itertools.takewhile(lambda above, depth=depth: above[0] < depth, path), (depth, parsed[2])]  # type: ignore[misc]
        if parsed[3]:
            found[".".join(name for _, name in path)] = parsed[3]
    return Notes(" ".join(head), found)
