"""The page of ``--help``: Hydra's, with the meaning of each setting as a comment."""

import io
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import resources
from itertools import takewhile

from autodisp.config.notes import read_notes
from autodisp.config.reference_words import MEANINGS

_COLUMN = 28
"""Column of the comments, if the value is short enough."""


def print_help(show: Callable[[], None], *, program: str) -> None:
    """Prints Hydra's help, with meanings.

    Args:
        show: makes Hydra print its help.
        program: its name, such as predict.
    """
    page = io.StringIO()
    try:
        with redirect_stdout(page):
            show()
    finally:
        sys.stdout.write(with_meanings(page.getvalue(), _meanings(program)))


def with_meanings(page: str, meanings: Mapping[str, str]) -> str:
    """The page with a comment after each setting that has a meaning.

    Args:
        page: its settings are YAML between a line that begins with "Settings" and one with "Examples".
        meanings: by setting, with dots.
    """
    lines, inside = [], False
    path: list[tuple[int, str]] = []
    for line in page.splitlines(keepends=True):
        inside = (inside or line.startswith("Settings")) and not line.startswith("Examples")
        if inside and (found := re.match(r"( *)(\w+):", line)):
            depth = len(found[1])
            path = [*takewhile(lambda above, depth=depth: above[0] < depth, path), (depth, found[2])]  # type: ignore[misc]
            if meaning := meanings.get(".".join(name for _, name in path)):
                line = f"{line.rstrip():<{_COLUMN - 2}}  # {meaning}\n"
        lines.append(line)
    return "".join(lines)


def _meanings(program: str) -> dict[str, str]:
    """Meanings from a program's YAML, else from docs/config.md (without links), else from the YAML of a choice."""
    folder = resources.files("autodisp.configs") / program
    of_choices: dict[str, str] = {}
    for group in sorted(entry.name for entry in folder.iterdir() if entry.is_dir()):
        for file in sorted((folder / group).iterdir(), key=lambda file: file.name):
            text = file.read_text(encoding="utf-8") if file.name.endswith(".yaml") else "# @package"
            if "# @package" not in text:
                for key, words in read_notes(text).settings.items():
                    of_choices.setdefault(f"{group}.{key}", words)
    of_all = {key: re.sub(r"\[([^]]+)\]\([^)]*\)", r"docs/\1", text) for key, text in MEANINGS.items()}
    return of_choices | of_all | read_notes((folder / f"{program}.yaml").read_text(encoding="utf-8")).settings
