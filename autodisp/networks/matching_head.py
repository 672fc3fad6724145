"""Disparity by matching: soft-argmin over a one-sided correlation volume at 1/4 that the decoder refines.

After the soft-argmin of GC-Net (Kendall et al. 2017) on a correlation volume instead of a learnt 3-D cost, brought
to full resolution by the convex upsampling of RAFT (Teed and Deng 2020), which keeps edges where they are.

It starts as block matching: before training the descriptors are low frequencies of the image patch around each pixel,
without its mean, and the volume is averaged over a window, so that a softmax over it already selects the right bin for
most pixels. All of it is then learnt. Short trainings need that: a network without it spends most of them on learning
to match.
"""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.operations import LEAK, initialise_zero
from autodisp.networks.cost_aggregation import CostAggregation
from autodisp.networks.stereo_geometry import horizontal_correlation, precise, resized, warp_right_to_left

STRIDE = 4
DESCRIPTOR = 32
"""Channels of the descriptors that are matched."""
PATCH = 12
"""Side of the patch of a descriptor, pixels; symmetric about its 4x4 block."""
PATCH_SIGMA = 3.0
"""Sigma of the Gaussian that weighs the patch, pixels."""
COLOUR_FILTERS = 6
"""Descriptor channels for each of the two differences of colours; the others are brightness."""
WINDOW = 5
"""Side of the window over which the volume is averaged, cells of 4 pixels."""
FIRST_TEMPERATURE = 20.0
"""A cosine similarity of 1 against 0 then has odds of e^20 before training, enough against a hundred bins."""
SMALLEST_NORM = 1e-2
"""Descriptors shorter than this are not normalised to length one, so that pixels without texture have no weight."""


class Matching(NamedTuple):
    """Output of the head, at 1/4 of the padded size."""

    logits: Tensor
    """(B, bins, h, w); bin k is a disparity of 4 k full-resolution pixels."""
    matched: Tensor
    """(B, 1, h, w), the soft-argmin, full-resolution pixels."""
    disparity: Tensor
    """(B, 1, h, w), with the residual added, full-resolution pixels."""
    full: Tensor
    """(B, 1, 4 h, 4 w), full-resolution pixels at full resolution."""
    half: Tensor | None = None
    """(B, 1, 2 h, 2 w), the prediction of a refinement at 1/2, full-resolution pixels."""


