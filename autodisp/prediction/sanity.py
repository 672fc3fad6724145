"""Plausibility checks of a prediction, based on the two views alone."""

import math

import torch
from torch import Tensor

from autodisp.networks.stereo_geometry import warp_right_to_left

UNEXPLAINED = 0.9
"""Limit of ``moved_over_unmoved``. Correct pairs give 0.2 to 0.4, and up to 0.65 with 30 % less light on one side;
swapped ones 0.92 to 1.7 (EXPERIMENTS.md). Noise of a tenth of the range or more raises correct pairs to 0.9 too."""
LEAST_INSIDE = 0.5
"""Limit of ``share_inside``. Correct pairs give 0.76 to 1.0, including disparities of a quarter of the width. Swapped
ones with 0.84 to 0.9 of ``moved_over_unmoved`` gave 0.13 to 0.18."""
DARK = 4096 / 65535
"""Maximum value of 12 bits stored in 16; 10 bits stay below it too."""


def moved_over_unmoved(left: Tensor, right: Tensor, disparity: Tensor) -> float:
    """Computes the ratio of the difference between the views after and before warping the right one by the disparities.

    The difference is the mean absolute difference over the pixels with a match in the right view, after subtracting the
    mean of each view there, which reduces the effect of different exposure.

    Args:
        left, right: (3, H, W) in 0..1.
        disparity: (1, H, W) pixels.

    Returns:
        0 for a perfect match, above 1 if warping increases the difference; infinite if there was no difference, NaN if
        no match lies inside the view or the disparities are not finite.
    """
    inside = (torch.arange(left.shape[-1], device=disparity.device) >= disparity)[0]
    moved = warp_right_to_left(right[None], disparity[None])[0]
    here, there, unmoved = (view[:, inside] - view[:, inside].mean(1, keepdim=True) for view in (left, moved, right))
    after, before = (float((here - view).abs().mean(dtype=torch.float64)) for view in (there, unmoved))
    if before > 0 or math.isnan(before) or math.isnan(after):
        return after / before
    return math.inf


def share_inside(disparity: Tensor) -> float:
    """Computes the share of finite disparities (1, H, W) whose match lies in the right view; NaN if there are none."""
    columns = torch.arange(disparity.shape[-1], device=disparity.device)
    return float((columns >= disparity)[disparity.isfinite()].float().mean())


def find_oddities(left: Tensor, right: Tensor, disparity: Tensor) -> list[str]:
    """Returns warnings about a pair; empty if it is plausible.

    Args:
        left, right: (3, H, W) in 0..1.
        disparity: predicted disparity (1, H, W), pixels.
    """
    found = []
    if torch.equal(left, right):
        found.append("left and right are the same image")
    elif UNEXPLAINED < moved_over_unmoved(left, right, disparity) < math.inf:
        found.append(
            "the right view, moved by these disparities, does not match the left one: are the views swapped, is all of "
            "it far away, or is the network poor?"
        )
    elif (inside := share_inside(disparity)) < LEAST_INSIDE:
        found.append(
            f"only {inside:.0%} of the pixels have their match inside the right view: are the views swapped, or is the "
            "network poor?"
        )
    brightest = float(torch.maximum(left.max(), right.max()))
    if brightest <= DARK:
        found.append(f"the brightest value is {brightest:.4f} of 1: 10 or 12 bits stored in 16 need to be stretched")
    return found
