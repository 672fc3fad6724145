"""Plain convolutions instead of cells: the hand-designed baseline for a found network.

A DisparityNetwork of these is an encoder-decoder after DispNet-C (Mayer et al. 2016): strided and plain 3x3
convolutions down, 4x4 transposed ones up, each joined with the encoder's feature and the coarser prediction by a 3x3
convolution. Stems, correlation, heads and loss are those of the found networks, so a comparison at equal
parameter count compares the cells only.

Departs from DispNet-C as the found networks do: the correlation is at 1/8 instead of 1/4 and meets the features of
both views, not a 1x1 convolution of the left one's; the first strided convolution after the stems is 3x3, not 5x5.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autodisp.cells.cell import BaseCell
from autodisp.cells.operations import Style, convolution, transposed_convolution


class DesignedCells:
    """Builds one convolution for each encoder cell, and a transposed and a plain one for each upsampling cell.

    The output has ``channels`` channels, whereas a graph cell has that many per node.
    """

    def __init__(self, *, style: Style) -> None:
        self.style = style

    def outputs(self, kind: str, *, channels: int) -> int:
        """Returns ``channels``."""
        return channels

    def encoder_cell(
        self, kind: str, *, inputs: tuple[int, int], channels: int, after_reduction: bool
    ) -> "EncoderConvolution":
        """A 3x3 convolution of the previous cell's output, strided in a reduction cell.

        A normal cell that does not follow a reduction reads both inputs; a disparity network has one such cell, which
        joins the features and their correlation.
        """
        both = kind == "normal" and not after_reduction
        return EncoderConvolution(kind, sum(inputs) if both else inputs[1], channels, self.style, both=both)

    def upsampling_cell(
        self, *, inputs: tuple[int, int, int, int], channels: int, after_upsampling: bool
    ) -> "UpsamplingConvolution":
        """A transposed convolution of the previous cell's output, joined with prediction and support."""
        return UpsamplingConvolution(inputs, channels, self.style)


class EncoderConvolution(BaseCell):
    """A 3x3 convolution of the last input, or of both."""

    def __init__(self, kind: str, inputs: int, channels: int, style: Style, *, both: bool) -> None:
        super().__init__()
        self.kind = kind
        self.channels = self.outputs = channels
        self.both = both
        self.convolution = convolution(inputs, channels, 3, style, stride=2 if kind == "reduce" else 1)

    def forward(self, inputs: Sequence[Tensor], weights: Mapping[str, Tensor] | None) -> Tensor:
        """Two inputs (B, C_i, H_i, W_i) -> (B, outputs, H, W); the weights are not used."""
        before, previous = inputs
        convolved: Tensor = self.convolution(torch.cat([before, previous], dim=1) if self.both else previous)
        return convolved


class UpsamplingConvolution(BaseCell):
    """A 4x4/2 transposed convolution, then a 3x3 convolution over it, the prediction and the support."""

    def __init__(self, inputs: tuple[int, int, int, int], channels: int, style: Style) -> None:
        super().__init__()
        self.kind = "upsample"
        self.channels = self.outputs = channels
        _, previous, prediction, support = inputs
        self.up = transposed_convolution(previous, channels, style)
        self.join = convolution(channels + prediction + support, channels, 3, style)

    def forward(self, inputs: Sequence[Tensor], weights: Mapping[str, Tensor] | None) -> Tensor:
        """Four inputs, the last two at twice the resolution of the second -> (B, outputs, 2 H, 2 W)."""
        _, previous, prediction, support = inputs
        # One channel fits either memory format; marked as channels_last, it leaves the others in theirs.
        prediction = prediction.squeeze(1).unsqueeze(3).permute(0, 3, 1, 2)
        joined: Tensor = self.join(torch.cat([self.up(previous), prediction, support], dim=1))
        return joined
