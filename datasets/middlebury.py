"""Middlebury stereo: the scenes of 2014 (Scharstein et al. 2014; also MiddEval3 and 2021), and those of 2005 and 2006.

The offset `doffs` in calib.txt (and dmin.txt in the older sets) is the distance between the two principal points. It is
needed to convert disparity to depth, f * baseline / (d + doffs), but not for x_right = x_left - d, so the stored
disparities are used unchanged. The masks of 2014 also mark pixels outside of the right view as occluded; here these are
distinguished.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Unpack

import torch
from torch import Tensor

from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.images import read_rgb
from autodisp.datasets.layout import Frame, Tree, files_in, find_root, folders_in, require_choice, require_one_size
from autodisp.datasets.occlusion import split_occlusion
from autodisp.datasets.pfm import read_disparity_pfm
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_files import Options, StereoFiles
from autodisp.errors import InputError

Size = Literal["full", "half", "third"]

_DEPTH = 3
"""Maximum depth of a scene folder below the root: MiddEval3/trainingH/Adirondack has three levels."""
_TRAINING = {"trainingF": "full size", "trainingH": "half size", "trainingQ": "quarter size"}
_WITHOUT_TRUTH = ("testF", "testH", "testQ")
_CALIBRATIONS = ("-perfect", "-imperfect")
_CONDITIONS = ("E", "L", "P")
"""Suffixes of a scene with different exposure, lighting or calibration: MotorcycleE shows the scene of Motorcycle."""
_VISIBLE, _OCCLUDED = 255, 128
_ORIGIN = (
    "Middlebury 2014 comes from https://vision.middlebury.edu/stereo/data (or /stereo/submit3 for MiddEval3), as "
    "Adirondack-perfect/im0.png with im1.png and disp0.pfm next to it, or as "
    "trainingH/Adirondack/im0.png with im1.png, disp0GT.pfm and mask0nocc.png (its test scenes have no ground truth)"
)
_NAMES_2006 = ("view1.png", "view5.png", "disp1.png")
_FACTORS = {"full": 1, "half": 2, "third": 3}
_SIZE_FOLDERS = {"FullSize": "full", "HalfSize": "half", "ThirdSize": "third"}
_ORIGIN_2006 = (
    "Middlebury 2005 and 2006 come from https://vision.middlebury.edu/stereo/data, as Art/view1.png with view5.png and "
    "disp1.png next to it (the two-view download)"
)
_ROUNDING = 1e-3


class Middlebury2014(StereoFiles):
    """The scenes with im0.png, im1.png and disp0GT.pfm (MiddEval3's name) or disp0.pfm, by path.

    A pixel is valid if its disparity is finite, not negative, and not marked unknown in mask0nocc.png. If any scene of
    the folder has no such mask, `has_occlusion` is False and the masks of the others only mark unknown pixels. A group
    is a scene with its variants (Motorcycle and MotorcycleE, Adirondack-perfect and -imperfect). The test scenes of
    MiddEval3 have no ground truth and are skipped.

    Args:
        root: a folder with scene folders, at most three levels below it, or one scene folder itself.
        options: see `stereo_files.Options`.

    Raises:
        InputError: the data is missing, or MiddEval3 exists in more than one size; or see `FrameFiles`.
    """

    def __init__(self, root: str | os.PathLike[str] | None, **options: Unpack[Options]) -> None:
        folder, places = _find(root, ("im0.png", "im1.png"), origin=_ORIGIN, skipped=_WITHOUT_TRUTH)
        sizes = sorted({part for place in places for part in Path(place).parts if part in _TRAINING})
        if len(sizes) > 1:
            raise InputError(
                f"dataset.root={root}: holds the same scenes as {', '.join(sizes)} "
                f"({', '.join(_TRAINING[size] for size in sizes)}): name one of these folders instead"
            )
        trees = [_tree(folder, places, name) for name in ("im0.png", "im1.png")]
        super().__init__(
            folder, [*trees, _tree(folder, places, "disp0GT.pfm", "disp0.pfm")], empty="holds no scene", **options
        )
        self.groups = _groups(self.names)
        masks = _tree(folder, places, "mask0nocc.png").files
        self.has_occlusion = all(frame in masks for frame in self.frames)
        for index, frame in enumerate(self.frames):
            if frame in masks:
                self._files[index] += (masks[frame],)

    def flaws(self, index: int) -> DisparityFlaws:
        """Counts invalid values in the ground truth of one scene; plus infinity marks unknown pixels."""
        return DisparityFlaws.of(read_disparity_pfm(self.paths(index)[2]), unknown=float("inf"))

    def _read(self, *files: Path) -> StereoSample:
        left, right = (read_rgb(path) for path in files[:2])
        disparity = read_disparity_pfm(files[2])
        mask = _levels(files[3]) if len(files) > 3 else torch.full_like(disparity, _VISIBLE)
        require_one_size(dict(zip(files, (left, right, disparity, mask), strict=False)))
        valid = disparity.isfinite() & (disparity >= 0) & (mask > _OCCLUDED / 2)
        disparity = torch.where(valid, disparity, 0)
        occluded = valid & (mask < (_OCCLUDED + _VISIBLE) / 2) & self.has_occlusion
        return StereoSample(left, right, disparity, valid, *split_occlusion(occluded, disparity))


class Middlebury2006(StereoFiles):
    """The scenes of 2005 and 2006 with view1.png, view5.png and disp1.png, by path; each is a separate group.

    A stored value is a disparity at full size, so it is divided by the factor of the size; 0 is unknown. Occlusion is
    not known.

    Args:
        root: a folder with scene folders, at most three levels below it, or one scene folder itself.
        size: full, half or third, the size of the downloaded version.
        options: see `stereo_files.Options`.

    Raises:
        InputError: the data is missing, or the official name of a folder (FullSize, HalfSize, ThirdSize) contradicts
            the size; or see `FrameFiles`.
    """

    def __init__(self, root: str | os.PathLike[str] | None, *, size: Size = "half", **options: Unpack[Options]) -> None:
        require_choice("size", size, _FACTORS)
        folder, places = _find(root, _NAMES_2006, origin=_ORIGIN_2006)
        for place in places:
            for part in (folder.absolute() / place).parts:
                if _SIZE_FOLDERS.get(part, size) != size:
                    raise InputError(
                        f"dataset.size={size}: but {folder / place} lies in {part}: set "
                        f"dataset.size={_SIZE_FOLDERS[part]}, or name the folder of one size"
                    )
        trees = [_tree(folder, places, name) for name in _NAMES_2006]
        super().__init__(folder, trees, empty="holds no scene", **options)
        self._factor = _FACTORS[size]

    def _read(self, *files: Path) -> StereoSample:
        left, right = (read_rgb(path) for path in files[:2])
        stored = _levels(files[2])
        require_one_size(dict(zip(files, (left, right, stored), strict=True)))
        nowhere = torch.zeros_like(stored, dtype=torch.bool)
        return StereoSample(left, right, stored / self._factor, stored > 0, nowhere, nowhere.clone())


def _find(
    root: str | os.PathLike[str] | None, names: Sequence[str], *, origin: str, skipped: Sequence[str] = ()
) -> tuple[Path, list[str]]:
    """Finds the root and the scene folders below it ("" for the root itself): those that contain one of the files."""
    places: list[str] = []
    if root is not None and str(root).strip():
        places = list(_scene_folders(Path(root).expanduser(), "", names, skipped))
    return find_root(root, looked_for=places[:1] or [f"*/{names[0]}"], origin=origin), places


def _scene_folders(folder: Path, place: str, names: Sequence[str], skipped: Sequence[str]) -> Iterator[str]:
    if any(_file(folder / place, name) for name in names):
        yield place
    elif len(Path(place).parts) < _DEPTH:
        for name in folders_in(folder / place):
            if name not in skipped:
                yield from _scene_folders(folder, f"{place}/{name}" if place else name, names, skipped)


def _file(folder: Path, name: str) -> Path | None:
    """Returns the file with that name, ignoring the case of its suffix."""
    stem, suffix = os.path.splitext(name)
    return files_in(folder, (suffix,)).get(stem)


def _tree(folder: Path, places: Sequence[str], *names: str) -> Tree:
    """Collects the first of these files in each scene folder."""
    files: dict[Frame, Path] = {}
    for place in places:
        found = next(filter(None, (_file(folder / place, name) for name in names)), None)
        if found is not None:
            files[Frame(place or folder.absolute().name, "")] = found
    return Tree(f"{{scene}}/{' or '.join(reversed(names))}", files)


def _groups(names: Sequence[str]) -> list[str]:
    """Strips the suffixes of variants from the names."""
    plain = set(names)
    groups = []
    for name in names:
        group = name
        for mark in _CALIBRATIONS:
            group = group.removesuffix(mark)
        # Only if the plain scene exists: other names may end with such a letter too (ArtL has none in MiddEval3).
        if name.endswith(_CONDITIONS) and name[:-1] in plain:
            group = name[:-1]
        groups.append(group)
    return groups


def _levels(path: Path) -> Tensor:
    """Reads an 8-bit grey image as integer values, (1, H, W) float32."""
    channels = read_rgb(path) * 255
    levels = channels[:1].round()
    if (channels - levels).abs().max() > _ROUNDING:
        raise InputError(f"{path}: is coloured or has 16 bits, but its numbers are data: it must be grey, of 8 bits")
    return levels
