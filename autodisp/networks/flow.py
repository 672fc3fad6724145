"""A flow network of cells: the disparity network with a 2-D correlation and two output channels.

Siamese stems and a siamese reduction cell bring both images to 1/8; their correlation in both directions (Dosovitskiy
et al. 2015, FlowNetC) and their features go through encoder cells (normal, reduction, ...); upsampling cells lead back
to 1/4.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import initialise_he
from autodisp.networks.hourglass import FED_BACK_SCALE, Hourglass, padded, stems
from autodisp.networks.stereo_geometry import horizontal_correlation

MEAN_BRIGHTNESS = 0.4
"""Subtracted from images in 0..1."""


class FlowPrediction(NamedTuple):
    """Output of the flow network for a batch of image pairs."""

    flow: Tensor
    """(B, 2, H, W) of the images' size, x and y in pixels."""
    levels: tuple[Tensor, ...]
    """Predictions coarse to fine, (B, 2, h, w) of the padded size over the stride, full-resolution pixels."""
    strides: tuple[int, ...]
    """Strides of the levels."""


class FlowNetwork(Hourglass):
    """Encoder and decoder of cells between two images and the flow of the first.

    Args:
        cells: the cell factory, with the kinds "normal", "reduce" and "upsample".
        channels: C; cells at 1/8 have twice that width, it doubles at each reduction and halves at each upsampling.
        stem_scale: s; the stems have int(s C) and twice that many channels.
        encoder_cells: normal and reduction cells in turn, an even number: 6 reach 1/64.
        decoder_cells: upsampling cells, at most encoder_cells / 2 + 1, which reach 1/4.
        max_displacement: of the correlation at 1/8, in all four directions, in its pixels.

    Raises:
        ValueError: a number of cells is out of range.
    """

    def __init__(
        self,
        cells: CellFactory,
        *,
        channels: int,
        stem_scale: float,
        encoder_cells: int,
        decoder_cells: int,
        max_displacement: int,
    ) -> None:
        if encoder_cells < 2 or encoder_cells % 2:
            raise ValueError(f"encoder_cells is {encoder_cells} but cells come in pairs: take 2, 4, 6, ...")
        if not 1 <= decoder_cells <= encoder_cells // 2 + 1:
            raise ValueError(f"decoder_cells is {decoder_cells} but must be 1 to {encoder_cells // 2 + 1}")
        super().__init__(stride=8 * 2 ** (encoder_cells // 2), support="reduce", outputs=2)
        self.max_displacement = max_displacement
        self.stem, half = stems(3, channels=channels, stem_scale=stem_scale, style=cells.style)
        quarter, width = 2 * half, 2 * channels
        self.siamese = cells.encoder_cell("reduce", inputs=(quarter, quarter), channels=width, after_reduction=False)
        inputs = (2 * self.siamese.outputs, (2 * max_displacement + 1) ** 2)
        supports = self._add_encoder(cells, ("normal", "reduce") * (encoder_cells // 2), inputs=inputs, width=width)
        supports = [quarter, self.siamese.outputs, *supports]
        self._add_decoder(cells, supports=supports, count=decoder_cells, predictions=decoder_cells + 1)
        if cells.style.flavour == "dense":
            initialise_he(self)

    def forward(self, first: Tensor, second: Tensor, weights: Mapping[str, Tensor] | None = None) -> FlowPrediction:
        """Computes the flow of the first image.

        Args:
            first, second: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, None for a found network.
        """
        height, width = first.shape[-2:]
        images = padded(torch.cat([first, second]) - MEAN_BRIGHTNESS, self.stride)
        quarter = self.stem(images)
        eighth = self.siamese((quarter, quarter), weights)
        ours, theirs = eighth.chunk(2)
        correlation = functional.relu(correlation_2d(ours, theirs, reach=self.max_displacement))
        supports, bottleneck = self._encode((torch.cat([ours, theirs], dim=1), correlation), weights)
        levels, _ = self._decode(bottleneck, [quarter.chunk(2)[0], ours, *supports], weights)
        finest = functional.interpolate(levels[-1], images.shape[-2:], mode="bilinear", align_corners=False)
        return FlowPrediction(finest[..., :height, :width], tuple(levels), tuple(self._strides(levels)))

    def _feedback(self, prediction: Tensor) -> Tensor:
        """Scales a flow to the magnitude of features."""
        return FED_BACK_SCALE * prediction


def correlation_2d(first: Tensor, second: Tensor, *, reach: int) -> Tensor:
    """Computes the mean product over the channels of first(x, y) and second(x + u, y + v) for all |u|, |v| <= reach.

    One horizontal correlation for each v.

    Args:
        first, second: (B, C, H, W).
        reach: pixels of this resolution.

    Returns:
        (B, (2 reach + 1)^2, H, W); channel (v + reach) (2 reach + 1) + u + reach; zero outside of the second image.
    """
    height = first.shape[-2]
    rows = functional.pad(second, (0, 0, reach, reach))
    bands = [
        horizontal_correlation(first, rows[:, :, v : v + height], nearest=-reach, farthest=reach).flip(1)
        for v in range(2 * reach + 1)
    ]
    return torch.cat(bands, dim=1)
