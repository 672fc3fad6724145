"""A matching head for little time and sub-pixel precision: a volume at 1/4, its best match, a residual stage at 1/2.

Like ``autodisp.networks.matching_head`` it starts as block matching. Departs from it in that

- descriptors start from patches of the views at half resolution, a quarter of the work for the same frequencies;
- the disparity is the mean over the bins around the best one, not over all of them, whose far tail pulls the mean
  towards the middle of the range where matching is uncertain;
- the aggregation also reads a group-wise volume (Guo et al. 2019) of the features at 1/8;
- convex upsampling (Teed and Deng 2020) goes to 1/2 first, where a few channels read the correlation a pixel or two
  around the match and correct it, and from there to 1/1.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.operations import LEAK, initialise_zero
from autodisp.networks.cost_aggregation import CostAggregation
from autodisp.networks.matching_head import (
    DESCRIPTOR,
    FIRST_TEMPERATURE,
    STRIDE,
    WINDOW,
    Matching,
    convex_upsampling,
    patch_filters,
    planes,
    stretched,
)
from autodisp.networks.stereo_geometry import (
    group_correlation,
    local_correlation,
    one_sided_correlation,
    precise,
    resized,
    without_autocast,
)

PATCH, PATCH_SIGMA = 6, 1.5
"""Patches of the descriptors at 1/4, in pixels of the views at 1/2."""
FINE_PATCH, FINE_SIGMA, FINE_DESCRIPTOR = 5, 1.2, 8
"""Patches of the descriptors at 1/2, in pixels of that resolution, and their channels."""
GROUP = 4
"""Channels of a group."""
REACH = 2
"""Bins to each side of the best one over which the disparity is averaged."""
FINE_REACH = 1
"""Pixels of 1/2 to each side of the match from which the residual is computed."""
EVIDENCE = 32
MIDDLE = 2.0
"""Score of the middle one of nine before training in a convex upsampling: half of the weight."""
LOWEST = -1e4
"""Logit of a bin outside the range."""


class RefinedHead(nn.Module):
    """Descriptors, their correlation volume, the disparity read from it, and its refinement at 1/2.

    Args:
        half: channels of the siamese features at 1/2.
        quarter, eighth, decoder, max_disparity, aggregation: see ``MatchingHead``.
        groups: of the aggregation's group-wise volume, 0 for none.
        refinement: channels of the residual stage at 1/2.
    """

    def __init__(
        self,
        *,
        half: int,
        quarter: int,
        eighth: int,
        decoder: int,
        max_disparity: int,
        aggregation: int,
        groups: int,
        refinement: int,
    ) -> None:
        super().__init__()
        if max_disparity < STRIDE:
            raise ValueError(f"max_disparity is {max_disparity} but the volume counts in steps of {STRIDE} pixels")
        self.bins = math.ceil(max_disparity / STRIDE) + 1
        self.patch = nn.Conv2d(3, DESCRIPTOR, PATCH, stride=2, padding=(PATCH - 2) // 2, bias=False)
        self.coarse = nn.Conv2d(eighth, DESCRIPTOR, 1)
        self.fine = nn.Conv2d(quarter, DESCRIPTOR, 1)
        self.descriptor = nn.Sequential(nn.LeakyReLU(LEAK), nn.Conv2d(DESCRIPTOR, DESCRIPTOR, 3, padding=1))
        self.window = nn.Conv2d(1, 1, WINDOW, padding=WINDOW // 2, bias=False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(FIRST_TEMPERATURE)))
        self.refine_cost = nn.Conv2d(decoder, self.bins, 1)
        self.aggregation: CostAggregation | None = None
        self.group: nn.Conv2d | None = None
        if aggregation:
            self.aggregation = CostAggregation(channels=aggregation, guide=decoder, groups=groups, aligned=True)
            self.group = nn.Conv2d(eighth, GROUP * groups, 1) if groups else None
        self.groups = groups
        self.evidence = nn.Sequential(
            nn.Conv2d(decoder + 2 * REACH + 2, EVIDENCE, 3, padding=1), nn.LeakyReLU(LEAK, inplace=True)
        )
        self.correct = Correction(EVIDENCE)
        self.refinement = Refinement(half=half, evidence=EVIDENCE, channels=refinement)

    @torch.no_grad()
    def start_as_block_matching(self) -> None:
        """See ``MatchingHead.start_as_block_matching``."""
        if self.aggregation is not None:
            self.aggregation.start_at_zero()
        self.patch.weight.copy_(patch_filters(side=PATCH, sigma=PATCH_SIGMA))
        self.window.weight.fill_(1 / WINDOW**2)
        for layer in (self.descriptor[1], self.refine_cost):
            assert isinstance(layer, nn.Conv2d)
            initialise_zero(layer)
        self.correct.start_at_zero()
        self.refinement.start_as_block_matching()

    def describe(self, views: Tensor, quarter: Tensor, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors of length one of the left and right views, (B, DESCRIPTOR, h, w) each.

        Args:
            views: (2 B, 3, 2 h, 2 w), the left ones first, reduced to 1/2.
            quarter, eighth: the siamese features, (2 B, ..., h, w) and (2 B, ..., h / 2, w / 2).
        """
        patches = self.patch(views)
        coarse = resized(_pointwise(self.coarse, eighth), quarter.shape[-2:])
        learnt = self.descriptor(_pointwise(self.fine, quarter) + coarse)
        left, right = stretched(patches + learnt).chunk(2)
        return left, right

    def correlate(self, descriptors: tuple[Tensor, Tensor]) -> Tensor:
        """Similarity of left(x) and right(x - d) for d = 0 .. bins - 1, over the window: (B, bins, h, w)."""
        left, right = descriptors
        cosine = one_sided_correlation(DESCRIPTOR * left, right, count=self.bins)
        weight = self.window.weight.expand(self.bins, -1, -1, -1)
        over_window: Tensor = functional.conv2d(cosine, weight, padding=WINDOW // 2, groups=self.bins)
        return over_window

    def forward(self, volume: Tensor, features: Tensor, views: Tensor, half: Tensor, eighth: Tensor) -> Matching:
        """Reads the disparity from the volume, in float32 at least: bfloat16 would round 100 pixels to halves.

        Args:
            volume: (B, bins, h, w) from ``correlate``.
            features: (B, decoder, h', w') of the decoder, resized to the volume where coarser.
            views: (2 B, 3, 2 h, 2 w), see ``describe``.
            half, eighth: the siamese features at 1/2 and 1/8.
        """
        if features.shape[-2:] != volume.shape[-2:]:
            features = resized(features, volume.shape[-2:])
        cost = precise(self.log_temperature.exp() * volume)
        cost += _pointwise(self.refine_cost, features)
        if self.aggregation is not None:
            cost += self.aggregation(volume, features, self._grouped(eighth))
        cells, shares = around_best(cost, reach=REACH)
        read = torch.cat([features, shares, cells.detach() / self.bins], dim=1)
        evidence = self.evidence(read)
        matched = STRIDE * cells
        disparity, coarse = self.correct(matched, evidence)
        refined, full = self.refinement(coarse, views, half, evidence)
        return Matching(cost, matched, disparity, full, refined)

    def _grouped(self, eighth: Tensor) -> Tensor | None:
        """The group-wise volume at 1/8, whose bins are every second one of the volume at 1/4."""
        if self.group is None:
            return None
        left, right = _pointwise(self.group, eighth).chunk(2)
        return group_correlation(left, right, groups=self.groups, count=(self.bins + 1) // 2)


class Refinement(nn.Module):
    """Corrects a disparity at 1/2 by the views around the match, and upsamples it to 1/1.

    Args:
        half: channels of the siamese features at 1/2.
        evidence: channels of the features at 1/4.
        channels: of its own layers.
    """

    def __init__(self, *, half: int, evidence: int, channels: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, FINE_DESCRIPTOR, FINE_PATCH, padding=FINE_PATCH // 2, bias=False)
        self.descriptor = nn.Conv2d(half, FINE_DESCRIPTOR, 1, bias=False)
        self.above = nn.Conv2d(evidence, channels, 1)
        self.own = nn.Conv2d(half, channels, 1, bias=False)
        self.around = nn.Conv2d(2 * FINE_REACH + 2, channels, 1, bias=False)
        self.look = nn.Sequential(
            nn.LeakyReLU(LEAK, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAK, inplace=True),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
            nn.LeakyReLU(LEAK, inplace=True),
        )
        self.correct = Correction(channels)

    @torch.no_grad()
    def start_as_block_matching(self) -> None:
        """Initialises the descriptors with low frequencies of patches, and the correction with zero."""
        filters = patch_filters(side=FINE_PATCH, sigma=FINE_SIGMA, brightness=FINE_DESCRIPTOR, colour=0)
        self.patch.weight.copy_(filters)
        initialise_zero(self.descriptor)
        self.correct.start_at_zero()

    def forward(self, coarse: Tensor, views: Tensor, half: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """The disparity at 1/2 and at 1/1, (B, 1, 2 h, 2 w) and (B, 1, 4 h, 4 w), full-resolution pixels.

        Args:
            coarse: (B, 1, 2 h, 2 w), full-resolution pixels.
            views, half: (2 B, ..., 2 h, 2 w), see ``RefinedHead``.
            evidence: (B, ..., h, w).
        """
        size = coarse.shape[-2:]
        left, right = stretched(precise(self.patch(views) + _pointwise(self.descriptor, half))).chunk(2)
        known = coarse.detach()
        costs = local_correlation(FINE_DESCRIPTOR * left, right, known / 2, reach=FINE_REACH)
        # The difference from the neighbourhood; with the absolute disparity the correction would depend on the range.
        mean = resized(functional.avg_pool2d(known, 8), size)
        relief = ((known - mean) / 8).clamp(-4, 4)
        seen = resized(_pointwise(self.above, evidence), size)
        seen += _pointwise(self.own, half.chunk(2)[0])
        seen += _pointwise(self.around, torch.cat([costs, relief], dim=1))
        refined, full = self.correct(coarse, self.look(seen))
        return refined, full


class Correction(nn.Module):
    """A residual and the weights of a convex upsampling by two, from features of one resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, 1 + 9 * 2**2, 1)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Initialises the correction with zero, and the upsampling with half of the weight on the middle pixel."""
        initialise_zero(self.layer)
        assert self.layer.bias is not None
        self.layer.bias[1 + 4 * 4 : 1 + 5 * 4] = MIDDLE

    def forward(self, coarse: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the corrected disparity (B, 1, h, w), and (B, 1, 2 h, 2 w), in float32 at least.

        Args:
            coarse: (B, 1, h, w).
            features: (B, channels, h, w).
        """
        # casting its many planes takes longer than they save
        scores = precise(without_autocast(partial(planes, self.layer), features))
        corrected = coarse + scores[:, :1]
        return corrected, convex_upsampling(corrected, scores[:, 1:])


def _pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Computes a 1x1 convolution as a matrix product over the pixels, in channels_last."""
    return functional.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


def around_best(logits: Tensor, *, reach: int) -> tuple[Tensor, Tensor]:
    """Computes the soft-argmin over the bins around the best one.

    Args:
        logits: (B, bins, h, w).
        reach: bins to each side.

    Returns:
        The disparity in bins, (B, 1, h, w), and the probabilities of the bins from best - reach to best + reach among
        themselves, (B, 2 reach + 1, h, w), zero outside the range.
    """
    bins = logits.shape[1]
    best = logits.detach().argmax(dim=1, keepdim=True)
    places = best + torch.arange(-reach, reach + 1, device=logits.device).view(1, -1, 1, 1)
    known = logits.gather(1, places.clamp(0, bins - 1))
    shares = torch.softmax(torch.where((places >= 0) & (places < bins), known, LOWEST), dim=1)
    return (shares * places).sum(dim=1, keepdim=True), shares
