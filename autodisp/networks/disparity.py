"""The disparity network of AutoDispNet (Saikia et al. 2019), as supernet or as found network.

Siamese stems and a siamese reduction cell bring both views to 1/8; their horizontal correlation and features go
through encoder cells (normal, reduction, normal, ...); upsampling cells lead back to 1/4. Each decoder level
predicts disparity in full-resolution pixels and feeds it, without gradient, to the next.

Departs from the released network: disparities are positive and left-referenced; the sign is enforced on what is
fed back and returned but not on what the loss sees, where a clamp would stop the gradient of every pixel that
starts on the wrong side; images are padded to a multiple of the coarsest stride instead of resized.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.cell import CellFactory, encoder_cell, upsampling_cell
from autodisp.cells.operations import convolution, initialise_he
from autodisp.networks.matching_head import STRIDE, Matching, MatchingHead
from autodisp.networks.stereo_geometry import horizontal_correlation

Head = Literal["regression", "matching"]
MEAN_BRIGHTNESS = 0.4
"""Subtracted from images in 0..1, as the released network does."""
FED_BACK_SCALE = 0.05
"""Brings fed-back pixels to the size of features; the released refinement networks scale their input disparity so."""


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


class DisparityNetwork(nn.Module):
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
    ) -> None:
        super().__init__()
        if encoder_cells < 2 or encoder_cells % 2:
            raise ValueError(f"encoder_cells is {encoder_cells} but cells come in pairs: take 2, 4, 6, ...")
        if not 1 <= decoder_cells <= encoder_cells // 2 + 1:
            raise ValueError(f"decoder_cells is {decoder_cells} but must be 1 to {encoder_cells // 2 + 1}")
        stem = int(stem_scale * channels)
        if stem < 1:
            raise ValueError(
                f"stem_scale is {stem_scale} but at {channels} channels it must be at least {1 / channels:g}"
            )
        self.max_displacement = max_displacement
        self.matching: MatchingHead | None = None
        self.stride = 8 * 2 ** (encoder_cells // 2)
        quarter = 2 * stem
        first = convolution(3, stem, 7, cells.style, stride=2)
        if isinstance(first[0], nn.ReLU):
            first = first[1:]  # half of the normalised image is negative
        self.stem = nn.Sequential(first, convolution(stem, quarter, 5, cells.style, stride=2))
        self.siamese = encoder_cell(
            "reduce", cells, inputs=(quarter, quarter), channels=2 * channels, after_reduction=False
        )
        supports = self._add_encoder(cells, encoder_cells, 2 * channels)
        supports = [quarter, *supports]
        width = 2 * channels * 2 ** (encoder_cells // 2)
        if head == "matching":
            self.matching = MatchingHead(
                quarter=quarter,
                eighth=self.siamese.outputs,
                decoder=width // 2**decoder_cells * len(cells.plan("upsample")),
                max_disparity=max_disparity,
            )
            supports[0] += self.matching.bins
        self._add_decoder(cells, decoder_cells, width, supports)
        if cells.style.flavour == "dense":
            initialise_he(self)
        if self.matching is not None:
            self.matching.start_as_block_matching()

    def _add_encoder(self, cells: CellFactory, count: int, width: int) -> list[int]:
        """Appends the encoder cells; returns the channels of the normal ones, fine to coarse."""
        self.encoder = nn.ModuleList()
        before, previous, reduced, supports = 2 * self.siamese.outputs, 2 * self.max_displacement + 1, False, []
        for index in range(count):
            reduces = index % 2 == 1
            width *= 2 if reduces else 1
            kind = "reduce" if reduces else "normal"
            cell = encoder_cell(kind, cells, inputs=(before, previous), channels=width, after_reduction=reduced)
            self.encoder.append(cell)
            if not reduces:
                supports.append(cell.outputs)
            before, previous, reduced = previous, cell.outputs, reduces
        self.bottleneck = previous
        return supports

    def _add_decoder(self, cells: CellFactory, count: int, width: int, supports: list[int]) -> None:
        """Appends the upsampling cells and a predicting convolution for each resolution that the head does not read."""
        self.decoder = nn.ModuleList()
        self.predict = nn.ModuleList([nn.Conv2d(self.bottleneck, 1, 3, padding=1)])
        before = previous = self.bottleneck
        for index in range(count):
            width //= 2
            cell = upsampling_cell(
                cells,
                inputs=(before, previous, 1, supports[-1 - index]),
                channels=width,
                after_upsampling=index > 0,
            )
            self.decoder.append(cell)
            if self.matching is None or index < count - 1:
                self.predict.append(nn.Conv2d(cell.outputs, 1, 3, padding=1))
            before, previous = previous, cell.outputs

    def forward(self, left: Tensor, right: Tensor, weights: Mapping[str, Tensor] | None = None) -> StereoPrediction:
        """The disparity of the left view.

        Args:
            left, right: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, None for a found network.
        """
        height, width = left.shape[-2:]
        views = self._padded(torch.cat([left, right])) - MEAN_BRIGHTNESS
        quarter = self.stem(views)
        eighth = self.siamese((quarter, quarter), weights)
        left_quarter = quarter.chunk(2)[0]
        supports, bottleneck = self._encode(eighth, weights)
        volume = None
        if self.matching is not None:
            descriptors = self.matching.describe(views, quarter, eighth)
            volume = self.matching.correlate(descriptors)
            left_quarter = torch.cat([left_quarter, volume], dim=1)
        levels, features = self._decode(bottleneck, [left_quarter, *supports], weights)
        strides = [self.stride // 2**index for index in range(len(levels))]
        matching = None
        if self.matching is not None and volume is not None:
            matching = self.matching(volume, descriptors, features)
            levels, strides = [*levels, matching.disparity], [*strides, STRIDE]
            finest = matching.full
        else:
            finest = functional.interpolate(levels[-1], views.shape[-2:], mode="bilinear", align_corners=False)
        disparity = finest[..., :height, :width]
        if not self.training:
            disparity = disparity.clamp(min=0.0)
        return StereoPrediction(disparity, tuple(levels), tuple(strides), matching)

    def _padded(self, views: Tensor) -> Tensor:
        bottom, right = -views.shape[-2] % self.stride, -views.shape[-1] % self.stride
        return functional.pad(views, (0, right, 0, bottom), mode="replicate") if bottom or right else views

    def _encode(self, eighth: Tensor, weights: Mapping[str, Tensor] | None) -> tuple[list[Tensor], Tensor]:
        """Outputs of the normal cells (1/8, 1/16, ...) and of the last reduction."""
        left, right = eighth.chunk(2)
        reach = self.max_displacement
        correlation = functional.relu(horizontal_correlation(left, right, nearest=-reach, farthest=reach))
        states, supports = (torch.cat([left, right], dim=1), correlation), []
        for cell in self.encoder:
            states = (states[1], cell(states, weights))
            if cell.kind == "normal":
                supports.append(states[1])
        return supports, states[1]

    def _decode(
        self, bottleneck: Tensor, supports: list[Tensor], weights: Mapping[str, Tensor] | None
    ) -> tuple[list[Tensor], Tensor]:
        """Raw predictions coarse to fine, and the finest features."""
        predictions = [self.predict[0](bottleneck)]
        states = (bottleneck, bottleneck)
        for index, cell in enumerate(self.decoder):
            support = supports[-1 - index]
            fed_back = FED_BACK_SCALE * predictions[-1].detach().clamp(min=0.0)
            fed_back = functional.interpolate(fed_back, support.shape[-2:], mode="bilinear", align_corners=False)
            states = (states[1], cell((*states, fed_back, support), weights))
            if index + 1 < len(self.predict):
                predictions.append(self.predict[index + 1](states[1]))
        return predictions, states[1]
