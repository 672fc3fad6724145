"""Sparsification against sorting, and what the metrics make of it."""

import math

import numpy as np
import pytest
import torch

from autodisp.datasets.samples import StereoSample
from autodisp.evaluation.sparsification import Sparsification
from autodisp.evaluation.stereo_metrics import StereoMetrics

DENSITIES = (1.0, 0.95, 0.9, 0.5, 0.07)


def test_against_sorting() -> None:
    rng = np.random.default_rng(0)
    confidence = 1 / (1 + np.exp(-rng.normal(1, 4, 20_000)))
    error = rng.exponential(2 - confidence)
    found = Sparsification(2)
    for part in np.array_split(np.arange(len(error)), 3):
        values = np.stack([np.ones(len(part)), error[part]], axis=1)
        found.update(torch.from_numpy(confidence[part]).float(), torch.from_numpy(values))
    order = np.argsort(-confidence)
    for density in DENSITIES:
        kept = order[: round(density * len(order))]
        (count, total), smallest = found.at(density)
        assert float(count) == pytest.approx(len(kept), abs=0.5)
        assert float(total / count) == pytest.approx(error[kept].mean(), rel=5e-3)
        assert smallest == pytest.approx(confidence[kept].min(), rel=2e-2)


def test_equal_confidences_are_drawn_by_chance() -> None:
    """The expectation over all orders of equal pixels; 0 and 1 are levels of their own."""
    confidence = np.repeat([1.0, 1 - 1e-6, 0.5, 1e-6, 0.0], 10)
    error = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 10) + np.tile([0.0, 1.0], 25)
    found = Sparsification(2)
    found.update(torch.from_numpy(confidence), torch.from_numpy(np.stack([np.ones(50), error], axis=1)))
    assert found.graded
    for pixels, expected in ((10, 15.0), (20, 40.0), (25, 57.5), (40, 120.0), (50, 175.0)):
        (count, total), _ = found.at(pixels / 50)
        assert (float(count), float(total)) == pytest.approx((pixels, expected))
    assert [found.at(pixels / 50)[1] for pixels in (10, 25, 40, 50)] == pytest.approx([1, 0.5, 0, 0], abs=2e-6)


def test_nothing_and_nan() -> None:
    empty = Sparsification(2)
    assert empty.at(0.5)[0].tolist() == [0, 0]
    assert not empty.graded
    empty.update(torch.tensor([math.nan, 0.7]), torch.tensor([[1.0, 9.0], [1.0, 2.0]]))
    assert empty.at(0.5)[0].tolist() == [1, 2], "NaN comes last"


def sample(seed: int) -> tuple[StereoSample, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = 30 * torch.rand(2, 1, 6, 8, generator=generator)
    valid = torch.rand(truth.shape, generator=generator) < 0.8
    confidence = torch.rand(truth.shape, generator=generator)
    prediction = truth + 6 * (1 - confidence) * torch.randn(truth.shape, generator=generator)
    prediction[0, 0, 0, 0] = math.nan
    views = torch.zeros(2, 3, 6, 8)
    return StereoSample(views, views, truth, valid, ~valid, ~valid), torch.cat([prediction, confidence], dim=1)


def test_the_regions_of_the_metrics() -> None:
    metrics = StereoMetrics(has_occlusion=False, edges=[], densities=[80])
    plain = StereoMetrics(has_occlusion=False, edges=[])
    batches = [sample(0), sample(1)]
    for batch, prediction in batches:
        metrics.update(prediction, batch)
        plain.update(prediction[:, :1], batch)
    figures = metrics.figures()
    assert plain.figures().regions == {
        name: region for name, region in figures.regions.items() if name not in ("known", "confident_80%")
    }
    valid = np.concatenate([batch.valid.numpy().ravel() for batch, _ in batches])
    truth = np.concatenate([batch.disparity.numpy().ravel() for batch, _ in batches])[valid]
    found = np.concatenate([p[:, 0].numpy().ravel() for _, p in batches])[valid]
    confidence = np.concatenate([p[:, 1].numpy().ravel() for _, p in batches])[valid]
    error = np.abs(np.maximum(found, 0) - truth)
    known = figures.regions["known"]
    assert known.pixels == (confidence >= 0.5).sum()
    assert known.pooled["epe"] == pytest.approx(np.nanmean(error[confidence >= 0.5]), rel=1e-5)
    assert len(known.per_image) == len(known.pooled)
    kept = np.argsort(-confidence)[: round(0.8 * len(error))]
    region = figures.regions["confident_80%"]
    assert region.pixels == len(kept)
    assert region.pooled["epe"] == pytest.approx(np.nanmean(error[kept]), rel=2e-2)
    wrong = ~((error <= 3) | (error <= 0.05 * truth))
    assert region.pooled["d1"] == pytest.approx(100 * wrong[kept].mean(), abs=1.0)
    assert sum(row["region"] == "confident_80%" for row in figures.rows()) == 1, "there is no mean over images"


def test_two_levels_have_no_densities() -> None:
    metrics = StereoMetrics(has_occlusion=False, densities=[80])
    batch, prediction = sample(0)
    metrics.update(torch.cat([prediction[:, :1], (prediction[:, 1:] > 0.3).float()], dim=1), batch)
    assert "known" in metrics.figures().regions
    assert "confident_80%" not in metrics.figures().regions
    with pytest.raises(ValueError, match="besides a confidence"):
        metrics.update(torch.cat([prediction, prediction], dim=1), batch)
