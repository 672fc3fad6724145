"""Finds the stereo pairs that a user names: two files, two folders, one folder, or two patterns.

- Two folders: files of the same path below their folder, whatever the suffix. If there are none at all, names that
  differ by one of the words of `naming`, such as a_left and a_right.
- One folder: paths that differ by one of those words, in a name (a_left.png) or a folder (left/a.png).
- Patterns such as 'data/*_L.png' and 'data/*_R.png': files for which the wildcards stand for the same text; if there
  are none at all, files of the same name without suffix.

What has no partner or more than one is reported by name and never paired by its place in a sorted list.
"""

import fnmatch
import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from autodisp.datasets.images import read_rgb
from autodisp.errors import InputError
from autodisp.prediction.naming import LAST_RESORT, RULES, Rule
from autodisp.prediction.outputs import OUTPUTS

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".ppm", ".pgm", ".pnm", ".bmp", ".tif", ".tiff")
"""Suffixes that count in folders and patterns, in either case; a file that is named itself may have any."""

_WILDCARD = re.compile(r"(\*\*/|\*+|\?|\[!?+\]?+[^\]]*\])")
_SHOWN = 3
_PREDICTIONS = tuple(Path(ending).stem for ending in chain(*OUTPUTS.values()) if ending.endswith(PICTURES))

StrPath = str | os.PathLike[str]


class StereoPair(NamedTuple):
    """Two files that show one scene."""

    name: str
    """Unique among the pairs found together: the left view's path below its folder, with / and without suffix."""
    left: Path
    right: Path


class FoundPairs(NamedTuple):
    """All pairs, by name, and one line for each file that looks like half of one but is not in it."""

    pairs: list[StereoPair]
    problems: list[str]


class _Joined(NamedTuple):
    pairs: list[tuple[Path, Path]]
    ambiguous: list[str]
    settled: set[Path]
    """Files that are in a pair or named in a problem."""


def find_pairs(left: StrPath, right: StrPath | None = None, *, skip: StrPath | None = None) -> FoundPairs:
    """Finds the pairs, as the module's docstring has it.

    Args:
        left: file, folder, or pattern with *, ?, [...] or **.
        right: the same kind of thing; None, or the same folder, where both views lie in the folder `left`.
        skip: a folder whose files do not count, such as the one that predictions are written to.

    Raises:
        InputError: there is no such file or folder, the kinds differ, or nothing makes a pair.
    """
    kinds = {_kind(place) for place in (left, right) if place is not None}
    if len(kinds) > 1:
        raise InputError(
            f"left={left} is a {_kind(left)} but right={right} is not: name two files, two folders or two patterns"
        )
    (kind,) = kinds
    first, second = _expanded(left), _expanded(left if right is None else right)
    skipped = None if skip is None else _expanded(skip).resolve()
    if kind == "folder":
        if first.samefile(second):
            return _one_folder(first, skipped)
        return _two_folders(first, second, skipped)
    if right is None:
        raise InputError(
            f"left={left} is a {kind} and right is not set: name the right view too, or one folder of both"
        )
    if kind == "file":
        if first.samefile(second):
            raise InputError(f"left={left} and right={right} are the same file: name the two views of a stereo camera")
        return FoundPairs([StereoPair(first.stem, first, second)], [])
    return _two_patterns(str(first), str(second), skipped)


def read_pair(pair: StereoPair) -> tuple[Tensor, Tensor]:
    """Reads both views as they are stored: an orientation in a JPEG's EXIF data is not applied.

    A camera that writes one knows nothing of the rectification, after which rows have to stay rows.

    Returns:
        left and right, (3, H, W) float32 in 0..1.

    Raises:
        InputError: a file cannot be read, or their sizes differ.
    """
    left, right = read_rgb(pair.left), read_rgb(pair.right)
    if left.shape != right.shape:
        sizes = [f"{view.shape[2]}x{view.shape[1]}" for view in (left, right)]
        raise InputError(
            f"{pair.left} is {sizes[0]} but {pair.right} is {sizes[1]} (width x height): "
            "the views of a pair must have one size; are they of one camera, and rectified together?"
        )
    return left, right


