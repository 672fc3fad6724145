"""Geometry of rectified views: horizontal correlation and warping.

Disparities refer to the left view: a point at x in the left view is at x - d in the right view.
"""

from collections.abc import Callable, Sequence

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


def one_sided_correlation(left: Tensor, right: Tensor, *, count: int) -> Tensor:
    """The horizontal correlation for d = 0 .. count - 1, by blocks of columns as wide as the range of d.

    Each block needs the columns of the right view that its own pixels can meet, where ``horizontal_correlation``
    multiplies every pixel with the whole row: a third of the work at the usual sizes.

    Args:
        left, right: (B, C, H, W).
        count: displacements, at least 1.

    Returns:
        (B, count, H, W); channel d belongs to displacement d; zero where x - d is outside.
    """
    channels, width = left.shape[1], left.shape[3]
    last = count - 1
    block = max(last, 2)
    blocks = (width + block - 1) // block
    beyond = blocks * block - width
    rows = functional.pad(left.permute(0, 2, 3, 1) / channels, (0, 0, 0, beyond)).unflatten(2, (blocks, block))
    padded = functional.pad(right.permute(0, 2, 1, 3), (last, beyond))
    columns = padded.unfold(3, block + last, block).transpose(2, 3).flip(-1)
    products = torch.matmul(rows, columns)
    # With the columns in falling order, displacement d of pixel x is entry (x, block - 1 - x + d) of a
    # (block, block + last) matrix: entry (x, d) of rows that are one element shorter, from entry block - 1 on.
    length = block + last - 1
    skewed = products.flatten(3)[..., block - 1 : block - 1 + block * length].unflatten(3, (block, length))
    # Not a slice, whose symbolic width torch.export would carry through the network as a minimum of two products.
    band: Tensor = skewed[..., :count].flatten(2, 3).split_with_sizes([width, beyond], dim=2)[0]
    return band.permute(0, 3, 1, 2)


def group_correlation(left: Tensor, right: Tensor, *, groups: int, count: int) -> Tensor:
    """The one-sided correlation of each group of channels (group-wise correlation, Guo et al. 2019).

    Args:
        left, right: (B, C, H, W), C a multiple of ``groups``; group g has the channels g C / groups and on.
        groups: of the channels.
        count: displacements, from 0 on.

    Returns:
        (B, groups, count, H, W).
    """
    batch = left.shape[0]
    views = (view.unflatten(1, (groups, -1)).flatten(0, 1) for view in (left, right))
    correlation: Tensor = one_sided_correlation(*views, count=count).unflatten(0, (batch, groups))
    return correlation


def local_correlation(left: Tensor, right: Tensor, disparity: Tensor, *, reach: int) -> Tensor:
    """Mean product over the channels of left(x) and right(x - d - k) for k = -reach .. reach around a disparity d.

    Products are taken at whole columns and interpolated, which is the same as interpolating the right view.

    Args:
        left, right: (B, C, H, W).
        disparity: (B, 1, H, W) in pixels of this resolution; no gradient reaches it through the whole columns.
        reach: pixels.

    Returns:
        (B, 2 reach + 1, H, W); channel i belongs to k = i - reach; the right view is zero outside.
    """
    batch, channels, height, width = left.shape
    columns = torch.arange(width, dtype=disparity.dtype, device=disparity.device)
    # Beyond these every tap is outside the view.
    x = (columns - disparity).clamp(-reach - 2.0, width + reach + 1.0)
    first = x.detach().floor()
    share = x - first
    # Tap j of 2 reach + 2 is the column first + reach + 1 - j, so that k = i - reach lies between taps i and i + 1.
    column = first.long().flatten(0, 2)
    rows = width * torch.arange(batch * height, device=disparity.device).unsqueeze(1)
    pixels = right.permute(0, 2, 3, 1).reshape(-1, channels)
    own = left.permute(0, 2, 3, 1).reshape(-1, channels) / channels
    products = []
    for tap in range(reach + 1, -reach - 1, -1):
        at = column + tap
        seen = pixels.index_select(0, (rows + at.clamp(0, width - 1)).flatten())
        products.append(torch.where(((at >= 0) & (at < width)).flatten(), (seen * own).sum(dim=1), 0.0))
    taps = torch.stack(products).view(-1, batch, height, width).transpose(0, 1)
    return taps[:, :-1] * share + taps[:, 1:] * (1 - share)


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
    exact = precise(disparity)
    columns = torch.arange(width, dtype=exact.dtype, device=disparity.device)
    x: Tensor = (columns - exact).clamp(-1, width)
    first = x.detach().floor()
    share = x - first
    warped = _columns(right, first) * (1 - share) + _columns(right, first + 1) * share
    return warped.to(torch.promote_types(right.dtype, disparity.dtype))


def _columns(view: Tensor, x: Tensor) -> Tensor:
    """Gathers integer columns x (B, 1, H, W) of a view (B, C, H, W); zero outside the image."""
    width = view.shape[-1]
    index = x.long().clamp(0, width - 1).expand_as(view)
    return torch.where((x >= 0) & (x < width), view.gather(3, index), 0.0)


def precise(x: Tensor) -> Tensor:
    """Converts to float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a layer in float32 at least where autocast is enabled, and as it is elsewhere."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return layer(precise(x))
    return layer(x)


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolates (B, C, H, W) bilinearly between the centres of the pixels to another height and width."""
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)
