"""Error figures against a plain loop in float64, and against kornia where it means the same."""

import math
from collections import defaultdict

import pytest
import torch
from kornia.metrics import aepe, kitti_d1_error, mean_absolute_disparity_error, mean_bad_pixel_error
from torch import Tensor

from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError
from autodisp.evaluation.stereo_metrics import FIGURES, RegionFigures, StereoFigures, StereoMetrics

NAN, INF = math.nan, math.inf
REGIONS = ("all", "non_occluded", "occluded", "out_of_frame", "0-10", "10-40", "40-")


def scene(
    batch: int = 3, height: int = 7, width: int = 11, *, seed: int = 0, share: float = 0.7
) -> tuple[StereoSample, Tensor]:
    """A truth, and a prediction around it: some right, some wrong by little or much, some negative."""
    generator = torch.Generator().manual_seed(seed)

    def random() -> Tensor:
        return torch.rand(batch, 1, height, width, generator=generator)

    disparity = 80 * random() ** 2
    valid = random() < share
    occluded, out_of_frame = random() < 0.3, random() < 0.2
    views = torch.zeros(batch, 3, height, width)
    prediction = disparity + 8 * random() ** 3 * (random() - 0.5).sign()
    return StereoSample(views, views, torch.where(valid, disparity, 0.0), valid, occluded, out_of_frame), prediction


def regions_of(truth: float, occluded: bool, out_of_frame: bool, edges: tuple[float, ...]) -> list[str]:
    named = ["all"]
    if out_of_frame:
        named.append("out_of_frame")
    else:
        named.append("occluded" if occluded else "non_occluded")
    bounds = [0, *edges]
    for k, low in enumerate(bounds):
        high = bounds[k + 1] if k + 1 < len(bounds) else INF
        if low <= truth < high:
            named.append(f"{low:g}-{high:g}" if high < INF else f"{low:g}-")
    return named


