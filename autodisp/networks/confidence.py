"""Confidence of a predicted disparity, from the matching volume that it was read from.

It is the probability that the volume gives to the three bins around the disparity, brought to full resolution, and
halved where the disparities themselves show that there is no match: the pixel lies behind a nearer surface in the right
view, or outside of it. Of the choices compared in EXPERIMENTS.md it ranks errors best, in one pass of the network.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.networks.disparity import DisparityNetwork, StereoPrediction
from autodisp.networks.matching_head import STRIDE, Matching

UNKNOWN = 0.5
"""Usual threshold below which a pixel is unknown."""
NEAR = 1
"""Bins to each side of the one nearest to the disparity whose probability is summed."""
NEARER = 1.0
"""Pixels of disparity by which another surface must be nearer to occlude one, so that a slanted one does not occlude
itself."""
INVISIBLE = 0.49
"""Factor of the confidence of invisible pixels: they are below UNKNOWN, but in order, since many are predicted well."""


def has_volume(network: nn.Module) -> bool:
    """Returns True for a network whose disparity is read from a matching volume."""
    return isinstance(network, DisparityNetwork) and network.matching is not None


def end_of_volume(network: nn.Module) -> float:
    """Returns the largest disparity of the matching volume, pixels; infinite without one.

    Args:
        network: of this package, or an exported one, whose ``settings`` are those of its model card.
    """
    if isinstance(network, DisparityNetwork):
        return math.inf if network.matching is None else float(STRIDE * (network.matching.bins - 1))
    settings = getattr(network, "settings", {})
    most = settings.get("max_disparity")
    has_one = settings.get("head") in ("matching", "refined") and settings.get("stages", 1) == 1
    return float(STRIDE * math.ceil(most / STRIDE)) if has_one and isinstance(most, int) else math.inf


def confidence_of(prediction: StereoPrediction) -> Tensor | None:
    """Computes the confidence of each pixel's disparity, for a network in evaluation mode.

    Returns:
        (B, 1, H, W), 0..1; None if the network has no matching volume at its end.
    """
    if prediction.matching is None:
        return None
    height, width = prediction.disparity.shape[-2:]
    mass = functional.interpolate(
        mass_near(prediction.matching), scale_factor=STRIDE, mode="bilinear", align_corners=False
    )
    seen = visible(prediction.disparity)
    mass = mass[..., :height, :width].clamp(max=1.0)  # sums exceed it by rounding
    confidence: Tensor = mass * torch.where(seen, 1.0, INVISIBLE)
    return confidence


class WithConfidence(nn.Module):
    """A disparity network with a matching volume, as a network that returns the confidence too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *views: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the disparity and its confidence, both (B, 1, H, W).

        Raises:
            ValueError: the network has no matching volume.
        """
        prediction: StereoPrediction = self.network(*views)
        confidence = confidence_of(prediction._replace(disparity=prediction.disparity.clamp(min=0.0)))
        if confidence is None:
            raise ValueError("the network has no matching volume, and so no confidence")
        return prediction.disparity, confidence


def mass_near(matching: Matching) -> Tensor:
    """Returns the probability of the bins around the disparity, (B, 1, h, w)."""
    last = matching.logits.shape[1] - 1
    around = torch.arange(-NEAR, NEAR + 1, device=matching.logits.device).view(1, -1, 1, 1)
    bins = (matching.disparity / STRIDE).round().long() + around
    inside = (bins >= 0) & (bins <= last)
    near = matching.logits.gather(1, bins.clamp(0, last))
    shares = torch.exp(near - torch.logsumexp(matching.logits, dim=1, keepdim=True))
    return torch.where(inside, shares, 0.0).sum(dim=1, keepdim=True)


def visible(disparity: Tensor) -> Tensor:
    """Finds the pixels of the left view that the right view shows, as the disparities have it.

    Each pixel is drawn at both columns of the right view around its match; a column shows the nearest of its pixels.

    Args:
        disparity: (B, 1, H, W), pixels.

    Returns:
        (B, 1, H, W) bool; False where the match is outside of the right view, behind a nearer surface, or not finite.
    """
    width = disparity.shape[-1]
    x = torch.arange(width, dtype=disparity.dtype, device=disparity.device) - disparity
    inside = x >= 0  # False for NaN
    x = torch.where(inside, x, 0.0)
    drawn = torch.where(inside, disparity, -torch.inf)
    nearest = torch.full_like(disparity, -torch.inf)
    for column in (x.floor(), x.ceil()):
        nearest = nearest.scatter_reduce(3, column.long().clamp(max=width - 1), drawn, "amax")
    behind = nearest.gather(3, x.round().long().clamp(max=width - 1)) - disparity
    return inside & (behind <= NEARER)
