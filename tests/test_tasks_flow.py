"""Optical flow: loss, metrics and correlation against plain loops, data and augmentation by warping."""

import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.cells.cell import FoundCells
from autodisp.cells.genotype import load
from autodisp.cells.operations import Style
from autodisp.datasets import flow_transforms
from autodisp.datasets.flow_transforms import CenterCrop, FlowAugmentation, flipped, reframe
from autodisp.datasets.samples import FlowSample
from autodisp.datasets.shapes3d_flow import Shapes3DFlow
from autodisp.errors import InputError
from autodisp.evaluation.pooled_metrics import PooledMetrics
from autodisp.networks.flow import FlowPrediction, correlation_2d
from autodisp.tasks.base import Sums, means, pool
from autodisp.tasks.flow.task import FlowTask, best_constant, flow_sums
from autodisp.tasks.registry import KITS

FOUND = load("autodispnet")
NETWORK = {"channels": 2, "stem_scale": 2.0, "encoder_cells": 2, "decoder_cells": 2, "max_displacement": 1}


def task(**settings: object) -> FlowTask:
    return FlowTask(**{**NETWORK, **settings})  # type: ignore[arg-type]


def batch(height: int = 5, width: int = 7, *, seed: int = 0, known: float = 0.8) -> FlowSample:
    random = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 2, 3, height, width, generator=random)
    valid = torch.rand(2, 1, height, width, generator=random) < known
    flow = torch.where(valid, 20 * torch.randn(2, 2, height, width, generator=random), 0)
    return FlowSample(images[0], images[1], flow, valid, torch.rand(valid.shape, generator=random) < 0.3)


def prediction(flow: Tensor) -> FlowPrediction:
    return FlowPrediction(flow, (flow,), (4,))


def each(flow: Tensor, sample: FlowSample, valid: Tensor) -> Iterator[tuple[float, float]]:
    """Error and length of the true vector, pixel by pixel."""
    for b, y, x in np.ndindex(*flow[:, 0].shape):
        if valid[b, 0, y, x]:
            u, v = (flow[b, :, y, x] - sample.flow[b, :, y, x]).double().tolist()
            yield math.sqrt(u * u + v * v), math.hypot(*sample.flow[b, :, y, x].double().tolist())


@pytest.mark.parametrize("nan", [False, True])
def test_metrics_are_those_of_a_plain_loop(nan: bool) -> None:
    regions = {"matched": lambda one: one._replace(valid=one.valid & ~one.unmatched)}
    metrics, sums = PooledMetrics(flow_sums, units={"epe": "px"}, regions=regions), Sums()
    every: dict[str, list[tuple[float, float]]] = {"all": [], "matched": []}
    for seed in range(2):
        sample = batch(seed=seed)
        flow = sample.flow + torch.randn(sample.flow.shape, generator=torch.Generator().manual_seed(seed)) * 3
        if nan:
            flow[0, 0] = math.nan
        pool(sums, task().measure(prediction(flow), sample))
        metrics.update(flow, sample)
        every["all"] += each(flow, sample, sample.valid)
        every["matched"] += each(flow, sample, sample.valid & ~sample.unmatched)
    figures = metrics.figures()
    for region, found in (("all", figures.pooled), ("matched", figures.regions["matched"])):
        errors = [(math.inf if math.isnan(error) else error, length) for error, length in every[region]]
        count = len(errors)
        assert found == pytest.approx(
            {
                "epe": sum(error for error, _ in errors) / count,
                "fl": 100 * sum(error > 3 and error > 0.05 * length for error, length in errors) / count,
                "bad1": 100 * sum(error > 1 for error, _ in errors) / count,
                "bad3": 100 * sum(error > 3 for error, _ in errors) / count,
            },
            rel=1e-5,
        )
    assert means(sums) == figures.pooled
    assert figures.as_dict()["regions"]["matched"] == figures.regions["matched"]
    assert [(row["region"], row["epe_px"]) for row in figures.rows()] == [
        ("all", figures.pooled["epe"]), ("matched", figures.regions["matched"]["epe"])
    ]  # fmt: skip


