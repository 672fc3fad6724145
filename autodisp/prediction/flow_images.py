"""Images of flow in Middlebury's colours: the hue is the direction, the saturation the length."""

import torch
from torch import Tensor

from autodisp.prediction.segmentation_images import Image, side_by_side

_SMALLEST_LIMIT = 1.0
"""Pixels; the error of the last grey value is not below."""


def colour_flow(flows: Tensor) -> Image:
    """Colours flows (B, 2, H, W) on a common scale, on which the longest vector is saturated.

    Returns:
        (B, H, W, 3); black where a vector is not finite.
    """
    from torchvision.utils import flow_to_image  # takes a second to load

    known = flows.isfinite().all(dim=1, keepdim=True)
    colours = flow_to_image(torch.where(known, flows, 0.0).float().cpu())
    return torch.where(known.cpu(), colours, 0).permute(0, 2, 3, 1).numpy()


def panel(first: Tensor, truth: Tensor, prediction: Tensor, valid: Tensor) -> Image:
    """Draws image, ground truth, prediction (on the scale of the ground truth) and end-point error next to each other.

    White is the largest error, 1 px or more; unknown pixels are black in the ground truth and in the error.

    Args:
        first: (3, H, W), RGB in 0..1.
        truth, prediction: (2, H, W), pixels.
        valid: (1, H, W), bool.

    Returns:
        (H, 4 W, 3).
    """
    truth, found, valid = truth.float().cpu(), prediction.detach().float().cpu(), valid.cpu()
    longest = torch.where(valid, truth, 0.0).norm(dim=0).max().clamp(min=_SMALLEST_LIMIT)
    shown = found * (longest / found.norm(dim=0).clamp(min=1e-9)).clamp(max=1.0)
    colours = colour_flow(torch.stack([torch.where(valid, truth, torch.nan), shown]))
    error = torch.where(valid[0], (found - truth).norm(dim=0), 0.0).nan_to_num(torch.inf)
    limit = torch.where(error.isfinite(), error, 0.0).max().clamp(min=_SMALLEST_LIMIT)
    return side_by_side(first, colours[0], colours[1], (255 * (error / limit).clamp(max=1)).numpy())
