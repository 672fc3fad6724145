"""Optical flow on disk: .flo files (Middlebury, Sintel), KITTI's PNG, and the readers of FlyingThings3D and Sintel.

Image pairs are matched by path: the second image of a frame is the one with the next number. The last frame of a scene
has no next one and is left out.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Unpack

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autodisp.datasets.frame_files import FrameFiles, Options
from autodisp.datasets.images import bytes_of, read_mask, read_rgb
from autodisp.datasets.layout import PICTURES, Frame, Tree, find_root, folders_in, require_one_size, tree_of
from autodisp.datasets.pfm import read_pfm
from autodisp.datasets.samples import FlowSample
from autodisp.errors import InputError

Vectors = npt.NDArray[np.float32]
UNKNOWN_FROM = 1e9
"""A .flo file marks unknown pixels by larger values."""
_FLO = b"PIEH"
_FLO_HEADER = 12
_PNG_UNITS, _PNG_ZERO = 64, 2**15
_WITHOUT_DATA = "task=flow dataset=shapes3d_flow"


def read_flo(path: str | os.PathLike[str]) -> Vectors:
    """Reads a .flo file: (H, W, 2) float32, pixels.

    Raises:
        InputError: the file is missing, truncated, or of another format.
    """
    data = bytes_of(Path(path))
    header, size = data[:_FLO_HEADER], len(data)
    if len(header) < _FLO_HEADER or header[:4] != _FLO:
        raise InputError(f"{path}: is no .flo file: it begins with {header[:4]!r}, a .flo file with {_FLO!r}")
    width, height = (int.from_bytes(header[place : place + 4], "little", signed=True) for place in (4, 8))
    if width < 1 or height < 1 or size != _FLO_HEADER + 8 * width * height:
        raise InputError(
            f"{path}: the header declares {width}x{height} vectors, but {size - _FLO_HEADER} bytes follow it: the file "
            "is truncated or damaged"
        )
    # OpenCV's reader crashes on names that are not UTF-8.
    return np.frombuffer(data, "<f4", offset=_FLO_HEADER).reshape(height, width, 2).astype(np.float32)


def write_flo(path: Path, flow: Vectors) -> None:
    """Writes a .flo file from (H, W, 2); vectors that are not finite are stored as unknown.

    Raises:
        OSError: the file cannot be written.
    """
    finite = np.asarray(np.isfinite(flow).all(axis=2, keepdims=True))
    vectors = np.where(finite, flow, 2 * UNKNOWN_FROM).astype("<f4")
    path.write_bytes(_FLO + np.array(flow.shape[1::-1], "<i4").tobytes() + vectors.tobytes())


def write_flow_png(path: Path, flow: Vectors) -> int:
    """Writes KITTI's 16-bit RGB PNG from (H, W, 2): 64 u + 2^15, 64 v + 2^15, 1; zeros where unknown.

    Returns:
        Number of finite vectors beyond ±512 px, which are stored as unknown.
    """
    finite = np.asarray(np.isfinite(flow).all(axis=2))
    units = np.rint(np.where(finite[..., None], flow, 0).astype(np.float64) * _PNG_UNITS + _PNG_ZERO)
    known = finite & np.asarray(((units >= 0) & (units < 2 * _PNG_ZERO)).all(axis=2))
    stored = np.where(known[..., None], np.dstack([units, np.ones_like(known)]), 0).astype(np.uint16)
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(stored[..., ::-1]))
    path.write_bytes(encoded.tobytes())
    return int((finite & ~known).sum())


def outside(flow: Tensor) -> Tensor:
    """Returns the mask (1, H, W) of pixels whose match lies outside of the second image, for a flow (2, H, W)."""
    height, width = flow.shape[-2:]
    x, y = torch.arange(width) + flow[0], torch.arange(height)[:, None] + flow[1]
    return ((x < 0) | (x > width - 1) | (y < 0) | (y > height - 1))[None]


class FlowFiles(FrameFiles[FlowSample]):
    """Pairs of consecutive images with their flow; a group is a scene.

    Args:
        folder: the root of the trees.
        images: all images; the second image of a frame is the one with the next number.
        others: flow and masks, in the order in which ``_read`` takes them.
        empty: error message if there is no frame at all, with the source of the data.
        elsewhere, options: see `FrameFiles`.
    """

    has_occlusion = False

    def __init__(
        self,
        folder: Path,
        images: Tree,
        others: Sequence[Tree],
        *,
        empty: str,
        elsewhere: Callable[[str], object] = lambda name: None,
        **options: Unpack[Options],
    ) -> None:
        followed = {_before(frame): path for frame, path in images.files.items() if _before(frame) in images.files}
        last = {frame.scene: frame for frame in sorted(images.files)}
        trees = [images, Tree(f"the image after {images.pattern}", followed), *others]
        super().__init__(folder, trees, empty=empty, ignored=set(last.values()), elsewhere=elsewhere, **options)
        self.groups = [frame.scene for frame in self.frames]


def _before(frame: Frame) -> Frame:
    """Returns the frame before: frame_0007 -> frame_0006."""
    digits = len(frame.stem) - len(frame.stem.rstrip("0123456789"))
    head, number = frame.stem[: len(frame.stem) - digits], frame.stem[len(frame.stem) - digits :]
    return frame._replace(stem=f"{head}{int(number or 0) - 1:0{digits}d}")


class FlyingThings3DFlow(FlowFiles):
    """FlyingThings3D (Mayer et al. 2016), the full release: flow of the left view into the next frame.

    Args:
        root: the folder with frames_cleanpass/ and optical_flow/.
        split: TRAIN or TEST.
        render_pass: cleanpass or finalpass.
        options: see `FlowFiles`.
    """

    def __init__(
        self, root: str | None, *, split: str = "TRAIN", render_pass: str = "cleanpass", **options: Unpack[Options]
    ) -> None:
        origin = (
            "FlyingThings3D comes from https://lmb.informatik.uni-freiburg.de (Scene Flow Datasets), as "
            f"frames_cleanpass/TRAIN/A/0000/left/0006.png with optical_flow/{_ending('TRAIN/A/0000', '0006')}"
        )
        tops = [f"frames_{render_pass}", f"frames_{render_pass}_webp"]
        looked_for = [f"{top}/{split}" for top in tops]
        folder = find_root(root, looked_for=looked_for, origin=origin, without_data=_WITHOUT_DATA)
        views = next(top for top in tops if (folder / top / split).exists())
        letters = [f"{split}/{letter}" for letter in folders_in(folder / views / split)]
        scenes = [f"{letter}/{scene}" for letter in letters for scene in folders_in(folder / views / letter)]
        images = tree_of(folder, f"{views}/{{scene}}/left/{{stem}}.png", scenes, PICTURES)
        place = "optical_flow/{scene}/into_future/left/{stem}.pfm"
        stored = tree_of(folder, place, scenes, (".pfm",)).files
        flow = {
            frame._replace(stem=frame.stem.removeprefix("OpticalFlowIntoFuture_").removesuffix("_L")): path
            for frame, path in stored.items()
        }
        trees = [Tree(f"optical_flow/{_ending('{scene}', '{stem}')}", flow)]
        other = "TEST/" if split == "TRAIN" else "TRAIN/"
        empty = f"{views}/{split} holds no two consecutive frames. {origin}"
        super().__init__(folder, images, trees, empty=empty, elsewhere=lambda name: name.startswith(other), **options)

    def _read(self, *files: Path) -> FlowSample:
        """Reads one frame; vectors that are not finite are invalid."""
        vectors = read_pfm(files[2])
        if vectors.ndim != 3:
            raise InputError(f"{files[2]}: is a grey PFM, but a flow has three channels: x, y, and zero")
        return _sample(files, vectors[..., :2])


def _ending(scene: str, stem: str) -> str:
    return f"{scene}/into_future/left/OpticalFlowIntoFuture_{stem}_L.pfm"


class SintelFlow(FlowFiles):
    """MPI Sintel (Butler et al. 2012), the training split: flow into the next frame, occluded and invalid pixels.

    Copies for training often lack occlusions/ or invalid/; what is not there at all is not known.

    Args:
        root: the folder that contains training/.
        render_pass: clean or final.
        options: see `FlowFiles`.
    """

    def __init__(self, root: str | None, *, render_pass: str = "clean", **options: Unpack[Options]) -> None:
        origin = (
            "Sintel comes from http://sintel.is.tue.mpg.de (MPI-Sintel-complete.zip), as "
            "training/clean/alley_1/frame_0001.png with final, flow, occlusions and invalid next to it; keep it apart "
            "from the stereo release, whose occlusions are others"
        )
        views = f"training/{render_pass}"
        folder = find_root(root, looked_for=[views], origin=origin, without_data=_WITHOUT_DATA)
        scenes = folders_in(folder / views)
        images, *masks = (
            tree_of(folder, f"{top}/{{scene}}/{{stem}}.png", scenes)
            for top in (views, "training/occlusions", "training/invalid")
        )
        flow = tree_of(folder, "training/flow/{scene}/{stem}.flo", scenes, (".flo",))
        empty = f"{views} holds no two consecutive frames. {origin}"
        super().__init__(folder, images, [flow, *(tree for tree in masks if tree.files)], empty=empty, **options)
        self.has_occlusion, self._has_invalid = (bool(tree.files) for tree in masks)

    def _read(self, *files: Path) -> FlowSample:
        masks = [read_mask(path) for path in files[3:]]
        return _sample(
            files,
            read_flo(files[2]),
            masks[0] if self.has_occlusion else None,
            masks[-1] if self._has_invalid else None,
        )


def _sample(
    files: Sequence[Path], vectors: Vectors, occluded: Tensor | None = None, invalid: Tensor | None = None
) -> FlowSample:
    """Builds a sample from the files of both images, the vectors (H, W, 2), and the masks that are known."""
    first, second = (read_rgb(path) for path in files[:2])
    flow = torch.from_numpy(np.ascontiguousarray(vectors.transpose(2, 0, 1)))
    masks = [mask for mask in (occluded, invalid) if mask is not None]
    require_one_size(dict(zip(files, (first, second, flow, *masks), strict=True)))
    valid = (flow.isfinite() & (flow.abs() < UNKNOWN_FROM)).all(dim=0, keepdim=True)
    if invalid is not None:
        valid = valid & ~invalid
    unmatched = torch.zeros_like(valid) if occluded is None else occluded
    return FlowSample(first, second, torch.where(valid, flow, 0.0), valid, unmatched)