def test_metrics_without_ground_truth() -> None:
    sample = batch(known=0.0)
    output = prediction(torch.randn(2, 2, 5, 7, requires_grad=True))
    assert all(math.isnan(value) for value in means(task().measure(output, sample)).values())
    loss = task().loss(output, sample)
    loss.backward()
    assert float(loss.detach()) == 0
    assert output.flow.grad is not None
    assert not output.flow.grad.any()
    assert math.isnan(task().constant([sample]))
    assert math.isnan(task().constant([]))


def test_the_loss_is_the_weighted_sum_of_the_levels() -> None:
    sample = batch(16, 24)
    output = FlowPrediction(torch.randn(2, 2, 16, 24), (torch.randn(2, 2, 2, 3), torch.randn(2, 2, 4, 6)), (8, 4))
    total = 0.0
    for flow, stride, weight in ((output.flow, 1, 1.0), (output.levels[0], 8, 0.5)):
        terms = []
        for b, y, x in np.ndindex(2, 16 // stride, 24 // stride):
            place = (b, slice(None), slice(y * stride, (y + 1) * stride), slice(x * stride, (x + 1) * stride))
            known = sample.valid[place].flatten()
            if known.any():
                mean = sample.flow[place].flatten(1)[:, known].double().mean(1)
                terms.append(float((flow[b, :, y, x] - mean).norm()))
        total += weight * sum(terms) / len(terms)
    assert float(task().loss(output, sample)) == pytest.approx(total, rel=1e-4)
    finest = float(task().loss(output, sample, [0.0, 1.0]))
    assert finest == pytest.approx(means(flow_sums(output.flow, sample))["epe"], rel=1e-4)
    assert float(task(level_weights=(0.0, 1.0)).loss(output, sample)) == finest


def test_the_loss_has_two_derivatives_where_it_is_exact() -> None:
    sample = batch()
    flow = sample.flow.clone().requires_grad_()
    (first,) = torch.autograd.grad(task().loss(prediction(flow), sample), flow, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), flow)
    assert second.isfinite().all()


def test_the_constant_is_the_median() -> None:
    batches = [batch(seed=seed) for seed in range(3)]
    every = torch.cat([sample.flow.movedim(1, 0)[:, sample.valid[:, 0]] for sample in batches], dim=1)
    found = best_constant(batches)
    assert found.shape == (2, 1, 1)
    assert (found.flatten() - every.median(dim=1).values).abs().max() <= 1 / 32 + 1e-6
    epe = (every.T - found.flatten()).norm(dim=1).mean()
    assert task().constant(batches) == pytest.approx(float(epe), rel=1e-5)
    predict = KITS["flow"].baselines["constant"](None, batches, {})
    assert torch.equal(predict(batches[0])[1, :, 2, 3], found.float().flatten())


def test_the_correlation_is_that_of_a_plain_loop() -> None:
    first, second = torch.randn(2, 2, 3, 4, 5)
    found = correlation_2d(first, second, reach=2)
    assert found.shape == (2, 25, 4, 5)
    for channel, (v, u) in enumerate(np.ndindex(5, 5)):
        for y, x in np.ndindex(4, 5):
            row, column = y + v - 2, x + u - 2
            inside = 0 <= row < 4 and 0 <= column < 5
            expected = (first[:, :, y, x] * second[:, :, row, column]).mean(1) if inside else torch.zeros(2)
            assert torch.allclose(found[:, channel, y, x], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 48), (33, 21), (1, 5)])