def _kind(place: StrPath) -> Literal["file", "folder", "pattern"]:
    path = _expanded(place)
    if path.is_file():
        return "file"
    if path.is_dir():
        return "folder"
    if glob.has_magic(os.fspath(place)):
        return "pattern"
    raise InputError(f"{place}: there is no such file or folder; a pattern has a *, ? or [...] and stands in quotes")


def _expanded(place: StrPath) -> Path:
    if not os.fspath(place):
        raise InputError("the path of a view is empty: name a file, a folder or a pattern")
    return Path(os.path.expanduser(place))


def _one_folder(root: Path, skip: Path | None) -> FoundPairs:
    problems: list[str] = []
    files = _pictures_below(root, (skip,), problems)
    names = set(files.values())
    rest, pairs, used = dict(files), list[tuple[Path, Path]](), list[Rule]()
    for rule in (*RULES, LAST_RESORT):
        if used and rule is LAST_RESORT:
            break
        joined = _join(
            [(key, file) for file, name in rest.items() for key in rule.left_keys(name, names)],
            [(key, file) for file, name in rest.items() for key in rule.right_keys(name, names)],
        )
        if joined.settled:
            used.append(rule)
        pairs += joined.pairs
        problems += joined.ambiguous
        rest = {file: name for file, name in rest.items() if file not in joined.settled}
    for file, name in rest.items():  # other pictures are none of ours
        known = (rule for rule in used or RULES if rule.left_keys(name, names) | rule.right_keys(name, names))
        problems += [
            f"{file}: has no partner (looked for a name that differs by {rule.words})" for rule in islice(known, 1)
        ]
    words = ", ".join(rule.words for rule in (*RULES[:4], RULES[-2]))
    remedy = f"files or folders must differ by a word such as {words}; or name left and right by two patterns"
    return _result(pairs, problems, root, str(root), len(files), remedy)


def _two_folders(left: Path, right: Path, skip: Path | None) -> FoundPairs:
    problems: list[str] = []
    lefts = _pictures_below(left, (skip, right.resolve()), problems)
    rights = _pictures_below(right, (skip, left.resolve()), problems)
    joined = _join([(name, file) for file, name in lefts.items()], [(name, file) for file, name in rights.items()])
    for rule in (*RULES, LAST_RESORT):
        if joined.settled:
            break
        joined = _join(
            [(key, file) for file, name in lefts.items() for key in rule.left_keys(name, ())],
            [(key, file) for file, name in rights.items() for key in rule.right_keys(name, ())],
        )
    problems += joined.ambiguous
    for files, other, side in ((lefts, right, "right"), (rights, left, "left")):
        lonely = (item for item in files.items() if item[0] not in joined.settled)
        problems += [f"{file}: has no {side} view (looked for {other / name}.*)" for file, name in lonely]
    remedy = "files of one pair must have the same name, or differ by a word such as left/right or l/r"
    return _result(joined.pairs, problems, left, f"{left} and {right}", len(lefts) + len(rights), remedy)


def _two_patterns(left: str, right: str, skip: Path | None) -> FoundPairs:
    matched = [_matching(pattern, skip) for pattern in (left, right)]
    for pattern, files in zip((left, right), matched, strict=True):
        if not files:
            raise InputError(
                f"{pattern}: matches no picture ({', '.join(PICTURES)}); is it quoted and relative to here?"
            )
    both = set(matched[0]) & set(matched[1])
    if both:
        raise InputError(
            f"{left} and {right} both match {min(both)}: a file is either a left or a right view; "
            "make the patterns narrower"
        )
    joined = _join(*([(parts, file) for file, parts in files.items()] for files in matched))
    how = "same text for the wildcards"
    if not joined.settled:
        joined = _join(*([(file.stem, file) for file in files] for files in matched))
        how = "same name"
    problems = joined.ambiguous
    for files, other, side in ((matched[0], right, "right"), (matched[1], left, "left")):
        lonely = (file for file in files if file not in joined.settled)
        problems += [f"{file}: has no {side} view (looked for the {how} in {other})" for file in lonely]
    remedy = "the wildcards must stand for the same text on both sides, or the files must have the same name"
    return _result(joined.pairs, problems, _fixed_part(left), f"{left} and {right}", sum(map(len, matched)), remedy)