def by_loop(
    batches: list[tuple[StereoSample, Tensor]], edges: tuple[float, ...] = (10, 40)
) -> dict[str, dict[str, float]]:
    """Everything again, pixel by pixel; lists of errors by region and image."""
    errors: dict[str, dict[tuple[int, int], list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for k, (batch, prediction) in enumerate(batches):
        for b, _, y, x in batch.valid.nonzero().tolist():
            truth, found = batch.disparity[b, 0, y, x].item(), prediction[b, 0, y, x].item()
            error = abs(max(found, 0.0) - truth) if math.isfinite(found) else NAN
            masks = bool(batch.occluded[b, 0, y, x]), bool(batch.out_of_frame[b, 0, y, x])
            for region in regions_of(truth, *masks, edges):
                errors[region][k, b].append((error, truth))

    def figure(name: str, listed: list[tuple[float, float]]) -> float:
        if name == "epe":
            finite = [error for error, _ in listed if not math.isnan(error)]
            return math.fsum(finite) / len(finite) if finite else NAN
        if name == "d1":
            wrong = [math.isnan(error) or (error > 3 and error > 0.05 * truth) for error, truth in listed]
        else:
            wrong = [not error <= int(name[-1]) for error, _ in listed]
        return 100 * sum(wrong) / len(wrong) if wrong else NAN

    found = {}
    for region, by_image in errors.items():
        pooled = [entry for listed in by_image.values() for entry in listed]
        summary: dict[str, float] = {"images": len(by_image), "pixels": len(pooled)}
        summary["not_finite"] = sum(math.isnan(error) for error, _ in pooled)
        for name in FIGURES:
            own = [value for listed in by_image.values() if not math.isnan(value := figure(name, listed))]
            summary[f"pooled {name}"] = figure(name, pooled)
            summary[f"per_image {name}"] = math.fsum(own) / len(own) if own else NAN
        found[region] = summary
    return found


def flat(region: RegionFigures) -> dict[str, float]:
    counts = {"images": region.images, "pixels": region.pixels, "not_finite": region.not_finite}
    pooled = {f"pooled {name}": value for name, value in region.pooled.items()}
    return counts | pooled | {f"per_image {name}": value for name, value in region.per_image.items()}


def evaluated(batches: list[tuple[StereoSample, Tensor]], **settings: object) -> StereoFigures:
    metrics = StereoMetrics(**{"has_occlusion": True, **settings})  # type: ignore[arg-type]
    for batch, prediction in batches:
        metrics.update(prediction, batch)
    return metrics.figures()


def compare(figures: StereoFigures, expected: dict[str, dict[str, float]]) -> None:
    for name, region in figures.regions.items():
        if name in expected:
            assert flat(region) == pytest.approx(expected[name], rel=1e-12, nan_ok=True)
        else:
            assert (region.images, region.pixels, region.not_finite) == (0, 0, 0)
            assert all(map(math.isnan, [*region.pooled.values(), *region.per_image.values()]))


@pytest.mark.parametrize("size", [(7, 11), (1, 1), (16, 3)])
def test_against_a_loop(size: tuple[int, int]) -> None:
    batches = [scene(3, *size, seed=0), scene(1, *size, seed=1), scene(2, size[1], size[0], seed=2, share=0.1)]
    figures = evaluated(batches)
    assert tuple(figures.regions) == REGIONS
    assert figures.images == 6
    compare(figures, by_loop(batches))


@pytest.mark.parametrize("edges", [(10, 40), (5.5,), (1, 2, 3, 64)])
def test_other_ranges(edges: tuple[float, ...]) -> None:
    batches = [scene(seed=3)]
    figures = evaluated(batches, edges=edges)
    assert len(figures.regions) == 4 + len(edges) + 1
    compare(figures, by_loop(batches, edges))
    parts = list(figures.regions.values())[4:]
    assert sum(part.pixels for part in parts) == figures.regions["all"].pixels


def test_nan_and_infinity_are_wrong_and_counted() -> None:
    batch, prediction = scene(4, seed=4)
    spoilt = torch.rand(prediction.shape, generator=torch.Generator().manual_seed(5))
    prediction[spoilt < 0.1] = NAN
    prediction[(spoilt > 0.1) & (spoilt < 0.15)] = INF
    prediction[(spoilt > 0.15) & (spoilt < 0.2)] = -INF
    prediction[3] = NAN
    figures = evaluated([(batch, prediction)])
    compare(figures, by_loop([(batch, prediction)]))
    everywhere = figures.regions["all"]
    assert everywhere.not_finite > batch.valid[3].sum()
    assert all(math.isfinite(value) for value in [*everywhere.pooled.values(), *everywhere.per_image.values()])


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_nothing_but_nonsense(value: float) -> None:
    batch, prediction = scene(2)
    region = evaluated([(batch, torch.full_like(prediction, value))]).regions["all"]
    assert region.not_finite == region.pixels == batch.valid.sum()
    for values in (region.pooled, region.per_image):
        assert math.isnan(values["epe"])
        assert [values[name] for name in FIGURES[1:]] == [100.0] * 4


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30])
def test_what_stands_at_invalid_pixels_does_not_matter(value: float) -> None:
    batch, prediction = scene()
    clean = evaluated([(batch, prediction)])
    dirty_truth = batch._replace(disparity=torch.where(batch.valid, batch.disparity, value))
    dirty = torch.where(batch.valid, prediction, value)
    assert evaluated([(dirty_truth, dirty)]) == clean


def test_an_empty_mask_gives_nan() -> None:
    batch, prediction = scene(2, share=0.0)
    for figures in (evaluated([(batch, prediction)]), evaluated([])):
        compare(figures, {})
    assert evaluated([(batch, prediction)]).images == 2
    full, other = scene(1, seed=6)
    with_empty, alone = evaluated([(batch, prediction), (full, other)]), evaluated([(full, other)])
    assert with_empty.regions == alone.regions
    assert (with_empty.images, alone.images) == (3, 1)


def test_without_known_occlusion_there_is_no_such_region() -> None:
    batches = [scene()]
    figures = evaluated(batches, has_occlusion=False)
    assert tuple(figures.regions) == ("all", "0-10", "10-40", "40-")
    compare(figures, by_loop(batches))
    assert tuple(evaluated(batches, has_occlusion=False, edges=()).regions) == ("all",)


