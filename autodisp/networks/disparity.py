"""The disparity network of AutoDispNet (Saikia et al. 2019), as supernet or as found network.

Siamese stems and a siamese reduction cell bring both views to 1/8; their horizontal correlation and features go
through encoder cells (normal, reduction, normal, ...); upsampling cells lead back to 1/4. Where it departs from the
released network is described in autodisp.networks.hourglass, which it shares with the refinement networks.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import initialise_he
from autodisp.networks.hourglass import Hourglass, Support, padded, stems
from autodisp.networks.matching_head import STRIDE, Matching, MatchingHead
from autodisp.networks.refined_head import RefinedHead
from autodisp.networks.stereo_geometry import horizontal_correlation, one_sided_correlation, resized

Head = Literal["regression", "matching", "refined"]
MEAN_BRIGHTNESS = 0.4
"""Subtracted from images in 0..1, as the released network does."""
SMALLEST_DEVIATION = 0.02
"""Smallest standard deviation of an image in 0..1 that is brought to 1."""


class StereoPrediction(NamedTuple):
    """Output of the network for a batch of pairs."""

    disparity: Tensor
    """(B, 1, H, W) of the images' size, pixels; not clamped while training."""
    levels: tuple[Tensor, ...]
    """Predictions coarse to fine, (B, 1, h, w) of the padded size over the stride, full-resolution pixels, raw."""
    strides: tuple[int, ...]
    """Strides of the levels."""
    matching: Matching | None
    """Output of the matching head, None for the regression head."""
    earlier: tuple["StereoPrediction", ...] = ()
    """Predictions of a stack's trained stages before the last one, each of which has a loss of its own."""


