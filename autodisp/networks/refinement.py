"""The refinement network S of AutoDispNet (Saikia et al. 2019), which corrects a disparity map.

Its input is the left view, the right view, the right view warped by the disparity, and the disparity; there is no
correlation: where the disparity is right, left and warped view are similar. Every level predicts a correction of the
given disparity. Departures from the released networks are listed in autodisp.networks.hourglass; in addition,
corrections start at zero, so an untrained stage returns its input, and coarse levels correct the mean of the
disparity under each of their pixels, which is the target of the loss.

``to_full_resolution`` continues from 1/4 to 1/1 like the last stage of the released KITTI variant: two transposed
convolutions, each concatenated with features of the new resolution and the current prediction.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import initialise_he, initialise_zero, transposed_convolution
from autodisp.networks.disparity import MEAN_BRIGHTNESS, StereoPrediction
from autodisp.networks.hourglass import FED_BACK_SCALE, Hourglass, Support, image_convolution, padded, stems
from autodisp.networks.stereo_geometry import resized, warp_right_to_left

INPUTS = 3 + 3 + 3 + 1
"""Channels: left view, right view, warped right view, disparity."""


class RefinementNetwork(Hourglass):
    """Encoder and decoder of cells that refine a disparity map.

    Args:
        cells, channels, stem_scale, support: see ``DisparityNetwork``.
        encoder_cells: reduction and normal cells in turn, an odd number: 7 reach 1/64.
        decoder_cells: upsampling cells, at most (encoder_cells + 1) / 2, which reach 1/4.
        to_full_resolution: adds two transposed convolutions from 1/4 to 1/1.
    """

    def __init__(
        self,
        cells: CellFactory,
        *,
        channels: int,
        stem_scale: float,
        encoder_cells: int = 7,
        decoder_cells: int = 4,
        to_full_resolution: bool = False,
        support: Support = "reduce",
    ) -> None:
        super().__init__(encoder_cells, decoder_cells, first="reduce", support=support)
        reductions = (encoder_cells + 1) // 2
        if to_full_resolution and decoder_cells < reductions:
            raise ValueError(
                f"to_full_resolution goes on from 1/4 but {decoder_cells} decoder cells end at "
                f"1/{4 * 2 ** (reductions - decoder_cells)}: take decoder_cells={reductions}"
            )
        self.stem, half = stems(INPUTS, channels=channels, stem_scale=stem_scale, style=cells.style)
        quarter = 2 * half
        supports = [quarter, *self._add_encoder(cells, inputs=(quarter, quarter), width=channels)]
        self._add_decoder(cells, supports=supports)
        self.finish: nn.ModuleList | None = None
        if to_full_resolution:
            self._add_finish(cells, half=half)
        if cells.style.flavour == "dense":
            initialise_he(self)
        for layer in self.predict:
            assert isinstance(layer, nn.Conv2d)
            initialise_zero(layer)

    def _add_finish(self, cells: CellFactory, *, half: int) -> None:
        """Appends the layers from the output of the decoder to 1/1, with their prediction convolutions.

        The first stem, at 1/2, has ``half`` channels.
        """
        style = cells.style
        wide, narrow = (self._decoder_width(len(self.decoder) + step) for step in (0, 1))
        self.image = image_convolution(3, narrow, 3, style)
        self.finish = nn.ModuleList()
        features = cells.outputs("upsample", channels=self._decoder_width(len(self.decoder) - 1))
        for width, beside in ((wide, half), (narrow, narrow)):
            self.finish.append(transposed_convolution(features, width, style))
            features = beside + width + 1
            self.predict.append(nn.Conv2d(features, 1, 3, padding=1))

    def forward(
        self, left: Tensor, right: Tensor, disparity: Tensor, weights: Mapping[str, Tensor] | None = None
    ) -> StereoPrediction:
        """The corrected disparity of the left view.

        Args:
            left, right: (B, 3, H, W), RGB in 0..1, any H and W.
            disparity: (B, 1, H, W), pixels; negative values are corrected but enter the features as 0.
            weights: edge weights of the supernet, None for a found network.

        Raises:
            ValueError: views and disparity differ in size.
        """
        size = left.shape[-2:]
        if right.shape[-2:] != size or disparity.shape[-2:] != size:
            raise ValueError(
                f"left is {tuple(size)}, right {tuple(right.shape[-2:])}, disparity {tuple(disparity.shape[-2:])}: "
                "resize them to one size, and multiply the disparity by the width ratio"
            )
        base = padded(disparity, self.stride)
        seen = self._seen(left, right, base.clamp(min=0.0))
        half = self.stem[0](seen)
        quarter = self.stem[1](half)
        supports, bottleneck = self._encode((quarter, quarter), weights)
        levels, features = self._decode(bottleneck, [quarter, *supports], weights, base)
        if self.finish is not None:
            for upsample, beside in zip(self.finish, (half, self.image(seen[:, :3])), strict=True):
                features = torch.cat([beside, upsample(features), self._fed_back(levels[-1], beside)], dim=1)
                levels.append(self._predict(len(levels), features, base))
        finest = resized(levels[-1], base.shape[-2:])
        return StereoPrediction(self._returned(finest, size), tuple(levels), tuple(self._strides(levels)), None)

    def _seen(self, left: Tensor, right: Tensor, disparity: Tensor) -> Tensor:
        """(B, 10, H', W'), padded; pixels outside the warped view have mean brightness."""
        left, right = (padded(view, self.stride) - MEAN_BRIGHTNESS for view in (left, right))
        return torch.cat([left, right, warp_right_to_left(right, disparity), FED_BACK_SCALE * disparity], dim=1)
