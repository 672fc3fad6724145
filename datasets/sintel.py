"""MPI Sintel stereo (Butler et al. 2012), the training split, the only one with ground truth.

Occluded and out-of-frame pixels are separate, unlike in torchvision's SintelStereo, which merges them. The ground truth
is rendered and dense: every pixel is valid, including masked ones and those with a disparity of zero (far away).
"""

from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import torch

from autodisp.datasets.images import read_mask, read_rgb, read_rgb8
from autodisp.datasets.layout import AnyPath, find_root, folders_in, require_choice, require_one_size, tree_of
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_files import Options, StereoFiles

RenderPass = Literal["clean", "final"]

_TRUTH = ("disparities", "occlusions", "outofframe")
_ORIGIN = (
    "Sintel stereo comes from http://sintel.is.tue.mpg.de/stereo, as training/clean_left/alley_1/frame_0001.png with "
    "clean_right, final_left, final_right, disparities, occlusions and outofframe next to it"
)


class Sintel(StereoFiles):
    """The frames of one render pass in path order; a group is a scene such as alley_1.

    `occluded` and `out_of_frame` are the two masks as stored.

    Args:
        root: the folder that contains training/.
        render_pass: clean or final.
        options: see `stereo_files.Options`.

    Raises:
        InputError: the data is missing, or see `FrameFiles`.
    """

    has_occlusion = True

    def __init__(self, root: AnyPath | None, *, render_pass: RenderPass = "clean", **options: Unpack[Options]) -> None:
        require_choice("render_pass", render_pass, ("clean", "final"))
        views = f"training/{render_pass}_left"
        folder = find_root(root, looked_for=[views], origin=_ORIGIN)
        tops = (views, f"training/{render_pass}_right", *(f"training/{top}" for top in _TRUTH))
        trees = [tree_of(folder, f"{top}/{{scene}}/{{stem}}.png", folders_in(folder / top)) for top in tops]
        empty = f"{views} holds no frame. {_ORIGIN}"
        super().__init__(folder, trees, empty=empty, **options)
        self.groups = [frame.scene for frame in self.frames]

    def _read(self, *files: Path) -> StereoSample:
        left, right = (read_rgb(path) for path in files[:2])
        # The three bytes of a pixel are the digits of its disparity: 4 px, 1/64 px and 1/16384 px.
        red, green, blue = np.moveaxis(read_rgb8(files[2]).astype(np.float32), -1, 0)
        disparity = torch.from_numpy(red * 4 + green / 64 + blue / 16384)[None]
        occluded, out_of_frame = (read_mask(path) for path in files[3:])
        require_one_size(dict(zip(files, (left, right, disparity, occluded, out_of_frame), strict=True)))
        return StereoSample(left, right, disparity, torch.ones_like(occluded), occluded, out_of_frame)