def _result(
    pairs: Sequence[tuple[Path, Path]], problems: Sequence[str], root: Path, where: str, count: int, remedy: str
) -> FoundPairs:
    problems = sorted(problems)
    if not pairs:
        shown = "".join(f"; {problem}" for problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        found = f"no two of {count} pictures make a pair" if count else f"no picture ({', '.join(PICTURES)}) is there"
        raise InputError(f"{where}: {found}{shown}{more}. {remedy[0].upper()}{remedy[1:]}")
    paths = [left.relative_to(root) for left, _ in pairs]
    names = [path.with_suffix("").as_posix() for path in paths]
    if max(Counter(names).values()) > 1:  # a.png and a.jpg, told apart by a wildcard
        names = [path.as_posix() for path in paths]
    found_pairs = [StereoPair(name, left, right) for name, (left, right) in zip(names, pairs, strict=True)]
    return FoundPairs(sorted(found_pairs), problems)


def _join(lefts: Iterable[tuple[Hashable, Path]], rights: Iterable[tuple[Hashable, Path]]) -> _Joined:
    """Pairs the files that share a key with each other and with nothing else."""
    by_key: defaultdict[Hashable, list[Path]] = defaultdict(list)
    for key, file in rights:
        by_key[key].append(file)
    partners: defaultdict[Path, set[Path]] = defaultdict(set)
    candidates: dict[tuple[Path, Path], None] = {}
    for key, file in lefts:
        for other in by_key.get(key, ()):
            if other != file:
                partners[file].add(other)
                partners[other].add(file)
                candidates[file, other] = None
    pairs = [(left, right) for left, right in candidates if len(partners[left]) == len(partners[right]) == 1]
    ambiguous = [
        f"{file}: has {len(others)} possible partners, {' and '.join(sorted(map(str, others)))}; "
        "rename or move all but one"
        for file, others in partners.items()
        if len(others) > 1
    ]
    return _Joined(pairs, ambiguous, set(partners))


def _pictures_below(root: Path, skip: Iterable[Path | None], problems: list[str]) -> dict[Path, str]:
    """The visible pictures with their path below the root without suffix; links are followed, but not in circles."""
    skipped = {path for path in skip if path is not None and not root.resolve().is_relative_to(path)}
    found: list[Path] = []

    def unreadable(error: OSError) -> None:
        problems.append(f"{error.filename}: the folder cannot be read ({error.strerror or error})")

    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        place = Path(folder).resolve()
        if place in skipped:
            folders.clear()
            continue
        skipped.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += (Path(folder, name) for name in sorted(names))
    return {file: file.relative_to(root).with_suffix("").as_posix() for file in _views(found)}


def _matching(pattern: str, skip: Path | None) -> dict[Path, tuple[str, ...]]:
    """The pictures that match a pattern, and what its wildcards stand for in each; "" for a ** without a folder."""
    pattern = str(Path(pattern))  # without . and doubled slashes, which the found paths would lack
    parts = _WILDCARD.split(pattern)
    expressions = [re.escape(part) if index % 2 == 0 else _group(part) for index, part in enumerate(parts)]
    expression = re.compile("".join(expressions), re.DOTALL)
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(name)]
    if skip is not None and not _fixed_part(pattern).resolve().is_relative_to(skip):
        files = [file for file in files if not file.resolve().is_relative_to(skip)]
    found = ((file, expression.fullmatch(str(file))) for file in _views(files))
    return {file: tuple(part or "" for part in match.groups()) for file, match in found if match is not None}


def _group(wildcard: str) -> str:
    """The regular expression for what a wildcard of glob stands for."""
    if wildcard == "**/":
        return "(?:(.*)/)?"
    if wildcard.startswith("*"):
        return "(.*)" if len(wildcard) > 1 else "([^/]*)"
    return f"({fnmatch.translate(wildcard)[:-2]})"  # without its mark of the end


def _fixed_part(pattern: str) -> Path:
    """The folder before the first part with a wildcard."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))


def _views(files: Sequence[Path]) -> list[Path]:
    """The visible pictures, but those that an earlier run wrote beside the view that they belong to."""
    pictures = [file for file in files if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    bare = {str(file.with_suffix("")) for file in pictures}
    return [
        file
        for file in pictures
        if not any(
            (name := str(file.with_suffix(""))).endswith(ending) and name.removesuffix(ending) in bare
            for ending in _PREDICTIONS
        )
    ]
