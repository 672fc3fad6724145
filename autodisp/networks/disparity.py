"""The disparity network of AutoDispNet (Saikia et al. 2019), as supernet or as found network.

Siamese stems and a siamese reduction cell bring both views to 1/8; their horizontal correlation and features go
through encoder cells (normal, reduction, normal, ...); upsampling cells lead back to 1/4. Where it departs from the
released network stands in autodisp.networks.hourglass, which it shares with the refinement networks.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import initialise_he
from autodisp.networks.hourglass import Hourglass, Support, padded, stems
from autodisp.networks.matching_head import STRIDE, Matching, MatchingHead
from autodisp.networks.stereo_geometry import horizontal_correlation

Head = Literal["regression", "matching"]
MEAN_BRIGHTNESS = 0.4
"""Subtracted from images in 0..1, as the released network does."""


class StereoPrediction(NamedTuple):
    """What the network says of a batch of pairs."""

    disparity: Tensor
    """(B, 1, H, W) of the images' size, pixels; not clamped while training."""
    levels: tuple[Tensor, ...]
    """Predictions coarse to fine, (B, 1, h, w) of the padded size over the stride, full-resolution pixels, raw."""
    strides: tuple[int, ...]
    """Of the levels."""
    matching: Matching | None
    """What the matching head adds, None for the regression head."""
    earlier: tuple["StereoPrediction", ...] = ()
    """Predictions of a stack's trained stages before the last one, each of which has a loss of its own."""


class DisparityNetwork(Hourglass):
    """Encoder and decoder of cells between two views and a disparity map.

    Args:
        cells: what the cells are made of; needs the kinds "normal", "reduce" and "upsample".
        channels: C; cells at 1/8 have twice that width, it doubles at each reduction and halves at each upsampling.
        stem_scale: s; the stems have int(s C) and twice that many channels.
        encoder_cells: normal and reduction cells in turn, an even number: 6 reach 1/64.
        decoder_cells: upsampling cells, at most encoder_cells / 2 + 1, which reach 1/4.
        max_displacement: of the correlation at 1/8, both ways, in its pixels.
        head: "regression" predicts by convolution at every level, "matching" ends in a MatchingHead.
        max_disparity: largest disparity that the matching head can express, full-resolution pixels.
        aggregation: channels of the matching head's 3-D aggregation, 0 for none.
        support: encoder cells that the upsampling cells read, see ``Support``.
    """

    def __init__(
        self,
        cells: CellFactory,
        *,
        channels: int,
        stem_scale: float,
        encoder_cells: int = 6,
        decoder_cells: int = 4,
        max_displacement: int = 40,
        head: Head = "regression",
        max_disparity: int = 192,
        aggregation: int = 0,
        support: Support = "reduce",
    ) -> None:
        if encoder_cells < 2 or encoder_cells % 2:
            raise ValueError(f"encoder_cells is {encoder_cells} but cells come in pairs: take 2, 4, 6, ...")
        if not 1 <= decoder_cells <= encoder_cells // 2 + 1:
            raise ValueError(f"decoder_cells is {decoder_cells} but must be 1 to {encoder_cells // 2 + 1}")
        super().__init__(stride=8 * 2 ** (encoder_cells // 2), support=support)
        self.max_displacement = max_displacement
        self.matching: MatchingHead | None = None
        self.stem, half = stems(3, channels=channels, stem_scale=stem_scale, style=cells.style)
        quarter, width = 2 * half, 2 * channels
        self.siamese = cells.encoder_cell("reduce", inputs=(quarter, quarter), channels=width, after_reduction=False)
        inputs = (2 * self.siamese.outputs, 2 * max_displacement + 1)
        supports = self._add_encoder(cells, ("normal", "reduce") * (encoder_cells // 2), inputs=inputs, width=width)
        supports = [quarter, *([self.siamese.outputs] if support == "reduce" else []), *supports]
        predictions = decoder_cells + 1
        if head == "matching":
            self.matching = MatchingHead(
                quarter=quarter,
                eighth=self.siamese.outputs,
                decoder=cells.outputs("upsample", channels=self._decoder_width(decoder_cells - 1)),
                max_disparity=max_disparity,
                aggregation=aggregation,
            )
            supports[0] += self.matching.bins
            predictions = decoder_cells
        self._add_decoder(cells, supports=supports, count=decoder_cells, predictions=predictions)
        if cells.style.flavour == "dense":
            initialise_he(self)
        if self.matching is not None:
            self.matching.start_as_block_matching()

    def forward(self, left: Tensor, right: Tensor, weights: Mapping[str, Tensor] | None = None) -> StereoPrediction:
        """The disparity of the left view.

        Args:
            left, right: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, None for a found network.
        """
        views = padded(torch.cat([left, right]), self.stride) - MEAN_BRIGHTNESS
        quarter = self.stem(views)
        eighth = self.siamese((quarter, quarter), weights)
        left_quarter = quarter.chunk(2)[0]
        supports, bottleneck = self._encode(self._correlated(eighth), weights)
        if self.support == "reduce":
            supports = [eighth.chunk(2)[0], *supports]
        volume = None
        if self.matching is not None:
            descriptors = self.matching.describe(views, quarter, eighth)
            volume = self.matching.correlate(descriptors)
            left_quarter = torch.cat([left_quarter, volume], dim=1)
        levels, features = self._decode(bottleneck, [left_quarter, *supports], weights)
        strides = self._strides(levels)
        matching = None
        if self.matching is not None and volume is not None:
            matching = self.matching(volume, descriptors, features)
            levels, strides = [*levels, matching.disparity], [*strides, STRIDE]
            finest = matching.full
        else:
            finest = functional.interpolate(levels[-1], views.shape[-2:], mode="bilinear", align_corners=False)
        disparity = self._returned(finest, left.shape[-2:])
        return StereoPrediction(disparity, tuple(levels), tuple(strides), matching)

    def _correlated(self, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder starts from: the features of both views, and their correlation."""
        left, right = eighth.chunk(2)
        reach = self.max_displacement
        correlation = functional.relu(horizontal_correlation(left, right, nearest=-reach, farthest=reach))
        return torch.cat([left, right], dim=1), correlation