def test_average_over_images_is_not_the_pooled_one() -> None:
    """One image with 9 pixels, wrong by 1; one with a single valid pixel, wrong by 11."""
    valid = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    valid[1] = False
    valid[1, 0, 1, 1] = True
    truth = torch.where(valid, 20.0, 0.0)
    nowhere = torch.zeros_like(valid)
    batch = StereoSample(torch.zeros(2, 3, 3, 3), torch.zeros(2, 3, 3, 3), truth, valid, nowhere, nowhere)
    error = torch.tensor([1.0, 11.0]).reshape(2, 1, 1, 1)
    region = evaluated([(batch, truth + error)]).regions["all"]
    assert region.pooled == pytest.approx({"epe": 2.0, "bad1": 10, "bad2": 10, "bad3": 10, "d1": 10})
    assert region.per_image == pytest.approx({"epe": 6.0, "bad1": 50, "bad2": 50, "bad3": 50, "d1": 50})


@pytest.mark.parametrize(
    ("truth", "error", "expected"),
    [
        (10.0, 3.0, (True, True, False, False)),  # above means above, not at
        (10.0, 1.0, (False, False, False, False)),
        (10.0, 3.125, (True, True, True, True)),
        (64.0, 3.125, (True, True, True, False)),  # below 5 % of 64
        (64.0, 3.25, (True, True, True, True)),
        (0.0, 3.125, (True, True, True, True)),
    ],
)
def test_thresholds(truth: float, error: float, expected: tuple[bool, ...]) -> None:
    batch, _ = scene(1, 1, 1, share=1.1)
    batch = batch._replace(disparity=torch.full((1, 1, 1, 1), truth))
    pooled = evaluated([(batch, batch.disparity + error)]).regions["all"].pooled
    assert pooled["epe"] == error
    assert tuple(pooled[name] == 100.0 for name in FIGURES[1:]) == expected


def test_a_truth_on_an_edge_belongs_to_the_range_above_it() -> None:
    truth = torch.tensor([0.0, 9.5, 10.0, 39.5, 40.0, 400.0]).reshape(1, 1, 1, 6)
    nowhere = torch.zeros_like(truth, dtype=torch.bool)
    batch = StereoSample(torch.zeros(1, 3, 1, 6), torch.zeros(1, 3, 1, 6), truth, ~nowhere, nowhere, nowhere)
    regions = evaluated([(batch, truth)]).regions
    assert [regions[name].pixels for name in ("all", "0-10", "10-40", "40-")] == [6, 2, 2, 2]


def test_against_kornia_over_all_and_within_a_mask() -> None:
    batch, prediction = scene(seed=7)
    prediction = prediction.clamp(min=0)
    truth, found = batch.disparity.double(), prediction.double()
    figures = evaluated([(batch, prediction)])
    for name, mask in (("all", batch.valid), ("out_of_frame", batch.valid & batch.out_of_frame)):
        expected = {"epe": mean_absolute_disparity_error(found, truth, mask).item()}
        for pixels in (1, 2, 3):
            expected[f"bad{pixels}"] = 100 * mean_bad_pixel_error(found, truth, float(pixels), mask).item()
        expected["d1"] = 100 * kitti_d1_error(found, truth, valid_mask=mask).item()
        assert figures.regions[name].pooled == pytest.approx(expected, rel=1e-12)
    flow = [torch.stack([plane, torch.zeros_like(plane)], dim=-1) for plane in (found, truth)]
    epe = aepe(*flow, reduction="none")[batch.valid].mean().item()
    assert figures.regions["all"].pooled["epe"] == pytest.approx(epe, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type(dtype: torch.dtype) -> None:
    batch, prediction = scene(seed=8)
    prediction = prediction.to(dtype)
    compare(evaluated([(batch, prediction)]), by_loop([(batch, prediction.double())]))


def test_a_gradient_is_not_asked_for_nor_kept() -> None:
    batch, prediction = scene()
    assert evaluated([(batch, prediction.clone().requires_grad_())]) == evaluated([(batch, prediction)])


@pytest.mark.parametrize("shape", [(3, 7, 11), (3, 1, 7, 12), (2, 1, 7, 11), (3, 3, 7, 11)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 1, H, W\)"):
        StereoMetrics(has_occlusion=False).update(torch.zeros(shape), scene()[0])


@pytest.mark.parametrize("edges", [(40, 10), (10, 10), (0, 10), (-1,), (NAN,), (10, INF)])
def test_edges_that_do_not_rise_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"disparity ranges.*\[10, 40\]"):
        StereoMetrics(has_occlusion=False, edges=edges)
