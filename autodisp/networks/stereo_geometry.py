"""Geometry of rectified views: horizontal correlation and warping.

Disparities refer to the left view: a point at x in the left view is at x - d in the right view.
"""

import torch
from torch import Tensor
from torch.nn import functional


def horizontal_correlation(left: Tensor, right: Tensor, *, nearest: int, farthest: int) -> Tensor:
    """Mean product over the channels of left(x) and right(x - d) for every d (Mayer et al. 2016, "1D correlation").

    Uses one batched matrix product of all rows and cuts out the required band by reshaping: no loop over displacements,
    no index tensor, and twice differentiable.

    Args:
        left, right: (B, C, H, W).
        nearest, farthest: the first and last displacement d in pixels of this resolution, nearest <= farthest;
            negative ones are to the right.

    Returns:
        (B, farthest - nearest + 1, H, W); channel k belongs to d = nearest + k; zero where x - d is outside.

    Raises:
        ValueError: the shapes differ or the range is empty.
    """
    if left.shape != right.shape:
        raise ValueError(f"the views differ in shape: {tuple(left.shape)} and {tuple(right.shape)}")
    if nearest > farthest:
        raise ValueError(f"displacements {nearest} to {farthest} are an empty range: take nearest <= farthest")
    channels, width = left.shape[1], left.shape[3]
    # Zero displacement stays among those computed, so that the padding is never negative: a crop wider than the view.
    first, last = min(nearest, 0), max(farthest, 0)
    count = last - first + 1
    # Column j of the padded rows holds right(j - last), so that x meets d at column x + (last - d).
    padded = functional.pad(right, (last, -first))
    products = torch.matmul(left.permute(0, 2, 3, 1), padded.permute(0, 2, 1, 3)) / channels
    # Rows of length n, one element more each time: entry (x, x + k) of a (W, n) matrix is entry (x, k) of (W, n + 1).
    skewed: Tensor = functional.pad(products.flatten(2), (0, width)).unflatten(2, (width, width + count))
    band = skewed[..., :count].flip(-1)[..., nearest - first : farthest - first + 1]
    return band.permute(0, 3, 1, 2)


def warp_right_to_left(right: Tensor, disparity: Tensor) -> Tensor:
    """Samples the right view at x - d, so that it lines up with the left view.

    Interpolates between two columns instead of using ``grid_sample``, whose normalised coordinates round integer
    disparities. Positions are at least float32, since bfloat16 cannot represent columns beyond 256.

    Args:
        right: (B, C, H, W), any range.
        disparity: (B, 1, H, W) in pixels of this resolution, left-referenced.

    Returns:
        (B, C, H, W), bilinear, exact at integer disparities; zero where x - d lies outside the image.

    Raises:
        ValueError: the heights or widths differ.
    """
    if right.shape[-2:] != disparity.shape[-2:]:
        raise ValueError(
            f"disparity is {tuple(disparity.shape[-2:])} but the view is {tuple(right.shape[-2:])}: "
            "resize the disparity and multiply it by the width ratio first"
        )
    width = right.shape[-1]
    precise = torch.promote_types(disparity.dtype, torch.float32)
    columns = torch.arange(width, dtype=precise, device=disparity.device)
    x: Tensor = (columns - disparity).clamp(-1, width)
    first = x.detach().floor()
    share = x - first
    warped = _columns(right, first) * (1 - share) + _columns(right, first + 1) * share
    return warped.to(torch.promote_types(right.dtype, disparity.dtype))


def _columns(view: Tensor, x: Tensor) -> Tensor:
    """Gathers integer columns x (B, 1, H, W) of a view (B, C, H, W); zero outside the image."""
    width = view.shape[-1]
    index = x.long().clamp(0, width - 1).expand_as(view)
    return torch.where((x >= 0) & (x < width), view.gather(3, index), 0.0)