def test_the_network_takes_any_size(size: tuple[int, int]) -> None:
    network = task().build_network(FoundCells(FOUND, style=Style())).eval()
    output = network(*torch.rand(2, 2, 3, *size))
    assert output.flow.shape == (2, 2, *size)
    assert output.strides == (16, 8, 4)
    for level, stride in zip(output.levels, output.strides, strict=True):
        assert level.shape[-2:] == tuple(-(-side // 16) * 16 // stride for side in size)
    assert task().coarsest(*size) == tuple(output.levels[0].shape[-2:])


def test_gradients_reach_every_weight_but_not_through_what_is_fed_back() -> None:
    network = task().build_network(FoundCells(FOUND, style=Style()))
    sample = batch(32, 48)
    task().loss(network(sample.first, sample.second), sample).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []
    network.zero_grad()
    network(sample.first, sample.second).levels[-1].sum().backward()
    assert network.predict[0].weight.grad is None


def test_the_network_starts_as_block_matching() -> None:
    """A textured image shifted by whole cells of the correlation."""
    network = task(max_displacement=2).build_network(FoundCells(FOUND, style=Style()))
    scene = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 66, 98, generator=torch.Generator().manual_seed(0)), 3, 1)
    first, second = scene[..., 8:, :-4], scene[..., :-8, 4:]  # (x, y) in the first is (x - 4, y + 8) in the second
    images = torch.cat([first, second])
    matched = network._matched(network._correlated(images, network.stem(images)))
    assert matched.shape == (1, 2, 14, 23)
    inner = matched[0, :, 3:-4, 3:-3]
    assert (inner - torch.tensor([-4.0, 8.0])[:, None, None]).abs().max() < 1


def scenes(**settings: object) -> Shapes3DFlow:
    return Shapes3DFlow(
        **{"length": 3, "seed": 4, "height": 48, "width": 64, "max_flow": 6, "objects": (2, 4), **settings}
    )  # type: ignore[arg-type]


def warped(sample: FlowSample) -> Tensor:
    """The second image at the ends of the flow vectors, (3, H, W)."""
    _, height, width = sample.flow.shape
    x = (torch.arange(width) + sample.flow[0]).numpy()
    y = (torch.arange(height)[:, None] + sample.flow[1]).numpy()
    image = sample.second.permute(1, 2, 0).numpy()
    return torch.from_numpy(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)).permute(2, 0, 1)


def differences(sample: FlowSample) -> tuple[float, float, float]:
    """Mean difference of the first image from the warped second one, from the second, and the first where unmatched."""
    seen = (sample.valid & ~sample.unmatched)[0]
    off, still = ((sample.first - other).abs().mean(0) for other in (warped(sample), sample.second))
    return float(off[seen].mean()), float(still[seen].mean()), float(off[~seen].mean())


def test_the_flow_of_shapes3d_warps_one_image_onto_the_other() -> None:
    data = scenes()
    for index in (2, 0):
        sample = data[index]
        assert all(map(torch.equal, sample, scenes()[index]))
        assert sample.flow.dtype == torch.float32
        assert sample.valid.all()
        assert 2 < float(sample.flow.norm(dim=0).max()) <= 6 + 1e-4
        off, still, unmatched = differences(sample)
        assert off < 0.3 * min(still, unmatched)
    with pytest.raises(IndexError):
        data[3]
    with pytest.raises(InputError, match=r"max_flow is 0"):
        scenes(max_flow=0)


def test_the_background_alone_moves_by_an_affine_map() -> None:
    sample = scenes(objects=(0, 0))[0]
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    terms = torch.stack([x.flatten(), y.flatten(), torch.ones(48 * 64)], dim=1).double()
    flow = sample.flow.flatten(1).T.double()
    fitted = terms @ torch.linalg.lstsq(terms, flow).solution
    assert (fitted - flow).abs().max() < 1e-3
    inside = torch.stack([x + sample.flow[0], y + sample.flow[1]])
    seen = (inside[0] >= 0) & (inside[0] <= 63) & (inside[1] >= 0) & (inside[1] <= 47)
    assert torch.equal(sample.unmatched[0], ~seen)


def field(sample: FlowSample, a: float, b: float) -> FlowSample:
    """The sample with u = a x and v = b y, and a first image that is the warped second one."""
    _, height, width = sample.flow.shape
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    moved = sample._replace(flow=torch.stack([a * x, b * y]))
    return moved._replace(first=warped(moved))


def smooth() -> FlowSample:
    random = np.random.default_rng(0)
    image = cv2.GaussianBlur(random.random((40, 60, 3), dtype=np.float32), (0, 0), 4)
    image = (image - image.min()) / (image.max() - image.min())
    second = torch.from_numpy(image).permute(2, 0, 1).contiguous()
    unknown = torch.zeros(1, 40, 60, dtype=torch.bool)
    return field(FlowSample(second, second, torch.zeros(2, 40, 60), ~unknown, unknown), 0.08, -0.12)


