"""FlyingThings3D (Mayer et al. 2016): the full release and the "subset" release, left-referenced disparity.

Unlike in torchvision's SceneFlowStereo, pairs are matched by path, and TRAIN and TEST are never mixed. The ground truth
is dense and does not mark occluded pixels. A copy written by `write_frame` contains masks in two more trees,
occlusions/ and outofframe/, which the official release does not have.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Unpack

import torch
from torch import Tensor

from autodisp.datasets.exclusions import numbered_entries
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.frame_files import REMEDY
from autodisp.datasets.images import read_mask, read_rgb, write_png
from autodisp.datasets.layout import (
    PICTURES,
    AnyPath,
    Frame,
    Tree,
    find_root,
    folders_in,
    require_choice,
    require_one_size,
    tree_of,
)
from autodisp.datasets.pfm import read_disparity_pfm, write_pfm
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_files import Options, StereoFiles
from autodisp.errors import InputError, WrongSetting

Split = Literal["TRAIN", "TEST"]
RenderPass = Literal["cleanpass", "finalpass"]
Layout = Literal["auto", "full", "subset"]

_SPLITS = ("TRAIN", "TEST")
_LETTERS = ("A", "B", "C")
_MASKS = ("occlusions", "outofframe")
_FLAT_SPLIT = {"TRAIN": "train", "TEST": "val"}
_FLAT_VIEWS = {"cleanpass": "image_clean", "finalpass": "image_final"}
_FLAT_SCENE = 10
_EXCLUDED = re.compile(r"(?:^|/)(?P<scene>(?:TRAIN|TEST)/[ABC]/[^/]+)/(?:left|right)/(?P<stem>[^/]+?)(?:\.\w+)?$")
_ORIGIN = (
    "FlyingThings3D comes from https://lmb.informatik.uni-freiburg.de (Scene Flow Datasets), as "
    "frames_cleanpass/TRAIN/A/0000/left/0006.png with disparity/TRAIN/A/0000/left/0006.pfm, or as the subset "
    "train/image_clean/left/0000000.png with train/disparity/left/0000000.pfm"
)
_REMEDY = f"{REMEDY}, and dataset.official_exclusions the official one"


class FlyingThings3D(StereoFiles):
    """The frames of one split and render pass, in path order.

    A subset letter that does not occur in the folder is skipped (the data is often downloaded in parts). In the
    "subset" layout the frames are numbered consecutively and scenes are not named: since every scene of the full
    release has ten frames, ten consecutive numbers form one group. Its disparities are stored as negative values for
    the left view: if no value of a frame is positive, the sign is inverted.

    Args:
        root: the folder with frames_cleanpass/ and disparity/ (full), or train/ and val/ (subset).
        split: TRAIN or TEST; train/ or val/ in the "subset" layout.
        render_pass: cleanpass or finalpass.
        subsets: letters among A, B and C; the "subset" layout has none and is read completely.
        excluded: a file with one frame per line, such as TRAIN/A/0000/left/0006.png (the official
            all_unused_files.txt); such a frame is left out with both views. Not in the "subset" layout.
        layout: full, subset, or auto to detect it.
        options: see `stereo_files.Options`; names of the other split or of other letters in `exclude` are skipped.

    Raises:
        InputError: the data or a list is missing or does not match, or see `FrameFiles`.
    """

    def __init__(
        self,
        root: AnyPath | None,
        *,
        split: Split = "TRAIN",
        render_pass: RenderPass = "cleanpass",
        subsets: Sequence[str] = _LETTERS,
        excluded: AnyPath | None = None,
        layout: Layout = "auto",
        **options: Unpack[Options],
    ) -> None:
        require_choice("split", split, _SPLITS)
        require_choice("render_pass", render_pass, ("cleanpass", "finalpass"))
        require_choice("layout", layout, ("auto", "full", "subset"))
        if isinstance(subsets, str) or not subsets or not set(subsets) <= set(_LETTERS):
            raise InputError(f"dataset.subsets={subsets!r}: must be a list of one or more of A, B, C")
        folder, flat = _find_layout(root, split, render_pass, layout)
        if flat and (excluded is not None or set(subsets) != set(_LETTERS)):
            raise InputError(
                f"dataset.root={root}: is the 'FlyingThings3D subset', which knows no letters A, B, C and leaves out "
                "the unused frames already: keep dataset.subsets=[A,B,C] and dataset.official_exclusions=null"
            )
        trees = _flat_trees(folder, split, render_pass) if flat else _full_trees(folder, split, render_pass, subsets)
        masks = [] if flat else [_full_tree(folder, top, split, subsets, "left", (".png",)) for top in _MASKS]
        has_occlusion = any(tree.files for tree in masks)
        unread = _parts(_SPLITS, _LETTERS, flat) - _parts([split], subsets, flat)
        super().__init__(
            folder,
            [*trees, *masks] if has_occlusion else trees,
            empty=f"no frame of {split} {', '.join(subsets)} is left. {_ORIGIN}",
            ignored=set() if excluded is None else _read_excluded(Path(excluded).expanduser()),
            elsewhere=re.compile("|".join(rf"{part}/{'' if flat else '[^/]+/'}[^/]+" for part in unread)).fullmatch,
            remedy=REMEDY if flat else _REMEDY,
            **options,
        )
        self.has_occlusion = has_occlusion
        self.groups = [_flat_group(frame) if flat else frame.scene for frame in self.frames]
        self._turn_sign = flat

    def flaws(self, index: int) -> DisparityFlaws:
        """Counts invalid values in the ground truth of one frame; the release contains some NaN."""
        return DisparityFlaws.of(self._read_disparity(self.paths(index)[2]))

    def _read(self, *files: Path) -> StereoSample:
        """Reads one frame; pixels with a negative or non-finite disparity are invalid."""
        left, right = (read_rgb(path) for path in files[:2])
        disparity = self._read_disparity(files[2])
        valid = disparity.isfinite() & (disparity >= 0)
        masks = [read_mask(path) for path in files[3:]]
        require_one_size(dict(zip(files, (left, right, disparity, *masks), strict=True)))
        occluded, out_of_frame = masks or (torch.zeros_like(valid), torch.zeros_like(valid))
        return StereoSample(left, right, torch.where(valid, disparity, 0), valid, occluded, out_of_frame)

    def _read_disparity(self, path: Path) -> Tensor:
        """Reads (1, H, W) as stored, except for the sign."""
        disparity = read_disparity_pfm(path)
        if self._turn_sign and not (disparity[disparity.isfinite()] > 0).any():
            return -disparity
        return disparity


def write_frame(root: Path, *, split: str, subset: str, scene: int, frame: int, sample: StereoSample) -> None:
    """Writes one sample as a cleanpass frame of the full layout, with its masks in two more trees.

    The views are rounded to 8 bits, the disparity is exact. Invalid pixels are stored as infinite.

    Args:
        root: created with all folders below it; an existing frame is replaced.
        split: TRAIN or TEST.
        subset: A, B or C.
        scene: 0..9999.
        frame: 0..9999.
        sample: without a batch axis.

    Raises:
        ValueError: split, subset, scene or frame is out of range.
    """
    if split not in _SPLITS or subset not in _LETTERS or not (0 <= scene <= 9999 and 0 <= frame <= 9999):
        raise ValueError(f"no frame of FlyingThings3D: {split}/{subset}/{scene:04d}/{frame:04d}")
    place = Path(split, subset, f"{scene:04d}")
    pictures = {
        f"frames_cleanpass/{place}/left": sample.left,
        f"frames_cleanpass/{place}/right": sample.right,
        f"{_MASKS[0]}/{place}/left": sample.occluded,
        f"{_MASKS[1]}/{place}/left": sample.out_of_frame,
    }
    for folder, picture in pictures.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        write_png(root / folder / f"{frame:04d}.png", picture)
    disparity = sample.disparity.masked_fill(~sample.valid, torch.inf)
    map_path = root / "disparity" / place / "left" / f"{frame:04d}.pfm"
    map_path.parent.mkdir(parents=True, exist_ok=True)
    write_pfm(map_path, disparity[0].numpy(), trailing_spaces=True)


def _parts(splits: Sequence[str], subsets: Sequence[str], flat: bool) -> set[str]:
    """Returns the prefixes of frame names."""
    return {_FLAT_SPLIT[split] for split in splits} if flat else {f"{s}/{letter}" for s in splits for letter in subsets}


def _find_layout(root: AnyPath | None, split: Split, render_pass: RenderPass, layout: Layout) -> tuple[Path, bool]:
    """Finds the folder; returns it and True if it is in the "subset" layout."""
    full = [f"frames_{render_pass}/{split}", f"frames_{render_pass}_webp/{split}"]
    flat = [f"{_FLAT_SPLIT[split]}/{_FLAT_VIEWS[render_pass]}"]
    looked_for = {"auto": full + flat, "full": full, "subset": flat}[layout]
    folder = find_root(root, looked_for=looked_for, origin=_ORIGIN)
    return folder, layout == "subset" or (layout == "auto" and not any((folder / path).exists() for path in full))


def _full_trees(folder: Path, split: Split, render_pass: RenderPass, subsets: Sequence[str]) -> list[Tree]:
    views = f"frames_{render_pass}"
    trees = []
    for side in ("left", "right"):
        webp, png = (_full_tree(folder, top, split, subsets, side, PICTURES) for top in (f"{views}_webp", views))
        trees.append(png._replace(files={**webp.files, **png.files}))
    return [*trees, _full_tree(folder, "disparity", split, subsets, "left", (".pfm",))]


def _full_tree(
    folder: Path, top: str, split: Split, subsets: Sequence[str], side: str, suffixes: Sequence[str]
) -> Tree:
    parents = [f"{split}/{letter}" for letter in subsets]
    scenes = [f"{parent}/{scene}" for parent in parents for scene in folders_in(folder / top / parent)]
    return tree_of(folder, f"{top}/{{scene}}/{side}/{{stem}}{suffixes[0]}", scenes, suffixes)


def _flat_trees(folder: Path, split: Split, render_pass: RenderPass) -> list[Tree]:
    scenes, views = [_FLAT_SPLIT[split]], _FLAT_VIEWS[render_pass]
    places = ((f"{views}/left", PICTURES), (f"{views}/right", PICTURES), ("disparity/left", (".pfm",)))
    return [tree_of(folder, f"{{scene}}/{place}/{{stem}}{suffixes[0]}", scenes, suffixes) for place, suffixes in places]


def _flat_group(frame: Frame) -> str:
    return f"{frame.scene}/{int(frame.stem) // _FLAT_SCENE:06d}" if frame.stem.isdecimal() else frame.scene


def _read_excluded(path: Path) -> set[Frame]:
    frames = set()
    for number, entry in numbered_entries(path, key="dataset.official_exclusions"):
        found = _EXCLUDED.search(entry.replace("\\", "/"))
        if found is None:
            raise WrongSetting(
                f"dataset.official_exclusions={path}: line {number}, {entry!r}, names no frame, such as "
                "TRAIN/A/0000/left/0006.png does"
            )
        frames.add(Frame(found["scene"], found["stem"]))
    return frames
