"""Finds the files of a dataset and matches them by path, never by their order.

Matching by sort order lets one missing file shift all later pairs without a word; here every frame that lacks
a part is reported by name.
"""

import os
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from autodisp.errors import InputError, WrongSetting

PICTURES = (".png", ".webp")
_SHOWN = 3


class NotThere(WrongSetting):
    """There is no such data, or no such part of it."""


class DifferentSizes(InputError):
    """The files of one frame are readable but do not have one size."""


class DamagedFiles(InputError):
    """Some of the files that make up a split cannot be read; the message is about the first and counts the others.

    Args:
        messages: one a file, at least one.
    """

    def __init__(self, messages: Sequence[str]) -> None:
        others = f"; {len(messages) - 1} more file(s) cannot be read either" if len(messages) > 1 else ""
        super().__init__(f"{messages[0]}{others}")
        self.messages = tuple(messages)


class Frame(NamedTuple):
    """Place of a frame within a tree of files."""

    scene: str
    """Path of its scene, such as TRAIN/A/0000; "" where a dataset has none."""
    stem: str
    """File name without its suffix, such as 0006; "" where every scene has one frame."""

    @property
    def name(self) -> str:
        """Path of the frame, such as TRAIN/A/0000/0006."""
        return "/".join(filter(None, self))


class Tree(NamedTuple):
    """Files of one kind, such as all left views."""

    pattern: str
    """Path of a file below the root, with {scene} and {stem}."""
    files: Mapping[Frame, Path]


def find_root(root: str | os.PathLike[str] | None, *, looked_for: Sequence[str], origin: str) -> Path:
    """Checks that the dataset is there at all.

    Args:
        root: the user's `dataset.root`.
        looked_for: paths below the root, one of which has to exist.
        origin: where the data comes from and how it has to lie.

    Raises:
        NotThere: root is not set, no folder, or holds none of the paths.
    """
    advice = f"{origin}; task=disparity dataset=shapes3d needs no data"
    wanted = " or ".join(looked_for)
    if root is None or not str(root).strip():
        raise NotThere(f"dataset.root is not set: it must be the folder that holds {wanted}. {advice}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise NotThere(f"dataset.root={root}: there is no such folder; looked for {wanted} in it. {advice}")
    if not any((folder / path).exists() for path in looked_for):
        raise NotThere(f"dataset.root={root}: looked for {wanted}, which it does not hold. {advice}")
    return folder


def folders_in(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted; none if there is no such folder.

    Raises:
        WrongSetting: it may not be looked into.
    """
    return sorted(entry.name for entry in _listing(folder) if not entry.name.startswith(".") and entry.is_dir())


def files_in(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The visible files with one of the suffixes, whatever their case, by stem.

    Of two files with one stem the earlier suffix wins. Other files are ignored.

    Raises:
        WrongSetting: the folder may not be looked into.
    """
    found: dict[str, tuple[int, str]] = {}
    for entry in _listing(folder):
        stem, suffix = os.path.splitext(entry.name)
        if stem.startswith(".") or suffix.lower() not in suffixes:
            continue
        candidate = (suffixes.index(suffix.lower()), entry.name)
        found[stem] = min(found.get(stem, candidate), candidate)
    return {stem: folder / name for stem, (_, name) in found.items()}


def tree_of(root: Path, pattern: str, scenes: Iterable[str], suffixes: Sequence[str] = (".png",)) -> Tree:
    """Collects the files of some scenes.

    Args:
        root: of the dataset.
        pattern: path of a file below the root, with {scene} in a folder and {stem} in the name.
        scenes: stand for {scene}.
        suffixes: see `files_in`.
    """
    folder = os.path.dirname(pattern)
    found = {scene: files_in(root / folder.format(scene=scene), suffixes) for scene in scenes}
    return Tree(pattern, {Frame(scene, stem): path for scene in found for stem, path in found[scene].items()})


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder; none if there is no such folder."""
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
    """Finds the frames that every tree holds, sorted.

    Args:
        root: names the dataset in the error.
        trees: the parts that make a frame.
        ignored: frames to leave out, complete or not.
        remedy: what the user can do about an incomplete frame.
        collected: filled with the incomplete frames and what each lacks, instead of the error.

    Raises:
        InputError: a frame has some of its parts only; the first few are named, and the count.
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
    """Checks that the files of one frame fit together.

    Args:
        planes: (..., H, W), read from each file.

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
