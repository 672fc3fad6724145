"""Error metrics of predicted disparities, by region and by disparity range.

Follows the benchmarks: bad-n as in Middlebury (error above n pixels), D1 as in KITTI 2015 (error above 3 pixels and
above 5 % of the ground truth). Unlike kornia.metrics, a NaN does not count as correct, and there is a mean per image.
As in training, a negative prediction is treated as a disparity of 0, the nearest possible one.

A prediction that is NaN or infinite counts as wrong in bad-n and D1. Its distance from the ground truth is undefined
and would make the mean meaningless, so the EPE is computed over the finite predictions, and `not_finite` counts the
excluded pixels. (In training the EPE becomes infinite, so that no such step is selected as the best.)

A prediction may have a confidence. Then the region `known` has the pixels of a confidence of at least UNKNOWN, and
`confident_90%` the most confident 90 percent of the pixels of all images together.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError
from autodisp.evaluation.sparsification import Sparsification
from autodisp.networks.confidence import UNKNOWN
from autodisp.tasks.disparity.task import BAD_PIXELS, D1_PIXELS, D1_SHARE

RANGE_EDGES = (10.0, 40.0)
FIGURES = ("epe", *(f"bad{pixels}" for pixels in BAD_PIXELS), "d1")
ALL = "all"
MASKED = ("non_occluded", "occluded", "out_of_frame")
KNOWN = "known"
_PERCENTS = range(100, 0, -5)
"""Densities of the sparsification curve in JSON."""


@dataclass(frozen=True, slots=True)
class RegionFigures:
    """Metrics over one region of the images."""

    images: int
    """Number of images with at least one pixel in the region."""
    pixels: int
    not_finite: int
    """Number of pixels without a finite prediction: wrong in bad-n and D1, excluded from the EPE."""
    pooled: Mapping[str, float]
    """By metric name: epe in pixels, the others in percent, over all pixels of the region; NaN if there are none."""
    per_image: Mapping[str, float]
    """The same metrics, computed per image and averaged over images; an image without a pixel in the region (for the
    EPE: without a finite prediction in it) does not count. Empty for the most confident pixels."""
    confidence: float | None = None
    """Smallest confidence in the region, for the most confident pixels."""


@dataclass(frozen=True, slots=True)
class StereoFigures:
    """The outcome of an evaluation."""

    images: int
    """Number of all images, including those without a valid pixel."""
    regions: Mapping[str, RegionFigures]
    """Regions: all; with known occlusion non_occluded, occluded and out_of_frame; and the ranges of the ground-truth
    disparity, such as 0-10, 10-40 and 40-."""
    largest: float = 0.0
    """Largest ground-truth disparity, pixels; 0 without a valid pixel."""
    by_confidence: Sparsification | None = None
    """None if the predictions have no confidence."""

    def confident(self, share: float) -> RegionFigures:
        """Returns the metrics of the most confident share of the pixels, 0..1; requires ``by_confidence``."""
        assert self.by_confidence is not None
        return _confident(self.by_confidence, share, self.regions[ALL].images)

    def as_dict(self) -> dict[str, object]:
        """Converts to plain data; NaN stays NaN."""
        regions = {
            name: {key: value for key, value in asdict(region).items() if value is not None}
            for name, region in self.regions.items()
        }
        points = [] if self.by_confidence is None else [(share, self.confident(share / 100)) for share in _PERCENTS]
        curve = [{"density": share, "confidence": point.confidence, **point.pooled} for share, point in points]
        return {
            "images": self.images,
            "largest": self.largest,
            "regions": regions,
            **({"sparsification": curve} if curve else {}),
        }

    def rows(self) -> Iterator[dict[str, str | int | float]]:
        """Yields a row per region and average, see ``tables.Figures``."""
        for name, region in self.regions.items():
            for average, values in (("pixels", region.pooled), ("images", region.per_image)):
                if not values:
                    continue
                yield {
                    "region": name,
                    "average": average,
                    "images": region.images,
                    "pixels": region.pixels,
                    "not_finite": region.not_finite,
                    **{f"{name}_{'px' if name == 'epe' else 'percent'}": value for name, value in values.items()},
                }


class StereoMetrics:
    """Accumulates batches without storing their pixels.

    Args:
        has_occlusion: True if `occluded` and `out_of_frame` are known; otherwise these regions are omitted.
        edges: ascending edges between the ranges of ground-truth disparity, in pixels; the last range has no upper end.
            A value on an edge belongs to the range above it. Empty: no ranges.
        densities: percentages of the most confident pixels, for predictions with a confidence of more than two levels.

    Raises:
        InputError: the edges are not positive, finite and ascending.
    """

    def __init__(
        self, *, has_occlusion: bool, edges: Sequence[float] = RANGE_EDGES, densities: Sequence[float] = ()
    ) -> None:
        if any(not math.isfinite(edge) or edge <= 0 for edge in edges) or list(edges) != sorted(set(edges)):
            raise InputError(f"disparity ranges at {list(edges)} px: must be positive and rising, such as [10, 40]")
        self.has_occlusion = has_occlusion
        bounds = (0.0, *edges, math.inf)
        ranges = itertools.pairwise(bounds) if edges else ()
        self._ranges = {_range_name(low, high): (low, high) for low, high in ranges}
        self._names = (ALL, *(MASKED if has_occlusion else ()), *self._ranges, KNOWN)
        self._densities = tuple(densities)
        self._by_confidence: Sparsification | None = None
        self._images = 0
        self._largest = 0.0
        # Per region: number of pixels, number of finite ones, sums of the metrics.
        self._pooled = torch.zeros(len(self._names), 2 + len(FIGURES), dtype=torch.float64)
        # Per region: images with a pixel, images with a finite one, sums of the per-image metrics.
        self._by_image = torch.zeros_like(self._pooled)

    def update(self, prediction: Tensor, batch: StereoSample) -> None:
        """Adds one batch.

        Args:
            prediction: (B, 1, H, W) pixels, any float type, on any device; or (B, 2, H, W) with a confidence of 0..1.
            batch: the ground truth, on any device.

        Raises:
            ValueError: the prediction has another shape than the ground truth.
        """
        prediction, confidence = prediction[:, :1], prediction[:, 1:]
        if prediction.shape != batch.disparity.shape or prediction.ndim != 4 or confidence.shape[1] > 1:
            raise ValueError(
                f"the prediction is {tuple(prediction.shape)} but the ground truth {tuple(batch.disparity.shape)}: "
                "both must be (B, 1, H, W), besides a confidence"
            )
        device = prediction.device
        truth = batch.disparity.to(device, torch.float64)
        found = prediction.detach().to(torch.float64)
        finite = found.isfinite()
        error = torch.where(finite, (found.clamp(min=0.0) - truth).abs(), torch.inf)
        wrong = [error > pixels for pixels in BAD_PIXELS]
        wrong.append((error > D1_PIXELS) & (error > D1_SHARE * truth))
        planes = [torch.ones_like(finite), finite, torch.where(finite, error, 0.0), *(100.0 * bad for bad in wrong)]
        values = torch.stack([plane.to(torch.float64).flatten(1) for plane in planes], dim=2)
        known = self._regions(truth, batch)
        if confidence.shape[1]:
            self._by_confidence = self._by_confidence or Sparsification(values.shape[2])
            valid = known[0].flatten(1)
            self._by_confidence.update(confidence.flatten(1)[valid], values[valid])
            known.append(known[0] & (confidence >= UNKNOWN))
        else:
            known.append(torch.zeros_like(known[0]))
        regions = torch.stack([region.flatten(1) for region in known], dim=1)
        # Select before summing, since values at invalid pixels may be NaN.
        sums = torch.stack(
            [torch.where(region.unsqueeze(2), values, 0.0).sum(dim=1) for region in regions.unbind(1)], dim=1
        ).cpu()
        self._images += len(prediction)
        self._largest = max(self._largest, float(torch.where(batch.valid.to(device), truth, 0.0).max()))
        self._pooled += sums.sum(dim=0)
        counts = sums[..., _counted()]
        present = torch.cat([sums[..., :2], counts], dim=2) > 0
        means = torch.cat([torch.ones_like(sums[..., :2]), sums[..., 2:] / counts], dim=2)
        self._by_image += torch.where(present, means, 0.0).sum(dim=0)

    def figures(self) -> StereoFigures:
        """Returns the metrics of all batches so far."""
        regions = {}
        for name, pooled, by_image in zip(self._names, self._pooled, self._by_image, strict=True):
            pixels, finite = (round(count) for count in pooled[:2].tolist())
            regions[name] = RegionFigures(
                images=round(by_image[0].item()),
                pixels=pixels,
                not_finite=pixels - finite,
                pooled=_quotients(pooled),
                per_image=_quotients(by_image),
            )
        confidences = self._by_confidence
        if confidences is None:
            del regions[KNOWN]
        elif confidences.graded:
            for density in self._densities:
                name = f"confident_{density:.10g}%"
                regions[name] = _confident(confidences, density / 100, regions[ALL].images)
        return StereoFigures(self._images, regions, self._largest, confidences)

    def _regions(self, truth: Tensor, batch: StereoSample) -> list[Tensor]:
        valid, occluded, out_of_frame = (
            mask.to(truth.device, torch.bool) for mask in (batch.valid, batch.occluded, batch.out_of_frame)
        )
        regions = [valid]
        if self.has_occlusion:
            # Some datasets mark a pixel as both; out of frame takes precedence.
            inside = occluded & ~out_of_frame
            regions += [valid & ~inside & ~out_of_frame, valid & inside, valid & out_of_frame]
        return regions + [valid & (truth >= low) & (truth < high) for low, high in self._ranges.values()]


def _confident(confidences: Sparsification, share: float, images: int) -> RegionFigures:
    """Returns the metrics of the most confident share of the pixels of that many images."""
    sums, confidence = confidences.at(share)
    pixels, finite = (round(count) for count in sums[:2].tolist())
    return RegionFigures(images, pixels, pixels - finite, _quotients(sums), {}, confidence)


def _counted() -> list[int]:
    """Returns the index of the count by which each metric is divided."""
    return [1 if name == "epe" else 0 for name in FIGURES]


def _quotients(sums: Tensor) -> dict[str, float]:
    counts = sums[_counted()]
    return dict(zip(FIGURES, torch.where(counts > 0, sums[2:] / counts, torch.nan).tolist(), strict=True))


def _range_name(low: float, high: float) -> str:
    return f"{low:.10g}-{high:.10g}" if math.isfinite(high) else f"{low:.10g}-"