@pytest.mark.parametrize("size", [(40, 60), (20, 40), (50, 90)])
def test_vectors_are_scaled_with_the_images(size: tuple[int, int]) -> None:
    sample = reframe(smooth(), (0, 0), (40, 60), size)
    off, still, _ = differences(sample)
    assert off < 0.15 * still
    centre = (torch.arange(size[1]) + 0.5) * 60 / size[1] - 0.5  # the nearest source pixel is at most half a pixel away
    assert (sample.flow[0] - 0.08 * centre * size[1] / 60).abs().max() <= 0.04 * size[1] / 60 + 1e-5
    assert sample.unmatched[0, :, -1].all() == (size != (40, 60))  # the match of the last column is outside


@pytest.mark.parametrize("axis", [1, 2])
def test_vectors_are_mirrored_with_the_images(axis: int) -> None:
    whole = smooth()
    sample = flipped(whole, axis)
    assert torch.allclose(warped(sample), warped(whole).flip(axis), atol=1e-4)
    sign = (-1, 1) if axis == 2 else (1, -1)
    for component, one in enumerate(sign):
        assert torch.equal(sample.flow[component], one * whole.flow[component].flip(axis - 1))
    assert all(map(torch.equal, flipped(sample, axis), whole))


def test_the_augmentation_is_seeded_and_keeps_images_and_vectors_together(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, augment = smooth(), FlowAugmentation(scale=1.0, crop=(32, 40))
    mirrored = 0
    for seed in range(12):
        sample = augment(whole, np.random.default_rng(seed))
        assert all(map(torch.equal, sample, augment(whole, np.random.default_rng(seed))))
        assert sample.first.shape == (3, 32, 40)
        mirrored += bool(sample.flow[0].mean() < 0)
    assert 0 < mirrored < 12
    assert all(map(torch.equal, whole, smooth()))
    monkeypatch.setattr(flow_transforms, "varied", lambda first, second, scale, rng: (first, second))
    for seed in range(12):
        off, still, _ = differences(augment(whole, np.random.default_rng(seed)))
        assert off < 0.25 * still
    with pytest.raises(InputError, match=r"augmentation\.scale=5"):
        FlowAugmentation(scale=5, crop=None)
    with pytest.raises(InputError, match=r"crop is"):
        FlowAugmentation(scale=1, crop=(0, 3))


def test_without_strength_only_the_window_is_random() -> None:
    whole = smooth()
    whole = whole._replace(unmatched=torch.zeros_like(whole.valid))
    assert all(map(torch.equal, FlowAugmentation(scale=0, crop=None)(whole, np.random.default_rng(0)), whole))
    sample = FlowAugmentation(scale=0, crop=(20, 30))(whole, np.random.default_rng(0))
    corner = (sample.flow[:, 0, 0] / torch.tensor([0.08, -0.12])).round().int().tolist()
    window = (slice(None), slice(corner[1], corner[1] + 20), slice(corner[0], corner[0] + 30))
    assert torch.equal(sample.first, whole.first[window])
    assert torch.equal(sample.flow, whole.flow[window])


def test_the_fixed_crop_pads_with_invalid_pixels() -> None:
    sample = CenterCrop(crop=(20, 70))(smooth())
    assert torch.equal(sample.flow[:, :, :60], smooth().flow[:, 10:30])
    assert not sample.valid[:, :, 60:].any()
    assert sample.valid[:, :, :60].all()
    assert sample.first.shape == (3, 20, 70)


def test_errors_by_sample() -> None:
    sample = batch()
    flow = sample.flow + 1
    flow[1, 0] = math.nan
    worst = KITS["flow"].worst
    assert worst is not None
    errors = worst.errors(flow, sample)
    assert errors[0] == pytest.approx(math.sqrt(2))
    assert errors[1] == math.inf
    assert worst.errors(flow, sample._replace(valid=torch.zeros_like(sample.valid))).isnan().all()
