"""Segmentation datasets on files in the official layouts, written here by Pillow."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from autodisp.assembly.data import need_truth, notes_on_samples
from autodisp.datasets.images import read_classes
from autodisp.datasets.samples import IGNORED
from autodisp.datasets.segmentation_files import CITYSCAPES_CLASSES, VOC_CLASSES, Cityscapes, Folders, Voc2012
from autodisp.errors import InputError
from autodisp.tasks.segmentation.kit import KIT
from autodisp.tasks.segmentation.sections import FoldersConfig
from tests.fuzzing.seeds import png_chunk
from tests.image_files import put, rgb
from tests.made_data import class_map, colours, put_mask, write_cityscapes, write_folders, write_voc


def test_folders(tmp_path: Path) -> None:
    data = Folders(write_folders(tmp_path))
    assert data.names == ["a", "b", "c"]
    assert data.classes == tuple(f"class {index}" for index in range(5))
    for name, sample in zip(data.names, map(data.__getitem__, range(3)), strict=True):
        torch.testing.assert_close(sample.image, rgb(colours(name)), rtol=1e-7, atol=0)
        assert np.array_equal(sample.classes.numpy(), class_map(name, 5))
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
    assert np.array_equal(data[0].classes.numpy(), class_map("2007_000063", 21))
    more = Voc2012(tmp_path, names="train_aug", masks="SegmentationClassAug")
    assert more.names == ["2007_000032", "2007_000039", "2008_000001"]
    assert np.array_equal(more[0].classes.numpy(), class_map("aug2007_000032", 21))
    with pytest.raises(InputError, match=r"SegmentationClass/2008_000001\.png missing"):
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
    stored = class_map("ulm_000001_000019", 34)
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
    ("pixels", "mode"),
    [
        (np.zeros((4, 4, 3), np.uint8), "RGB"), (np.zeros((4, 4, 4), np.uint8), "RGBA"),
        (np.zeros((4, 4, 2), np.uint8), "LA"), (np.zeros((4, 4), np.uint16), "I;16"), (np.zeros((4, 4), bool), "1"),
    ],
)  # fmt: skip
def test_masks_of_another_kind_are_refused(tmp_path: Path, pixels: np.ndarray, mode: str) -> None:
    path = put(tmp_path / "mask.png", pixels)
    with pytest.raises(InputError, match=rf"mask\.png: is an image of Pillow's mode {mode}, but"):
        read_classes(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"mask\.png: is not a readable image"):
        read_classes(path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, format="TIFF")
    with pytest.raises(InputError, match=r"mask\.png: is not a readable image: none of PNG, or a damaged one"):
        read_classes(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_classes(tmp_path / "none.png")


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path)
    put_mask(tmp_path / "masks/a.png", np.zeros((6, 10), np.uint8))
    with pytest.raises(InputError, match=r"10x6.*9x6"):
        Folders(tmp_path)[0]


def test_masks_with_few_colours_and_alpha_are_indices(tmp_path: Path) -> None:
    """Pillow packs up to 16 colours into less than 8 bits; an alpha value may belong to each colour."""
    for values in (2, 4, 16, 21):
        pixels = np.arange(36, dtype=np.uint8).reshape(4, 9) % values
        image = Image.fromarray(pixels)
        image.putpalette([7 * index % 256 for index in range(3 * values)])
        image.save(tmp_path / "mask.png", transparency=bytes(range(values)), bits=max(1, (values - 1).bit_length()))
        assert np.array_equal(read_classes(tmp_path / "mask.png").numpy(), pixels)


def test_grey_of_less_than_eight_bits_is_refused(tmp_path: Path) -> None:
    """Pillow stretches its values to 0..255."""
    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0\x12")), (b"IEND", b"")]
    data = b"".join(png_chunk(*chunk) for chunk in chunks)
    (tmp_path / "mask.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(InputError, match="mode L, but a class map needs a palette or 8-bit grey"):
        read_classes(tmp_path / "mask.png")


def test_names_in_capitals_and_of_other_formats(tmp_path: Path) -> None:
    for stem, suffix in (("a", ".JPG"), ("b", ".jpeg"), ("c", ".WEBP"), ("d.e", ".TIF"), ("f", ".bmp")):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(colours(stem)).save(tmp_path / "images" / f"{stem}{suffix}")
        put_mask(tmp_path / "masks" / f"{stem}.PNG", class_map(stem, 5))
    (tmp_path / "images/.DS_Store").touch()
    (tmp_path / "masks/readme.txt").touch()
    data = Folders(tmp_path)
    assert data.names == ["a", "b", "c", "d.e", "f"]
    assert all(np.array_equal(data[place].classes, class_map(name, 5)) for place, name in enumerate(data.names))


def test_images_are_turned_as_their_exif_orientation_says(tmp_path: Path) -> None:
    """Where only the stored orientation fits the mask, it was drawn on that."""
    stored, exif = np.zeros((8, 16, 3), np.uint8), Image.Exif()
    stored[:, :8] = 255
    exif[0x0112] = 6  # shown turned clockwise: the left side is the top
    (tmp_path / "images").mkdir()
    for stem, size in (("upright", (16, 8)), ("stored", (8, 16))):
        Image.fromarray(stored).save(tmp_path / f"images/{stem}.jpg", exif=exif, quality=95)
        put_mask(tmp_path / f"masks/{stem}.png", np.ones(size, np.uint8))
    as_stored, upright = Folders(tmp_path)
    assert as_stored.image[:, :, :8].min() > 0.9
    assert as_stored.image[:, :, 8:].max() < 0.1
    assert upright.image[:, :8].min() > 0.9
    assert upright.image[:, 8:].max() < 0.1


def test_two_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path)
    put(tmp_path / "images/a.bmp", colours("other"))
    with pytest.raises(InputError, match=r"images: holds a\.bmp and a\.png, but .* rename or move one"):
        Folders(tmp_path)


def test_a_binary_mask_of_zero_and_255_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path)
    for stem in "abc":
        put_mask(tmp_path / "masks" / f"{stem}.png", np.where(class_map(stem, 2) > 0, 255, 0).astype(np.uint8))
    with pytest.raises(InputError, match=r"masks: no mask has a class above 0, .*\(1, not 255, for the foreground"):
        Folders(tmp_path)
    with pytest.raises(InputError, match="no mask has a class above 0"):
        Folders(tmp_path, strict=False)  # as autodisp-check opens it
    assert len(Folders(tmp_path, classes=2).classes) == 2
    section = FoldersConfig(root=str(tmp_path), classes=2)
    data = Folders(tmp_path, classes=2)
    (note,) = notes_on_samples(section, KIT.datasets["folders"], data, enlarges=True)
    assert note.startswith("the 3 checked class maps have only class 0 besides 255, which is ignored")
    need_truth(section, KIT.datasets["folders"], data)
    for stem in "abc":
        put_mask(tmp_path / "masks" / f"{stem}.png", np.full((6, 9), IGNORED, np.uint8))
    with pytest.raises(InputError, match=r"dataset=folders: no pixel with valid ground truth in the 3 sample"):
        need_truth(section, KIT.datasets["folders"], data)


def test_classes_are_counted_without_the_masks_that_a_check_reports(tmp_path: Path) -> None:
    write_folders(tmp_path)
    (tmp_path / "masks/a.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"masks/a\.png: is not a readable image"):
        Folders(tmp_path)
    assert len(Folders(tmp_path, strict=False).classes) == 5


def test_the_lists_of_voc(tmp_path: Path) -> None:
    write_voc(tmp_path)
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "paths.txt").write_text(
        "/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n\n"
        "/JPEGImages/2008_000001.jpg /SegmentationClassAug/2008_000001.png\n"
    )
    assert Voc2012(tmp_path, names="paths", masks="SegmentationClassAug").names == ["2007_000032", "2008_000001"]
    (lists / "windows.txt").write_bytes(b"\xef\xbb\xbf2007_000032\r\n2007_000039\r\n")
    assert Voc2012(tmp_path, names="windows").names == ["2007_000032", "2007_000039"]
    (lists / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"ImageSets/Segmentation/empty\.txt names no image\. PASCAL VOC"):
        Voc2012(tmp_path, names="empty")
    (lists / "lost.txt").write_text("2007_000032\n2011_000001\n")
    lost = r"JPEGImages/2011_000001\.jpg and SegmentationClass/2011_000001\.png missing while .*lost\.txt is there"
    with pytest.raises(InputError, match=lost):
        Voc2012(tmp_path, names="lost")
    assert set(Voc2012(tmp_path, names="lost", strict=False).incomplete) == {"2011_000001"}
    (tmp_path / "excluded.txt").write_text("2011_000001\n")
    assert Voc2012(tmp_path, names="lost", exclude=tmp_path / "excluded.txt").names == ["2007_000032"]
    with pytest.raises(InputError, match=r"SegmentationObjekt/2007_000032\.png missing while JPEGImages/2007_000032"):
        Voc2012(tmp_path, masks="SegmentationObjekt")
    (lists / "latin.txt").write_bytes(b"\xe9\n")
    with pytest.raises(InputError, match=r"latin\.txt: cannot be read .*; check the file"):
        Voc2012(tmp_path, names="latin")


def test_a_city_without_label_ids(tmp_path: Path) -> None:
    write_cityscapes(tmp_path)
    for path in (tmp_path / "gtFine/train/ulm").glob("*_labelIds.png"):
        path.rename(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    with pytest.raises(InputError, match=r"2 of 4 frames are incomplete: .*ulm_000000_000019_gtFine_labelIds\.png"):
        Cityscapes(tmp_path)
    assert Cityscapes(tmp_path, strict=False).groups == ["aachen", "aachen"]
    with pytest.raises(InputError, match=r"leftImg8bit/test holds no image\. Cityscapes comes from"):
        Cityscapes(tmp_path, split="test")
