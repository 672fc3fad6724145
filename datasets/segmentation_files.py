"""Readers of segmentation datasets: PASCAL VOC 2012, Cityscapes, and two folders of images and masks.

Masks are PNGs with a palette or in 8-bit grey whose pixels are class indices; 255 is ignored.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from autodisp.datasets.frame_files import FrameFiles, Options
from autodisp.datasets.images import read_classes, read_rgb
from autodisp.datasets.layout import Frame, NotThere, Tree, files_in, find_root, folders_in, require_one_size, tree_of
from autodisp.datasets.samples import IGNORED, SegmentedImage
from autodisp.errors import InputError, WrongSetting

_WITHOUT_DATA = "task=segmentation dataset=shapes3d_classes"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CITYSCAPES_CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Names of the 19 classes of the benchmark by the id in the label files, in the order of their training ids."""


class SegmentationFiles(FrameFiles[SegmentedImage]):
    """Images with masks of class indices.

    Args:
        folder: the root of the trees.
        trees: of the images and of the masks, and of anything else that a frame needs.
        classes: class names, in the order of their indices.
        empty: error message if there is no frame at all, with the source of the data.
        options: see `Options`.

    Raises:
        InputError: see `FrameFiles`. Masks with other values than the classes are reported when the sample is read.
    """

    def __init__(
        self, folder: Path, trees: Sequence[Tree], *, classes: Sequence[str], empty: str, **options: Unpack[Options]
    ) -> None:
        super().__init__(folder, trees, empty=empty, elsewhere=lambda name: self._elsewhere(name), **options)
        self.classes = tuple(classes)

    def _elsewhere(self, name: str) -> bool:
        """Returns True for the name of a sample in a part that is not read."""
        return False

    def _read(self, *files: Path) -> SegmentedImage:
        image, mask = files[:2]
        pixels, classes = read_rgb(image, upright=True), read_classes(mask)
        if pixels.shape[1:] != classes.shape:  # a mask may have been drawn on the image as stored
            pixels = read_rgb(image)
        require_one_size({image: pixels, mask: classes})
        return SegmentedImage(pixels, self._classes(classes, mask))

    def _classes(self, stored: Tensor, path: Path) -> Tensor:
        """Converts the values of a mask into class indices."""
        wrong = stored[(stored >= len(self.classes)) & (stored != IGNORED)]
        if wrong.numel():
            raise InputError(
                f"{path}: has a pixel of class {int(wrong.max())}, but there are {len(self.classes)} classes: must be "
                f"0 to {len(self.classes) - 1}, or {IGNORED} to be ignored"
            )
        return stored


class Folders(SegmentationFiles):
    """An image in images/ and a mask in masks/ for each sample, of the same stem.

    Args:
        root: the folder that contains both.
        classes: number of classes, at least two; None counts them, which reads every mask.
        options: see `Options`.

    Raises:
        InputError: see `SegmentationFiles`; or the classes are to be counted, and a mask cannot be read (unless
            strict is False) or there is none above class 0.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None, *, classes: int | None = None, **options: Unpack[Options]
    ) -> None:
        origin = "each sample is an image in images/ and a PNG of the same stem in masks/"
        folder = find_root(root, looked_for=["images"], origin=origin, without_data=_WITHOUT_DATA)
        self._folder = folder
        images = tree_of(folder, "images/{stem}.png", [""], _SUFFIXES, distinct=True)
        masks = tree_of(folder, "masks/{stem}.png", [""], distinct=True)
        super().__init__(folder, (images, masks), classes=(), empty=f"images/ holds no image. {origin}", **options)
        count = self._counted(options.get("strict", True)) if classes is None else classes
        self.classes = tuple(f"class {index}" for index in range(count))

    def _counted(self, strict: bool) -> int:
        """Returns the largest class of all masks, plus 1."""
        largest, unread = 0, False
        for _, mask in self._files:
            try:
                stored = read_classes(mask)
            except InputError:
                if strict:
                    raise
                unread = True
                continue  # reported when the sample is read
            known = stored[stored != IGNORED]
            largest = max(largest, int(known.max()) if known.numel() else 0)
        if largest == 0 and not unread:
            raise InputError(
                f"{self._folder / 'masks'}: no mask has a class above 0, besides {IGNORED}, which is ignored; number "
                "the classes from 0 (1, not 255, for the foreground of a binary mask), or set dataset.classes"
            )
        return max(largest + 1, 2)


class Voc2012(SegmentationFiles):
    """PASCAL VOC 2012, segmentation (Everingham et al.).

    Args:
        root: the folder that contains VOCdevkit/VOC2012, VOC2012, or its JPEGImages.
        names: list in ImageSets/Segmentation without suffix, such as train, val, trainval, or train_aug of the
            extended annotations (SBD). A line is a name, or paths of image and mask.
        masks: folder of the masks; SegmentationClassAug for those of SBD.
        options: see `Options`.

    Raises:
        InputError: see `SegmentationFiles`; or there is no such list.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None,
        *,
        names: str = "train",
        masks: str = "SegmentationClass",
        **options: Unpack[Options],
    ) -> None:
        places = ["VOCdevkit/VOC2012/JPEGImages", "VOC2012/JPEGImages", "JPEGImages"]
        origin = (
            "PASCAL VOC 2012 comes from http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (VOCtrainval_11-May-2012.tar)"
        )
        folder = find_root(root, looked_for=places, origin=origin, without_data=_WITHOUT_DATA)
        folder = next(folder / place for place in places if (folder / place).is_dir()).parent
        self._lists = folder / "ImageSets" / "Segmentation"
        wanted = {Frame("", stem) for stem in _listed(self._lists / f"{names}.txt", origin)}
        trees = [
            _only(tree_of(folder, "JPEGImages/{stem}.jpg", [""], (".jpg",)), wanted),
            _only(tree_of(folder, f"{masks}/{{stem}}.png", [""]), wanted),
        ]
        listed = f"ImageSets/Segmentation/{names}.txt"
        trees.append(Tree(listed, dict.fromkeys(wanted, folder / listed)))
        empty = f"{listed} names no image. {origin}"
        super().__init__(folder, trees, classes=VOC_CLASSES, empty=empty, **options)

    @cached_property
    def _all_names(self) -> set[str]:
        return {name for path in files_in(self._lists, (".txt",)).values() for name in _listed(path, "")}

    def _elsewhere(self, name: str) -> bool:
        return name in self._all_names


