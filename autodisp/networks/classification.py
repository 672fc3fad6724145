"""The classification network of DARTS and RobustDARTS, as supernet or as found network.

Stem, L cells of which those at L//3 and 2L//3 reduce and double the width, global average pooling, linear layer.
With ``auxiliary`` the feature at 2L/3 also feeds a second classifier while training (RobustDARTS evaluation).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autodisp.cells.cell import CellFactory

STEM_MULTIPLIER = 3
AUXILIARY_SIDE = 8
"""Side of the feature map that the auxiliary head accepts (32x32 images after two reductions)."""


class ClassScores(NamedTuple):
    """Output of the network for a batch."""

    logits: Tensor
    """(B, classes)."""
    auxiliary: Tensor | None
    """(B, classes) of the auxiliary head while training, else None."""


class ClassificationNetwork(nn.Module):
    """A sequence of cells.

    Args:
        cells: the cell factory, with the kinds "normal" and "reduce".
        channels: C, the width of the first cells.
        layers: L, the number of cells; both reductions need at least 3.
        classes: size of the output.
        auxiliary: adds the auxiliary head; images must then be 32x32.
        mean, std: per channel, of images in 0..1; the network normalises its input itself.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        cells: CellFactory,
        *,
        channels: int,
        layers: int,
        classes: int,
        auxiliary: bool = False,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers is {layers} but a network has at least one cell")
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        width = STEM_MULTIPLIER * channels
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        before, previous, reduced = width, width, False
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduces else 1
            kind = "reduce" if reduces else "normal"
            cell = cells.encoder_cell(kind, inputs=(before, previous), channels=channels, after_reduction=reduced)
            self.cells.append(cell)
            before, previous, reduced = previous, cell.outputs, reduces
            if layer == 2 * layers // 3:
                self.auxiliary = AuxiliaryHead(previous, classes) if auxiliary else None
        self.classifier = nn.Linear(previous, classes)

    def forward(self, images: Tensor, weights: Mapping[str, Tensor] | None = None) -> ClassScores:
        """Class scores of each image.

        Args:
            images: (B, 3, H, W), RGB in 0..1.
            weights: edge weights of the supernet, None for a found network.
        """
        x = self.stem((images - self.mean) / self.std)
        states = (x, x)
        auxiliary = None
        for layer, cell in enumerate(self.cells):
            states = (states[1], cell(states, weights))
            if self.training and self.auxiliary is not None and layer == 2 * len(self.cells) // 3:
                auxiliary = self.auxiliary(states[1])
        return ClassScores(self.classifier(states[1].mean(dim=(2, 3))), auxiliary)


class AuxiliaryHead(nn.Module):
    """A second classifier on the 8x8 feature map at two thirds of the depth."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, 8, 8) -> (B, classes)."""
        if x.shape[-2:] != (AUXILIARY_SIDE, AUXILIARY_SIDE):
            raise ValueError(f"the auxiliary head needs 8x8 features but got {tuple(x.shape[-2:])}: use 32x32 images")
        scores: Tensor = self.classifier(self.features(x).flatten(1))
        return scores
