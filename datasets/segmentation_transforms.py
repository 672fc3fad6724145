"""Augmentation of segmented images with a single strength, and the fixed crop for validation.

Scale, crop, flip and colour, by kornia.augmentation; geometric changes are the same in image and class map. The ranges
are our choice, proportional to the strength.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from autodisp.datasets.samples import IGNORED, SegmentedImage
from autodisp.datasets.windows import Augmentation, Size, WindowCrop

_ZOOM = (-0.5, 1.0)
"""Range of the zoom as a power of two, at strength 1."""


class SegmentationAugmentation(Augmentation):
    """Randomly changes scale and window, mirrors, and changes colours, in this order.

    At strength s: scaling by 2^(s (-0.5..1)), a random window, a flip with probability min(s, 1) / 2; brightness,
    contrast and saturation by up to 0.3 s, hue by up to 0.05 s of the circle. A window that exceeds the scaled image
    is padded with the mean colour and ``IGNORED``.
    """

    def __init__(self, *, scale: float, crop: Size | None) -> None:
        import kornia.augmentation as kornia  # takes seconds to load

        super().__init__(scale=scale, crop=crop)
        strength = min(0.3 * self.scale, 0.9)
        self._flip = kornia.RandomHorizontalFlip(p=min(self.scale, 1.0) / 2)
        self._colour = kornia.ColorJiggle(strength, strength, strength, min(0.05 * self.scale, 0.5), p=1.0)

    def __call__(self, sample: SegmentedImage, rng: np.random.Generator) -> SegmentedImage:
        """Returns a new sample, without a batch axis; the input is not modified."""
        size = self.crop or (sample.image.shape[-2], sample.image.shape[-1])
        planes = _planes(sample)
        with torch.random.fork_rng(devices=[]):  # kornia draws from torch's generator
            torch.manual_seed(int(rng.integers(2**62)))
            if self.scale > 0:
                zoom = 2.0 ** (self.scale * rng.uniform(*_ZOOM))
                height, width = (max(1, round(side * zoom)) for side in planes.shape[-2:])
                planes = _resized(planes, height, width)
            planes = _window(_padded(planes, size), size, rng)
            if self.scale > 0:
                planes = self._flip(planes)
                planes = torch.cat([self._colour(planes[:, :3].clamp(0, 1)), planes[:, 3:]], dim=1)
        return _sample(planes)


class CenterCrop(WindowCrop[SegmentedImage]):
    """Deterministic centre crop, see ``WindowCrop``; padding has the mean colour and ``IGNORED``."""

    def __call__(self, sample: SegmentedImage) -> SegmentedImage:
        """Crops a sample without a batch axis."""
        if self.crop is None:
            return sample
        planes = _padded(_planes(sample), self.crop)
        return _sample(_window(planes, self.crop, None))


def _planes(sample: SegmentedImage) -> Tensor:
    """Stacks image and class map into (1, 4, H, W) float32, which holds the classes exactly."""
    return torch.cat([sample.image, sample.classes[None].float()])[None]


def _sample(planes: Tensor) -> SegmentedImage:
    return SegmentedImage(planes[0, :3].contiguous(), planes[0, 3].round().to(torch.uint8).contiguous())


def _resized(planes: Tensor, height: int, width: int) -> Tensor:
    """Resizes the image smoothly; each new pixel takes the class of the nearest old one."""
    size = (height, width)
    image = functional.interpolate(planes[:, :3], size, mode="bilinear", align_corners=False, antialias=True)
    return torch.cat([image, functional.interpolate(planes[:, 3:], size, mode="nearest-exact")], dim=1)


def _padded(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Pads at the bottom and on the right to at least the size: mean colour and ``IGNORED``."""
    bottom, right = (max(to - side, 0) for to, side in zip(size, planes.shape[-2:], strict=True))
    if not bottom and not right:
        return planes
    fill = torch.cat([planes[:, :3].mean(dim=(2, 3)), planes.new_full((1, 1), IGNORED)], dim=1)
    height, width = planes.shape[-2:]
    larger = fill[:, :, None, None].repeat(1, 1, height + bottom, width + right)
    larger[..., :height, :width] = planes
    return larger


def _window(planes: Tensor, size: tuple[int, int], rng: np.random.Generator | None) -> Tensor:
    """Cuts a random window, or the one in the middle."""
    room = [side - to for side, to in zip(planes.shape[-2:], size, strict=True)]
    y, x = (side // 2 if rng is None else int(rng.integers(0, side + 1)) for side in room)
    return planes[..., y : y + size[0], x : x + size[1]]
