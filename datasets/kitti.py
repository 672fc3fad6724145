"""KITTI stereo 2012 (Geiger et al. 2012) and 2015 (Menze and Geiger 2015): the training split, with its ground truth.

The ground truth is sparse, from a laser scanner. KITTI's "non-occluded" ground truth excludes every pixel that is not
visible in the right view; here pixels outside of the right view are distinguished from those occluded in it.
"""

from pathlib import Path
from typing import Literal, NamedTuple, Unpack

from autodisp.datasets.disparity_png import read_disparity_png
from autodisp.datasets.images import read_rgb
from autodisp.datasets.layout import AnyPath, Tree, find_root, require_choice, require_one_size, tree_of
from autodisp.datasets.occlusion import split_occlusion
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_files import Options, StereoFiles
from autodisp.errors import InputError

Year = Literal[2012, 2015]

_FRAME_WITH_TRUTH = "_10"


class _Layout(NamedTuple):
    views: tuple[tuple[str, str], ...]
    """Folders of the left and the right view; the first pair that exists is read."""
    truth: str
    visible_truth: str
    origin: str


_LAYOUTS: dict[int, _Layout] = {
    2012: _Layout(
        views=(("colored_0", "colored_1"), ("image_0", "image_1")),
        truth="disp_occ",
        visible_truth="disp_noc",
        origin="KITTI 2012 comes from https://www.cvlibs.net/datasets/kitti/eval_stereo_flow.php?benchmark=stereo "
        "(data_stereo_flow.zip), as training/colored_0/000000_10.png with colored_1, disp_occ and disp_noc next to it",
    ),
    2015: _Layout(
        views=(("image_2", "image_3"),),
        truth="disp_occ_0",
        visible_truth="disp_noc_0",
        origin="KITTI 2015 comes from https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php?benchmark=stereo "
        "(data_scene_flow.zip), as training/image_2/000000_10.png with image_3, disp_occ_0 and disp_noc_0 next to it",
    ),
}


class Kitti(StereoFiles):
    """The frames of one year with ground truth (those named *_10.png), in order; each is a separate group.

    The grey views of 2012 are read if the coloured ones are absent. `has_occlusion` is False if the ground truth of the
    non-occluded pixels (disp_noc) is absent. The files do not specify which frames come from one drive.

    Args:
        root: the folder that contains training/.
        year: 2012 or 2015.
        options: see `stereo_files.Options`.

    Raises:
        InputError: the data is missing, or that of the other year; or see `FrameFiles`.
    """

    def __init__(self, root: AnyPath | None, *, year: Year, **options: Unpack[Options]) -> None:
        require_choice("year", year, _LAYOUTS)
        layout = _LAYOUTS[year]
        folder = _find(root, year)
        views = next((pair for pair in layout.views if (folder / "training" / pair[0]).exists()), layout.views[0])
        trees = [_tree(folder, top) for top in (*views, layout.truth)]
        visible = _tree(folder, layout.visible_truth)
        if visible.files:
            trees.append(visible)
        empty = f"training/{views[0]} holds no frame *{_FRAME_WITH_TRUTH}.png. {layout.origin}"
        super().__init__(folder, trees, empty=empty, **options)
        self.has_occlusion = bool(visible.files)

    def _read(self, *files: Path) -> StereoSample:
        left, right = (read_rgb(path) for path in files[:2])
        (disparity, valid), *others = (read_disparity_png(path) for path in files[2:])
        visible = others[0][1] if others else valid
        require_one_size(dict(zip(files, (left, right, valid, visible), strict=False)))
        return StereoSample(left, right, disparity, valid, *split_occlusion(valid & ~visible, disparity))


def _find(root: AnyPath | None, year: int) -> Path:
    """Finds the folder that contains training/, after checking that it is not that of the other year."""
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
    tree = tree_of(folder, f"training/{top}/{{stem}}.png", [""])
    known = {frame: path for frame, path in tree.files.items() if frame.stem.endswith(_FRAME_WITH_TRUTH)}
    return tree._replace(files=known)