class DisparityNetwork(Hourglass):
    """Encoder and decoder of cells between two views and a disparity map.

    Args:
        cells: the cell factory, with the kinds "normal", "reduce" and "upsample".
        channels: C; cells at 1/8 have twice that width, it doubles at each reduction and halves at each upsampling.
        stem_scale: s; the stems have int(s C) and twice that many channels.
        encoder_cells: normal and reduction cells in turn, an even number: 6 reach 1/64.
        decoder_cells: upsampling cells, at most encoder_cells / 2 + 1, which reach 1/4.
        max_displacement: of the correlation at 1/8, both ways, in its pixels.
        head: "regression" predicts by convolution at every level, "matching" ends in a MatchingHead, "refined" in a
            RefinedHead; with the last one the stems are 3x3 convolutions, the correlation at 1/8 looks to the left
            alone, and each view is brought to mean 0 and deviation 1, which no exposure changes.
        max_disparity: largest disparity that the matching heads can express, full-resolution pixels.
        aggregation: channels of the matching heads' 3-D aggregation, 0 for none.
        groups: of the refined head's group-wise volume, 0 for none.
        refinement: channels of the refined head's stage at 1/2.
        siamese_cells: siamese cells at 1/8, the first of which reduces.
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
        groups: int = 0,
        refinement: int = 16,
        siamese_cells: int = 1,
        support: Support = "reduce",
    ) -> None:
        super().__init__(encoder_cells, decoder_cells, first="normal", support=support)
        self.max_displacement = max_displacement
        self.matching: MatchingHead | RefinedHead | None = None
        kernels = (3, 3) if head == "refined" else (7, 5)
        self.stem, half = stems(3, channels=channels, stem_scale=stem_scale, style=cells.style, kernels=kernels)
        quarter, width = 2 * half, 2 * channels
        self.siamese = cells.encoder_cell("reduce", inputs=(quarter, quarter), channels=width, after_reduction=False)
        self.siamese_more = nn.ModuleList()
        outputs = self.siamese.outputs
        for index in range(siamese_cells - 1):
            inputs = (outputs if index else quarter, outputs)
            cell = cells.encoder_cell("normal", inputs=inputs, channels=width, after_reduction=index == 0)
            self.siamese_more.append(cell)
        displacements = max_displacement + 1 if head == "refined" else 2 * max_displacement + 1
        supports = self._add_encoder(cells, inputs=(2 * outputs, displacements), width=width)
        supports = [quarter, *([outputs] if support == "reduce" else []), *supports]
        if head != "regression":
            build: Callable[..., MatchingHead | RefinedHead] = MatchingHead
            if head == "refined":
                build = partial(RefinedHead, half=half, groups=groups, refinement=refinement)
            self.matching = build(
                quarter=quarter,
                eighth=outputs,
                decoder=cells.outputs("upsample", channels=self._decoder_width(decoder_cells - 1)),
                max_disparity=max_disparity,
                aggregation=aggregation,
            )
            supports[0] += self.matching.bins
        self._add_decoder(cells, supports=supports, predicts=self.matching is None)
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
        views = padded(self._normalised(torch.cat([left, right])), self.stride)
        half = self.stem[0](views)
        quarter = self.stem[1](half)
        eighth = self._siamese(quarter, weights)
        left_quarter = quarter.chunk(2)[0]
        supports, bottleneck = self._encode(self._correlated(eighth), weights)
        if self.support == "reduce":
            supports = [eighth.chunk(2)[0], *supports]
        volume = None
        if isinstance(self.matching, RefinedHead):
            size = quarter.shape[-2] * 2, quarter.shape[-1] * 2
            views = resized(views, size)  # a mean of 2x2
        if self.matching is not None:
            descriptors = self.matching.describe(views, quarter, eighth)
            volume = self.matching.correlate(descriptors)
            left_quarter = torch.cat([left_quarter, volume], dim=1)
        levels, features = self._decode(bottleneck, [left_quarter, *supports], weights)
        strides = self._strides(levels)
        matching = None
        if self.matching is not None and volume is not None:
            if isinstance(self.matching, RefinedHead):
                matching = self.matching(volume, features, views, half, eighth)
            else:
                matching = self.matching(volume, descriptors, features)
            levels, strides = [*levels, matching.disparity], [*strides, STRIDE]
            if matching.half is not None:
                levels, strides = [*levels, matching.half], [*strides, STRIDE // 2]
            finest = matching.full
        else:
            finest = resized(levels[-1], views.shape[-2:])
        disparity = self._returned(finest, left.shape[-2:])
        return StereoPrediction(disparity, tuple(levels), tuple(strides), matching)

    def _normalised(self, views: Tensor) -> Tensor:
        """The input of the stems: the released network's input, or each view at mean 0 and deviation 1."""
        if not isinstance(self.matching, RefinedHead):
            return views - MEAN_BRIGHTNESS
        pixels = views.permute(0, 2, 3, 1).flatten(1)  # in the order of memory, which is 20 times faster to sum
        mean = pixels.mean(dim=1)
        square = torch.linalg.vector_norm(pixels, dim=1).square() / pixels.shape[1]
        scale = (square - mean.square()).clamp(min=SMALLEST_DEVIATION**2).rsqrt()
        shift, scale = (-mean * scale).view(-1, 1, 1, 1), scale.view(-1, 1, 1, 1)
        return torch.addcmul(shift, views, scale)

    def _siamese(self, quarter: Tensor, weights: Mapping[str, Tensor] | None) -> Tensor:
        """Computes the features of both views at 1/8 from those at 1/4."""
        before = quarter
        eighth: Tensor = self.siamese((quarter, quarter), weights)
        for cell in self.siamese_more:
            before, eighth = eighth, cell((before, eighth), weights)
        return eighth

    def _correlated(self, eighth: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the encoder: the features of both views, and their correlation."""
        left, right = eighth.chunk(2)
        reach = self.max_displacement
        if isinstance(self.matching, RefinedHead):
            correlation = one_sided_correlation(left, right, count=reach + 1)
        else:
            correlation = horizontal_correlation(left, right, nearest=-reach, farthest=reach)
        return torch.cat([left, right], dim=1), functional.relu(correlation)
