"""Middlebury stereo: the scenes of 2014 (Scharstein et al. 2014; also MiddEval3 and 2021), and those of 2005 and 2006.

The offset `doffs` in calib.txt (and dmin.txt in the older sets) is the distance between the two principal points. It
turns a disparity into a depth, f * baseline / (d + doffs), but takes no part in x_right = x_left - d, so the stored
disparities are used as they are. The masks of 2014 hold "occluded" for pixels outside the right view too; here these
are told apart.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.images import read_rgb
from autodisp.datasets.layout import (
    Frame,
    Tree,
    files_in,
    find_root,
    folders_in,
    match,
    require_one_size,
)
from autodisp.datasets.occlusion import split_occlusion
from autodisp.datasets.pfm import read_pfm
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError, WrongSetting

Size = Literal["full", "half", "third"]

_DEPTH = 3
"""Steps from the root down to a scene's folder, at most: MiddEval3/trainingH/Adirondack has three."""
_TRAINING = {"trainingF": "full size", "trainingH": "half size", "trainingQ": "quarter size"}
_WITHOUT_TRUTH = ("testF", "testH", "testQ")
_CALIBRATIONS = ("-perfect", "-imperfect")
_CONDITIONS = ("E", "L", "P")
"""One scene under another exposure, lighting or calibration: MotorcycleE shows what Motorcycle shows."""
_VISIBLE, _HIDDEN = 255, 128
_ORIGIN = (
    "Middlebury 2014 comes from https://vision.middlebury.edu/stereo/data (or /stereo/submit3 for MiddEval3), as "
    "Adirondack-perfect/im0.png with im1.png and disp0.pfm beside it, or as "
    "trainingH/Adirondack/im0.png with im1.png, disp0GT.pfm and mask0nocc.png (its test scenes have no truth)"
)
_NAMES_2006 = ("view1.png", "view5.png", "disp1.png")
_FACTORS = {"full": 1, "half": 2, "third": 3}
_SIZE_FOLDERS = {"FullSize": "full", "HalfSize": "half", "ThirdSize": "third"}
_ORIGIN_2006 = (
    "Middlebury 2005 and 2006 come from https://vision.middlebury.edu/stereo/data, as Art/view1.png with view5.png and "
    "disp1.png beside it (the two-view download)"
)
_ROUNDING = 1e-3
_REMEDY = "Complete the download, or leave these scenes out: autodisp-check writes the list that dataset.exclude takes"


class _Scene(NamedTuple):
    left: Path
    right: Path
    disparity: Path
    mask: Path | None = None


