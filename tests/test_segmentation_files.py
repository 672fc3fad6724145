"""Segmentation datasets on files in the official layouts, written here by Pillow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodisp.datasets.images import read_classes
from autodisp.datasets.samples import IGNORED
from autodisp.datasets.segmentation_files import CITYSCAPES_CLASSES, VOC_CLASSES, Cityscapes, Folders, Voc2012
from autodisp.errors import InputError
from tests.image_files import put, rgb

HEIGHT, WIDTH = 6, 9


def view(key: str) -> np.ndarray:
    return np.random.default_rng(list(key.encode())).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def mask(key: str, values: int) -> np.ndarray:
    random = np.random.default_rng(list(key.encode()))
    pixels = random.integers(0, values, (HEIGHT, WIDTH)).astype(np.uint8)
    pixels[0, :2] = values - 1, IGNORED
    return pixels


def put_mask(path: Path, pixels: np.ndarray, *, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels, "L")
    if palette:
        image = Image.fromarray(pixels, "P")
        image.putpalette([7 * index % 256 for index in range(768)])
    image.save(path)


def write_folders(root: Path, stems: tuple[str, ...] = ("a", "b", "c")) -> Path:
    for stem in stems:
        put(root / "images" / f"{stem}.png", view(stem))
        put_mask(root / "masks" / f"{stem}.png", mask(stem, 5), palette=stem == "b")
    return root


def write_voc(root: Path) -> Path:
    base = root / "VOCdevkit/VOC2012"
    for stem in ("2007_000032", "2007_000039", "2007_000063", "2008_000001"):
        (base / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.fromarray(view(stem)).save(base / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_000032", "2007_000039", "2007_000063"):
        put_mask(base / "SegmentationClass" / f"{stem}.png", mask(stem, 21), palette=True)
        put_mask(base / "SegmentationClassAug" / f"{stem}.png", mask(f"aug{stem}", 21))
    put_mask(base / "SegmentationClassAug/2008_000001.png", mask("2008", 21))
    lists = base / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
    (lists / "val.txt").write_text("2007_000063\n")
    (lists / "train_aug.txt").write_text("2007_000032\n2007_000039\n2008_000001\n")
    return root


def write_cityscapes(root: Path) -> Path:
    for split, cities in (("train", ("aachen", "ulm")), ("val", ("lindau",))):
        for city in cities:
            for frame in ("000000_000019", "000001_000019"):
                stem = f"{city}_{frame}"
                put(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", view(stem))
                put_mask(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", mask(stem, 34))
                put(root / "gtFine" / split / city / f"{stem}_gtFine_color.png", view("colours"))
                (root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json").write_text("{}")
    return root


def test_folders(tmp_path: Path) -> None:
    data = Folders(write_folders(tmp_path))
    assert data.names == ["a", "b", "c"]
    assert data.classes == tuple(f"class {index}" for index in range(5))
    for name, sample in zip(data.names, map(data.__getitem__, range(3)), strict=True):
        torch.testing.assert_close(sample.image, rgb(view(name)), rtol=1e-7, atol=0)
        assert np.array_equal(sample.classes.numpy(), mask(name, 5))
    assert len(Folders(tmp_path, classes=9).classes) == 9
    with pytest.raises(InputError, match=r"masks/a\.png: has a pixel of class 4, but there are 3 classes: .*0 to 2"):
        Folders(tmp_path, classes=3)[0]
    (tmp_path / "list.txt").write_text("b\n")
    assert Folders(tmp_path, exclude=tmp_path / "list.txt").names == ["a", "c"]
    (tmp_path / "masks/c.png").unlink()
    with pytest.raises(InputError, match=r"masks/c\.png missing"):
        Folders(tmp_path)
    loose = Folders(tmp_path, strict=False)
    assert loose.names == ["a", "b"]
    assert set(loose.incomplete) == {"c"}


def test_voc(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012"):
        assert Voc2012(root).names == ["2007_000032", "2007_000039"]
    data = Voc2012(tmp_path, names="val")
    assert data.names == ["2007_000063"]
    assert data.classes == VOC_CLASSES
    assert len(VOC_CLASSES) == 21
    assert np.array_equal(data[0].classes.numpy(), mask("2007_000063", 21))
    more = Voc2012(tmp_path, names="train_aug", masks="SegmentationClassAug")
    assert more.names == ["2007_000032", "2007_000039", "2008_000001"]
    assert np.array_equal(more[0].classes.numpy(), mask("aug2007_000032", 21))
    with pytest.raises(
        InputError, match=r"train_aug.*SegmentationClass/2008_000001\.png missing|2008_000001\.png missing"
    ):
        Voc2012(tmp_path, names="train_aug")
    with pytest.raises(InputError, match=r"none\.txt: there is no such list; its folder holds train, train_aug, val"):
        Voc2012(tmp_path, names="none")
    (tmp_path / "list.txt").write_text("2007_000063\n2007_000039\n")
    assert Voc2012(tmp_path, exclude=tmp_path / "list.txt").names == ["2007_000032"]


def test_cityscapes(tmp_path: Path) -> None:
    data = Cityscapes(write_cityscapes(tmp_path))
    assert data.names == [f"{city}/{city}_{k}_000019" for city in ("aachen", "ulm") for k in ("000000", "000001")]
    assert data.groups == ["aachen", "aachen", "ulm", "ulm"]
    assert data.classes[0] == "road"
    assert data.classes[18] == "bicycle"
    stored = mask("ulm_000001_000019", 34)
    ids = list(CITYSCAPES_CLASSES)
    expected = [[ids.index(value) if value in ids else IGNORED for value in row] for row in stored.tolist()]
    assert data[3].classes.tolist() == expected
    assert data[3].classes.unique().numel() > 5
    assert Cityscapes(tmp_path, split="val").groups == ["lindau", "lindau"]
    (tmp_path / "list.txt").write_text("lindau/lindau_000000_000019\nulm/ulm_000000_000019\n")
    assert len(Cityscapes(tmp_path, exclude=tmp_path / "list.txt")) == 3
    (tmp_path / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match=r"gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds\.png missing"):
        Cityscapes(tmp_path)


@pytest.mark.parametrize("reader", [Folders, Voc2012, Cityscapes])
def test_wrong_roots(tmp_path: Path, reader: Callable[..., object]) -> None:
    for root in (None, tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=r"dataset\.root.*shapes3d_classes needs no data"):
            reader(root)


@pytest.mark.parametrize(
    ("pixels", "mode"), [(np.zeros((4, 4, 3), np.uint8), "RGB"), (np.zeros((4, 4), np.uint16), "I;16")]
)
def test_masks_of_another_kind_are_refused(tmp_path: Path, pixels: np.ndarray, mode: str) -> None:
    path = put(tmp_path / "mask.png", pixels)
    with pytest.raises(InputError, match=rf"mask\.png: is an image of Pillow's mode {mode}, but"):
        read_classes(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"mask\.png: is not a readable image"):
        read_classes(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_classes(tmp_path / "none.png")


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path)
    put_mask(tmp_path / "masks/a.png", np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    with pytest.raises(InputError, match=r"10x6.*9x6"):
        Folders(tmp_path)[0]
