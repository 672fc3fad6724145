"""What two rectified views have to do with each other: horizontal correlation and warping.

Left-referenced throughout: the right view shows at x - d what the left view shows at x.
"""

import torch
from torch import Tensor
from torch.nn import functional


def horizontal_correlation(left: Tensor, right: Tensor, *, nearest: int, farthest: int) -> Tensor:
    """Mean product over the channels of left(x) and right(x - d) for every d (Mayer et al. 2016, "1D correlation").

    All rows go through one batched matrix product, of which the wanted band is cut out by reshaping, so that there
    is neither a loop over displacements nor an index tensor, and second derivatives exist.

    Args:
        left, right: (B, C, H, W).
        nearest, farthest: the first and last displacement d in pixels of this resolution, nearest <= farthest;
            negative ones look to the right.

    Returns:
        (B, farthest - nearest + 1, H, W); channel k belongs to d = nearest + k; zero where x - d is outside.

    Raises:
        ValueError: the shapes differ or the range is empty.
    """
    if left.shape != right.shape:
        raise ValueError(f"the views differ in shape: {tuple(left.shape)} and {tuple(right.shape)}")
    if nearest > farthest:
        raise ValueError(f"displacements {nearest} to {farthest} are none: take nearest <= farthest")
    batch, channels, height, width = left.shape
    count = farthest - nearest + 1
    # Column j of the padded rows holds right(j - farthest), so that x meets d at column x + (farthest - d).
    padded = functional.pad(right, (farthest, -nearest))
    products = torch.matmul(left.permute(0, 2, 3, 1), padded.permute(0, 2, 1, 3)) / channels
    # Rows of length n, one element more each time: entry (x, x + k) of a (W, n) matrix is entry (x, k) of (W, n + 1).
    skewed = functional.pad(products.flatten(2), (0, width)).unflatten(2, (width, width + count))
    band = skewed[..., :count].flip(-1)
    return band.permute(0, 3, 1, 2)


def warp_right_to_left(right: Tensor, disparity: Tensor) -> Tensor:
    """Samples the right view at x - d, so that it lines up with the left view.

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
    height, width = right.shape[-2:]
    columns = torch.arange(width, dtype=disparity.dtype, device=disparity.device)
    rows = torch.arange(height, dtype=disparity.dtype, device=disparity.device).view(height, 1)
    x = columns - disparity[:, 0]
    y = rows.expand_as(x)
    # grid_sample counts from -1 to 1 between pixel centres with align_corners=True; one row or column has no extent
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    if width == 1:
        grid = torch.cat([x.unsqueeze(-1) * 2, grid[..., 1:]], dim=-1)
    return functional.grid_sample(right, grid, padding_mode="zeros", align_corners=True)
