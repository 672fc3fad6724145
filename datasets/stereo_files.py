"""Common base of the readers of stereo datasets with separate files for each sample."""

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
    """If True, halves every sample, see `resolution.halve`."""
    strict: bool
    """Rejects incomplete frames (the default); if False, they are left out and described in `incomplete`."""


class StereoFiles(ABC):
    """The complete frames of several trees of files, sorted by path; by default each frame is a separate group.

    Args:
        folder: the root of the trees.
        trees: one for each part of a frame, in the order of the arguments of `_read`.
        empty: error message if there is no frame at all, with the source of the data.
        ignored: further frames to leave out.
        elsewhere: see `exclusions.read_exclusions`.
        remedy: advice on incomplete frames.
        options: see `Options`.

    Attributes:
        frames: see `layout.Frame`.
        names: one unique name per frame.
        groups: the scene of each frame.
        incomplete: the missing parts of incomplete frames, by name.
        has_occlusion: True if ``occluded`` and ``out_of_frame`` are known.

    Raises:
        InputError: a frame is incomplete, no frame is left, or the list does not match the data.
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
        """Returns the files of one frame."""
        return list(self._files[index])

    @abstractmethod
    def _read(self, *files: Path) -> StereoSample:
        """Reads the files of one frame at full resolution."""
