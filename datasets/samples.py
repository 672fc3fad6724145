"""Samples of datasets: named tuples that torch's default collate turns into batches of the same type."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class StereoSample(NamedTuple):
    """A rectified pair with the disparity of its left view; with a leading batch axis after collation.

    Position ``x`` in the left view matches ``x - disparity`` in the right view.
    """

    left: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    right: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    disparity: Tensor
    """(1, H, W) float32, pixels, >= 0; 0 where invalid."""
    valid: Tensor
    """(1, H, W) bool, True where the disparity is known."""
    occluded: Tensor
    """(1, H, W) bool, True where the match lies inside the right view but is occluded; all False if unknown."""
    out_of_frame: Tensor
    """(1, H, W) bool, True where x - disparity lies left of the right view; all False if unknown."""


class LabelledImage(NamedTuple):
    """An image with its class; with a leading batch axis after collation."""

    image: Tensor
    """(3, H, W) float32, RGB in 0..1, not normalised."""
    label: int
    """0 .. classes - 1 (an int64 tensor of shape (B,) after collation)."""


IGNORED = 255
"""Class of the pixels that neither loss nor metrics count."""


class SegmentedImage(NamedTuple):
    """An image with the class of each pixel; with a leading batch axis after collation."""

    image: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    classes: Tensor
    """(H, W) uint8, 0 .. number of classes - 1, or ``IGNORED``."""


class FlowSample(NamedTuple):
    """Two images of one camera with the optical flow of the first; with a leading batch axis after collation.

    Position ``(x, y)`` in the first image matches ``(x, y) + flow`` in the second.
    """

    first: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    second: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    flow: Tensor
    """(2, H, W) float32, x and y in pixels; 0 where invalid."""
    valid: Tensor
    """(1, H, W) bool, True where the flow is known, visible in the second image or not."""
    unmatched: Tensor
    """(1, H, W) bool, True where the match is occluded or outside of the second image; all False if unknown."""


class StereoDataset(Protocol):
    """A map-style dataset of stereo samples."""

    @property
    def names(self) -> Sequence[str]:
        """One unique, readable name per sample."""

    @property
    def groups(self) -> Sequence[str]:
        """The scene of each sample; a split never separates samples of one scene."""

    @property
    def has_occlusion(self) -> bool:
        """True if ``occluded`` and ``out_of_frame`` are known."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int, /) -> StereoSample:
        """Returns the sample, always the same for the same index."""
