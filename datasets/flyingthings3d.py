"""FlyingThings3D (Mayer et al. 2016): the full release and the "subset" release, left-referenced disparity.

Pairs are matched by path, and TRAIN and TEST never mix, both unlike torchvision's SceneFlowStereo. The truth is
dense and includes occluded pixels without saying which these are. A copy that `write_frame` made carries the
masks in two more trees, occlusions/ and outofframe/, which the official release does not have.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from autodisp.datasets.exclusions import numbered_entries, read_exclusions
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.images import read_mask, read_rgb, write_png
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
from autodisp.datasets.pfm import read_pfm, write_pfm
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample
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
_FLAT_REMEDY = (
    "Complete the download, or leave these frames out: autodisp-check writes the list that dataset.exclude takes"
)
_REMEDY = f"{_FLAT_REMEDY}, and dataset.official_exclusions the official one"


class _Files(NamedTuple):
    left: Path
    right: Path
    disparity: Path
    occluded: Path | None = None
    out_of_frame: Path | None = None


class FlyingThings3D:
    """The frames of one split and render pass, in path order.

    A subset letter that the folder has nowhere is passed over (the data is often downloaded in parts) and told in
    `absent_subsets`. In the "subset" layout the frames are numbered through and no scene is named: as every
    scene of the full release has ten frames, ten consecutive numbers are taken as one group. Its disparities are
    stored negative for the left view: where none of a frame is positive, the sign is turned.

    Args:
        root: the folder that holds frames_cleanpass/ and disparity/ (full), or train/ and val/ (subset).
        split: TRAIN or TEST; train/ or val/ in the "subset" layout.
        render_pass: cleanpass or finalpass.
        subsets: letters among A, B and C; the "subset" layout has none and takes all of it.
        excluded: a file with one frame a line, such as TRAIN/A/0000/left/0006.png (the official
            all_unused_files.txt); such a frame is left out with both views. Not in the "subset" layout.
        exclude: a list of names to leave out, see `exclusions`; those of the other split or of other letters are
            passed over.
        layout: full, subset, or auto to see which one is there.
        half_resolution: halves every sample, see `resolution.halve`.
        strict: refuses frames that lack a part; otherwise they are left out and told in `incomplete`.

    Raises:
        InputError: the data or a list is not there or does not fit, or a frame lacks a part, which is named.
            Unreadable files and sizes that differ are reported when the sample is read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        split: Split = "TRAIN",
        render_pass: RenderPass = "cleanpass",
        subsets: Sequence[str] = _LETTERS,
        excluded: str | os.PathLike[str] | None = None,
        exclude: str | os.PathLike[str] | None = None,
        layout: Layout = "auto",
        half_resolution: bool = False,
        strict: bool = True,
    ) -> None:
        _require_choice("split", split, _SPLITS)
        _require_choice("render_pass", render_pass, ("cleanpass", "finalpass"))
        _require_choice("layout", layout, ("auto", "full", "subset"))
        if isinstance(subsets, str) or not subsets or not set(subsets) <= set(_LETTERS):
            raise InputError(f"dataset.subsets={subsets!r}: must be a list of one or more of A, B, C")
        folder, flat = _find_layout(root, split, render_pass, layout)
        if flat and (excluded is not None or set(subsets) != set(_LETTERS)):
            raise InputError(
                f"dataset.root={root}: is the 'FlyingThings3D subset', which knows no letters A, B, C and leaves out "
                "the unused frames already: keep dataset.subsets=[A,B,C] and dataset.official_exclusions=null"
            )
        trees = _flat_trees(folder, split, render_pass) if flat else _full_trees(folder, split, render_pass, subsets)
        masks = () if flat else _mask_trees(folder, split, subsets)
        self.has_occlusion = any(tree.files for tree in masks)
        if self.has_occlusion:
            trees += masks
        ignored = set() if excluded is None else _read_excluded(Path(excluded).expanduser())
        known = {_name(frame): frame for tree in trees for frame in tree.files}
        unread = _parts(_SPLITS, _LETTERS, flat) - _parts([split], subsets, flat)
        elsewhere = re.compile("|".join(rf"{part}/{'' if flat else '[^/]+/'}[^/]+" for part in unread)).fullmatch
        ignored |= {known[name] for name in read_exclusions(exclude, known, elsewhere=elsewhere)}
        incomplete: dict[Frame, str] | None = None if strict else {}
        frames = match(folder, trees, ignored=ignored, remedy=_FLAT_REMEDY if flat else _REMEDY, collected=incomplete)
        if not frames and not incomplete:
            raise NotThere(f"dataset.root={root}: no frame of {split} {', '.join(subsets)} is left. {_ORIGIN}")

        found = {frame.scene.split("/")[1] for frame in frames if not flat}
        self.absent_subsets = () if flat else tuple(sorted(set(subsets).difference(found)))
        self.incomplete = {_name(frame): lack for frame, lack in (incomplete or {}).items()}
        self.names = [_name(frame) for frame in frames]
        self.groups = [_flat_group(frame) if flat else frame.scene for frame in frames]
        self._files = [_Files(*(tree.files[frame] for tree in trees)) for frame in frames]
        self._turn_sign = flat
        self._half_resolution = half_resolution

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._files)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one frame.

        A negative or non-finite disparity is no truth: the pixel is not valid.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        files = self._files[index]
        left, right = read_rgb(files.left), read_rgb(files.right)
        disparity = self._read_truth(files.disparity)
        valid = disparity.isfinite() & (disparity >= 0)
        occluded = torch.zeros_like(valid) if files.occluded is None else read_mask(files.occluded)
        out_of_frame = torch.zeros_like(valid) if files.out_of_frame is None else read_mask(files.out_of_frame)
        planes = (left, right, disparity, occluded, out_of_frame)
        require_one_size({path: _size(plane) for path, plane in zip(files, planes, strict=True) if path is not None})
        sample = StereoSample(left, right, torch.where(valid, disparity, 0), valid, occluded, out_of_frame)
        return halve(sample) if self._half_resolution else sample

    def paths(self, index: int) -> list[Path]:
        """The files of one frame."""
        return [path for path in self._files[index] if path is not None]

    def flaws(self, index: int) -> DisparityFlaws:
        """Counts the pixels of one frame's ground truth that are no disparity: the release holds some NaN.

        Raises:
            InputError: the file is damaged.
        """
        return DisparityFlaws.of(self._read_truth(self._files[index].disparity))

    def _read_truth(self, path: Path) -> Tensor:
        """(1, H, W) as the file has it, but for the sign."""
        pixels = read_pfm(path)
        if pixels.ndim != 2:
            raise InputError(f"{path}: is a colour PFM, but a disparity has one channel")
        disparity = torch.from_numpy(pixels)[None]
        if self._turn_sign and not (disparity[disparity.isfinite()] > 0).any():
            return -disparity
        return disparity


