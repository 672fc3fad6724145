import math
from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from autodisp.cells.cell import MixedCells
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.datasets.samples import StereoSample
from autodisp.networks.disparity import StereoPrediction
from autodisp.networks.matching_head import Matching
from autodisp.tasks.base import Sums, means, pool
from autodisp.tasks.dense import truth_at_stride
from autodisp.tasks.disparity.task import BINS, DisparityTask, masked_l1, volume_cross_entropy
from tests.made_models import found_cells

NAN, INF = math.nan, math.inf


def task(**arguments: object) -> DisparityTask:
    numbers = {"channels": 2, "stem_scale": 1, "encoder_cells": 2, "decoder_cells": 2, "max_displacement": 4}
    return DisparityTask(**{**numbers, **arguments})  # type: ignore[arg-type]


def sample(disparity: Tensor, valid: Tensor) -> StereoSample:
    batch, _, height, width = disparity.shape
    generator = torch.Generator().manual_seed(9)
    views = torch.rand(2, batch, 3, height, width, generator=generator, dtype=disparity.dtype)
    nowhere = torch.zeros_like(valid)
    return StereoSample(views[0], views[1], disparity, valid, nowhere, nowhere)


def scene(height: int = 9, width: int = 14, *, batch: int = 2, share: float = 0.6, seed: int = 0) -> StereoSample:
    generator = torch.Generator().manual_seed(seed)
    disparity = 20 * torch.rand(batch, 1, height, width, generator=generator, dtype=torch.float64)
    valid = torch.rand(batch, 1, height, width, generator=generator) < share
    return sample(torch.where(valid, disparity, 0.0), valid)


def poisoned(one: StereoSample, value: float) -> StereoSample:
    """The same truth with something nonsensical where nothing is known."""
    return one._replace(disparity=torch.where(one.valid, one.disparity, value))


