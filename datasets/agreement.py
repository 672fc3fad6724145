"""Photometric comparison of a sample's views with its ground truth: swapped views, a wrong sign, a wrong scale.

If the ground truth is consistent, the right view at x - d correlates better with the left view at x than under any
other interpretation of the same values. Correlation, unlike a difference, ignores gain and offset between the cameras.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from autodisp.datasets.samples import StereoSample

_MARGIN = 1.5
"""Factor by which 1 - correlation must exceed that of another interpretation. On correct pairs (4 real FlyingThings3D
frames, KITTI, Middlebury, shapes3d) it is at most 0.8 times that of any interpretation here; with swapped views or a
wrong sign it was 2 to 17 times larger."""
_LEAST_MISFIT = 0.1
"""Smooth views correlate under any shift; below this value no decision is made."""
MOST_BEYOND = 0.5
"""Share of disparities beyond the image width above which they cannot be in pixels of this image."""
_LEAST_PIXELS = 200
_MOST_PIXELS = 100_000


class _Reading(NamedTuple):
    """An alternative interpretation of the values."""

    question: str
    swapped: bool
    factor: float


_OTHER_READINGS = (
    _Reading("are left and right swapped?", True, 1.0),
    _Reading("is right x = left x + d, as with swapped views and the ground truth of the right one?", False, -1.0),
    _Reading("are the disparities twice too large for these images?", False, 0.5),
    _Reading("are the disparities twice too small for these images?", False, 2.0),
    _Reading("must the disparities be divided by 256?", False, 1 / 256),
    _Reading("are these disparities in pixels, and of this image?", False, 0.0),
)


def disagreement(sample: StereoSample) -> str | None:
    """Describes in one line how the ground truth contradicts the views or their size.

    Returns None if they agree or no decision is possible: few pixels, views without texture, disparities near 0.
    """
    if (beyond := share_beyond(sample)) > MOST_BEYOND:
        return (
            f"{beyond:.0%} of the disparities exceed the width of {sample.left.shape[-1]} px, up to "
            f"{float(sample.disparity.max()):.0f} px: must they be divided by 256, or are they depths?"
        )
    step = math.ceil(sample.disparity.numel() / _MOST_PIXELS)
    left, right, disparity, *masks = (plane[:, ::step] for plane in sample)
    valid, occluded, out_of_frame = masks
    known = valid & ~occluded & ~out_of_frame
    views = (left.mean(0, keepdim=True), right.mean(0, keepdim=True))
    given = _misfit(*views, disparity, known)
    found = [
        (_misfit(*(views[::-1] if reading.swapped else views), reading.factor * disparity, known), reading)
        for reading in _OTHER_READINGS
    ]
    best, reading = min(found, key=lambda entry: (math.isnan(entry[0]), entry[0]))
    if not given > max(_LEAST_MISFIT, _MARGIN * best):  # neither where one is NaN
        return None
    return (
        f"left at x and right at x - d correlate with {1 - given:.2f} only, but with {1 - best:.2f} if read "
        f"otherwise: {reading.question}"
    )


def share_beyond(sample: StereoSample) -> float:
    """Computes the share of valid disparities that exceed the image width; 0 if there are none."""
    disparities = sample.disparity[sample.valid]
    return float((disparities > sample.disparity.shape[-1]).double().mean()) if disparities.numel() else 0.0


def _misfit(here: Tensor, there: Tensor, shift: Tensor, known: Tensor) -> float:
    """Computes 1 - correlation of ``here`` at x and ``there`` at x - shift (nearest pixel); NaN if undefined."""
    width = here.shape[-1]
    place = (torch.arange(width) - shift).round().long()
    inside = known & (place >= 0) & (place < width)
    if inside.sum() < _LEAST_PIXELS:
        return math.nan
    pair = torch.stack([here[inside], there.gather(-1, place.clamp(0, width - 1))[inside]])
    return 1 - float(torch.corrcoef(pair.double())[0, 1])
