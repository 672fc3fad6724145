"""Common base of the readers of stereo datasets with separate files for each sample."""

from abc import ABC
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from autodisp.datasets import frame_files
from autodisp.datasets.frame_files import FrameFiles
from autodisp.datasets.layout import Tree
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError


class Options(frame_files.Options, total=False):
    """Options of every reader."""

    half_resolution: bool
    """If True, halves every sample, see `resolution.halve`."""


class StereoFiles(FrameFiles[StereoSample], ABC):
    """The frames of a stereo dataset, at full or half resolution.

    Arguments and errors are those of `FrameFiles`, and `Options`.
    """

    has_occlusion = False
    """True if ``occluded`` and ``out_of_frame`` are known."""

    def __init__(
        self,
        folder: Path,
        trees: Sequence[Tree],
        *,
        half_resolution: bool = False,
        **more: Unpack[frame_files.Arguments],
    ) -> None:
        super().__init__(folder, trees, **more)
        self._half_resolution = half_resolution

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one frame, see `FrameFiles`."""
        sample = super().__getitem__(index)
        if not self._half_resolution:
            return sample
        try:
            return halve(sample)
        except ValueError as error:
            raise InputError(
                f"{self.paths(index)[0]}: {error}; set dataset.half_resolution=false, or exclude it"
            ) from None
