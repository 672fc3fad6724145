"""Intersection over union and pixel accuracy of predicted class maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from autodisp.datasets.class_maps import confusion
from autodisp.datasets.samples import SegmentedImage


@dataclass(frozen=True, slots=True)
class SegmentationFigures:
    """The outcome of an evaluation."""

    images: int
    pixels: int
    """Number of pixels with ground truth."""
    miou: float
    """Mean IoU in percent, over the classes that occur in ground truth or prediction; NaN if none does."""
    accuracy: float
    """Share of correct pixels in percent; NaN without ground truth."""
    iou: Mapping[str, float]
    """IoU in percent by class; NaN for a class that does not occur."""
    pixels_of: Mapping[str, int]
    """Number of ground-truth pixels by class."""
    confusion: Sequence[Sequence[int]]
    """Number of pixels by true class (row) and predicted class (column); the last column counts those of no class."""

    def as_dict(self) -> dict[str, object]:
        """Converts to plain data; NaN stays NaN."""
        return asdict(self)

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """Yields a row for all classes and one for each class, see ``tables.Figures``."""
        yield {"class": "all", "pixels": self.pixels, "iou_percent": self.miou, "accuracy_percent": self.accuracy}
        for index, (name, iou) in enumerate(self.iou.items()):
            row, count = self.confusion[index], self.pixels_of[name]
            right = 100.0 * row[index] / count if count else float("nan")
            yield {"class": name, "pixels": count, "iou_percent": iou, "accuracy_percent": right}


class SegmentationMetrics:
    """Accumulates the confusion matrix of batches, without storing predictions.

    Args:
        classes: class names, in the order of their indices.

    Raises:
        ValueError: there is no class, or two share a name.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f"classes {list(classes)}: give each of them a name of its own, and at least one")
        self.classes = tuple(classes)
        self._images = 0
        self._confusion = torch.zeros(len(classes), len(classes) + 1, dtype=torch.int64)

    def update(self, logits: Tensor, batch: SegmentedImage) -> None:
        """Adds one batch.

        Args:
            logits: (B, classes, H, W), or probabilities; a pixel with a NaN is of no class.
            batch: images and class maps, on the same device.

        Raises:
            ValueError: the shapes do not fit.
        """
        expected = (len(batch.classes), len(self.classes), *batch.classes.shape[-2:])
        if tuple(logits.shape) != expected:
            raise ValueError(f"logits are {tuple(logits.shape)} but must be {expected} for these class maps")
        self._confusion += confusion(logits.detach(), batch.classes, len(self.classes)).cpu()
        self._images += len(logits)

    def figures(self) -> SegmentationFigures:
        """Returns the metrics of all batches so far."""
        counts = self._confusion.double()
        hits, predicted, actual = counts.diagonal(), counts[:, :-1].sum(0), counts.sum(1)
        iou = 100.0 * hits / (predicted + actual - hits)  # 0 / 0 is NaN
        return SegmentationFigures(
            images=self._images,
            pixels=int(actual.sum()),
            miou=float(iou.nanmean()),
            accuracy=float(100.0 * hits.sum() / actual.sum()),
            iou=dict(zip(self.classes, iou.tolist(), strict=True)),
            pixels_of=dict(zip(self.classes, map(int, actual.tolist()), strict=True)),
            confusion=self._confusion.tolist(),
        )
