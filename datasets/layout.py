"""Finds the files of a dataset and matches them by path, never by their order.

With matching by sort order, one missing file silently shifts all later pairs; here every incomplete frame is reported
by name.
"""

import os
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from autodisp.errors import InputError, WrongSetting

AnyPath = str | os.PathLike[str]
"""A path in a setting."""
PICTURES = (".png", ".webp")
_SHOWN = 3


class NotThere(WrongSetting):
    """The data, or the requested part of it, does not exist."""


class DifferentSizes(InputError):
    """The files of one frame are readable but differ in size."""


class DamagedFiles(InputError):
    """Some files of a split cannot be read; the message describes the first and counts the others."""

    def __init__(self, messages: Sequence[str]) -> None:
        others = f"; {len(messages) - 1} more file(s) cannot be read either" if len(messages) > 1 else ""
        super().__init__(f"{messages[0]}{others}")
        self.messages = tuple(messages)


class Frame(NamedTuple):
    """Location of a frame within a tree of files."""

    scene: str
    """Path of its scene, such as TRAIN/A/0000; "" if the dataset has no scenes."""
    stem: str
    """File name without suffix, such as 0006; "" if every scene has one frame."""

    @property
    def name(self) -> str:
        """Path of the frame, such as TRAIN/A/0000/0006."""
        return "/".join(filter(None, self))


class Tree(NamedTuple):
    """Files of one kind, such as all left views."""

    pattern: str
    """Path of a file below the root, with {scene} and {stem}."""
    files: Mapping[Frame, Path]


def find_root(
    root: AnyPath | None,
    *,
    looked_for: Sequence[str],
    origin: str,
    without_data: str = "task=disparity dataset=shapes3d",
) -> Path:
    """Checks that the dataset exists and returns its folder.

    Args:
        root: the user's `dataset.root`.
        looked_for: paths below the root, at least one of which must exist.
        origin: source of the data and its expected layout.
        without_data: settings that need no data, for the error message.

    Raises:
        NotThere: root is not set, is not a folder, or contains none of the paths.
    """
    advice = f"{origin}; {without_data} needs no data"
    wanted = " or ".join(looked_for)
    if root is None or not str(root).strip():
        raise NotThere(f"dataset.root is not set: it must be the folder that holds {wanted}. {advice}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise NotThere(f"dataset.root={root}: there is no such folder; looked for {wanted} in it. {advice}")
    if not any((folder / path).exists() for path in looked_for):
        raise NotThere(f"dataset.root={root}: looked for {wanted}, which it does not hold. {advice}")
    return folder


def require_choice(setting: str, value: object, choices: Iterable[object]) -> None:
    """Raises an InputError if the value of a setting is not one of the choices."""
    if value not in choices:
        raise InputError(f"dataset.{setting}={value!r}: must be one of {', '.join(map(str, choices))}")


def folders_in(folder: Path) -> list[str]:
    """Returns the sorted names of the visible folders in a folder; empty if it does not exist.

    Raises:
        WrongSetting: the folder cannot be listed.
    """
    return sorted(entry.name for entry in _listing(folder) if not entry.name.startswith(".") and entry.is_dir())


def files_in(folder: Path, suffixes: Sequence[str], *, distinct: bool = False) -> dict[str, Path]:
    """Returns the visible files with one of the suffixes, ignoring case, by stem.

    If two files share a stem, the earlier suffix takes precedence. Other files are ignored.

    Args:
        folder: whose files.
        suffixes: in lower case, in order of precedence.
        distinct: refuse two files of one stem.

    Raises:
        WrongSetting: the folder cannot be listed, or two files share a stem and may not.
    """
    found: dict[str, tuple[int, str]] = {}
    for entry in _listing(folder):
        stem, suffix = os.path.splitext(entry.name)
        if stem.startswith(".") or suffix.lower() not in suffixes:
            continue
        candidate = (suffixes.index(suffix.lower()), entry.name)
        if distinct and stem in found:
            both = " and ".join(sorted([entry.name, found[stem][1]]))
            raise WrongSetting(f"{folder}: holds {both}, but a sample is known by its stem alone; rename or move one")
        found[stem] = min(found.get(stem, candidate), candidate)
    return {stem: folder / name for stem, (_, name) in found.items()}


def tree_of(
    root: Path, pattern: str, scenes: Iterable[str], suffixes: Sequence[str] = (".png",), *, distinct: bool = False
) -> Tree:
    """Collects the files of some scenes.

    Args:
        root: root of the dataset.
        pattern: path of a file below the root, with {scene} in a folder and {stem} in the name.
        scenes: values of {scene}.
        suffixes, distinct: see `files_in`.
    """
    folder = os.path.dirname(pattern)
    found = {scene: files_in(root / folder.format(scene=scene), suffixes, distinct=distinct) for scene in scenes}
    return Tree(pattern, {Frame(scene, stem): path for scene in found for stem, path in found[scene].items()})


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder; empty if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise WrongSetting(
            f"{folder}: cannot be listed ({error.strerror or error}): check its permissions, or the dataset.root"
        ) from None


def match(
    root: Path,
    trees: Sequence[Tree],
    *,
    ignored: Collection[Frame] = (),
    remedy: str,
    collected: MutableMapping[Frame, str] | None = None,
) -> list[Frame]:
    """Finds the frames that exist in every tree, sorted.

    Args:
        root: root of the dataset, for the error message.
        trees: the parts of a frame.
        ignored: frames to leave out, complete or not.
        remedy: advice to the user on incomplete frames.
        collected: filled with the incomplete frames and their missing parts, instead of raising the error.

    Raises:
        InputError: frames are incomplete; the message names the first few and their number.
    """
    frames = sorted(set().union(*(tree.files for tree in trees)).difference(ignored))
    incomplete = [frame for frame in frames if any(frame not in tree.files for tree in trees)]
    if collected is not None:
        collected.update((frame, _describe(root, frame, trees)) for frame in incomplete)
        return [frame for frame in frames if frame not in collected]
    if incomplete:
        shown = "; ".join(_describe(root, frame, trees) for frame in incomplete[:_SHOWN])
        more = f"; and {len(incomplete) - _SHOWN} more" if len(incomplete) > _SHOWN else ""
        raise InputError(f"{root}: {len(incomplete)} of {len(frames)} frames are incomplete: {shown}{more}. {remedy}")
    return frames


def require_one_size(planes: Mapping[Path, Tensor]) -> None:
    """Checks that the files of one frame, each (..., H, W), have the same size.

    Raises:
        DifferentSizes: two of them differ.
    """
    (first, (*_, height, width)), *others = ((path, plane.shape) for path, plane in planes.items())
    for path, (*_, other_height, other_width) in others:
        if (other_height, other_width) != (height, width):
            raise DifferentSizes(
                f"{path}: is {other_width}x{other_height} but {first} is {width}x{height} (width x height): "
                "the files of one frame must have one size; are they of one download?"
            )


def _describe(root: Path, frame: Frame, trees: Iterable[Tree]) -> str:
    missing = [tree.pattern.format(**frame._asdict()) for tree in trees if frame not in tree.files]
    present = [str(tree.files[frame].relative_to(root)) for tree in trees if frame in tree.files]
    return f"{' and '.join(missing)} missing while {' and '.join(present)} is there"
