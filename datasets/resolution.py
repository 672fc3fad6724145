"""Halves a stereo sample, as in the published search of AutoDispNet (480x270 from FlyingThings3D's 960x540)."""

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.datasets.samples import StereoSample

_ONE_SURFACE = 1.0
"""Pixels; disparities of a 2x2 block that are closer than this to its median count as one surface."""


def halve(sample: StereoSample) -> StereoSample:
    """Returns the sample at half the width and height; the last row or column of an odd size is dropped.

    Views are averaged over 2x2 blocks. A disparity is half the mean over one surface of its block: the valid pixels
    within one pixel of the block's (lower) median. Averaging all four would create a surface between foreground and
    background, and a fixed pixel would be half a pixel off the averaged colour, which is visible on slanted surfaces. A
    block without valid pixels is invalid. A mask is set if at least half of the pixels of the same surface are; in a
    tie, out of frame takes precedence over occluded.

    Raises:
        ValueError: the sample is smaller than 2x2.
    """
    height, width = sample.disparity.shape[-2:]
    if height < 2 or width < 2:
        raise ValueError(f"a sample of {width}x{height} cannot be halved")
    disparity, valid, occluded, out_of_frame = (
        _blocks(plane) for plane in (sample.disparity, sample.valid, sample.occluded, sample.out_of_frame)
    )
    known = valid.sum(-1, keepdim=True)
    ascending = disparity.masked_fill(~valid, torch.inf).sort(-1).values
    median = ascending.gather(-1, (known - 1).clamp(min=0) // 2)
    surface = valid & ((disparity - median).abs() <= _ONE_SURFACE)
    mean = torch.where(surface, disparity, 0).sum(-1) / surface.sum(-1).clamp(min=1)
    counted = surface | (known == 0)
    gone = _majority(out_of_frame, counted)
    return StereoSample(
        left=functional.avg_pool2d(sample.left, 2),
        right=functional.avg_pool2d(sample.right, 2),
        disparity=mean / 2,
        valid=known.squeeze(-1) > 0,
        occluded=_majority(occluded, counted) & ~gone,
        out_of_frame=gone,
    )


def _blocks(plane: Tensor) -> Tensor:
    """(1, H, W) -> (1, H // 2, W // 2, 4)."""
    height, width = plane.shape[-2] // 2, plane.shape[-1] // 2
    whole = plane[:, : 2 * height, : 2 * width].reshape(1, height, 2, width, 2)
    return whole.permute(0, 1, 3, 2, 4).flatten(-2)


def _majority(mask: Tensor, counted: Tensor) -> Tensor:
    return 2 * (mask & counted).sum(-1) >= counted.sum(-1)
