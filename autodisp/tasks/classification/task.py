"""Image classification: cross-entropy, top-1 accuracy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.datasets.samples import LabelledImage
from autodisp.networks.classification import ClassificationNetwork, ClassScores
from autodisp.tasks.base import Figure, StoredTask, Sums, sum_of


@dataclass(kw_only=True, eq=False)
class ClassificationTask(StoredTask):
    """Predicts one of several classes.

    Args:
        channels, layers: width and depth of the network.
        classes: number of classes in the dataset.
        mean, std: statistics of the dataset's images, per channel.
        auxiliary: adds the auxiliary head (discretised networks only).
        auxiliary_weight: weight of the auxiliary loss; 0.4 in RobustDARTS.
    """

    channels: int
    layers: int
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    auxiliary: bool = False
    auxiliary_weight: float = 0.4

    name = "classification"
    kinds: ClassVar[tuple[str, ...]] = ("normal", "reduce")
    figure = Figure("accuracy", "max", "%")
    unstored = frozenset({"auxiliary_weight"})

    def __post_init__(self) -> None:
        self.mean, self.std = list(self.mean), list(self.std)

    def build_network(self, cells: CellFactory) -> ClassificationNetwork:
        """Builds stem, cells and classifier."""
        return ClassificationNetwork(cells, **self.settings)

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        """Returns the size of the last cell's output, or of the auxiliary head's last layer, which is one pixel."""
        if self.auxiliary:
            return 1, 1
        stride = 2 ** len({self.layers // 3, 2 * self.layers // 3})
        return -(-height // stride), -(-width // stride)

    def inputs(self, batch: LabelledImage) -> tuple[Tensor, ...]:
        """Returns the images."""
        return (batch.image,)

    def loss(self, output: ClassScores, batch: LabelledImage) -> Tensor:
        """Computes the mean cross-entropy, plus that of the auxiliary head if it is active."""
        labels = torch.as_tensor(batch.label)
        loss = functional.cross_entropy(output.logits, labels)
        if output.auxiliary is not None:
            loss = loss + self.auxiliary_weight * functional.cross_entropy(output.auxiliary, labels)
        return loss

    def constant(self, batches: Iterable[LabelledImage]) -> float:
        """Returns the accuracy in percent of always predicting the most frequent class."""
        counts = torch.zeros(self.classes, dtype=torch.int64)
        for batch in batches:
            counts += torch.as_tensor(batch.label).flatten().cpu().bincount(minlength=self.classes)
        return 100.0 * float(counts.max()) / float(counts.sum()) if counts.sum() else float("nan")

    def measure(self, output: ClassScores, batch: LabelledImage) -> Sums:
        """Sums the accuracy in percent; scores that contain a NaN count as wrong."""
        scores = output.logits.detach()
        right = (scores.argmax(dim=1) == batch.label) & ~scores.isnan().any(dim=1)
        return {"accuracy": sum_of(100.0 * right)}
