"""Small datasets of noise in the official formats."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.io import savemat

from autodisp.datasets.flyingthings3d import write_frame
from autodisp.datasets.samples import IGNORED, StereoSample
from tests.image_files import put

HEIGHT, WIDTH = 40, 72
SCENES = (1, 3, 2, 4, 2)
"""Frames of each scene of the training split."""


def write_frames(root: Path) -> Path:
    """Write FlyingThings3D: 12 frames of five scenes of TRAIN, three frames of two scenes of TEST."""
    draw = torch.Generator().manual_seed(0)
    for split, scenes in (("TRAIN", SCENES), ("TEST", (2, 1))):
        for scene, count in enumerate(scenes):
            for frame in range(count):
                left, right = torch.rand(2, 3, HEIGHT, WIDTH, generator=draw).unbind()
                disparity = 8 * torch.rand(1, HEIGHT, WIDTH, generator=draw)
                nowhere = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
                sample = StereoSample(left, right, disparity, ~nowhere, nowhere, nowhere)
                write_frame(root, split=split, subset="ABC"[scene % 3], scene=scene, frame=frame, sample=sample)
    return root


def random_images(count: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw images, (count, 3, 32, 32), that are the brighter the higher their label, which is the number modulo 10."""
    labels = np.arange(count) % 10
    noise = np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32))
    return (noise // 2 + 12 * labels[:, None, None, None]).astype(np.uint8), labels.astype(np.uint8)


def write_cifar10(root: Path, count: int = 24, test: int = 20) -> list[npt.NDArray[np.uint8]]:
    """Write CIFAR-10 with that many training and test images, and return both."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    images = []
    for seed, (size, names) in enumerate(
        [(count, [f"data_batch_{number}.bin" for number in range(1, 6)]), (test, ["test_batch.bin"])]
    ):
        drawn, labels = random_images(size, seed)
        records = np.concatenate([labels[:, None], drawn.reshape(size, -1)], axis=1)
        for name, part in zip(names, np.array_split(records, len(names)), strict=True):
            (folder / name).write_bytes(part.tobytes())
        images.append(drawn)
    return images


def write_cifar100(root: Path, count: int = 40) -> None:
    """Write CIFAR-100 with that many images a split."""
    images, labels = random_images(count)
    (root / "cifar-100-binary").mkdir(parents=True)
    for name in ("train.bin", "test.bin"):
        records = np.concatenate([labels[:, None], labels[:, None], images.reshape(count, -1)], axis=1)
        (root / "cifar-100-binary" / name).write_bytes(records.tobytes())


def write_svhn(root: Path, count: int = 40) -> None:
    """Write SVHN with that many images a split."""
    images, labels = random_images(count)
    root.mkdir(parents=True, exist_ok=True)
    for name in ("train_32x32.mat", "test_32x32.mat"):
        digits = np.where(labels == 0, 10, labels)[:, None]
        savemat(root / name, {"X": images.transpose(2, 3, 1, 0), "y": digits})


Size = tuple[int, int]
SEGMENTED: Size = (6, 9)
"""(height, width) of the images."""


def rng(key: str) -> np.random.Generator:
    """Return the random generator of a key."""
    return np.random.default_rng(list(key.encode()))


def colours(key: str, size: Size = SEGMENTED) -> npt.NDArray[np.uint8]:
    """Draw an image, (H, W, 3), by its key."""
    return rng(key).integers(0, 256, (*size, 3), dtype=np.uint8)


def class_map(key: str, values: int, size: Size = SEGMENTED) -> npt.NDArray[np.uint8]:
    """Draw a class map, (H, W), by its key; the largest class and an ignored pixel occur."""
    pixels = rng(key).integers(0, values, size).astype(np.uint8)
    pixels[0, :2] = values - 1, IGNORED
    return pixels


def put_mask(path: Path, pixels: npt.NDArray[np.uint8], *, palette: bool = False) -> None:
    """Write a class map as PNG, in grey or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette([7 * index % 256 for index in range(768)])
    image.save(path)


def write_folders(root: Path, stems: Sequence[str] = ("a", "b", "c"), size: Size = SEGMENTED) -> Path:
    """Write images/ and masks/ of five classes."""
    for stem in stems:
        put(root / "images" / f"{stem}.png", colours(stem, size))
        put_mask(root / "masks" / f"{stem}.png", class_map(stem, 5, size), palette=stem == "b")
    return root


def write_voc(root: Path, size: Size = SEGMENTED) -> Path:
    """Write PASCAL VOC 2012 with two training images, one to validate, and one of the annotations of SBD."""
    base = root / "VOCdevkit/VOC2012"
    for stem in ("2007_000032", "2007_000039", "2007_000063", "2008_000001"):
        (base / "JPEGImages").mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours(stem, size)).save(base / "JPEGImages" / f"{stem}.jpg")
    for stem in ("2007_000032", "2007_000039", "2007_000063"):
        put_mask(base / "SegmentationClass" / f"{stem}.png", class_map(stem, 21, size), palette=True)
        put_mask(base / "SegmentationClassAug" / f"{stem}.png", class_map(f"aug{stem}", 21, size))
    put_mask(base / "SegmentationClassAug/2008_000001.png", class_map("2008", 21, size))
    lists = base / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2007_000039\n")
    (lists / "val.txt").write_text("2007_000063\n")
    (lists / "train_aug.txt").write_text("2007_000032\n2007_000039\n2008_000001\n")
    return root


def write_cityscapes(root: Path, size: Size = SEGMENTED) -> Path:
    """Write Cityscapes: two cities to train on, one to validate, two frames each."""
    for split, cities in (("train", ("aachen", "ulm")), ("val", ("lindau",))):
        for city in cities:
            for frame in ("000000_000019", "000001_000019"):
                stem = f"{city}_{frame}"
                put(root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", colours(stem, size))
                put_mask(root / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", class_map(stem, 34, size))
                put(root / "gtFine" / split / city / f"{stem}_gtFine_color.png", colours("colours", size))
                (root / "gtFine" / split / city / f"{stem}_gtFine_polygons.json").write_text("{}")
    return root
