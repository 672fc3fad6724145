"""A segmentation network of cells: encoder and upsampling cells of the disparity network, without a correlation.

Two strided convolutions lead to 1/4; encoder cells (reduction, normal, reduction, ...) to the bottleneck; upsampling
cells back to 1/4, reading the encoder's features and the class probabilities of the level before.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

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
        cells, channels, stem_scale: see ``DisparityNetwork``.
        classes: number of classes.
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
        super().__init__(encoder_cells, decoder_cells, first="reduce", outputs=classes)
        self.stem, half = stems(3, channels=channels, stem_scale=stem_scale, style=cells.style)
        quarter = 2 * half
        supports = [quarter, *self._add_encoder(cells, inputs=(quarter, quarter), width=channels)]
        self._add_decoder(cells, supports=supports)
        if cells.style.flavour == "dense":
            initialise_he(self)

    def forward(self, image: Tensor, weights: Mapping[str, Tensor] | None = None) -> ClassMaps:
        """Computes the logits of each pixel.

        Args:
            image: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, None for a found network.
        """
        seen = padded(image - MEAN_BRIGHTNESS, self.stride)
        quarter = self.stem(seen)
        supports, bottleneck = self._encode((quarter, quarter), weights)
        levels, _ = self._decode(bottleneck, [quarter, *supports], weights)
        return ClassMaps(*self._output(levels, seen, image.shape[-2:]))

    def _feedback(self, prediction: Tensor) -> Tensor:
        """Maps logits to class probabilities."""
        return torch.softmax(prediction, dim=1)
