"""Separates occluded from out-of-frame pixels if a file only marks that they are not visible in the right view.

KITTI and Middlebury publish one mask for both; a sample has separate masks.
"""

import torch
from torch import Tensor


def split_occlusion(missing: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Splits the mask of pixels that are not visible in the right view.

    Args:
        missing: (1, H, W) bool.
        disparity: (1, H, W) pixels, known where missing is set.

    Returns:
        Occluded (the match would lie inside the right view) and out of frame (it would lie left of it), both
        (1, H, W) bool and mutually exclusive.
    """
    columns = torch.arange(disparity.shape[-1], dtype=disparity.dtype)
    outside = columns - disparity < 0
    return missing & ~outside, missing & outside
