"""Labelled images in memory, the common base of CIFAR-10, CIFAR-100 and SVHN."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.layout import AnyPath
from autodisp.datasets.samples import LabelledImage
from autodisp.errors import WrongSetting


class ImagesInMemory:
    """A map-style dataset over one tensor of images.

    An image is named by its split and its position in the files, such as train/00012, independently of exclusions.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        labels: (N,) int64, 0 .. classes - 1.
        classes: one name per class.
        mean: mean of each channel over the training images, in 0..1, for normalisation.
        std: standard deviation of each channel, like `mean`.
        split: name of the split.
        exclude: a list of names to leave out, see `exclusions`; names of other splits are skipped.

    Raises:
        WrongSetting: the list cannot be read, names an image that does not exist, or excludes all images.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        classes: Sequence[str],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        split: str = "train",
        exclude: AnyPath | None = None,
    ) -> None:
        self.names: Sequence[str] = [f"{split}/{index:05d}" for index in range(len(labels))]
        elsewhere = re.compile(rf"(?!{split}/)(train|test|extra)/\d{{5,}}", re.ASCII).fullmatch
        if left_out := read_exclusions(exclude, dict.fromkeys(self.names), elsewhere=elsewhere):
            places = [index for index, name in enumerate(self.names) if name not in left_out]
            if not places:
                raise WrongSetting(f"dataset.exclude={exclude}: leaves no image of the {split} split: take lines out")
            images, labels = images[places], labels[places]
            self.names = [self.names[place] for place in places]
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)
        self.mean = mean
        self.std = std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> LabelledImage:
        """Returns the image as float32 in 0..1 and its class."""
        return LabelledImage(self.images[index].to(torch.float32) / 255, int(self.labels[index]))