class MatchingHead(nn.Module):
    """Descriptors, their correlation volume, and the disparity read from it.

    Args:
        quarter: channels of the siamese features at 1/4.
        eighth: channels of the siamese features at 1/8.
        decoder: channels of the decoder's finest features, at 1/4 or coarser.
        max_disparity: largest disparity it can express, full-resolution pixels, at least 4.
        aggregation: channels of a CostAggregation, 0 for none.
    """

    def __init__(self, *, quarter: int, eighth: int, decoder: int, max_disparity: int, aggregation: int = 0) -> None:
        super().__init__()
        if max_disparity < STRIDE:
            raise ValueError(f"max_disparity is {max_disparity} but the volume counts in steps of {STRIDE} pixels")
        self.bins = math.ceil(max_disparity / STRIDE) + 1
        self.patch = nn.Conv2d(3, DESCRIPTOR, PATCH, stride=STRIDE, bias=False)
        self.coarse = nn.Conv2d(eighth, DESCRIPTOR, 1)
        self.fine = nn.Conv2d(quarter, DESCRIPTOR, 1)
        self.descriptor = nn.Sequential(nn.LeakyReLU(LEAK), nn.Conv2d(DESCRIPTOR, DESCRIPTOR, 3, padding=1))
        self.window = nn.Conv2d(1, 1, WINDOW, padding=WINDOW // 2, bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE)))
        self.refine_cost = nn.Conv2d(decoder, self.bins, 3, padding=1)
        self.aggregation = CostAggregation(channels=aggregation, guide=decoder) if aggregation else None
        self.evidence = nn.Sequential(
            nn.Conv2d(decoder + 2 * DESCRIPTOR + 2, 2 * DESCRIPTOR, 3, padding=1), nn.LeakyReLU(LEAK)
        )
        self.residual = nn.Conv2d(2 * DESCRIPTOR, 1, 3, padding=1)
        self.upsampling = nn.Conv2d(2 * DESCRIPTOR, 9 * STRIDE**2, 1)

    @torch.no_grad()
    def start_as_block_matching(self) -> None:
        """Sets the parameters to the initial values that the module describes, for any rest of the network."""
        if self.aggregation is not None:
            self.aggregation.start_at_zero()
        self.patch.weight.copy_(patch_filters())
        self.window.weight.fill_(1 / WINDOW**2)
        for layer in (self.descriptor[1], self.refine_cost, self.residual):
            assert isinstance(layer, nn.Conv2d)
            initialise_zero(layer)

    def describe(self, views: Tensor, quarter: Tensor, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors of length one of the left and right views, (B, DESCRIPTOR, h, w) each.

        Args:
            views: (2 B, 3, 4 h, 4 w), the left ones first.
            quarter, eighth: the siamese features, (2 B, ..., h, w) and (2 B, ..., h / 2, w / 2).
        """
        margin = (PATCH - STRIDE) // 2
        patches = self.patch(functional.pad(views, (margin,) * 4, mode="replicate"))
        coarse = resized(self.coarse(eighth), quarter.shape[-2:])
        learnt = self.descriptor(self.fine(quarter) + coarse)
        left, right = stretched(patches + learnt).chunk(2)
        return left, right

    def correlate(self, descriptors: tuple[Tensor, Tensor]) -> Tensor:
        """Similarity of left(x) and right(x - d) for d = 0 .. bins - 1, over the window: (B, bins, h, w)."""
        left, right = descriptors
        cosine = DESCRIPTOR * horizontal_correlation(left, right, nearest=0, farthest=self.bins - 1)
        over_window: Tensor = self.window(cosine.flatten(0, 1).unsqueeze(1))
        return over_window.view(cosine.shape)

    def forward(self, volume: Tensor, descriptors: tuple[Tensor, Tensor], features: Tensor) -> Matching:
        """Reads the disparity from the volume, in float32 at least: bfloat16 would round 100 pixels to halves.

        Args:
            volume: (B, bins, h, w) from ``correlate``.
            descriptors: from ``describe``.
            features: (B, decoder, h', w') of the decoder, resized to the volume where coarser.
        """
        if features.shape[-2:] != volume.shape[-2:]:
            features = resized(features, volume.shape[-2:])
        cost = self.log_temperature.exp() * volume + self.refine_cost(features)
        if self.aggregation is not None:
            cost = cost + self.aggregation(volume, features)
        logits = precise(cost)
        bins = torch.arange(self.bins, dtype=logits.dtype, device=volume.device).view(1, -1, 1, 1)
        cells = (torch.softmax(logits, dim=1) * bins).sum(dim=1, keepdim=True)
        left, right = descriptors
        warped = warp_right_to_left(right, cells.detach())
        agreement = (left * warped).sum(dim=1, keepdim=True)
        evidence = self.evidence(torch.cat([features, left, warped, agreement, cells.detach() / self.bins], dim=1))
        matched = STRIDE * cells
        disparity = matched + self.residual(evidence)
        scores = precise(planes(self.upsampling, evidence))
        return Matching(logits, matched, disparity, convex_upsampling(disparity, scores))


def planes(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Computes a 1x1 convolution with bias as a product that leaves each channel contiguous in memory.

    Args:
        x: (B, C, h, w) in any memory format.
    """
    assert layer.bias is not None
    # With a weight that requires a gradient, torch.matmul transposes the result; baddbmm copies the bias per pixel.
    weight = layer.weight.flatten(1).expand(len(x), -1, -1)
    product = torch.bmm(weight, x.flatten(2)).add_(layer.bias.view(1, -1, 1))
    y: Tensor = product.unflatten(2, x.shape[-2:])
    return y


def stretched(x: Tensor) -> Tensor:
    """Normalises vectors along the channels to length one, unless they are shorter than ``SMALLEST_NORM``.

    ``functional.normalize`` has no second derivative at zero, which the curvature needs.
    """
    squared = x.square().sum(dim=1, keepdim=True)
    lengths: Tensor = (squared + torch.finfo(x.dtype).tiny ** 0.5).sqrt().clamp(min=SMALLEST_NORM)
    return x / lengths


def patch_filters(
    *,
    side: int = PATCH,
    sigma: float = PATCH_SIGMA,
    brightness: int = DESCRIPTOR - 2 * COLOUR_FILTERS,
    colour: int = COLOUR_FILTERS,
) -> Tensor:
    """The lowest frequencies of the DCT-II on a patch weighed by a Gaussian: (brightness + 2 colour, 3, side, side).

    Those of brightness sum to zero, so that they do not depend on a change of brightness.

    Args:
        side: of the patch, pixels.
        sigma: of the Gaussian, pixels.
        brightness: number of filters of the brightness.
        colour: number of filters of each of two differences of colours.
    """
    position = (torch.arange(side, device="cpu") + 0.5) / side
    bell = torch.exp(-((position - 0.5) ** 2) * side**2 / (2 * sigma**2))
    seen = bell[:, None] * bell
    frequencies = sorted(itertools.product(range(side), repeat=2), key=lambda uv: (uv[0] ** 2 + uv[1] ** 2, uv))
    filters = []
    for weights, chosen in (
        ((1 / 3, 1 / 3, 1 / 3), frequencies[1 : 1 + brightness]),
        ((1 / 2, 0.0, -1 / 2), frequencies[:colour]),
        ((-1 / 4, 1 / 2, -1 / 4), frequencies[:colour]),
    ):
        for vertical, horizontal in chosen:
            wave = torch.cos(math.pi * vertical * position)[:, None] * torch.cos(math.pi * horizontal * position)
            if vertical or horizontal:
                wave = wave - (seen * wave).sum() / seen.sum()
            shape = seen * wave
            filters.append(torch.tensor(weights, device="cpu").view(3, 1, 1) * shape / shape.norm())
    return torch.stack(filters)


def convex_upsampling(coarse: Tensor, scores: Tensor) -> Tensor:
    """Computes each fine pixel as a weighted mean of the 3x3 coarse pixels around it (RAFT; Teed and Deng 2020).

    Args:
        coarse: (B, 1, h, w); its values are not rescaled.
        scores: (B, 9 r r, h, w), before the softmax over the nine.

    Returns:
        (B, 1, r h, r w), between the smallest and largest neighbour everywhere.
    """
    batch, _, height, width = coarse.shape
    factor = math.isqrt(scores.shape[1] // 9)
    shares = torch.softmax(scores.reshape(batch, 9, factor**2, height, width).contiguous(), dim=1)
    padded = functional.pad(coarse, (1, 1, 1, 1), mode="replicate")
    windows = [padded[..., row : row + height, column : column + width] for row in range(3) for column in range(3)]
    fine = shares[:, 0] * windows[0]
    for share, window in zip(shares.unbind(1)[1:], windows[1:], strict=True):
        fine = torch.addcmul(fine, share, window)
    return functional.pixel_shuffle(fine, factor)
