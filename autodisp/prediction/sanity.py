"""Signs of a wrong prediction, from the two views alone."""

import math

import torch
from torch import Tensor

from autodisp.networks.stereo_geometry import warp_right_to_left

UNEXPLAINED = 0.9
"""Limit of ``moved_over_unmoved``. Right pairs give 0.2 to 0.4, and up to 0.65 with 30 % less light on one side;
swapped ones 0.92 to 1.7 (EXPERIMENTS.md). Noise of a tenth of the range and more lifts right ones to 0.9 too."""
LEAST_INSIDE = 0.5
"""Limit of ``share_inside``. Right pairs give 0.76 to 1.0, disparities of a quarter of the width included. Swapped
ones with 0.84 to 0.9 of ``moved_over_unmoved`` gave 0.13 to 0.18."""
DARK = 4096 / 65535
"""The brightest value that 12 bits stored in 16 can reach; 10 bits stay below it too."""


def moved_over_unmoved(left: Tensor, right: Tensor, disparity: Tensor) -> float:
    """Difference between the views once the right one is moved by the disparities, over that before.

    The mean absolute difference over the pixels with a counterpart in the right view, each view less its mean there,
    so that a difference in exposure weighs less.

    Args:
        left: (3, H, W) in 0..1.
        right: (3, H, W) in 0..1.
        disparity: (1, H, W) pixels.

    Returns:
        0 for a perfect match, above 1 where moving makes it worse; infinite where there was no difference, NaN
        where no counterpart lies inside or the disparities are not finite.
    """
    inside = (torch.arange(left.shape[-1], device=disparity.device) >= disparity)[0]
    moved = warp_right_to_left(right[None], disparity[None])[0]
    here, there, unmoved = (view[:, inside] - view[:, inside].mean(1, keepdim=True) for view in (left, moved, right))
    after, before = (float((here - view).abs().mean(dtype=torch.float64)) for view in (there, unmoved))
    if before > 0 or math.isnan(before) or math.isnan(after):
        return after / before
    return math.inf


def share_inside(disparity: Tensor) -> float:
    """Share of the finite disparities (1, H, W) whose match lies in the right view; NaN without any."""
    columns = torch.arange(disparity.shape[-1], device=disparity.device)
    return float((columns >= disparity)[disparity.isfinite()].float().mean())


def find_oddities(left: Tensor, right: Tensor, disparity: Tensor) -> list[str]:
    """Warnings about a pair; empty for a sound one.

    Args:
        left: (3, H, W) in 0..1.
        right: (3, H, W) in 0..1.
        disparity: (1, H, W) pixels, as predicted.
    """
    found = []
    if torch.equal(left, right):
        found.append("left and right are the same picture")
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
