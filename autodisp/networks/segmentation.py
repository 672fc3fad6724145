"""A segmentation network of cells: encoder and upsampling cells of the disparity network, without a correlation.

Two strided convolutions lead to 1/4; encoder cells (reduction, normal, reduction, ...) to the bottleneck; upsampling
cells back to 1/4, reading the encoder's features and the class probabilities of the level before.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.cells.operations import initialise_he
from autodisp.networks.hourglass import Hourglass, padded, stems

MEAN_BRIGHTNESS = 0.45
"""Subtracted from images in 0..1."""


class ClassMaps(NamedTuple):
    """Output of the segmentation network for a batch of images."""

    logits: Tensor
    """(B, classes, H, W) of the images' size, before the softmax."""
    levels: tuple[Tensor, ...]
    """Logits coarse to fine, (B, classes, h, w) of the padded size over the stride."""
    strides: tuple[int, ...]
    """Strides of the levels."""


class SegmentationNetwork(Hourglass):
    """Encoder and decoder of cells between an image and the classes of its pixels.

    Args:
        cells: the cell factory, with the kinds "normal", "reduce" and "upsample".
        classes: number of classes.
        channels: C; cells at 1/8 have twice that width, it doubles at each reduction and halves at each upsampling.
        stem_scale: s; the stems have int(s C) and twice that many channels.
        encoder_cells: reduction and normal cells in turn, an odd number: 5 reach 1/32.
        decoder_cells: upsampling cells, at most (encoder_cells + 1) / 2, which reach 1/4.

    Raises:
        ValueError: a number of cells is out of range.
    """

    def __init__(
        self,
        cells: CellFactory,
        *,
        classes: int,
        channels: int,
        stem_scale: float,
        encoder_cells: int = 5,
        decoder_cells: int = 3,
    ) -> None:
        if encoder_cells < 1 or encoder_cells % 2 == 0:
            raise ValueError(
                f"encoder_cells is {encoder_cells} but must start and end with a reduction: take 1, 3, 5, ..."
            )
        reductions = (encoder_cells + 1) // 2
        if not 1 <= decoder_cells <= reductions:
            raise ValueError(f"decoder_cells is {decoder_cells} but must be 1 to {reductions}")
        super().__init__(stride=4 * 2**reductions, support="reduce", outputs=classes)
        self.stem, half = stems(3, channels=channels, stem_scale=stem_scale, style=cells.style)
        quarter = 2 * half
        kinds = ("reduce", *("normal", "reduce") * (reductions - 1))
        supports = [quarter, *self._add_encoder(cells, kinds, inputs=(quarter, quarter), width=channels)]
        self._add_decoder(cells, supports=supports, count=decoder_cells, predictions=decoder_cells + 1)
        if cells.style.flavour == "dense":
            initialise_he(self)

    def forward(self, image: Tensor, weights: Mapping[str, Tensor] | None = None) -> ClassMaps:
        """Computes the logits of each pixel.

        Args:
            image: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, None for a found network.
        """
        height, width = image.shape[-2:]
        seen = padded(image - MEAN_BRIGHTNESS, self.stride)
        quarter = self.stem(seen)
        supports, bottleneck = self._encode((quarter, quarter), weights)
        levels, _ = self._decode(bottleneck, [quarter, *supports], weights)
        finest = functional.interpolate(levels[-1], seen.shape[-2:], mode="bilinear", align_corners=False)
        return ClassMaps(finest[..., :height, :width], tuple(levels), tuple(self._strides(levels)))

    def _feedback(self, prediction: Tensor) -> Tensor:
        """Maps logits to class probabilities."""
        return torch.softmax(prediction, dim=1)
