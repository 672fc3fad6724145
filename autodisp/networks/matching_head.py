"""Disparity by matching: soft-argmin over a one-sided correlation volume at 1/4 that the decoder refines.

After the soft-argmin of GC-Net (Kendall et al. 2017) on a correlation volume instead of a learnt 3-D cost, brought
to full resolution by the convex upsampling of RAFT (Teed and Deng 2020), which keeps edges where they are. A network
that starts with a working notion of matching learns several times sooner than one that regresses pixels, which is
what small budgets need.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.operations import LEAK
from autodisp.networks.stereo_geometry import horizontal_correlation, warp_right_to_left

STRIDE = 4
DESCRIPTOR = 32
"""Channels of the descriptors that are matched."""
FIRST_TEMPERATURE = 10.0
"""A cosine similarity of 1 against 0 then starts at odds of e^10, sharp enough to win against a hundred bins."""


class Matching(NamedTuple):
    """What the head computed, at 1/4 of the padded size."""

    logits: Tensor
    """(B, bins, h, w); bin k stands for a disparity of 4 k full-resolution pixels."""
    matched: Tensor
    """(B, 1, h, w), the soft-argmin, full-resolution pixels."""
    disparity: Tensor
    """(B, 1, h, w), with the residual added, full-resolution pixels."""
    full: Tensor
    """(B, 1, 4 h, 4 w), full-resolution pixels at full resolution."""


class MatchingHead(nn.Module):
    """Descriptors, their correlation volume, and the disparity read from it.

    Args:
        quarter: channels of the siamese features at 1/4.
        eighth: channels of the siamese features at 1/8.
        decoder: channels of the decoder's finest features, at 1/4 or coarser.
        max_disparity: largest disparity it can express, full-resolution pixels, at least 4.
    """

    def __init__(self, *, quarter: int, eighth: int, decoder: int, max_disparity: int) -> None:
        super().__init__()
        if max_disparity < STRIDE:
            raise ValueError(f"max_disparity is {max_disparity} but the volume counts in steps of {STRIDE} pixels")
        self.bins = math.ceil(max_disparity / STRIDE) + 1
        self.coarse = nn.Conv2d(eighth, DESCRIPTOR, 1)
        self.fine = nn.Conv2d(quarter, DESCRIPTOR, 1)
        self.descriptor = nn.Sequential(nn.LeakyReLU(LEAK), nn.Conv2d(DESCRIPTOR, DESCRIPTOR, 3, padding=1))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE)))
        self.refine_cost = nn.Conv2d(decoder, self.bins, 3, padding=1)
        self.evidence = nn.Sequential(
            nn.Conv2d(decoder + 2 * DESCRIPTOR + 2, 2 * DESCRIPTOR, 3, padding=1), nn.LeakyReLU(LEAK)
        )
        self.residual = nn.Conv2d(2 * DESCRIPTOR, 1, 3, padding=1)
        self.upsampling = nn.Conv2d(2 * DESCRIPTOR, 9 * STRIDE**2, 1)

    def describe(self, quarter: Tensor, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """Unit descriptors of the left and right views, (B, DESCRIPTOR, h, w) each, from (2 B, ...) features."""
        coarse = functional.interpolate(self.coarse(eighth), quarter.shape[-2:], mode="bilinear", align_corners=False)
        left, right = functional.normalize(self.descriptor(self.fine(quarter) + coarse), dim=1).chunk(2)
        return left, right

    def correlate(self, descriptors: tuple[Tensor, Tensor]) -> Tensor:
        """Cosine similarity of left(x) and right(x - d) for d = 0 .. bins - 1: (B, bins, h, w)."""
        left, right = descriptors
        return DESCRIPTOR * horizontal_correlation(left, right, nearest=0, farthest=self.bins - 1)

    def forward(self, volume: Tensor, descriptors: tuple[Tensor, Tensor], features: Tensor) -> Matching:
        """Reads the disparity from the volume.

        Args:
            volume: (B, bins, h, w) from ``correlate``.
            descriptors: from ``describe``.
            features: (B, decoder, h', w') of the decoder, resized to the volume where coarser.
        """
        if features.shape[-2:] != volume.shape[-2:]:
            features = functional.interpolate(features, volume.shape[-2:], mode="bilinear", align_corners=False)
        logits = self.log_temperature.exp() * volume + self.refine_cost(features)
        bins = torch.arange(self.bins, dtype=volume.dtype, device=volume.device).view(1, -1, 1, 1)
        cells = (torch.softmax(logits, dim=1) * bins).sum(dim=1, keepdim=True)
        left, right = descriptors
        warped = warp_right_to_left(right, cells.detach())
        agreement = (left * warped).sum(dim=1, keepdim=True)
        evidence = self.evidence(torch.cat([features, left, warped, agreement, cells.detach() / self.bins], dim=1))
        matched = STRIDE * cells
        disparity = matched + self.residual(evidence)
        return Matching(logits, matched, disparity, convex_upsampling(disparity, self.upsampling(evidence)))


def convex_upsampling(coarse: Tensor, scores: Tensor) -> Tensor:
    """Each fine pixel as a weighted mean of the 3x3 coarse pixels around it (Teed and Deng 2020, section 3.3).

    Args:
        coarse: (B, 1, h, w); its values are not rescaled.
        scores: (B, 9 r r, h, w), before the softmax over the nine.

    Returns:
        (B, 1, r h, r w), between the smallest and largest neighbour everywhere.
    """
    batch, _, height, width = coarse.shape
    factor = math.isqrt(scores.shape[1] // 9)
    shares = torch.softmax(scores.reshape(batch, 9, factor**2, height, width), dim=1)
    padded = functional.pad(coarse, (1, 1, 1, 1), mode="replicate")
    around = torch.stack(
        [padded[..., row : row + height, column : column + width] for row in range(3) for column in range(3)], dim=1
    )
    return functional.pixel_shuffle((shares * around).sum(dim=1), factor)
