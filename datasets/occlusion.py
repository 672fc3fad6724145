"""Separates occluded from out-of-frame pixels, where a file only marks that the right view lacks them.

KITTI and Middlebury publish one mask for both; a sample keeps them separate.
"""

import torch
from torch import Tensor


def split_occlusion(missing: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Splits the pixels that the right view does not show.

    Args:
        missing: (1, H, W) bool.
        disparity: (1, H, W) pixels, known wherever missing is set.

    Returns:
        Occluded (the match would lie inside the right view) and out of frame (it would lie left of it), both
        (1, H, W) bool and never both set.
    """
    columns = torch.arange(disparity.shape[-1], dtype=disparity.dtype)
    outside = columns - disparity < 0
    return missing & ~outside, missing & outside
