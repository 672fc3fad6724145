"""Tells apart the two ways in which a left pixel can be missing from the right view, where a file only says that it is.

KITTI and Middlebury publish one mask for both; a sample keeps them separate.
"""

import torch
from torch import Tensor


def split_occlusion(hidden: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Splits the pixels that the right view does not show.

    Args:
        hidden: (1, H, W) bool.
        disparity: (1, H, W) pixels, known wherever hidden is set.

    Returns:
        Occluded (the match would lie inside the right view) and out of frame (it would lie left of it), both
        (1, H, W) bool and never both set.
    """
    columns = torch.arange(disparity.shape[-1], dtype=disparity.dtype)
    outside = columns - disparity < 0
    return hidden & ~outside, hidden & outside
