"""Aggregates a matching volume in three dimensions, guided by the decoder's features.

A small hourglass after GC-Net (Kendall et al. 2017), at half and a quarter of the volume's resolution, where it costs
little and has a large receptive field. The features excite its channels as in CoEx (Bangunharcana et al. 2021).
Departs from both in that each 3x3x3 convolution is one of 3x3 within the images and one of 3 along the disparity: as
2-D convolutions over one memory layout these took an eighth of the time of 3-D ones at eight channels on a CPU. Its
output is zero before training, so that a head that starts as block matching still does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.operations import LEAK, initialise_zero
from autodisp.networks.stereo_geometry import precise, resized


class CostAggregation(nn.Module):
    """Computes what is added to a volume's logits.

    Args:
        channels: channels of the volume; twice as many at the coarser level.
        guide: channels of the decoder's features, which excite them.
        groups: of a group-wise volume at half the resolution, to which the volume is halved without a convolution;
            0 for none.
        aligned: interpolates disparities so that every second one is that of the coarser volume; False for the networks
            that were trained with trilinear interpolation between the borders.
    """

    def __init__(self, *, channels: int, guide: int, groups: int = 0, aligned: bool = False) -> None:
        super().__init__()
        self.aligned = aligned
        if channels < 1:
            raise ValueError(f"channels is {channels} but an aggregation has at least one")
        self.halve = VolumeBlock(1 + groups, channels, stride=1 if groups else 2)
        self.excite = nn.Conv2d(guide, channels, 1)
        self.fine = VolumeBlock(channels, channels)
        self.halve_again = VolumeBlock(channels, 2 * channels, stride=2)
        self.excite_coarse = nn.Conv2d(guide, 2 * channels, 1)
        self.coarse = nn.Sequential(VolumeBlock(2 * channels, 2 * channels), VolumeBlock(2 * channels, 2 * channels))
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        self.merge = VolumeBlock(channels, channels)
        self.cost = nn.Conv2d(channels, 1, 1)

    def start_at_zero(self) -> None:
        """Initialises the last layer, so that nothing is added before training."""
        initialise_zero(self.cost)

    def forward(self, volume: Tensor, features: Tensor, grouped: Tensor | None = None) -> Tensor:
        """Returns (B, D, h, w), to be added to the logits.

        Args:
            volume: (B, D, h, w), similarities.
            features: (B, guide, h, w).
            grouped: (B, groups, (D + 1) // 2, (h + 1) // 2, (w + 1) // 2).
        """
        if grouped is None:
            fine = self.halve(volume.unsqueeze(1))
        else:
            halved = resized(volume, grouped.shape[-2:])[:, ::2]
            fine = self.halve(torch.cat([halved.unsqueeze(1), grouped], dim=1))
        fine = self.fine(fine * _excitation(self.excite, features, fine))
        coarse = self.halve_again(fine)
        coarse = self.coarse(coarse * _excitation(self.excite_coarse, features, coarse))
        narrow = precise(_within(self.narrow, coarse))  # on a CPU interpolating bfloat16 takes twice as long
        cost = precise(_within(self.cost, self.merge(fine + self._enlarged(narrow, fine.shape[2:]))))
        return self._enlarged(cost, volume.shape[1:]).squeeze(1)

    def _enlarged(self, volume: Tensor, size: Sequence[int]) -> Tensor:
        """(B, C, D, h, w) -> (B, C, 2 D or 2 D - 1, about 2 h, about 2 w)."""
        if not self.aligned:
            return functional.interpolate(volume, size, mode="trilinear", align_corners=False)
        depth, height, width = size
        between = (volume + torch.cat([volume[:, :, 1:], volume[:, :, -1:]], dim=2)) / 2
        deep = torch.stack([volume, between], dim=3).flatten(2, 3)[:, :, :depth]
        pictures = deep.flatten(1, 2).contiguous(memory_format=torch.channels_last)  # four times as fast to interpolate
        wide = resized(pictures, (height, width))
        enlarged: Tensor = wide.unflatten(1, (volume.shape[1], depth))
        return enlarged


class VolumeBlock(nn.Module):
    """3x3 within the images, then 3 along the disparity: (B, inputs, D, h, w) -> (B, outputs, D/s, h/s, w/s)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.within = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.along = nn.Conv2d(outputs, outputs, (3, 1), stride=(stride, 1), padding=(1, 0), bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        for layer in (self.within, self.along):
            nn.init.kaiming_normal_(layer.weight, a=LEAK, nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """Convolutions, normalisation, LeakyReLU."""
        inplace = not torch.is_grad_enabled()
        x = functional.leaky_relu(_within(self.within, x), LEAK, inplace=inplace)
        height, width = x.shape[-2:]
        x = functional.leaky_relu(self.norm(self.along(x.flatten(3))), LEAK, inplace=inplace)
        y: Tensor = x.unflatten(3, (height, width))
        return y


def _within(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Applies a 2-D convolution to every image of a volume (B, C, D, h, w), which is a stack of images in memory."""
    batch, channels, depth, height, width = x.shape
    pictures = x.transpose(1, 2).reshape(batch * depth, channels, height, width)
    y: Tensor = layer(pictures.contiguous(memory_format=torch.channels_last))
    stacked: Tensor = y.unflatten(0, (batch, depth))
    return stacked.transpose(1, 2)


def _excitation(layer: nn.Conv2d, features: Tensor, volume: Tensor) -> Tensor:
    """(B, C, 1, h, w), between 0 and 1, for a volume (B, C, D, h, w)."""
    pooled = functional.adaptive_avg_pool2d(features, (volume.shape[-2], volume.shape[-1]))
    return torch.sigmoid(layer(pooled)).unsqueeze(2)
