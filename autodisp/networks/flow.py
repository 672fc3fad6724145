"""A flow network of cells: the disparity network with a 2-D correlation and two output channels.

Descriptors of both images at 1/4 are correlated in both directions (Dosovitskiy et al. 2015, FlowNetC); encoder cells
read the correlation and the siamese features at 1/8, upsampling cells lead back to 1/4. Their predictions are added to
the soft-argmax of the correlation, which starts as block matching, as in ``matching_head``.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import initialise_he
from autodisp.networks.disparity import MEAN_BRIGHTNESS
from autodisp.networks.hourglass import FED_BACK_SCALE, Hourglass, padded, stems
from autodisp.networks.matching_head import DESCRIPTOR, PATCH, STRIDE, WINDOW, patch_filters, stretched
from autodisp.networks.stereo_geometry import horizontal_correlation, precise, resized

_FIRST_TEMPERATURE = 80.0
"""Sharper than that of the disparities, which are soft-argmaxed over fewer candidates."""
_LEARNT_AT_FIRST = 0.01
"""Share of the learnt part of the descriptors at the start."""


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
        cells, channels, stem_scale, encoder_cells, decoder_cells: see ``DisparityNetwork``.
        max_displacement: of the correlation at 1/4, in all four directions, in its pixels.

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
        super().__init__(encoder_cells, decoder_cells, first="normal", outputs=2)
        self.max_displacement = max_displacement
        self.stem, half = stems(3, channels=channels, stem_scale=stem_scale, style=cells.style)
        quarter, width = 2 * half, 2 * channels
        self.siamese = cells.encoder_cell("reduce", inputs=(quarter, quarter), channels=width, after_reduction=False)
        self.patch = nn.Conv2d(3, DESCRIPTOR, PATCH, stride=STRIDE, bias=False)
        self.describe = nn.Conv2d(quarter, DESCRIPTOR, 1)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(_FIRST_TEMPERATURE)))
        displacements = (2 * max_displacement + 1) ** 2
        inputs = (2 * self.siamese.outputs, displacements)
        coarse = self._add_encoder(cells, inputs=inputs, width=width)
        self._add_decoder(cells, supports=[quarter + displacements, self.siamese.outputs, *coarse])
        if cells.style.flavour == "dense":
            initialise_he(self)
        with torch.no_grad():
            self.patch.weight.copy_(patch_filters())
            self.describe.weight.mul_(_LEARNT_AT_FIRST)

    def forward(self, first: Tensor, second: Tensor, weights: Mapping[str, Tensor] | None = None) -> FlowPrediction:
        """Computes the flow of the first image.

        Args:
            first, second: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, None for a found network.
        """
        images = padded(torch.cat([first, second]) - MEAN_BRIGHTNESS, self.stride)
        quarter = self.stem(images)
        eighth = self.siamese((quarter, quarter), weights)
        volume = self._correlated(images, quarter)
        ours, theirs = eighth.chunk(2)
        states = torch.cat([ours, theirs], dim=1), functional.avg_pool2d(volume, 2)
        supports, bottleneck = self._encode(states, weights)
        fine = torch.cat([quarter.chunk(2)[0], volume], dim=1)
        matched = resized(self._matched(volume), images.shape[-2:])
        levels, _ = self._decode(bottleneck, [fine, ours, *supports], weights, matched)
        return FlowPrediction(*self._output(levels, images, first.shape[-2:]))

    def _correlated(self, images: Tensor, quarter: Tensor) -> Tensor:
        """Correlates the descriptors of both images and averages over a window: (B, (2 d + 1)^2, h, w) at 1/4."""
        margin = (PATCH - STRIDE) // 2
        patches = self.patch(functional.pad(images, (margin,) * 4, mode="replicate"))
        first, second = stretched(patches + self.describe(quarter)).chunk(2)
        cosine = DESCRIPTOR * correlation_2d(first, second, reach=self.max_displacement)
        return functional.avg_pool2d(cosine, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)

    def _matched(self, volume: Tensor) -> Tensor:
        """Returns the soft-argmax of the correlation, (B, 2, h, w) in full-resolution pixels."""
        shares = torch.softmax(self.log_temperature.exp() * precise(volume), dim=1)
        reach = self.max_displacement
        steps = STRIDE * torch.arange(-reach, reach + 1, dtype=shares.dtype, device=shares.device)
        grid = shares.unflatten(1, (2 * reach + 1, 2 * reach + 1))
        return torch.stack(
            [torch.einsum("bvuhw,u->bhw", grid, steps), torch.einsum("bvuhw,v->bhw", grid, steps)], dim=1
        )

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
