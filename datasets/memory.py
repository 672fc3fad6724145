"""Labelled images that are kept in memory: what CIFAR-10, CIFAR-100 and SVHN have in common."""

from collections.abc import Sequence

import torch
from torch import Tensor

from autodisp.datasets.samples import LabelledImage


class ImagesInMemory:
    """A map-style dataset over one tensor of images.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        labels: (N,) int64, 0 .. classes - 1.
        classes: one name a class.
        mean: of each channel over the training images, in 0..1, to normalise by.
        std: as `mean`, the standard deviation.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        classes: Sequence[str],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        self.images = images
        self.labels = labels
        self.classes = tuple(classes)
        self.mean = mean
        self.std = std

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> LabelledImage:
        """The image as float32 in 0..1 and its class."""
        return LabelledImage(self.images[index].to(torch.float32) / 255, int(self.labels[index]))
