"""Command lines to be copied: quoted for Hydra's grammar of overrides, and then for the shell.

``key=value`` has to survive three readers. The shell takes the line apart; Hydra's parser takes ``#``, brackets,
commas, spaces and letters beyond ASCII for grammar, and ``1e3``, ``null`` or ``true`` for other types; OmegaConf
resolves ``${...}``.
"""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Word = str | tuple[str, Any]
"""A word that Hydra reads without quotes, or a setting and its value."""

_PLAIN = re.compile(r"(?!(null|true|false|nan|inf)\Z|.* \Z)([a-z_]|[\w.:@+-]*/)[\w./:@+ -]*", re.ASCII | re.I)
"""Text that Hydra reads as text without quotes."""


def command(program: str, *words: Word) -> str:
    """Returns a command line, quoted for the shell and for Hydra."""
    return as_typed([program, *(word if isinstance(word, str) else setting(*word) for word in words)])


def setting(key: str, value: Any) -> str:
    """Returns ``key=value`` as Hydra reads it, not yet quoted for the shell.

    Args:
        key: the dotted name.
        value: a path, a text, a number, true, false, None, or a list of those.
    """
    return f"{key}={_value(value)}"


def existing_paths_quoted(words: Sequence[str]) -> list[str]:
    """Returns the words of a command line, with paths of existing files and folders quoted for Hydra if necessary.

    Folders named after the varied settings, such as ``3_space=s2,seed=1``, can then be typed, and completed by a shell.
    """
    return [_existing_path_quoted(word) for word in words]


def _existing_path_quoted(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals or key.startswith("-") or _PLAIN.fullmatch(value) or not _exists(value):
        return word
    return setting(key, value)


def _exists(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, the home of an unknown user, a zero byte
        return False


def as_typed(words: Sequence[str]) -> str:
    """Returns the words of a command line as given, quoted for the shell only."""
    return " ".join(map(_for_shell, words))


def _for_shell(word: str) -> str:
    """Quotes a word for the shell, with double quotes where those read better than the single quotes of ``shlex``."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path) and str(value).startswith("~"):
        value = value.absolute()  # no home folder: those have been expanded before
    if isinstance(value, str | Path):
        return _text(str(value))
    return "null" if value is None else str(value)


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    # OmegaConf halves the backslashes before ${, and only those.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    # Hydra treats a backslash as special only before a quote.
    return "'" + re.sub(r"(\\*)'", r"\1\1\\'", re.sub(r"(\\+)$", r"\1\1", text)) + "'"
