"""Small datasets of noise in the official formats."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.io import savemat

from autodisp.datasets.flyingthings3d import write_frame
from autodisp.datasets.samples import StereoSample

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
