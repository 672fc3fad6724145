"""Prints ``--help``: Hydra's page, with the meaning next to each setting."""

import io
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout

from autodisp import configs
from autodisp.config.notes import meanings_of, with_keys

_COLUMN = 28
"""Column of the meanings, unless the value is longer."""


def print_help(show: Callable[[], None], *, program: str) -> None:
    """Prints Hydra's help with the meanings of settings, and with the groups of the search path, which Hydra omits."""
    page = io.StringIO()
    try:
        with redirect_stdout(page):
            show()
    finally:
        groups = configs.groups(program).items()
        listed = "".join(f"{group}: {', '.join(choices)}\n" for group, choices in groups)
        text = re.sub(r"(?<=\(group=choice\):\n\n).*?(?=\nSettings)", listed, page.getvalue(), count=1, flags=re.DOTALL)
        sys.stdout.write(with_meanings(text, meanings_of(program)))


def with_meanings(page: str, meanings: Mapping[str, str]) -> str:
    """Returns the page with a comment after each setting that has a meaning.

    Args:
        page: has its settings as YAML between a line that begins with "Settings" and one with "Examples".
        meanings: meanings of settings, by dotted name.
    """
    lines, inside = [], False
    for line, key in with_keys(page.splitlines(keepends=True)):
        inside = (inside or line.startswith("Settings")) and not line.startswith("Examples")
        meaning = meanings.get(key) if inside and key else None
        lines.append(f"{line.rstrip():<{_COLUMN - 2}}  # {meaning}\n" if meaning else line)
    return "".join(lines)
