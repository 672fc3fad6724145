"""A task of one's own: disparity guessed from the left view alone, searched by the engine as it is.

    python examples/own_task.py FOLDER      # a new folder

The engine knows a task by the members of ``autodisp.tasks.base.Task``; ``Monocular`` has them. ``search`` puts together
what ``autodisp-search`` makes from its config, and leaves the same files.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, MixedCells
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.splits import Part, deal
from autodisp.datasets.streams import Stream, fixed_batches
from autodisp.observers.search_folder import SearchFolder
from autodisp.search.loop import Outcome, Search, Settings
from autodisp.search.regularization import Regularization
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Figure, Sums, sum_of
from autodisp.tracking import Tracker


class GuessNetwork(nn.Module):
    """Stem, a normal and a reduction cell, a value a pixel at a quarter of the resolution, enlarged."""

    def __init__(self, cells: CellFactory, *, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.normal = cells.encoder_cell(
            "normal", inputs=(channels, channels), channels=channels, after_reduction=False
        )
        wide = self.normal.outputs
        self.reduce = cells.encoder_cell("reduce", inputs=(channels, wide), channels=channels, after_reduction=False)
        self.head = nn.Conv2d(self.reduce.outputs, 1, 1)

    def forward(self, left: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        x = self.stem(left - 0.5)
        x = self.head(self.reduce((x, self.normal((x, x), weights)), weights))
        return functional.interpolate(x, left.shape[-2:], mode="bilinear", align_corners=False)


class Monocular:
    """Disparity of the left view without the right one."""

    name = "monocular"
    kinds: tuple[str, ...] = ("normal", "reduce")  # of cell
    figure = Figure("mae", "min", "px")  # what the search selects by

    def __init__(self, *, channels: int = 4) -> None:
        self.channels = channels

    @property
    def settings(self) -> dict[str, Any]:
        return {"channels": self.channels}

    def build_network(self, cells: CellFactory) -> nn.Module:
        return GuessNetwork(cells, channels=self.channels)  # of mixed cells the supernet, of found ones the network

    def inputs(self, batch: StereoSample) -> tuple[Tensor, ...]:
        return (batch.left,)

    def loss(self, output: Tensor, batch: StereoSample) -> Tensor:
        error = functional.smooth_l1_loss(output, batch.disparity, reduction="none")
        return (error * batch.valid).sum() / batch.valid.sum().clamp(min=1)

    def measure(self, output: Tensor, batch: StereoSample) -> Sums:
        return {"mae": sum_of((output.detach() - batch.disparity).abs(), among=batch.valid)}

    def constant(self, batches: Iterable[StereoSample]) -> float:
        truth = torch.cat([batch.disparity[batch.valid] for batch in batches])
        return float((truth - truth.median()).abs().mean())


def search(folder: Path, *, epochs: int = 4, length: int = 16, seed: int = 0) -> Outcome:
    """A search of that task in space S2, first order, without early stopping."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    data, space, task = Shapes3D(length=length, height=64, width=128, seed=seed), SPACES["s2"], Monocular()
    network = task.build_network(MixedCells(space, style=Style()))
    architecture = Architecture(space, seed=seed)
    weights, alphas = (Part(data, half) for half in deal(data.groups, limit=None, seed=seed))
    streams = [Stream(half, batch_size=4, seed=number) for number, half in enumerate((weights, alphas))]
    weight_optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=3e-4)
    with Tracker(folder) as tracker:
        tracker.console.start(epochs, streams[0].batches_per_epoch)
        observer = SearchFolder(
            folder,
            space=space,
            figure=task.figure,
            early_stopping=None,
            tracker=tracker,
            provenance={"task": task.name},
        )
        outcome = Search(
            Supernet(task, network, architecture),
            weight_stream=streams[0],
            alpha_stream=streams[1],
            validation=fixed_batches(alphas, 4),
            weight_optimizer=weight_optimizer,
            alpha_optimizer=torch.optim.Adam(architecture.parameters(), lr=3e-3, betas=(0.5, 0.999)),
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR(weight_optimizer, epochs),
            regularization=Regularization(),
            settings=Settings(epochs=epochs, steps_per_epoch=streams[0].batches_per_epoch),
            checkpoints=Checkpoints(folder / "checkpoints"),
            observer=observer,
        ).run()
        observer.finish(outcome.genotype, observer.epoch_records()[-1])
    return outcome


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    print(search(Path(sys.argv[1])).genotype.in_words())
