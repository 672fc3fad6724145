"""Finds stereo pairs in the user's input: two files, two folders, one folder, or two patterns.

- Two folders: files with the same path below their folder, with any suffix. If there are none, names that differ by one
  of the words of `naming`, such as a_left and a_right.
- One folder: paths that differ by one of those words, in a name (a_left.png) or a folder (left/a.png). Paths with a
  word such as disp, depth or mask are ground truth, and ignored where there are other pairs.
- Patterns such as 'data/*_L.png' and 'data/*_R.png': files for which the wildcards match the same text; if there are
  none, files with the same name without suffix.

Files with no partner or more than one are reported by name and never paired by their position in a sorted list.
"""

import fnmatch
import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Hashable, Iterable, Mapping
from contextlib import suppress
from itertools import chain, takewhile
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from autodisp.datasets.images import read_rgb
from autodisp.errors import InputError
from autodisp.prediction.naming import GROUND_TRUTH, LAST_RESORT, RULES, Rule
from autodisp.prediction.outputs import CLASS_OUTPUTS, FLOW_OUTPUTS, OUTPUTS

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".ppm", ".pgm", ".pnm", ".bmp", ".tif", ".tiff")
"""Suffixes recognised in folders and patterns, in upper or lower case; a file given directly may have any suffix."""

_WILDCARD = re.compile(r"(\*\*/|\*+|\?|\[!?+\]?+[^\]]*\])")
_SHOWN = 3
_ENDINGS = dict.fromkeys(chain(*OUTPUTS.values(), *CLASS_OUTPUTS.values(), *FLOW_OUTPUTS.values()))
_PREDICTIONS = tuple(Path(ending).stem for ending in _ENDINGS if ending.endswith(PICTURES))

StrPath = str | os.PathLike[str]
_Keys = Mapping[Path, Collection[Hashable]]
"""Keys of the views of one side; views of the same scene share a key."""


class StereoPair(NamedTuple):
    """Two views of one scene."""

    name: str
    """Unique name among the pairs found: the left view's path below its folder, with / and without suffix."""
    left: Path
    right: Path


class SingleImage(NamedTuple):
    """One image."""

    name: str
    """Unique name among the images found: the path below their folder, with / and without suffix."""
    path: Path


class FoundPairs(NamedTuple):
    """All pairs, by name, and one line for each file that looks like a view but is not part of a pair."""

    pairs: list[StereoPair]
    problems: list[str]


class _Joined(NamedTuple):
    pairs: list[tuple[Path, Path]]
    ambiguous: list[str]
    settled: set[Path]
    """Files that are part of a pair or named in a problem."""


def find_pairs(left: StrPath, right: StrPath | None = None, *, skip: StrPath | None = None) -> FoundPairs:
    """Finds the pairs, see the module docstring.

    Args:
        left: file, folder, or pattern with *, ?, [...] or **.
        right: of the same kind; None, or the same folder, if the folder `left` contains both views.
        skip: a folder whose files are ignored, such as the output folder.

    Raises:
        InputError: a file or folder does not exist, the kinds differ, or no pair is found.
    """
    first, second = _expanded(left), _expanded(left if right is None else right)
    kind = _kind(left, first)
    if right is not None and _kind(right, second) != kind:
        raise InputError(
            f"left={left} is a {kind} but right={right} is not: name two files, two folders or two patterns"
        )
    skipped = None if skip is None else _expanded(skip).resolve()
    if kind == "folder":
        return _one_folder(first, skipped) if first.samefile(second) else _two_folders(first, second, skipped)
    if right is None:
        raise InputError(
            f"left={left} is a {kind} and right is not set: name the right view too, or one folder of both"
        )
    if kind == "pattern":
        return _two_patterns(first, second, skipped)
    if first.samefile(second):
        raise InputError(f"left={left} and right={right} are the same file: name the two images of a pair")
    return FoundPairs([StereoPair(first.stem, first, second)], [])


