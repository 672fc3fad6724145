"""Common base of the readers of datasets with separate files for each sample."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Generic, Required, TypedDict, TypeVar

from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.layout import AnyPath, Frame, NotThere, Tree, match

REMEDY = "Complete the download, or leave these frames out: autodisp-check writes the list that dataset.exclude takes"
Sample = TypeVar("Sample")


class Options(TypedDict, total=False):
    """Options of every reader."""

    exclude: AnyPath | None
    """List of names to leave out, see `exclusions`."""
    strict: bool
    """Rejects incomplete frames (the default); if False, they are left out and described in `incomplete`."""


class Arguments(Options, total=False):
    """Keyword arguments of `FrameFiles`."""

    empty: Required[str]
    ignored: Collection[Frame]
    elsewhere: Callable[[str], object]
    remedy: str


class FrameFiles(ABC, Generic[Sample]):
    """The complete frames of several trees of files, sorted by path; by default each frame is a separate group.

    Args:
        folder: the root of the trees.
        trees: one for each part of a frame, in the order of the arguments of `_read`.
        empty: error message if there is no frame at all, with the source of the data.
        ignored: further frames to leave out.
        elsewhere: see `exclusions.read_exclusions`.
        remedy: advice on incomplete frames.
        exclude, strict: see `Options`.

    Attributes:
        frames: see `layout.Frame`.
        names: one unique name per frame.
        groups: the scene of each frame.
        incomplete: the missing parts of incomplete frames, by name.

    Raises:
        InputError: a frame is incomplete (the missing part is named), no frame is left, or the list does not match the
            data. Unreadable files and different sizes are reported when the sample is read.
    """

    def __init__(
        self,
        folder: Path,
        trees: Sequence[Tree],
        *,
        empty: str,
        ignored: Collection[Frame] = (),
        elsewhere: Callable[[str], object] = lambda name: None,
        remedy: str = REMEDY,
        exclude: AnyPath | None = None,
        strict: bool = True,
    ) -> None:
        known = {frame.name: frame for tree in trees for frame in tree.files}
        excluded = {known[name] for name in read_exclusions(exclude, known, elsewhere=elsewhere)}
        incomplete: dict[Frame, str] | None = None if strict else {}
        self.frames = match(folder, trees, ignored={*ignored, *excluded}, remedy=remedy, collected=incomplete)
        if not self.frames and not incomplete:
            if excluded:
                listed = f"dataset.exclude={exclude}"
                raise NotThere(f"{listed}: leaves no frame of {folder}, not even {min(excluded).name}: take lines out")
            raise NotThere(f"dataset.root={folder}: {empty}")
        self.incomplete = {frame.name: lack for frame, lack in (incomplete or {}).items()}
        self.names = [frame.name for frame in self.frames]
        self.groups = list(self.names)
        self._files = [tuple(tree.files[frame] for tree in trees) for frame in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Reads one frame.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        return self._read(*self._files[index])

    def paths(self, index: int) -> list[Path]:
        """Returns the files of one frame."""
        return list(self._files[index])

    @abstractmethod
    def _read(self, *files: Path) -> Sample:
        """Reads the files of one frame at full resolution."""