class Middlebury2014:
    """The scenes with im0.png, im1.png and disp0GT.pfm (MiddEval3's name) or disp0.pfm, by path.

    A pixel is valid where its disparity is finite, not negative, and not marked unknown in mask0nocc.png. Where a
    scene of the folder has no such mask, `has_occlusion` is False and the masks of the others tell nothing but which
    pixels are unknown. A group is a scene; its variants (Motorcycle and MotorcycleE, Adirondack-perfect and
    -imperfect) share one. MiddEval3's test scenes have no truth and are passed over.

    Args:
        root: a folder that holds scene folders, at most three levels below it, or one scene folder itself.
        exclude: a list of names to leave out, see `exclusions`.
        half_resolution: halves every sample, see `resolution.halve`.
        strict: refuses scenes that lack a part; otherwise they are left out and told in `incomplete`.

    Raises:
        InputError: the data or the list is not there, a scene lacks a part, which is named, or MiddEval3 is there in
            more than one size. Unreadable files and sizes that differ are reported when the sample is read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        exclude: str | os.PathLike[str] | None = None,
        half_resolution: bool = False,
        strict: bool = True,
    ) -> None:
        folder, places = _find(root, ("im0.png", "im1.png"), origin=_ORIGIN, passed_over=_WITHOUT_TRUTH)
        sizes = sorted({part for place in places for part in Path(place).parts if part in _TRAINING})
        if len(sizes) > 1:
            raise InputError(
                f"dataset.root={root}: holds the same scenes as {', '.join(sizes)} "
                f"({', '.join(_TRAINING[size] for size in sizes)}): name one of these folders instead"
            )
        truths = _tree(folder, places, "disp0GT.pfm", "disp0.pfm")
        trees = [_tree(folder, places, "im0.png"), _tree(folder, places, "im1.png"), truths]
        scenes, self.incomplete = _match(folder, trees, exclude=exclude, strict=strict)
        masks = _tree(folder, places, "mask0nocc.png").files
        self.has_occlusion = all(scene in masks for scene in scenes)
        self.names = [scene.scene for scene in scenes]
        self.groups = _groups(self.names)
        left, right, truth = (tree.files for tree in trees)
        self._files = [_Scene(left[scene], right[scene], truth[scene], masks.get(scene)) for scene in scenes]
        self._half_resolution = half_resolution

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._files)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one scene.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        files = self._files[index]
        left, right = read_rgb(files.left), read_rgb(files.right)
        disparity = _read_truth(files.disparity)
        mask = torch.full_like(disparity, _VISIBLE) if files.mask is None else _levels(files.mask)
        _require_one_size(files, (left, right, disparity, mask))
        valid = disparity.isfinite() & (disparity >= 0) & (mask > _HIDDEN / 2)
        disparity = torch.where(valid, disparity, 0)
        hidden = valid & (mask < (_HIDDEN + _VISIBLE) / 2)
        if not self.has_occlusion:
            hidden = torch.zeros_like(valid)
        occluded, out_of_frame = split_occlusion(hidden, disparity)
        sample = StereoSample(left, right, disparity, valid, occluded, out_of_frame)
        return halve(sample) if self._half_resolution else sample

    def paths(self, index: int) -> list[Path]:
        """The files of one scene."""
        return [path for path in self._files[index] if path is not None]

    def flaws(self, index: int) -> DisparityFlaws:
        """Counts the pixels of one scene's truth that are no disparity; plus infinity marks the unknown ones.

        Raises:
            InputError: the file is damaged.
        """
        return DisparityFlaws.of(_read_truth(self._files[index].disparity), unknown=float("inf"))


class Middlebury2006:
    """The scenes of 2005 and 2006 with view1.png, view5.png and disp1.png, by path; each is a group of its own.

    A stored number is a disparity at full size, so it is divided by the factor of the size; 0 is unknown. Occlusion
    is not known.

    Args:
        root: a folder that holds scene folders, at most three levels below it, or one scene folder itself.
        size: full, half or third, the download that the files come from.
        exclude: a list of names to leave out, see `exclusions`.
        half_resolution: halves every sample once more, see `resolution.halve`.
        strict: refuses scenes that lack a part; otherwise they are left out and told in `incomplete`.

    Raises:
        InputError: the data or the list is not there, a scene lacks a part, which is named, or a folder's official
            name (FullSize, HalfSize, ThirdSize) says another size. Unreadable files and sizes that differ are reported
            when the sample is read.
    """

    has_occlusion = False

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        size: Size = "half",
        exclude: str | os.PathLike[str] | None = None,
        half_resolution: bool = False,
        strict: bool = True,
    ) -> None:
        if size not in _FACTORS:
            raise InputError(f"dataset.size={size!r}: must be one of {', '.join(_FACTORS)}")
        folder, places = _find(root, _NAMES_2006, origin=_ORIGIN_2006)
        for place in places:
            for part in (folder.absolute() / place).parts:
                if _SIZE_FOLDERS.get(part, size) != size:
                    raise InputError(
                        f"dataset.size={size}: but {folder / place} lies in {part}: set "
                        f"dataset.size={_SIZE_FOLDERS[part]}, or name the folder of one size"
                    )
        trees = [_tree(folder, places, name) for name in _NAMES_2006]
        scenes, self.incomplete = _match(folder, trees, exclude=exclude, strict=strict)
        self.names = [scene.scene for scene in scenes]
        self.groups = list(self.names)
        self._files = [_Scene(*(tree.files[scene] for tree in trees)) for scene in scenes]
        self._factor = _FACTORS[size]
        self._half_resolution = half_resolution

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._files)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one scene.

        Raises:
            InputError: a file is damaged, or the sizes of the files differ.
        """
        files = self._files[index]
        left, right, stored = read_rgb(files.left), read_rgb(files.right), _levels(files.disparity)
        _require_one_size(files, (left, right, stored))
        nowhere = torch.zeros_like(stored, dtype=torch.bool)
        sample = StereoSample(left, right, stored / self._factor, stored > 0, nowhere, nowhere.clone())
        return halve(sample) if self._half_resolution else sample

    def paths(self, index: int) -> list[Path]:
        """The files of one scene."""
        return [path for path in self._files[index] if path is not None]


