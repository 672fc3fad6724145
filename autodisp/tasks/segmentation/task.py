"""Semantic segmentation: cross-entropy over levels, mean intersection over union.

With ``class_weights``, a pixel counts 1 / ln(1.02 + p) for the share p of its class: the scheme of ENet (Paszke et al.
2016) with the shares of the batch, as in Apple's CVNets (``loss_fn.utils.class_weighting``), so that no pass over the
data is needed. The metric is a mean over classes; without weights, a frequent class outweighs the rare ones.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from autodisp import distributed
from autodisp.cells.cell import CellFactory
from autodisp.datasets.class_maps import class_counts, confusion
from autodisp.datasets.samples import IGNORED, SegmentedImage
from autodisp.networks.segmentation import ClassMaps, SegmentationNetwork
from autodisp.tasks.base import Figure, Sums, mean_over, sum_of
from autodisp.tasks.dense import DenseTask

ENET_OFFSET = 1.02
"""Bounds the weight of a class by 50."""


@dataclass(kw_only=True, eq=False)
class SegmentationTask(DenseTask[SegmentedImage]):
    """Predicts the class of each pixel; the loss of a level is the mean cross-entropy.

    Args:
        classes: number of classes in the dataset.
        class_weights: weights pixels by the frequency of their class; for the others see ``DenseTask``.
    """

    encoder_cells: int = 5
    decoder_cells: int = 3
    classes: int
    class_weights: bool = False

    name = "segmentation"
    figure = Figure("miou", "max", "%")
    unstored = DenseTask.unstored | {"class_weights"}

    def build_network(self, cells: CellFactory) -> SegmentationNetwork:
        """Builds stems, encoder and decoder."""
        return SegmentationNetwork(cells, **self.settings)

    def inputs(self, batch: SegmentedImage) -> tuple[Tensor, ...]:
        """Returns the images."""
        return (batch.image,)

    def level_loss(self, batch: SegmentedImage) -> Callable[[Tensor, int], Tensor]:
        """Returns the mean cross-entropy of a level."""
        weights = class_weights(batch.classes, self.classes) if self.class_weights else None

        def cross_entropy(logits: Tensor, stride: int) -> Tensor:
            classes = batch.classes if stride == 1 else classes_at_stride(batch.classes, stride, logits.shape[-2:])
            return _cross_entropy(logits, classes, weights)

        return cross_entropy

    def constant(self, batches: Iterable[SegmentedImage]) -> float:
        """Returns the mean IoU in percent of always predicting the most frequent class; NaN without ground truth.

        Its IoU is its share of the pixels; that of the other classes with ground truth is 0.
        """
        counts = class_counts(batches)
        present = int((counts > 0).sum())
        return 100.0 * float(counts.max()) / float(counts.sum()) / present if present else float("nan")

    def measure(self, output: ClassMaps, batch: SegmentedImage) -> Sums:
        """Sums IoU per class, averaged as ``miou``, and pixel accuracy, both in percent.

        A class that occurs in neither ground truth nor prediction does not count. Pixels with a NaN are of no class.
        """
        counts = confusion(output.logits.detach(), batch.classes, self.classes).double()
        hits, predicted, actual = counts.diagonal()[: self.classes], counts.sum(0)[: self.classes], counts.sum(1)
        known = batch.classes != IGNORED
        return {
            "miou": torch.stack([100.0 * hits, predicted + actual - hits]),
            "accuracy": torch.stack([100.0 * hits.sum(), sum_of(known)[0]]),
        }


def classes_at_stride(classes: Tensor, stride: int, size: Sequence[int]) -> Tensor:
    """Downsamples a class map to a level: the class of the pixel in the middle of each block.

    Args:
        classes: (B, H, W).
        stride: stride of the level.
        size: (h, w) of the level, which may include padding beyond H and W; blocks there are ``IGNORED``.

    Returns:
        (B, h, w).
    """
    bottom, right = size[0] * stride - classes.shape[-2], size[1] * stride - classes.shape[-1]
    middle = slice(stride // 2, None, stride)
    return functional.pad(classes, (0, right, 0, bottom), value=IGNORED)[:, middle, middle]


def class_weights(classes: Tensor, count: int) -> Tensor:
    """Computes the weight of each class from its share of the batch, of all processes, see the module.

    Args:
        classes: (B, H, W), 0 .. count - 1 or ``IGNORED``.
        count: number of classes.

    Returns:
        (count,), between 1 / ln 2.02 and 1 / ln 1.02.
    """
    places = classes.flatten().long()
    pixels = torch.zeros(IGNORED + 1, device=places.device)
    pixels = distributed.total(pixels.scatter_add_(0, places, torch.ones_like(places, dtype=pixels.dtype))[:count])
    return 1 / torch.log(ENET_OFFSET + pixels / pixels.sum().clamp(min=1))


def _cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor | None) -> Tensor:
    """Computes the mean over the pixels with ground truth; 0, with zero gradient, if there are none.

    Args:
        logits: (B, classes, h, w).
        classes: (B, h, w).
        weights: (classes,), None for equal ones.
    """
    known, indices = classes != IGNORED, classes.long()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    weights = None if weights is None else weights.to(logits.dtype)
    total = functional.cross_entropy(logits, indices, weight=weights, ignore_index=IGNORED, reduction="sum")
    counted = known if weights is None else weights[indices.where(known, 0)] * known
    return mean_over(total, counted.sum())
