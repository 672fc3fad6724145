"""Stereo samples that lie in files of their own: everything that the readers of such datasets have in common."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.layout import Frame, NotThere, Tree, match
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample

REMEDY = "Complete the download, or leave these frames out: autodisp-check writes the list that dataset.exclude takes"


class Options(TypedDict, total=False):
    """Options of every reader."""

    exclude: str | os.PathLike[str] | None
    """List of names to leave out, see `exclusions`."""
    half_resolution: bool
    """Halves every sample, see `resolution.halve`."""
    strict: bool
    """Refuses frames that lack a part (the default); otherwise they are left out and described in `incomplete`."""


class StereoFiles(ABC):
    """The complete frames of some trees of files, sorted by path; unless a reader differs, each is a group of its own.

    Args:
        folder: the root of the trees.
        trees: one for each part of a frame, in the order in which `_read` takes the files.
        empty: why there may be no frame at all, and where the data comes from.
        ignored: more frames to leave out.
        elsewhere: see `exclusions.read_exclusions`.
        remedy: what to do about incomplete frames.
        options: see `Options`.

    Attributes:
        frames: see `layout.Frame`.
        names: one a frame, unique.
        groups: the scene of each frame.
        incomplete: what a frame lacks, by its name.
        has_occlusion: whether ``occluded`` and ``out_of_frame`` are known.

    Raises:
        InputError: a frame lacks a part, no frame is left, or the list does not fit.
    """

    has_occlusion = False

    def __init__(
        self,
        folder: Path,
        trees: Sequence[Tree],
        *,
        empty: str,
        ignored: Collection[Frame] = (),
        elsewhere: Callable[[str], object] = lambda name: None,
        remedy: str = REMEDY,
        **options: Unpack[Options],
    ) -> None:
        known = {frame.name: frame for tree in trees for frame in tree.files}
        excluded = {known[name] for name in read_exclusions(options.get("exclude"), known, elsewhere=elsewhere)}
        incomplete: dict[Frame, str] | None = None if options.get("strict", True) else {}
        self.frames = match(folder, trees, ignored={*ignored, *excluded}, remedy=remedy, collected=incomplete)
        if not self.frames and not incomplete:
            if excluded:
                listed = f"dataset.exclude={options['exclude']}"
                raise NotThere(f"{listed}: leaves no frame of {folder}, not even {min(excluded).name}: take lines out")
            raise NotThere(f"dataset.root={folder}: {empty}")
        self.incomplete = {frame.name: lack for frame, lack in (incomplete or {}).items()}
        self.names = [frame.name for frame in self.frames]
        self.groups = list(self.names)
        self._files = [tuple(tree.files[frame] for tree in trees) for frame in self.frames]
        self._half_resolution = options.get("half_resolution", False)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one frame.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        sample = self._read(*self._files[index])
        return halve(sample) if self._half_resolution else sample

    def paths(self, index: int) -> list[Path]:
        """The files of one frame."""
        return list(self._files[index])

    @abstractmethod
    def _read(self, *files: Path) -> StereoSample:
        """Reads the files of one frame at full resolution."""
