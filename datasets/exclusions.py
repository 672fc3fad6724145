"""Reads and writes lists of samples to leave out.

Each line is the name of a sample in its dataset. A line that begins with # is a comment, as is the text after a # that
follows white space. An entry of a part that is not read (the other split, a letter that is not selected) is skipped,
since one list covers a whole dataset; any other entry that names no sample is rejected, because it is a typo or belongs
to other data.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from autodisp.datasets.layout import AnyPath
from autodisp.errors import WrongSetting

_SHOWN = 60
_COMMENT = re.compile(r"(?:^|\s)#.*", re.DOTALL)


def read_exclusions(
    path: AnyPath | None, known: Collection[str], *, elsewhere: Callable[[str], object] = lambda name: None
) -> set[str]:
    """Reads the samples named in a list.

    Args:
        path: the user's `dataset.exclude`; None for no list.
        known: names of all samples of the part that is read, including incomplete ones; with fast lookup.
        elsewhere: returns true for the name of a sample in a part that is not read.

    Raises:
        WrongSetting: the file cannot be read, or an entry names no sample.
    """
    if path is None:
        return set()
    found: set[str] = set()
    unknown: list[tuple[int, str]] = []
    for number, entry in numbered_entries(path, key="dataset.exclude"):
        if entry in known:
            found.add(entry)
        elif not elsewhere(entry):
            unknown.append((number, entry))
    if unknown:
        number, entry = unknown[0]
        more = f" (nor do {len(unknown) - 1} other lines)" if len(unknown) > 1 else ""
        raise WrongSetting(
            f"dataset.exclude={path}: line {number}, {entry[:_SHOWN]!r}, names no sample of this data{more}, whose "
            f"samples are named like {min(known, default='none')}: take such lines out, or have autodisp-check write "
            "the list anew"
        )
    return found


def read_entries(path: AnyPath) -> list[str]:
    """Reads all samples named in a list, of any part, in the order of the list.

    Raises:
        WrongSetting: the file cannot be read.
    """
    return list(dict.fromkeys(entry for _, entry in numbered_entries(path, key="dataset.exclude")))


def write_exclusions(path: Path, reasons: Iterable[tuple[str, str]], *, title: str) -> None:
    """Writes a list.

    Args:
        path: a file in a folder that exists.
        reasons: a sample and the reason for leaving it out, written as a comment above it; empty for no comment.
        title: the first comment.
    """
    lines = [f"# {_one_line(title)}"]
    for name, reason in reasons:
        lines += [f"# {_one_line(reason)}", name] if reason else [name]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8", errors="surrogateescape", newline="\n")


def can_be_listed(name: str) -> bool:
    """Returns True if the name can be written as a line of a list; unusual folder names may prevent it."""
    return bool(name) and name == _entry_of(name) and not re.search(r"[\r\n]", name)


def numbered_entries(path: AnyPath, *, key: str) -> Iterator[tuple[int, str]]:
    """Yields the entries of the list that the setting ``key`` names, with their line numbers, without comments.

    Raises:
        WrongSetting: the file cannot be read.
    """
    try:
        # File names need not be UTF-8; "-sig" since editors on Windows prepend a byte order mark.
        text = Path(path).expanduser().read_text(encoding="utf-8-sig", errors="surrogateescape")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WrongSetting(
            f"{key}={path}: cannot be read ({reason}): name a list of samples, or null for none"
        ) from None
    for number, line in enumerate(text.split("\n"), start=1):
        if entry := _entry_of(line):
            yield number, entry


def _entry_of(line: str) -> str:
    return _COMMENT.sub("", line, count=1).strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())
