"""Augmentation of labelled images with one strength: random crop, flip, cut-out (DeVries & Taylor 2017).

The searches of DARTS, and those of RobustDARTS without drop-path, only crop (padding 4) and flip. RobustDARTS adds
cut-out of 16 pixels if drop-path is active, with an increasing probability; when training the found networks, every
image is masked. Here the square is masked before normalisation, in a colour given by the caller; the mean of the
dataset is equivalent to the zeros that the published code writes after normalisation.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autodisp.datasets.samples import LabelledImage
from autodisp.datasets.windows import check_strength
from autodisp.errors import InputError


class ImageAugmentation:
    """Randomly crops a padded image, flips it horizontally and masks a square.

    With strength s the padding is round(padding s) black pixels, the flip has probability min(s, 1) / 2, and the area
    of the square is proportional to s: its side is round(cutout sqrt(s)).

    Attributes:
        cutout_share: probability that an image is masked.

    Args:
        scale: the strength s, 0..4; 0 changes nothing, 1 is the published strength.
        padding: pixels of padding on each side at strength 1; the image size is unchanged.
        cutout: side of the square at strength 1, pixels; 0 for none. Its centre is any pixel, so that it may extend
            beyond the border.
        flip: False if mirroring changes the class, as with digits.
        fill: RGB in 0..1 of the masked square.

    Raises:
        InputError: a value is out of range.
    """

    def __init__(
        self,
        *,
        scale: float,
        padding: int = 4,
        cutout: int = 16,
        flip: bool = True,
        fill: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        check_strength(scale)
        if padding < 0:
            raise InputError(f"augmentation.padding={padding}: must not be negative; 0 is none, 4 the default")
        if cutout < 0:
            raise InputError(f"augmentation.cutout={cutout}: must not be negative; 0 is none, 16 the default")
        if len(fill) != 3 or not all(0 <= channel <= 1 for channel in fill):
            raise InputError(f"augmentation: fill is {tuple(fill)}, must be three numbers in 0 .. 1")
        self.padding = round(padding * scale)
        self.side = round(cutout * math.sqrt(scale))
        self.cutout_share = 1.0
        self.flip_share = min(scale, 1.0) / 2 if flip else 0.0
        self._fill = torch.tensor(fill)[:, None, None]

    def covering(self, share: float) -> "ImageAugmentation":
        """Returns the same augmentation with cut-out in that share of the images."""
        changed = copy.copy(self)
        changed.cutout_share = share
        return changed

    def __call__(self, sample: LabelledImage, rng: np.random.Generator) -> LabelledImage:
        """Returns a new sample of the same size; the input is not modified."""
        image = sample.image
        if self.padding:
            image = self._shift(image, rng)
        if rng.random() < self.flip_share:
            image = image.flip(2)
        if self.side and rng.random() < self.cutout_share:
            image = self._cover(image, rng)
        return sample._replace(image=image)

    def _shift(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        _, height, width = image.shape
        y, x = (int(k) for k in rng.integers(0, 2 * self.padding + 1, 2))
        return functional.pad(image, 4 * (self.padding,))[:, y : y + height, x : x + width].contiguous()

    def _cover(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        _, height, width = image.shape
        top, left = int(rng.integers(height)) - self.side // 2, int(rng.integers(width)) - self.side // 2
        covered = image.clone()
        covered[:, max(top, 0) : max(top + self.side, 0), max(left, 0) : max(left + self.side, 0)] = self._fill
        return covered
