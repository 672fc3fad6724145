"""Patterns of paths with *, ?, [...] and **, and what the wildcards stand for in each path that matches.

The standard library's glob finds the files but keeps to itself what its wildcards matched.
"""

import glob
import re
from pathlib import Path

_WILDCARD = re.compile(r"(?<![^/])\*\*(?:/|$)|\*+|\?|\[!?+\]?+[^\]]*\]")


def has_wildcard(pattern: str) -> bool:
    """Whether it is a pattern rather than a path."""
    return glob.has_magic(pattern)


def fixed_part(pattern: str) -> Path:
    """The folder before the first part with a wildcard."""
    parts = Path(pattern).parts
    count = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:count])


def matches(pattern: str) -> dict[Path, tuple[str, ...]]:
    """The visible files that match, sorted, each with one text a wildcard; "" for a ** that stands for no folder."""
    pattern = str(Path(pattern))  # without . and doubled slashes, which the found paths would lack
    expression = _compiled(pattern)
    found: dict[Path, tuple[str, ...]] = {}
    for name in sorted(glob.glob(pattern, recursive=True)):
        match = expression.fullmatch(name)
        if match is not None and Path(name).is_file():
            found[Path(name)] = tuple(part or "" for part in match.groups())
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression with one group a wildcard."""
    expression, done = "", 0
    for token in _WILDCARD.finditer(pattern):
        whole_part = token.start() == 0 or pattern[token.start() - 1] == "/"
        if token[0] == "**/":
            group = "(?:(.*)/)?"
        elif token[0] == "**" and whole_part and token.end() == len(pattern):
            group = "(.*)"
        elif token[0].startswith("*"):
            group = "([^/]*)"
        else:
            group = "([^/])" if token[0] == "?" else f"({_character_class(token[0][1:-1])})"
        expression += re.escape(pattern[done : token.start()]) + group
        done = token.end()
    return re.compile(expression + re.escape(pattern[done:]), re.DOTALL)


def _character_class(inside: str) -> str:
    negated = inside.startswith("!")
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside.removeprefix("!"))
    return f"[{'^' if negated else ''}{escaped}]"
