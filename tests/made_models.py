"""Small networks: two cells of any space, and model files of random weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autodisp import model_file
from autodisp.cells.cell import FoundCells, MixedCells
from autodisp.cells.genotype import load
from autodisp.cells.mixed import Node, plain_node
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.tasks.base import Task

PLAIN = Style("dense", batch_norm=False)


def found_cells(style: Style = PLAIN) -> FoundCells:
    """Return the published cells of AutoDispNet."""
    return FoundCells(load("autodispnet"), style=style)


def write_model(path: Path, task: Task, genotype: str, **about: Any) -> Path:
    """Write a model of random weights with cells of the zoo, in the style of their space."""
    found = load(genotype)
    space = SPACES[found.space]
    card = model_file.card_of(task, Style(space.flavour, affine=True), found, space, about)
    torch.manual_seed(0)
    model_file.save(path, card, card.build()[1].state_dict())
    return path


class TwoCells(nn.Module):
    """A normal and a reduction cell of any number of nodes."""

    def __init__(self, space: str, style: Style | None = None, *, node: Node = plain_node, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        cells = MixedCells(SPACES[space], style=style or Style(), node=node)
        width = cells.outputs("normal", channels=channels)
        self.normal = cells.encoder_cell("normal", inputs=(3, 3), channels=channels, after_reduction=False)
        self.reduce = cells.encoder_cell("reduce", inputs=(3, width), channels=channels, after_reduction=False)

    def forward(self, image: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        value: Tensor = self.reduce((image, self.normal((image, image), weights)), weights)
        return value
