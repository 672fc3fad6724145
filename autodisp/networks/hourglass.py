"""Base of the disparity networks (Saikia et al. 2019): an encoder and a decoder of cells with multi-scale predictions.

Each decoder level predicts disparity in full-resolution pixels and passes it, without gradient, to the next. A network
for another task predicts more channels than one and defines what is fed back.

Departs from the released networks: disparities are positive and left-referenced; the sign is enforced on what is
fed back and returned but not on the input of the loss, where a clamp would stop the gradient of pixels with the wrong
sign; predictions fed back are scaled (``FED_BACK_SCALE``), which a trained 1x1 convolution compensates; images are
padded to a multiple of the coarsest stride instead of resized; predictions keep float32 under autocast, since bfloat16
would round 100 pixels to halves.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import Style, convolution
from autodisp.networks.stereo_geometry import resized, without_autocast

T = TypeVar("T")
Support = Literal["reduce", "normal"]
"""The encoder cells whose outputs the upsampling cells read.

"reduce" is the released wiring: the reduction cells, including the left half of the siamese one. "normal" is the wiring
of models whose card lacks the entry; both have the same parameters, so their weights are interchangeable.
"""
FED_BACK_SCALE = 0.05
"""Scale of predictions that are fed back; the released refinement networks use it for their input disparity."""


def stems(
    inputs: int, *, channels: int, stem_scale: float, style: Style, kernels: tuple[int, int] = (7, 5)
) -> tuple[nn.Sequential, int]:
    """Two strided convolutions, to int(s C) and to twice as many channels; also returns int(s C).

    Args:
        inputs: channels of the images, which may be negative.
        channels, stem_scale: C and s.
        style: style of the convolutions.
        kernels: their kernel sizes.

    Raises:
        ValueError: int(s C) is 0.
    """
    half = int(stem_scale * channels)
    if half < 1:
        raise ValueError(f"stem_scale is {stem_scale} but at {channels} channels it must be at least {1 / channels:g}")
    first = image_convolution(inputs, half, kernels[0], style, stride=2)
    return nn.Sequential(first, convolution(half, 2 * half, kernels[1], style, stride=2)), half


def image_convolution(inputs: int, outputs: int, kernel: int, style: Style, *, stride: int = 1) -> nn.Sequential:
    """A convolution without an activation before it, which would remove the negative values of the images."""
    layer = convolution(inputs, outputs, kernel, style, stride=stride)
    return layer[1:] if isinstance(layer[0], nn.ReLU) else layer


def padded(images: Tensor, stride: int) -> Tensor:
    """Pads images (B, C, H, W) to multiples of the stride by repeating the last row and column.

    For torch.export, whose sizes are symbolic, the multiple is written as a product and without a branch, which would
    specialise the program to padded or unpadded sizes.
    """
    height, width = images.shape[-2:]
    bottom, right = (height + stride - 1) // stride * stride - height, (width + stride - 1) // stride * stride - width
    if torch.compiler.is_exporting():
        return functional.pad(images, (0, right, 0, bottom), mode="replicate")
    if bottom:  # padding the whole images takes twice the time
        strip = functional.pad(images[..., -1:, :], (0, 0, 0, bottom - 1), mode="replicate")
        images = torch.cat([images, strip], dim=2)
    if right:
        strip = functional.pad(images[..., -1:], (0, right - 1, 0, 0), mode="replicate")
        images = torch.cat([images, strip], dim=3)
    return images


class Hourglass(nn.Module):
    """An encoder and a decoder of cells; subclasses define the input and the use of the predictions.

    Args:
        encoder_cells: normal and reduction cells in turn, of which the last one reduces.
        decoder_cells: upsampling cells, at most encoder_cells // 2 + 1, which reach 1/4.
        first: "normal" for an encoder that begins at 1/8, "reduce" for one at 1/4.
        support: kind of the encoder cells that the upsampling cells read.
        outputs: channels of a prediction.

    Raises:
        ValueError: a number of cells is out of range.

    Attributes:
        encoder, decoder: the cells.
        predict: the prediction convolutions, the first at the bottleneck.
        stride: stride of the bottleneck.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    predict: nn.ModuleList

    def __init__(
        self,
        encoder_cells: int,
        decoder_cells: int,
        *,
        first: Literal["normal", "reduce"],
        support: Support = "reduce",
        outputs: int = 1,
    ) -> None:
        odd = int(first == "reduce")
        if encoder_cells < 1 or encoder_cells % 2 != odd:
            even = "cells come in pairs: take 2, 4, 6, ..."
            remedy = "must start and end with a reduction: take 1, 3, 5, ..." if odd else even
            raise ValueError(f"encoder_cells is {encoder_cells} but {remedy}")
        pairs = encoder_cells // 2
        if not 1 <= decoder_cells <= pairs + 1:
            raise ValueError(f"decoder_cells is {decoder_cells} but must be 1 to {pairs + 1}")
        super().__init__()
        self.stride = 8 * 2**pairs
        self.support = support
        self.outputs = outputs
        self._kinds = ("reduce",) * odd + ("normal", "reduce") * pairs
        self._decoder_cells = decoder_cells

    def _add_encoder(self, cells: CellFactory, *, inputs: tuple[int, int], width: int) -> list[int]:
        """Appends the encoder cells; returns the channels of the outputs of ``_encode``, fine to coarse.

        Args:
            cells: the cell factory.
            inputs: channels of the two inputs of the first cell, which have the same resolution.
            width: width of the cells before the first reduction; doubles at each reduction.
        """
        self.encoder = nn.ModuleList()
        (before, previous), reduced, supports = inputs, False, []
        for kind in self._kinds:
            reduces = kind == "reduce"
            width *= 2 if reduces else 1
            cell = cells.encoder_cell(kind, inputs=(before, previous), channels=width, after_reduction=reduced)
            self.encoder.append(cell)
            if kind == self.support:
                supports.append(cell.outputs)
            before, previous, reduced = previous, cell.outputs, reduces
        self.bottleneck, self.bottleneck_width = previous, width
        return self._above_bottleneck(supports)

    def _decoder_width(self, index: int) -> int:
        """Width of a decoder cell; halves at each."""
        return max(1, self.bottleneck_width >> (index + 1))

    def _add_decoder(self, cells: CellFactory, *, supports: Sequence[int], predicts: bool = True) -> None:
        """Appends the upsampling cells and a prediction convolution for the bottleneck and each of them.

        Args:
            cells: the cell factory.
            supports: channels of the support features, fine to coarse; the last ones are used, one per cell.
            predicts: False if the last cell has no prediction convolution.
        """
        count = self._decoder_cells
        self.decoder = nn.ModuleList()
        self.predict = nn.ModuleList([nn.Conv2d(self.bottleneck, self.outputs, 3, padding=1)])
        before = previous = self.bottleneck
        for index in range(count):
            cell = cells.upsampling_cell(
                inputs=(before, previous, self.outputs, supports[-1 - index]),
                channels=self._decoder_width(index),
                after_upsampling=index > 0,
            )
            self.decoder.append(cell)
            if predicts or index + 1 < count:
                self.predict.append(nn.Conv2d(cell.outputs, self.outputs, 3, padding=1))
            before, previous = previous, cell.outputs

    def _encode(
        self, states: tuple[Tensor, Tensor], weights: Mapping[str, Tensor] | None
    ) -> tuple[list[Tensor], Tensor]:
        """Outputs of the cells of kind ``support`` above the bottleneck, fine to coarse, and of the last cell."""
        supports = []
        for cell in self.encoder:
            states = (states[1], cell(states, weights))
            if cell.kind == self.support:
                supports.append(states[1])
        return self._above_bottleneck(supports), states[1]

    def _above_bottleneck(self, supports: list[T]) -> list[T]:
        """Drops the entry of the last reduction cell, which is the bottleneck."""
        return supports[:-1] if self.support == "reduce" else supports

    def _decode(
        self,
        bottleneck: Tensor,
        supports: Sequence[Tensor],
        weights: Mapping[str, Tensor] | None,
        base: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Raw predictions coarse to fine, and the finest features.

        Args:
            bottleneck: (B, ..., H / stride, W / stride).
            supports: fine to coarse; the last ones are used, one per cell.
            weights: edge weights of the supernet.
            base: (B, 1, H, W), added to the predictions.
        """
        predictions = [self._predict(0, bottleneck, base)]
        states = (bottleneck, bottleneck)
        for index, cell in enumerate(self.decoder):
            support = supports[-1 - index]
            states = (states[1], cell((*states, self._fed_back(predictions[-1], support), support), weights))
            if index + 1 < len(self.predict):
                predictions.append(self._predict(index + 1, states[1], base))
        return predictions, states[1]

    def _fed_back(self, prediction: Tensor, support: Tensor) -> Tensor:
        """The prediction without gradient, as ``_feedback``, resized to the support: (B, outputs, h, w)."""
        return resized(self._feedback(prediction.detach()), support.shape[-2:])

    def _feedback(self, prediction: Tensor) -> Tensor:
        """Maps a prediction to what the next level reads: clamped and scaled."""
        return FED_BACK_SCALE * prediction.clamp(min=0.0)

    def _predict(self, index: int, features: Tensor, base: Tensor | None) -> Tensor:
        """The prediction convolution plus the mean of the base under each pixel: (B, outputs, h, w)."""
        predicted = without_autocast(self.predict[index], features)
        return predicted if base is None else predicted + functional.avg_pool2d(base, self.stride // 2**index)

    def _strides(self, levels: Sequence[Tensor]) -> list[int]:
        return [self.stride // 2**index for index in range(len(levels))]

    def _output(
        self, levels: Sequence[Tensor], images: Tensor, size: Sequence[int]
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[int, ...]]:
        """Returns the finest prediction at full resolution without the padding, all predictions, and their strides."""
        finest = resized(levels[-1], images.shape[-2:])
        return finest[..., : size[0], : size[1]], tuple(levels), tuple(self._strides(levels))

    def _returned(self, finest: Tensor, size: Sequence[int]) -> Tensor:
        """The disparity at full resolution without the padding, clamped unless training."""
        disparity = finest[..., : size[0], : size[1]]
        return disparity if self.training else disparity.clamp(min=0.0)
