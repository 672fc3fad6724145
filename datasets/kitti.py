"""KITTI stereo 2012 (Geiger et al. 2012) and 2015 (Menze and Geiger 2015): the training split, which alone has a truth.

The truth is sparse, from a laser scanner. KITTI's own "non-occluded" truth leaves out every pixel that the right view
does not show, for whichever reason; here those outside the right view are told apart from those hidden inside it.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple

from autodisp.datasets.disparity_png import read_disparity_png
from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.images import read_rgb
from autodisp.datasets.layout import Frame, NotThere, Tree, files_in, find_root, match, require_one_size
from autodisp.datasets.occlusion import split_occlusion
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError

Year = Literal[2012, 2015]

_FRAME_WITH_TRUTH = "_10"
_REMEDY = (
    "Unpack the download again, or leave these frames out: autodisp-check writes the list that dataset.exclude takes"
)


class _Layout(NamedTuple):
    views: tuple[tuple[str, str], ...]
    """Folders of the left and the right view; of several pairs the first one that is there is read."""
    truth: str
    visible_truth: str
    origin: str


_LAYOUTS: dict[int, _Layout] = {
    2012: _Layout(
        views=(("colored_0", "colored_1"), ("image_0", "image_1")),
        truth="disp_occ",
        visible_truth="disp_noc",
        origin="KITTI 2012 comes from https://www.cvlibs.net/datasets/kitti/eval_stereo_flow.php?benchmark=stereo "
        "(data_stereo_flow.zip), as training/colored_0/000000_10.png with colored_1, disp_occ and disp_noc beside it",
    ),
    2015: _Layout(
        views=(("image_2", "image_3"),),
        truth="disp_occ_0",
        visible_truth="disp_noc_0",
        origin="KITTI 2015 comes from https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php?benchmark=stereo "
        "(data_scene_flow.zip), as training/image_2/000000_10.png with image_3, disp_occ_0 and disp_noc_0 beside it",
    ),
}


class _Files(NamedTuple):
    left: Path
    right: Path
    truth: Path
    visible_truth: Path | None = None


class Kitti:
    """The frames of one year that have a truth (those named *_10.png), in order; every frame is a group of its own.

    The grey views of 2012 are read where the coloured ones are absent. `has_occlusion` is False where the truth of
    the non-occluded pixels (disp_noc) is absent. Files do not say which frames come from one drive.

    Args:
        root: the folder that holds training/.
        year: 2012 or 2015.
        split: train; the truth of KITTI's test split is not published.
        exclude: a list of names to leave out, see `exclusions`.
        half_resolution: halves every sample, see `resolution.halve`.
        strict: refuses frames that lack a part; otherwise they are left out and told in `incomplete`.

    Raises:
        InputError: the data or the list is not there, the data is that of the other year, or a frame lacks a part,
            which is named. Unreadable files and sizes that differ are reported when the sample is read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        year: Year,
        split: Literal["train"] = "train",
        exclude: str | os.PathLike[str] | None = None,
        half_resolution: bool = False,
        strict: bool = True,
    ) -> None:
        if year not in _LAYOUTS:
            raise InputError(f"dataset.year={year!r}: must be one of {', '.join(map(str, _LAYOUTS))}")
        if split != "train":
            raise InputError(f"dataset.split={split!r}: must be train, the only part of KITTI with a published truth")
        layout = _LAYOUTS[year]
        folder = _find(root, year)
        views = next((pair for pair in layout.views if (folder / "training" / pair[0]).exists()), layout.views[0])
        trees = [_tree(folder, top) for top in (*views, layout.truth)]
        visible = _tree(folder, layout.visible_truth)
        self.has_occlusion = bool(visible.files)
        if self.has_occlusion:
            trees.append(visible)
        known = {frame.stem: frame for tree in trees for frame in tree.files}
        ignored = {known[name] for name in read_exclusions(exclude, known)}
        incomplete: dict[Frame, str] | None = None if strict else {}
        frames = match(folder, trees, ignored=ignored, remedy=_REMEDY, collected=incomplete)
        if not frames and not incomplete:
            raise NotThere(
                f"dataset.root={root}: training/{views[0]} holds no frame *{_FRAME_WITH_TRUTH}.png, or none is left. "
                f"{layout.origin}"
            )
        self.incomplete = {frame.stem: lack for frame, lack in (incomplete or {}).items()}
        self.names = [frame.stem for frame in frames]
        self.groups = list(self.names)
        self._files = [_Files(*(tree.files[frame] for tree in trees)) for frame in frames]
        self._half_resolution = half_resolution

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._files)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one frame.

        Raises:
            InputError: a file is damaged or no disparity of 16 bits, or the sizes of the files differ.
        """
        files = self._files[index]
        left, right = read_rgb(files.left), read_rgb(files.right)
        disparity, valid = read_disparity_png(files.truth)
        planes = {files.left: left, files.right: right, files.truth: valid}
        visible = valid
        if files.visible_truth is not None:
            _, visible = read_disparity_png(files.visible_truth)
            planes[files.visible_truth] = visible
        require_one_size({path: (plane.shape[-2], plane.shape[-1]) for path, plane in planes.items()})
        occluded, out_of_frame = split_occlusion(valid & ~visible, disparity)
        sample = StereoSample(left, right, disparity, valid, occluded, out_of_frame)
        return halve(sample) if self._half_resolution else sample

    def paths(self, index: int) -> list[Path]:
        """The files of one frame."""
        return [path for path in self._files[index] if path is not None]


def _find(root: str | os.PathLike[str] | None, year: int) -> Path:
    """The folder that holds training/, after a look at whether it is the other year's."""
    if root is not None and str(root).strip():
        there = Path(root).expanduser() / "training"
        for other, layout in _LAYOUTS.items():
            if (there / layout.truth).is_dir() and not (there / _LAYOUTS[year].truth).exists():
                raise InputError(
                    f"dataset.root={root}: holds training/{layout.truth}, which is KITTI {other}, and not "
                    f"training/{_LAYOUTS[year].truth} of {year}: take kitti{other}, or another folder"
                )
    wanted = _LAYOUTS[year]
    return find_root(root, looked_for=[f"training/{left}" for left, _ in wanted.views], origin=wanted.origin)


def _tree(folder: Path, top: str) -> Tree:
    files = files_in(folder / "training" / top, (".png",))
    with_truth = {Frame("training", stem): path for stem, path in files.items() if stem.endswith(_FRAME_WITH_TRUTH)}
    return Tree(f"{{scene}}/{top}/{{stem}}.png", with_truth)