class Cityscapes(SegmentationFiles):
    """Cityscapes, fine annotations (Cordts et al. 2016), with the 19 classes of the benchmark; the group is the city.

    Args:
        root: the folder that contains leftImg8bit and gtFine.
        split: train or val; the ground truth of test is not published.
        options: see `Options`.
    """

    def __init__(
        self, root: str | os.PathLike[str] | None, *, split: str = "train", **options: Unpack[Options]
    ) -> None:
        origin = (
            "Cityscapes comes from https://www.cityscapes-dataset.com (leftImg8bit_trainvaltest.zip and "
            "gtFine_trainvaltest.zip), both extracted into one folder"
        )
        folder = find_root(root, looked_for=["leftImg8bit"], origin=origin, without_data=_WITHOUT_DATA)
        images = _cities(folder, "leftImg8bit", "_leftImg8bit", split)
        masks = _cities(folder, "gtFine", "_gtFine_labelIds", split)
        self._folder, self._split = folder, split
        super().__init__(
            folder,
            (images, masks),
            classes=tuple(CITYSCAPES_CLASSES.values()),
            empty=f"leftImg8bit/{split} holds no image. {origin}",
            **options,
        )
        self.groups = [frame.scene for frame in self.frames]
        self._index = torch.full((256,), IGNORED, dtype=torch.uint8)
        self._index[list(CITYSCAPES_CLASSES)] = torch.arange(len(CITYSCAPES_CLASSES), dtype=torch.uint8)

    def _classes(self, stored: Tensor, path: Path) -> Tensor:
        """Maps label ids to training ids; all other ids are ignored."""
        return self._index[stored.long()]

    def _elsewhere(self, name: str) -> bool:
        city, _, stem = name.rpartition("/")
        return any(
            (self._folder / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png").is_file()
            for split in ("train", "val")
            if split != self._split
        )


def _cities(folder: Path, top: str, ending: str, split: str) -> Tree:
    """Collects the files of all cities; a frame's stem is the part of the name before the ending."""
    cities = folders_in(folder / top / split)
    found = tree_of(folder, f"{top}/{split}/{{scene}}/{{stem}}.png", cities).files
    files = {
        Frame(frame.scene, frame.stem.removesuffix(ending)): path
        for frame, path in found.items()
        if frame.stem.endswith(ending)
    }
    return Tree(f"{top}/{split}/{{scene}}/{{stem}}{ending}.png", files)


def _only(tree: Tree, wanted: set[Frame]) -> Tree:
    return tree._replace(files={frame: path for frame, path in tree.files.items() if frame in wanted})


def _listed(path: Path, origin: str) -> list[str]:
    """Reads the names of a list; a line that begins with the path of an image names the image."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return [os.path.basename(line.split()[0]).removesuffix(".jpg") for line in lines if line.strip()]
    except FileNotFoundError:
        lists = ", ".join(sorted(files_in(path.parent, (".txt",)))) or "no list"
        raise NotThere(f"{path}: there is no such list; its folder holds {lists}. {origin}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSetting(f"{path}: cannot be read ({error}); check the file") from None
