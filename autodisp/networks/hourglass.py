"""What the disparity networks have in common: cells down to a bottleneck, cells back up, predictions on the way up.

Saikia et al. 2019. Each level of the way up predicts disparity in full-resolution pixels and feeds it, without
gradient, to the next.

Departs from the released networks: disparities are positive and left-referenced; the sign is enforced on what is
fed back and returned but not on what the loss sees, where a clamp would stop the gradient of every pixel that
starts on the wrong side; what is fed back is scaled (``FED_BACK_SCALE``), which a trained 1x1 convolution makes up
for; images are padded to a multiple of the coarsest stride instead of resized; predictions keep float32 under
autocast, whose eight bits of mantissa would round 100 pixels to halves.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import Style, convolution

T = TypeVar("T")
Support = Literal["reduce", "normal"]
"""The encoder cells whose outputs the upsampling cells read.

"reduce" is the released wiring: the reduction cells, of which the siamese one counts by its left half. "normal" is
that of models whose card has no such entry; both have the same parameters, so weights of one load into the other.
"""
FED_BACK_SCALE = 0.05
"""Brings fed-back pixels to the size of features; the released refinement networks scale their input disparity so."""


def stems(
    inputs: int, *, channels: int, stem_scale: float, style: Style, kernels: tuple[int, int] = (7, 5)
) -> tuple[nn.Sequential, int]:
    """Two strided convolutions, to int(s C) and to twice that many channels, and the first of these numbers.

    Args:
        inputs: channels of images of which a part is negative.
        channels, stem_scale: C and s.
        style: of the convolutions.
        kernels: their sizes.

    Raises:
        ValueError: the scale leaves no channel.
    """
    half = int(stem_scale * channels)
    if half < 1:
        raise ValueError(f"stem_scale is {stem_scale} but at {channels} channels it must be at least {1 / channels:g}")
    first = image_convolution(inputs, half, kernels[0], style, stride=2)
    return nn.Sequential(first, convolution(half, 2 * half, kernels[1], style, stride=2)), half


def image_convolution(inputs: int, outputs: int, kernel: int, style: Style, *, stride: int = 1) -> nn.Sequential:
    """A convolution of images of which a part is negative, without an activation before it, which would lose that."""
    layer = convolution(inputs, outputs, kernel, style, stride=stride)
    return layer[1:] if isinstance(layer[0], nn.ReLU) else layer


def padded(images: Tensor, stride: int) -> Tensor:
    """The images (B, C, H, W), their last row and column repeated up to a multiple of the stride.

    To torch.export the sizes are symbols: it is told the multiple as a product, which it can reason about, and no
    branch, which would fix in the program whether there is something to pad.
    """
    height, width = images.shape[-2:]
    bottom, right = (height + stride - 1) // stride * stride - height, (width + stride - 1) // stride * stride - width
    if torch.compiler.is_exporting() or bottom or right:
        return functional.pad(images, (0, right, 0, bottom), mode="replicate")
    return images


class Hourglass(nn.Module):
    """An encoder and a decoder of cells, for networks that say what goes in and what is made of the predictions.

    Attributes:
        encoder, decoder: the cells.
        predict: the predicting convolutions, the first at the bottleneck.
        stride: of the bottleneck.
        support: kind of the encoder cells that the upsampling cells read.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    predict: nn.ModuleList

    def __init__(self, *, stride: int, support: Support) -> None:
        super().__init__()
        self.stride = stride
        self.support = support

    def _add_encoder(
        self, cells: CellFactory, kinds: Sequence[str], *, inputs: tuple[int, int], width: int
    ) -> list[int]:
        """Appends the encoder cells; returns the channels of those that ``_encode`` returns, fine to coarse.

        Args:
            cells: what they are made of.
            kinds: "normal" and "reduce" in their order.
            inputs: channels of the two tensors, of one resolution, that the first cell reads.
            width: of the cells before the first reduction; it doubles at each.
        """
        self.encoder = nn.ModuleList()
        (before, previous), reduced, supports = inputs, False, []
        for kind in kinds:
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
        """Of the decoder cell of that number: halved at each."""
        return max(1, self.bottleneck_width >> (index + 1))

    def _add_decoder(self, cells: CellFactory, *, supports: Sequence[int], count: int, predictions: int) -> None:
        """Appends the upsampling cells and a predicting convolution for the bottleneck and the first of them.

        Args:
            cells: what they are made of.
            supports: channels of the features that they read, fine to coarse; the last ``count`` are used.
            count: of upsampling cells.
            predictions: count + 1, or fewer where something else predicts at the finest resolutions.
        """
        self.decoder = nn.ModuleList()
        self.predict = nn.ModuleList([nn.Conv2d(self.bottleneck, 1, 3, padding=1)])
        before = previous = self.bottleneck
        for index in range(count):
            cell = cells.upsampling_cell(
                inputs=(before, previous, 1, supports[-1 - index]),
                channels=self._decoder_width(index),
                after_upsampling=index > 0,
            )
            self.decoder.append(cell)
            if len(self.predict) < predictions:
                self.predict.append(nn.Conv2d(cell.outputs, 1, 3, padding=1))
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
        """Drops the last reduction cell's entry: it is the bottleneck, the resolution that decoding starts from."""
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
            supports: fine to coarse; the last ones are used, one a cell.
            weights: edge weights of the supernet.
            base: (B, 1, H, W), what the predictions are added to.
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
        """(B, 1, h, w) of the support's size: the prediction without its gradient, positive and scaled."""
        fed_back = FED_BACK_SCALE * prediction.detach().clamp(min=0.0)
        return functional.interpolate(fed_back, support.shape[-2:], mode="bilinear", align_corners=False)

    def _predict(self, index: int, features: Tensor, base: Tensor | None) -> Tensor:
        """(B, 1, h, w): the convolution, added to the mean of the base under each pixel."""
        device = features.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                predicted: Tensor = self.predict[index](features.float())
        else:
            predicted = self.predict[index](features)
        return predicted if base is None else predicted + functional.avg_pool2d(base, self.stride // 2**index)

    def _strides(self, levels: Sequence[Tensor]) -> list[int]:
        return [self.stride // 2**index for index in range(len(levels))]

    def _returned(self, finest: Tensor, size: Sequence[int]) -> Tensor:
        """The disparity at full resolution without the padding, clamped unless training."""
        disparity = finest[..., : size[0], : size[1]]
        return disparity if self.training else disparity.clamp(min=0.0)
