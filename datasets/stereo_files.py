"""Common base of the readers of stereo datasets with separate files for each sample."""

import os
from abc import ABC
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from autodisp.datasets.frame_files import REMEDY, FrameFiles
from autodisp.datasets.layout import Frame, Tree
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample


class Options(TypedDict, total=False):
    """Options of every reader."""

    exclude: str | os.PathLike[str] | None
    """List of names to leave out, see `exclusions`."""
    half_resolution: bool
    """If True, halves every sample, see `resolution.halve`."""
    strict: bool
    """Rejects incomplete frames (the default); if False, they are left out and described in `incomplete`."""


class StereoFiles(FrameFiles[StereoSample], ABC):
    """The frames of a stereo dataset, at full or half resolution.

    Args:
        folder, trees, empty, ignored, elsewhere, remedy: see `FrameFiles`.
        options: see `Options`.

    Attributes:
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
        super().__init__(
            folder,
            trees,
            empty=empty,
            ignored=ignored,
            elsewhere=elsewhere,
            remedy=remedy,
            exclude=options.get("exclude"),
            strict=options.get("strict", True),
        )
        self._half_resolution = options.get("half_resolution", False)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one frame.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        sample = super().__getitem__(index)
        return halve(sample) if self._half_resolution else sample