def find_images(place: StrPath, *, skip: StrPath | None = None) -> tuple[list[SingleImage], list[str]]:
    """Finds single images; returns them by name, and a line for each folder that cannot be read.

    Args:
        place: file, folder, or pattern with *, ?, [...] or **.
        skip: a folder whose files are ignored, such as the output folder.

    Raises:
        InputError: a file or folder does not exist, or no image is found.
    """
    path, problems = _expanded(place), list[str]()
    kind = _kind(place, path)
    if kind == "file":
        return [SingleImage(path.stem, path)], problems
    skipped = None if skip is None else _expanded(skip).resolve()
    if kind == "folder":
        root, files = path, list(_pictures_below(path, (skipped,), problems))
    else:
        root, files = _fixed_part(path), list(_matching(str(path), skipped))
    if not files:
        raise InputError(f"{place}: no image ({', '.join(PICTURES)}) is there")
    return [SingleImage(name, file) for name, file in sorted(zip(_names(files, root), files, strict=True))], problems


def read_pair(pair: StereoPair) -> tuple[Tensor, Tensor]:
    """Reads both views as stored; the orientation in the EXIF data of a JPEG is not applied.

    The orientation written by a camera does not take rectification into account, after which rows must stay rows.

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


def _kind(place: StrPath, path: Path) -> str:
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
    views = {file: name for file, name in files.items() if not GROUND_TRUTH.search(name)}
    with suppress(InputError):
        return _in_one_folder(root, views, list(problems))
    return _in_one_folder(root, files, problems)


def _in_one_folder(root: Path, files: Mapping[Path, str], problems: list[str]) -> FoundPairs:
    names = set(files.values())
    rest, pairs, used = dict(files), list[tuple[Path, Path]](), list[Rule]()
    for rule in (*RULES, LAST_RESORT):
        if used and rule is LAST_RESORT:
            break
        joined = _join(*(_words(rule, right, rest, names) for right in (False, True)))
        used += [rule] if joined.settled else []
        pairs += joined.pairs
        problems += joined.ambiguous
        rest = {file: name for file, name in rest.items() if file not in joined.settled}
    for file, name in rest.items():  # files without such a word are not views
        known = [rule.words for rule in used or RULES if rule.keys(False, name, names) | rule.keys(True, name, names)]
        if known:
            problems.append(f"{file}: has no partner (looked for a name that differs by {known[0]})")
    words = ", ".join(rule.words for rule in (*RULES[:4], RULES[-2]))
    remedy = f"Files or folders must differ by a word such as {words}; or name left and right by two patterns"
    return _result(pairs, problems, root, str(root), len(files), remedy)


def _two_folders(left: Path, right: Path, skip: Path | None) -> FoundPairs:
    problems: list[str] = []
    sides = (
        _pictures_below(left, (skip, right.resolve()), problems),
        _pictures_below(right, (skip, left.resolve()), problems),
    )
    same: dict[str, list[_Keys]] = {"name": [{file: {name} for file, name in files.items()} for files in sides]}
    by_words = {rule.words: [_words(rule, k == 1, sides[k], ()) for k in (0, 1)] for rule in (*RULES, LAST_RESORT)}
    remedy = "Files of one pair must have the same name, or differ by a word such as left/right or l/r"
    return _two_sides(left, right, same | by_words, problems, left, remedy)


def _two_patterns(left: Path, right: Path, skip: Path | None) -> FoundPairs:
    sides = [_matching(str(pattern), skip) for pattern in (left, right)]
    for pattern, files in zip((left, right), sides, strict=True):
        if not files:
            raise InputError(f"{pattern}: matches no image ({', '.join(PICTURES)}); is it quoted and relative to here?")
    if both := set(sides[0]) & set(sides[1]):
        raise InputError(
            f"{left} and {right} both match {min(both)}: a file is either a left or a right view; "
            "make the patterns narrower"
        )
    attempts: dict[str, list[_Keys]] = {
        "text for the wildcards": [{file: {text} for file, text in files.items()} for files in sides],
        "name": [{file: {file.stem} for file in files} for files in sides],
    }
    remedy = "The wildcards must stand for the same text on both sides, or the files must have the same name"
    return _two_sides(left, right, attempts, [], _fixed_part(left), remedy)


def _two_sides(
    left: Path, right: Path, attempts: Mapping[str, list[_Keys]], problems: list[str], root: Path, remedy: str
) -> FoundPairs:
    """Pairs files by the first attempt that resolves any file; its name is the property that both files share."""
    for same, (lefts, rights) in attempts.items():
        joined, how = _join(lefts, rights), same
        if joined.settled:
            break
    else:
        how = next(iter(attempts))
    for files, other, side in ((lefts, right, "right"), (rights, left, "left")):
        lonely = (file for file in files if file not in joined.settled)
        problems += [f"{file}: has no {side} view (looked for the same {how} in {other})" for file in lonely]
    problems += joined.ambiguous
    return _result(joined.pairs, problems, root, f"{left} and {right}", len(lefts) + len(rights), remedy)


def _result(
    pairs: list[tuple[Path, Path]], problems: list[str], root: Path, where: str, count: int, remedy: str
) -> FoundPairs:
    problems = sorted(problems)
    if not pairs:
        shown = "".join(f"; {problem}" for problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        found = f"no two of {count} images make a pair" if count else f"no image ({', '.join(PICTURES)}) is there"
        raise InputError(f"{where}: {found}{shown}{more}. {remedy}")
    names = _names([left for left, _ in pairs], root)
    return FoundPairs(sorted(StereoPair(name, *pair) for name, pair in zip(names, pairs, strict=True)), problems)


def _names(files: Iterable[Path], root: Path) -> list[str]:
    """Returns the paths below the root, without suffixes unless two of them would be the same."""
    paths = [file.relative_to(root) for file in files]
    names = [path.with_suffix("").as_posix() for path in paths]
    if max(Counter(names).values()) > 1:  # a.png and a.jpg, distinguished by a wildcard
        names = [path.as_posix() for path in paths]
    return names


def _words(rule: Rule, right: bool, files: Mapping[Path, str], names: Container[str]) -> _Keys:
    return {file: rule.keys(right, name, names) for file, name in files.items()}


def _join(lefts: _Keys, rights: _Keys) -> _Joined:
    """Pairs the files that share a key with exactly one file of the other side."""
    by_key: defaultdict[Hashable, list[Path]] = defaultdict(list)
    for file, keys in rights.items():
        for key in keys:
            by_key[key].append(file)
    candidates = {
        (file, other) for file, keys in lefts.items() for key in keys for other in by_key.get(key, ()) if other != file
    }
    partners: defaultdict[Path, set[Path]] = defaultdict(set)
    for left, right in candidates:
        partners[left].add(right)
        partners[right].add(left)
    pairs = [(left, right) for left, right in candidates if len(partners[left]) == len(partners[right]) == 1]
    ambiguous = [
        f"{file}: has {len(others)} possible partners, {' and '.join(sorted(map(str, others)))}; "
        "rename or move all but one"
        for file, others in partners.items()
        if len(others) > 1
    ]
    return _Joined(pairs, ambiguous, set(partners))


def _pictures_below(root: Path, skip: Iterable[Path | None], problems: list[str]) -> dict[Path, str]:
    """Returns visible images with their path below the root without suffix; follows links, but not in circles."""
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
    """Returns the images that match a pattern with the text of its wildcards; "" for a ** without a folder."""
    parts = _WILDCARD.split(pattern)
    expressions = [re.escape(part) if index % 2 == 0 else _group(part) for index, part in enumerate(parts)]
    expression = re.compile("".join(expressions), re.DOTALL)
    files = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if os.path.isfile(name)]
    if skip is not None and not _fixed_part(Path(pattern)).resolve().is_relative_to(skip):
        files = [file for file in files if not file.resolve().is_relative_to(skip)]
    found = ((file, expression.fullmatch(str(file))) for file in _views(files))
    return {file: tuple(part or "" for part in match.groups()) for file, match in found if match is not None}


def _group(wildcard: str) -> str:
    """Translates a glob wildcard to a regular expression."""
    if wildcard == "**/":
        return "(?:(.*)/)?"
    if wildcard.startswith("*"):
        return "(.*)" if len(wildcard) > 1 else "([^/]*)"
    return f"({fnmatch.translate(wildcard)[:-2]})"  # without the end anchor


def _fixed_part(pattern: Path) -> Path:
    """Returns the folder before the first part with a wildcard."""
    return Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _views(files: list[Path]) -> list[Path]:
    """Returns visible images, except those that an earlier run wrote, named after one of the others."""
    pictures = [file for file in files if file.suffix.lower() in PICTURES and not file.name.startswith(".")]
    named = {name for file in pictures for name in (file.stem, file.name)}
    written = {name + ending for name in named for ending in _PREDICTIONS}
    return [file for file in pictures if file.stem not in written]