def write_frame(root: Path, *, split: str, subset: str, scene: int, frame: int, sample: StereoSample) -> None:
    """Writes one sample as a frame of the full layout's cleanpass, with its masks in two trees beside it.

    The views are rounded to 8 bits, the disparity is exact. Pixels that are not valid are stored as infinite.

    Args:
        root: is created, as are all folders below it; a frame that is there already is replaced.
        split: TRAIN or TEST.
        subset: A, B or C.
        scene: 0..9999.
        frame: 0..9999.
        sample: without a batch axis.

    Raises:
        ValueError: split, subset, scene or frame is none of the above.
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
    """What the names of frames begin with."""
    return {_FLAT_SPLIT[split] for split in splits} if flat else {f"{s}/{letter}" for s in splits for letter in subsets}


def _name(frame: Frame) -> str:
    return f"{frame.scene}/{frame.stem}"


def _find_layout(
    root: str | os.PathLike[str] | None, split: Split, render_pass: RenderPass, layout: Layout
) -> tuple[Path, bool]:
    """Gives the folder and whether it is in the "subset" layout."""
    full = [f"frames_{render_pass}/{split}", f"frames_{render_pass}_webp/{split}"]
    flat = [f"{_FLAT_SPLIT[split]}/{_FLAT_VIEWS[render_pass]}"]
    looked_for = {"auto": full + flat, "full": full, "subset": flat}[layout]
    folder = find_root(root, looked_for=looked_for, origin=_ORIGIN)
    return folder, layout == "subset" or (layout == "auto" and not any((folder / path).exists() for path in full))


def _full_trees(folder: Path, split: Split, render_pass: RenderPass, subsets: Sequence[str]) -> tuple[Tree, ...]:
    views = f"frames_{render_pass}"
    tops = (f"{views}_webp", views)
    return (
        _tree(folder, tops, split, subsets, "left", PICTURES),
        _tree(folder, tops, split, subsets, "right", PICTURES),
        _tree(folder, ("disparity",), split, subsets, "left", (".pfm",)),
    )


def _mask_trees(folder: Path, split: Split, subsets: Sequence[str]) -> tuple[Tree, ...]:
    return tuple(_tree(folder, (top,), split, subsets, "left", (".png",)) for top in _MASKS)


def _tree(
    folder: Path, tops: Sequence[str], split: Split, subsets: Sequence[str], side: str, suffixes: Sequence[str]
) -> Tree:
    """Collects top/SPLIT/LETTER/scene/side/stem.suffix; of two files of one frame the later top wins."""
    files: dict[Frame, Path] = {}
    for top in tops:
        for letter in subsets:
            for scene in folders_in(folder / top / split / letter):
                place = folder / top / split / letter / scene / side
                files |= {Frame(f"{split}/{letter}/{scene}", k): path for k, path in files_in(place, suffixes).items()}
    return Tree(f"{tops[-1]}/{{scene}}/{side}/{{stem}}{suffixes[0]}", files)


def _flat_trees(folder: Path, split: Split, render_pass: RenderPass) -> tuple[Tree, ...]:
    top, views = _FLAT_SPLIT[split], _FLAT_VIEWS[render_pass]
    places = ((f"{views}/left", PICTURES), (f"{views}/right", PICTURES), ("disparity/left", (".pfm",)))
    return tuple(
        Tree(
            f"{{scene}}/{place}/{{stem}}{suffixes[0]}",
            {Frame(top, stem): path for stem, path in files_in(folder / top / place, suffixes).items()},
        )
        for place, suffixes in places
    )


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


def _require_choice(setting: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"dataset.{setting}={value!r}: must be one of {', '.join(choices)}")


def _size(plane: Tensor) -> tuple[int, int]:
    return plane.shape[-2], plane.shape[-1]