def prediction(
    one: StereoSample, strides: Sequence[int] = (16, 8, 4), *, bins: int = 0, seed: int = 1
) -> StereoPrediction:
    generator = torch.Generator().manual_seed(seed)

    def tensor(channels: int, stride: int) -> Tensor:
        sides = [-(-side // strides[0]) * strides[0] // stride for side in one.disparity.shape[-2:]]
        found = 20 * torch.rand(len(one.left), channels, *sides, generator=generator, dtype=torch.float64) - 2
        return found.requires_grad_()

    height, width = one.disparity.shape[-2:]
    full = tensor(1, 1)
    levels = tuple(tensor(1, stride) for stride in strides)
    matching = Matching(tensor(bins, 4), levels[-1], levels[-1], full) if bins else None
    return StereoPrediction(full[..., :height, :width], levels, tuple(strides), matching)


def leaves(output: StereoPrediction) -> list[Tensor]:
    found = [output.disparity, *output.levels]
    return [*found, output.matching.logits] if output.matching else found


def places(one: StereoSample) -> list[tuple[int, int, int]]:
    return [(b, y, x) for b, _, y, x in one.valid.nonzero().tolist()]


def l1_by_loop(found: Tensor, one: StereoSample) -> float:
    errors = [abs(found[b, 0, y, x].item() - one.disparity[b, 0, y, x].item()) for b, y, x in places(one)]
    return math.fsum(errors) / max(len(errors), 1)


def level_by_loop(level: Tensor, one: StereoSample, stride: int) -> float:
    cells: dict[tuple[int, int, int], list[float]] = {}
    for b, y, x in places(one):
        cells.setdefault((b, y // stride, x // stride), []).append(one.disparity[b, 0, y, x].item())
    errors = [abs(level[b, 0, y, x].item() - math.fsum(known) / len(known)) for (b, y, x), known in cells.items()]
    return math.fsum(errors) / max(len(errors), 1)


def volume_by_loop(logits: Tensor, one: StereoSample) -> float:
    entropies = []
    batch, bins, rows, columns = logits.shape
    for b, y, x in ((b, y, x) for b in range(batch) for y in range(rows) for x in range(columns)):
        row, column = 4 * y + 2, 4 * x + 2
        if row >= one.valid.shape[-2] or column >= one.valid.shape[-1] or not one.valid[b, 0, row, column]:
            continue
        truth = one.disparity[b, 0, row, column].item() / 4
        if truth > bins - 1:
            continue
        scores = logits[b, :, y, x].tolist()
        norm = math.log(math.fsum(math.exp(score) for score in scores))
        shares = [max(0.0, 1 - abs(truth - k)) for k in range(bins)]
        entropies.append(-math.fsum(share * (score - norm) for share, score in zip(shares, scores, strict=True)))
    return math.fsum(entropies) / max(len(entropies), 1)


@pytest.mark.parametrize("size", [(9, 14), (16, 16), (1, 1), (5, 33)])
def test_regression_loss_against_loops(size: tuple[int, int]) -> None:
    one = scene(*size)
    output = prediction(one)
    expected = l1_by_loop(output.disparity, one)
    expected += level_by_loop(output.levels[0], one, 16) / 4 + level_by_loop(output.levels[1], one, 8) / 2
    assert task().loss(output, one).item() == pytest.approx(expected)


@pytest.mark.parametrize("bins", [2, 4, 9])
@pytest.mark.parametrize("weight", [0.0, 1.0, 0.25])
def test_matching_loss_against_loops(bins: int, weight: float) -> None:
    one = scene(12, 18)
    output = prediction(one, bins=bins)
    assert output.matching is not None
    plain = task().loss(output._replace(matching=None), one).item()
    expected = plain + weight * volume_by_loop(output.matching.logits, one)
    assert task(volume_weight=weight).loss(output, one).item() == pytest.approx(expected)


@pytest.mark.parametrize("disparity", [0.0, 4.0, 6.0, 11.0, 12.0, 12.1, 100.0])
def test_volume_cross_entropy_at_single_truths(disparity: float) -> None:
    truth = torch.full((1, 1, 4, 4), disparity, dtype=torch.float64)
    one = sample(truth, torch.ones_like(truth, dtype=torch.bool))
    logits = torch.randn(1, 4, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = volume_cross_entropy(Matching(logits, truth, truth, truth), one)
    assert found.item() == pytest.approx(volume_by_loop(logits, one))
    assert (found.item() == 0.0) == (disparity > 12)


FAMILY = {128: 1 / 16, 64: 1 / 16, 32: 1 / 16, 16: 1 / 16, 8: 1 / 8, 4: 1 / 4, 2: 1 / 2, 1: 1}
"""Weights of the FlowNet family by stride."""


@pytest.mark.parametrize(
    ("given", "strides", "expected"),
    [
        ((0.5, 0.25, 2.0), (16, 8, 4), (0.5, 0.25, 2.0)),
        ((9.0, 0.5, 0.25, 2.0), (16, 8, 4), (0.5, 0.25, 2.0)),
        ((0.5, 2.0), (32, 16, 8, 4), (0.5, 0.5, 0.5, 2.0)),
        ((2.0,), (16, 8, 4), (2.0, 2.0, 2.0)),
        *(
            (None, strides, tuple(FAMILY[stride] / FAMILY[strides[-1]] for stride in strides))
            for strides in ((64, 32, 16, 8, 4), (64, 32, 16, 8), (128, 64, 32, 16, 8, 4, 2, 1), (16, 4), (32, 16))
        ),
    ],
)
def test_level_weights_count_from_the_finest(
    given: tuple[float, ...] | None, strides: tuple[int, ...], expected: tuple[float, ...]
) -> None:
    """Those of the family are by resolution, with the finest one whole."""
    one = scene(16, 16)
    output = prediction(one, strides)
    parts = [level_by_loop(level, one, stride) for level, stride in zip(output.levels, strides, strict=True)]
    parts[-1] = l1_by_loop(output.disparity, one)
    total = sum(weight * part for weight, part in zip(expected, parts, strict=True))
    assert task(level_weights=given).loss(output, one).item() == pytest.approx(total)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (9, 16), (16, 17), (33, 16)])
def test_the_coarsest_feature_map_is_the_one_that_torch_cannot_normalise(stages: int, size: tuple[int, int]) -> None:
    one = task(stages=stages)
    network = one.build_network(found_cells(Style("dense"))).train()
    views = torch.rand(2, 1, 3, *size)
    with pytest.raises(ValueError, match="more than 1 value") if one.coarsest(*size) == (1, 1) else nullcontext():
        network(*views)


def test_level_weights_are_needed() -> None:
    with pytest.raises(ValueError, match="level_weights is empty"):
        task(level_weights=())


@pytest.mark.parametrize("bins", [0, 5])
@pytest.mark.parametrize("value", [0.0, NAN, INF, -INF, 1e30])
def test_a_batch_without_a_valid_pixel_gives_zero_with_zero_gradient(bins: int, value: float) -> None:
    one = poisoned(scene(share=0.0), value)
    assert not one.valid.any()
    output = prediction(one, bins=bins)
    loss = task().loss(output, one)
    assert loss.item() == 0.0
    for gradient in torch.autograd.grad(loss, leaves(output), allow_unused=True):
        assert gradient is None or (gradient == 0).all()


@pytest.mark.parametrize("bins", [0, 5])
@pytest.mark.parametrize("value", [NAN, INF, -INF, -7.0])
def test_what_stands_in_invalid_pixels_does_not_matter(bins: int, value: float) -> None:
    one = scene(12, 18)
    output = prediction(one, bins=bins)
    clean, dirty = task().loss(output, one), task().loss(output, poisoned(one, value))
    assert torch.equal(clean, dirty)
    read = [leaf for leaf in leaves(output) if leaf is not output.levels[-1]]
    for expected, seen in zip(torch.autograd.grad(clean, read), torch.autograd.grad(dirty, read), strict=True):
        assert expected.isfinite().all()
        assert torch.equal(expected, seen)
    for name, sums in task().measure(output, one).items():
        assert torch.equal(sums, task().measure(output, poisoned(one, value))[name])
    assert task().constant([one]) == task().constant([poisoned(one, value)])


def test_masked_l1_does_not_see_predictions_that_do_not_count() -> None:
    found = torch.tensor([1.0, NAN, 5.0, INF], requires_grad=True)
    loss = masked_l1(found, torch.tensor([3.0, 0.0, 4.0, 0.0]), torch.tensor([True, False, True, False]))
    assert loss.item() == 1.5
    (gradient,) = torch.autograd.grad(loss, found)
    assert gradient.tolist() == [-0.5, 0.0, 0.5, 0.0]


def test_a_robust_scale_weighs_errors_by_their_size() -> None:
    found, valid = torch.tensor([1.0, NAN, 5.0, 9.0], requires_grad=True), torch.tensor([True, False, True, True])
    truth = torch.tensor([1.0, 0.0, 4.0, 3.0])
    loss = masked_l1(found, truth, valid, 2.0)
    assert loss.item() == pytest.approx(2 * (math.log(1.5) + math.log(4)) / 3)
    (gradient,) = torch.autograd.grad(loss, found)
    assert gradient.tolist() == pytest.approx([0.0, 0.0, 1 / 1.5 / 3, 1 / 4 / 3])
    one = scene()
    robust, plain = (task(robust_scale=scale).loss(prediction(one), one).item() for scale in (1e4, None))
    assert plain > robust == pytest.approx(plain, rel=1e-2)


def test_truth_at_a_stride_is_the_mean_of_what_is_known() -> None:
    disparity = torch.tensor([[1.0, 3.0, 5.0], [NAN, 7.0, 100.0]]).view(1, 1, 2, 3)
    valid = torch.tensor([[True, True, True], [False, True, False]]).view(1, 1, 2, 3)
    mean, known = truth_at_stride(disparity, valid, 2, (2, 3))
    assert known.flatten().tolist() == [True, True, False] + [False] * 3
    assert mean.flatten().tolist() == pytest.approx([11 / 3, 5.0, 0.0, 0.0, 0.0, 0.0])


def figures_by_loop(found: Tensor, one: StereoSample) -> dict[str, float]:
    errors = []
    for b, y, x in places(one):
        truth = one.disparity[b, 0, y, x].item()
        error = abs(max(found[b, 0, y, x].item(), 0.0) - truth)
        errors.append((INF if math.isnan(found[b, 0, y, x].item()) else error, truth))
    count = len(errors)
    return {
        "epe": math.fsum(error for error, _ in errors) / count,
        **{f"bad{n}": 100 * sum(error > n for error, _ in errors) / count for n in (1, 2, 3)},
        "d1": 100 * sum(error > 3 and error > 0.05 * truth for error, truth in errors) / count,
    }


def test_figures_against_a_loop_whole_and_pooled() -> None:
    scenes = [scene(share=share, seed=seed) for seed, share in enumerate((0.9, 0.1, 0.0, 0.5))]
    scenes = [one._replace(disparity=torch.where(one.valid, 5 * one.disparity, 0.0)) for one in scenes]
    sums: Sums = {}
    outputs = []
    for seed, one in enumerate(scenes):
        noise = 8 * torch.randn(one.disparity.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = (one.disparity + noise).requires_grad_()
        outputs.append(found)
        measured = task().measure(StereoPrediction(found, (), (), None), one)
        assert not any(pair.requires_grad for pair in measured.values())
        pool(sums, measured)
    whole = sample(torch.cat([one.disparity for one in scenes]), torch.cat([one.valid for one in scenes]))
    expected = figures_by_loop(torch.cat(outputs), whole)
    assert means(sums) == pytest.approx(expected)
    assert len(set(expected.values())) == len(expected)


@pytest.mark.parametrize("value", [NAN, INF])
def test_a_prediction_that_is_no_number_is_wrong_everywhere(value: float) -> None:
    truth = torch.full((1, 1, 2, 2), 10.0)
    one = sample(truth, torch.tensor([[True, True], [True, False]]).view(1, 1, 2, 2))
    found = truth.clone()
    found[0, 0, 0, 0] = value
    figures = means(task().measure(StereoPrediction(found, (), (), None), one))
    assert figures.pop("epe") == INF
    assert figures == pytest.approx(dict.fromkeys(("bad1", "bad2", "bad3", "d1"), 100 / 3))


def test_no_constant_is_better_than_the_best_one() -> None:
    for seed in range(5):
        scenes = [scene(3, 5, batch=1, share=0.7, seed=10 * seed + index) for index in range(3)]
        best = task().constant(scenes)
        candidates = torch.cat([one.disparity[one.valid] for one in scenes]).tolist()
        answers = []
        for value in candidates:
            sums: Sums = {}
            for one in scenes:
                flat = torch.full_like(one.disparity, value)
                pool(sums, task().measure(StereoPrediction(flat, (), (), None), one))
            answers.append(means(sums)["epe"])
        assert best == pytest.approx(min(answers), abs=1 / BINS)
    assert math.isnan(task().constant([]))
    assert math.isnan(task().constant([scene(share=0.0)]))


def test_the_network_has_the_numbers_of_the_task() -> None:
    one = task(channels=3, stem_scale=2, encoder_cells=4, decoder_cells=3, max_displacement=7, head="matching")
    network = one.build_network(MixedCells(SPACES["autodispnet"], style=Style("dense")))
    assert (network.stride, network.max_displacement) == (32, 7)
    assert (len(network.encoder), len(network.decoder)) == (4, 3)
    assert network.siamese.channels == 6
    assert network.matching is not None
    assert network.matching.bins == 49
    assert set(one.kinds) == set(SPACES["autodispnet"].kinds)
    assert (one.figure.name, one.figure.direction) == ("epe", "min")
