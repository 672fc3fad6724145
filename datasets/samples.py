"""Samples of datasets: named tuples that torch's default collate turns into batches of the same type."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor


class StereoSample(NamedTuple):
    """One rectified pair with the disparity of its left view; with a leading batch axis after collation.

    The right view shows at ``x - disparity`` what the left view shows at ``x``.
    """

    left: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    right: Tensor
    """(3, H, W) float32, RGB in 0..1."""
    disparity: Tensor
    """(1, H, W) float32, pixels, >= 0; 0 where not valid."""
    valid: Tensor
    """(1, H, W) bool, where the disparity is known."""
    occluded: Tensor
    """(1, H, W) bool, matched inside the right view but occluded there; all False where unknown."""
    out_of_frame: Tensor
    """(1, H, W) bool, where x - disparity lies left of the right view; all False where unknown."""


class LabelledImage(NamedTuple):
    """One image with its class; with a leading batch axis after collation."""

    image: Tensor
    """(3, H, W) float32, RGB in 0..1, not normalised."""
    label: int
    """0 .. classes - 1 (an int64 tensor of shape (B,) after collation)."""


class StereoDataset(Protocol):
    """A map-style dataset of stereo samples."""

    @property
    def names(self) -> Sequence[str]:
        """One readable name a sample, unique."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """One scene a sample: a split never puts one scene on both sides."""
        ...

    @property
    def has_occlusion(self) -> bool:
        """True if ``occluded`` and ``out_of_frame`` are known."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def __getitem__(self, index: int, /) -> StereoSample:
        """The sample, always the same for the same index."""
        ...
