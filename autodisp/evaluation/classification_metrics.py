"""Accuracy of predicted classes, overall and per class.

As in training, scores that contain a NaN predict no class and count as wrong. For equal scores the class with the lower
index comes first, so that the metrics do not depend on the sorting order of a device.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from autodisp.datasets.samples import LabelledImage

TOP = 5


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Metrics over the images of one class, or of all."""

    images: int
    accuracy: Mapping[str, float]
    """In percent by metric name, such as top1; NaN without an image."""


@dataclass(frozen=True, slots=True)
class ClassificationFigures:
    """The outcome of an evaluation."""

    overall: ClassFigures
    classes: Mapping[str, ClassFigures]
    """By class name, in the order of the class indices."""
    mean_per_class: Mapping[str, float]
    """Mean accuracies over the classes that have an image."""
    confusion: Sequence[Sequence[int]]
    """Number of images by true class (row) and predicted class (column)."""
    unanswered: int
    """Number of images with a NaN score: counted as wrong, and in no column of the confusion matrix."""

    def as_dict(self) -> dict[str, object]:
        """Converts to plain data; NaN stays NaN."""
        return {
            "images": self.overall.images,
            "unanswered": self.unanswered,
            "accuracy": dict(self.overall.accuracy),
            "mean_per_class": dict(self.mean_per_class),
            "classes": {name: asdict(figures) for name, figures in self.classes.items()},
            "confusion": [list(row) for row in self.confusion],
        }

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """Yields a row for all images, for the mean over the classes and for each class, see ``tables.Figures``."""
        images = self.overall.images
        lines = [("all", images, self.overall.accuracy), ("mean per class", images, self.mean_per_class)]
        lines += [(name, figures.images, figures.accuracy) for name, figures in self.classes.items()]
        for name, count, accuracy in lines:
            yield {"class": name, "images": count, **{f"{top}_percent": value for top, value in accuracy.items()}}


class ClassificationMetrics:
    """Accumulates batches without storing their scores.

    The metrics are top1 and top5. With fewer than five classes the second is topN over all N of them (which only fails
    on a NaN); with a single class there is no second metric.

    Args:
        classes: class names, in the order of their indices.

    Raises:
        ValueError: there is no class, or two share a name.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f"classes {list(classes)}: give each of them a name of its own, and at least one")
        self.classes = tuple(classes)
        self.tops = tuple(sorted({1, min(TOP, len(classes))}))
        self._confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
        self._images = torch.zeros(len(classes), dtype=torch.int64)
        self._right = torch.zeros(len(self.tops), len(classes), dtype=torch.int64)

    def update(self, scores: Tensor, batch: LabelledImage) -> None:
        """Adds one batch.

        Args:
            scores: (B, classes), higher is more likely.
            batch: the labels, on any device.

        Raises:
            ValueError: the shapes do not fit, or a label is no class.
        """
        labels = torch.as_tensor(batch.label).reshape(-1).cpu()
        if scores.shape != (len(labels), len(self.classes)):
            raise ValueError(f"scores of {tuple(scores.shape)} for {len(labels)} images of {len(self.classes)} classes")
        if ((labels < 0) | (labels >= len(self.classes))).any():
            raise ValueError(f"labels {labels.tolist()}: must be 0 to {len(self.classes) - 1}")
        found = scores.detach().cpu()
        answered = ~found.isnan().any(dim=1)
        ranking = found.sort(dim=1, descending=True, stable=True).indices
        hits = (ranking == labels.unsqueeze(1)) & answered.unsqueeze(1)
        self._images += labels.bincount(minlength=len(self.classes))
        for row, top in enumerate(self.tops):
            self._right[row] += labels[hits[:, :top].any(dim=1)].bincount(minlength=len(self.classes))
        pairs = labels[answered] * len(self.classes) + ranking[answered, 0]
        self._confusion += pairs.bincount(minlength=self._confusion.numel()).reshape(self._confusion.shape)

    def figures(self) -> ClassificationFigures:
        """Returns the metrics of all batches so far."""
        names = [f"top{top}" for top in self.tops]
        share = 100.0 * self._right.double() / self._images  # 0 / 0 is NaN
        overall = 100.0 * self._right.sum(dim=1).double() / self._images.sum()
        by_class = {
            name: ClassFigures(int(images), dict(zip(names, column, strict=True)))
            for name, images, column in zip(self.classes, self._images.tolist(), share.T.tolist(), strict=True)
        }
        return ClassificationFigures(
            overall=ClassFigures(int(self._images.sum()), dict(zip(names, overall.tolist(), strict=True))),
            classes=by_class,
            mean_per_class=dict(zip(names, share.nanmean(dim=1).tolist(), strict=True)),
            confusion=self._confusion.tolist(),
            unanswered=int(self._images.sum() - self._confusion.sum()),
        )
