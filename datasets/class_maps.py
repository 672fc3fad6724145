"""Counts over class maps."""

from collections.abc import Iterable

import torch
from torch import Tensor

from autodisp.datasets.samples import IGNORED, SegmentedImage


def class_counts(batches: Iterable[SegmentedImage]) -> Tensor:
    """Counts the pixels with ground truth by class: (255,) int64."""
    counts = torch.zeros(IGNORED, dtype=torch.int64)
    for batch in batches:
        counts += batch.classes[batch.classes != IGNORED].long().cpu().bincount(minlength=IGNORED)
    return counts


def confusion(logits: Tensor, classes: Tensor, count: int) -> Tensor:
    """Counts pixels by ground truth and prediction.

    Args:
        logits: (B, count, H, W); a pixel with a NaN is predicted as no class.
        classes: (B, H, W); ``IGNORED`` pixels are left out.
        count: number of classes.

    Returns:
        (count, count + 1) int64: ground truth by prediction, the last column for pixels of no class.
    """
    found = torch.where(logits.isnan().any(dim=1), count, logits.argmax(dim=1))
    # a mask or bincount would wait for the device; ignored pixels get a place of their own
    size = count * (count + 1)
    places = torch.where(classes == IGNORED, size, classes.long() * (count + 1) + found).flatten()
    counts = torch.zeros(size + 1, dtype=torch.int64, device=places.device)
    return counts.scatter_add_(0, places, torch.ones_like(places))[:size].reshape(count, count + 1)
