"""MPI Sintel stereo (Butler et al. 2012), the training split, which alone has a truth.

Occlusions and out-of-frame pixels stay apart, unlike in torchvision's SintelStereo, which merges them. The truth
is rendered and dense: every pixel is valid, also the masked ones and those at a disparity of zero (far away).
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.images import read_mask, read_rgb, read_rgb8
from autodisp.datasets.layout import (
    PICTURES,
    Frame,
    NotThere,
    Tree,
    files_in,
    find_root,
    folders_in,
    match,
    require_one_size,
)
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError

RenderPass = Literal["clean", "final"]

_PASSES = ("clean", "final")
_ORIGIN = (
    "Sintel stereo comes from http://sintel.is.tue.mpg.de/stereo, as training/clean_left/alley_1/frame_0001.png with "
    "clean_right, final_left, final_right, disparities, occlusions and outofframe beside it"
)
_REMEDY = (
    "Unpack the download again, or leave these frames out: autodisp-check writes the list that dataset.exclude takes"
)


class _Files(NamedTuple):
    left: Path
    right: Path
    disparity: Path
    occluded: Path
    out_of_frame: Path


class Sintel:
    """The frames of one render pass in path order; a group is a scene such as alley_1.

    `occluded` and `out_of_frame` are the two masks as the files have them.

    Args:
        root: the folder that holds training/.
        render_pass: clean or final.
        exclude: a list of names to leave out, see `exclusions`.
        half_resolution: halves every sample, see `resolution.halve`.
        strict: refuses frames that lack a part; otherwise they are left out and told in `incomplete`.

    Raises:
        InputError: the data or the list is not there, or a frame lacks a part, which is named. Unreadable files and
            sizes that differ are reported when the sample is read.
    """

    has_occlusion = True

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        render_pass: RenderPass = "clean",
        exclude: str | os.PathLike[str] | None = None,
        half_resolution: bool = False,
        strict: bool = True,
    ) -> None:
        if render_pass not in _PASSES:
            raise InputError(f"dataset.render_pass={render_pass!r}: must be one of {', '.join(_PASSES)}")
        views = f"training/{render_pass}_left"
        folder = find_root(root, looked_for=[views], origin=_ORIGIN)
        tops = (views, f"training/{render_pass}_right", "training/disparities", "training/occlusions")
        trees = [_tree(folder, top) for top in (*tops, "training/outofframe")]
        known = {_name(frame): frame for tree in trees for frame in tree.files}
        ignored = {known[name] for name in read_exclusions(exclude, known)}
        incomplete: dict[Frame, str] | None = None if strict else {}
        frames = match(folder, trees, ignored=ignored, remedy=_REMEDY, collected=incomplete)
        if not frames and not incomplete:
            raise NotThere(f"dataset.root={root}: {views} holds no frame, or none is left. {_ORIGIN}")
        self.incomplete = {_name(frame): lack for frame, lack in (incomplete or {}).items()}
        self.names = [_name(frame) for frame in frames]
        self.groups = [frame.scene for frame in frames]
        self._files = [_Files(*(tree.files[frame] for tree in trees)) for frame in frames]
        self._half_resolution = half_resolution

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._files)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one frame.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        files = self._files[index]
        left, right = read_rgb(files.left), read_rgb(files.right)
        # The three bytes of a pixel are the digits of its disparity: 4 px, 1/64 px and 1/16384 px.
        red, green, blue = np.moveaxis(read_rgb8(files.disparity).astype(np.float32), -1, 0)
        disparity = torch.from_numpy(red * 4 + green / 64 + blue / 16384)[None]
        occluded, out_of_frame = read_mask(files.occluded), read_mask(files.out_of_frame)
        planes = (left, right, disparity, occluded, out_of_frame)
        sizes = ((plane.shape[-2], plane.shape[-1]) for plane in planes)
        require_one_size(dict(zip(files, sizes, strict=True)))
        valid = torch.ones_like(occluded)
        sample = StereoSample(left, right, disparity, valid, occluded, out_of_frame)
        return halve(sample) if self._half_resolution else sample

    def paths(self, index: int) -> list[Path]:
        """The files of one frame."""
        return list(self._files[index])


def _name(frame: Frame) -> str:
    return f"{frame.scene}/{frame.stem}"


def _tree(folder: Path, top: str) -> Tree:
    files: dict[Frame, Path] = {}
    for scene in folders_in(folder / top):
        files |= {Frame(scene, stem): path for stem, path in files_in(folder / top / scene, PICTURES[:1]).items()}
    return Tree(f"{top}/{{scene}}/{{stem}}.png", files)