def _find(
    root: str | os.PathLike[str] | None, names: Sequence[str], *, origin: str, passed_over: Sequence[str] = ()
) -> tuple[Path, list[str]]:
    """The root, and the scenes' folders below it ("" for the root itself): those that hold one of the files."""
    places: list[str] = []
    if root is not None and str(root).strip():
        places = list(_scene_folders(Path(root).expanduser(), "", names, passed_over))
    return find_root(root, looked_for=places[:1] or [f"*/{names[0]}"], origin=origin), places


def _scene_folders(folder: Path, place: str, names: Sequence[str], passed_over: Sequence[str]) -> Iterator[str]:
    if any(_file(folder / place, name) for name in names):
        yield place
    elif len(Path(place).parts) < _DEPTH:
        for name in folders_in(folder / place):
            if name not in passed_over:
                yield from _scene_folders(folder, f"{place}/{name}" if place else name, names, passed_over)


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, whatever the case of its suffix."""
    stem, suffix = os.path.splitext(name)
    return files_in(folder, (suffix,)).get(stem)


def _tree(folder: Path, places: Sequence[str], *names: str) -> Tree:
    """The first of these files in each place."""
    files: dict[Frame, Path] = {}
    for place in places:
        found = next(filter(None, (_file(folder / place, name) for name in names)), None)
        if found is not None:
            files[Frame(place or folder.absolute().name, "")] = found
    return Tree(f"{{scene}}/{' or '.join(reversed(names))}", files)


def _match(
    folder: Path, trees: Sequence[Tree], *, exclude: str | os.PathLike[str] | None, strict: bool
) -> tuple[list[Frame], dict[str, str]]:
    """The complete scenes, and what the others lack where that is no error."""
    known = {scene.scene: scene for tree in trees for scene in tree.files}
    ignored = {known[name] for name in read_exclusions(exclude, known)}
    incomplete: dict[Frame, str] | None = None if strict else {}
    scenes = match(folder, trees, ignored=ignored, remedy=_REMEDY, collected=incomplete)
    if not scenes and not incomplete:
        raise WrongSetting(f"dataset.exclude={exclude}: leaves no scene of {folder}: take lines out")
    return scenes, {scene.scene: lack for scene, lack in (incomplete or {}).items()}


def _read_truth(path: Path) -> Tensor:
    """(1, H, W) as the file has it."""
    pixels = read_pfm(path)
    if pixels.ndim != 2:
        raise InputError(f"{path}: is a colour PFM, but a disparity has one channel")
    return torch.from_numpy(pixels)[None]


def _groups(names: Sequence[str]) -> list[str]:
    """For each name the name without the marks of a variant."""
    plain = set(names)
    groups = []
    for name in names:
        group = name
        for mark in _CALIBRATIONS:
            group = group.removesuffix(mark)
        # Only beside its plain scene: other names may end with such a letter too (ArtL stands alone in MiddEval3).
        if name.endswith(_CONDITIONS) and name[:-1] in plain:
            group = name[:-1]
        groups.append(group)
    return groups


def _levels(path: Path) -> Tensor:
    """A grey picture of 8 bits in levels: (1, H, W) float32 of whole numbers."""
    channels = read_rgb(path) * 255
    levels = channels[:1].round()
    if (channels - levels).abs().max() > _ROUNDING:
        raise InputError(f"{path}: is coloured or has 16 bits, but its numbers are data: it must be grey, of 8 bits")
    return levels


def _require_one_size(files: _Scene, planes: Sequence[Tensor]) -> None:
    sizes = [(plane.shape[-2], plane.shape[-1]) for plane in planes]
    require_one_size({path: size for path, size in zip(files, sizes, strict=False) if path is not None})
