"""Aggregates a matching volume in three dimensions, guided by the decoder's features.

A small hourglass of 3-D convolutions after GC-Net (Kendall et al. 2017, section 3.4), at half and a quarter of the
volume's resolution, where it costs little and sees far. The features excite its channels as in CoEx (Bangunharcana et
al. 2021, section 3.2). What it adds starts at zero, so that a head that starts as block matching still does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.operations import LEAK


class CostAggregation(nn.Module):
    """Says what to add to a volume's logits.

    Args:
        channels: of the 3-D features; twice as many at the coarser level.
        guide: channels of the features that excite them.
    """

    def __init__(self, *, channels: int, guide: int) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels is {channels} but an aggregation has at least one")
        self.halve = _block(1, channels, stride=2)
        self.excite = nn.Conv2d(guide, channels, 1)
        self.fine = _block(channels, channels)
        self.halve_again = _block(channels, 2 * channels, stride=2)
        self.excite_coarse = nn.Conv2d(guide, 2 * channels, 1)
        self.coarse = _block(2 * channels, 2 * channels)
        self.narrow = nn.Conv3d(2 * channels, channels, 1)
        self.merge = _block(channels, channels)
        self.cost = nn.Conv3d(channels, 1, 3, padding=1)

    @torch.no_grad()
    def start_at_zero(self) -> None:
        """Adds nothing until it has learnt to."""
        nn.init.zeros_(self.cost.weight)
        assert self.cost.bias is not None
        nn.init.zeros_(self.cost.bias)

    def forward(self, volume: Tensor, features: Tensor) -> Tensor:
        """(B, D, h, w) to be added to the logits.

        Args:
            volume: (B, D, h, w), similarities.
            features: (B, guide, h, w).
        """
        whole = volume.unsqueeze(1)
        fine = self.halve(whole)
        fine = self.fine(fine * _excitation(self.excite, features, fine))
        coarse = self.halve_again(fine)
        coarse = self.coarse(coarse * _excitation(self.excite_coarse, features, coarse))
        back = functional.interpolate(self.narrow(coarse), fine.shape[2:], mode="trilinear", align_corners=False)
        cost = self.cost(self.merge(fine + back))
        return functional.interpolate(cost, whole.shape[2:], mode="trilinear", align_corners=False).squeeze(1)


def _block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, a=LEAK, nonlinearity="leaky_relu")
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.LeakyReLU(LEAK))


def _excitation(layer: nn.Conv2d, features: Tensor, volume: Tensor) -> Tensor:
    """(B, C, 1, h, w), between 0 and 1, for a volume (B, C, D, h, w)."""
    pooled = functional.adaptive_avg_pool2d(features, (volume.shape[-2], volume.shape[-1]))
    return torch.sigmoid(layer(pooled)).unsqueeze(2)
