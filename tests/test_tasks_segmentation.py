"""Segmentation: loss and metrics against plain loops, network and data by their promises."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.cells.operations import Style
from autodisp.datasets.samples import IGNORED, SegmentedImage
from autodisp.datasets.segmentation_transforms import CenterCrop, SegmentationAugmentation
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.shapes3d_classes import Shapes3DClasses
from autodisp.datasets.shapes3d_shapes import CLASSES
from autodisp.errors import InputError
from autodisp.evaluation.segmentation_metrics import SegmentationMetrics
from autodisp.networks.segmentation import ClassMaps, SegmentationNetwork
from autodisp.tasks.base import Sums, means, pool
from autodisp.tasks.segmentation.kit import KIT
from autodisp.tasks.segmentation.task import SegmentationTask, class_weights, classes_at_stride
from tests.made_models import found_cells

COUNT = 4
NAMES = ("a", "b", "c", "d")


def task(**settings: object) -> SegmentationTask:
    return SegmentationTask(classes=COUNT, channels=2, stem_scale=2.0, encoder_cells=3, decoder_cells=2, **settings)  # type: ignore[arg-type]


def network(classes: int = COUNT) -> SegmentationNetwork:
    torch.manual_seed(0)
    cells = found_cells(Style())
    return SegmentationNetwork(cells, classes=classes, channels=2, stem_scale=2.0, encoder_cells=3, decoder_cells=2)


def batch(height: int = 5, width: int = 7, *, seed: int = 0, without: int | None = None) -> SegmentedImage:
    random = np.random.default_rng(seed)
    classes = random.choice([index for index in range(COUNT) if index != without], (2, height, width)).astype(np.uint8)
    classes[random.random(classes.shape) < 0.2] = IGNORED
    return SegmentedImage(torch.rand(2, 3, height, width), torch.from_numpy(classes))


def maps(logits: Tensor) -> ClassMaps:
    return ClassMaps(logits, (logits,), (4,))


def counted(logits: Tensor, classes: Tensor) -> tuple[list[float], float]:
    """IoU of each class and accuracy in percent, pixel by pixel."""
    both, either, right, known = [0] * COUNT, [0] * COUNT, 0, 0
    for place in np.ndindex(*classes.shape):
        actual = int(classes[place])
        if actual == IGNORED:
            continue
        scores = logits[place[0], :, place[1], place[2]].tolist()
        found = -1 if any(map(math.isnan, scores)) else scores.index(max(scores))
        known += 1
        right += actual == found
        for index in range(COUNT):
            both[index] += actual == index and found == index
            either[index] += index in (actual, found)
    return [100 * b / e if e else math.nan for b, e in zip(both, either, strict=True)], 100 * right / known


@pytest.mark.parametrize("nan", [False, True])
def test_metrics_are_those_of_a_plain_loop(nan: bool) -> None:
    sums: Sums = {}
    metrics = SegmentationMetrics(NAMES)
    logits, classes = [], []
    for seed in range(2):
        sample = batch(seed=seed, without=3)
        scores = torch.randn(2, COUNT, 5, 7)
        scores[:, 3] = -9  # a class that occurs nowhere
        if nan:
            scores[0, 1, 2, 3] = math.nan
            sample.classes[0, 2, 3] = 0
        pool(sums, task().measure(maps(scores), sample))
        metrics.update(scores, sample)
        logits.append(scores)
        classes.append(sample.classes)
    ious, accuracy = counted(torch.cat(logits), torch.cat(classes))
    present = [iou for iou in ious if not math.isnan(iou)]
    assert len(present) == 3
    assert means(sums) == pytest.approx({"miou": sum(present) / 3, "accuracy": accuracy})
    figures = metrics.figures()
    assert figures.miou == pytest.approx(sum(present) / 3)
    assert figures.accuracy == pytest.approx(accuracy)
    assert list(figures.iou.values()) == pytest.approx(ious, nan_ok=True)
    assert [row["class"] for row in figures.rows()] == ["all", *NAMES]
    assert figures.images == 4
    assert sum(row[-1] for row in figures.confusion) == (2 if nan else 0)


def test_metrics_without_ground_truth() -> None:
    sample = batch()._replace(classes=torch.full((2, 5, 7), IGNORED, dtype=torch.uint8))
    output = maps(torch.randn(2, COUNT, 5, 7, requires_grad=True))
    assert all(math.isnan(value) for value in means(task().measure(output, sample)).values())
    loss = task().loss(output, sample)
    loss.backward()
    assert float(loss.detach()) == 0
    assert output.logits.grad is not None
    assert not output.logits.grad.any()
    assert math.isnan(task().constant([sample]))


def test_the_loss_is_the_weighted_sum_of_the_levels() -> None:
    sample = batch(16, 24)
    levels = torch.randn(2, COUNT, 2, 3), torch.randn(2, COUNT, 4, 6)
    output = ClassMaps(torch.randn(2, COUNT, 16, 24), levels, (8, 4))
    total = 0.0
    for logits, stride, weight in ((output.logits, 1, 1.0), (levels[0], 8, 0.5)):
        terms = []
        for b, y, x in np.ndindex(2, 16 // stride, 24 // stride):
            actual = int(sample.classes[b, y * stride + stride // 2, x * stride + stride // 2])
            if actual != IGNORED:
                scores = logits[b, :, y, x].double()
                terms.append(float(scores.exp().sum().log() - scores[actual]))
        total += weight * sum(terms) / len(terms)
    assert float(task().loss(output, sample)) == pytest.approx(total, rel=1e-5)
    finest = float(task().loss(output, sample, [0.0, 1.0]))
    assert finest == pytest.approx(
        float(torch.nn.functional.cross_entropy(output.logits, sample.classes.long(), ignore_index=IGNORED))
    )
    assert float(task(level_weights=(0.0, 1.0)).loss(output, sample)) == finest


def test_class_weights_are_those_of_enet_in_the_batch() -> None:
    sample = batch(16, 24, without=3)
    output = ClassMaps(torch.randn(2, COUNT, 16, 24), (torch.randn(2, COUNT, 4, 6),), (4,))
    known = [int(value) for value in sample.classes.flatten() if value != IGNORED]
    weights = [1 / math.log(1.02 + known.count(index) / len(known)) for index in range(COUNT)]
    assert class_weights(sample.classes, COUNT).tolist() == pytest.approx(weights, rel=1e-5)
    total, weight = 0.0, 0.0
    for place in np.ndindex(*sample.classes.shape):
        actual = int(sample.classes[place])
        if actual != IGNORED:
            scores = output.logits[place[0], :, place[1], place[2]].double()
            total += weights[actual] * float(scores.exp().sum().log() - scores[actual])
            weight += weights[actual]
    assert float(task(class_weights=True).loss(output, sample)) == pytest.approx(total / weight, rel=1e-5)
    rare = sample.classes.where(sample.classes == IGNORED, 0)
    rare[0, 0, 0] = 1
    assert class_weights(rare, COUNT)[1] > 5 * class_weights(rare, COUNT)[0]
    without = sample._replace(classes=torch.full_like(sample.classes, IGNORED))
    assert float(task(class_weights=True).loss(output, without)) == 0


def test_blocks_beyond_the_image_are_ignored() -> None:
    classes = torch.arange(30, dtype=torch.uint8).reshape(1, 5, 6)
    assert classes_at_stride(classes, 4, (2, 2)).tolist() == [[[14, IGNORED], [IGNORED, IGNORED]]]


def test_the_constant_is_the_most_frequent_class() -> None:
    batches = [batch(seed=seed) for seed in range(3)]
    baseline = KIT.baselines["constant"](None, batches, {"classes": COUNT})
    metrics = SegmentationMetrics(NAMES)
    for sample in batches:
        metrics.update(baseline(sample), sample)
    assert task().constant(batches) == pytest.approx(metrics.figures().miou)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        SegmentationMetrics(NAMES).update(torch.zeros(2, COUNT + 1, 5, 7), batch())
    with pytest.raises(ValueError, match="name of its own"):
        SegmentationMetrics(["a", "a"])


@pytest.mark.parametrize("size", [(32, 48), (33, 21), (1, 5)])
def test_the_network_takes_any_size(size: tuple[int, int]) -> None:
    net = network().eval()
    output = net(torch.rand(2, 3, *size))
    assert output.logits.shape == (2, COUNT, *size)
    assert output.strides == (16, 8, 4)
    for level, stride in zip(output.levels, output.strides, strict=True):
        assert level.shape[-2:] == tuple(-(-side // 16) * 16 // stride for side in size)
    assert task().coarsest(*size) == tuple(output.levels[0].shape[-2:])


def test_gradients_reach_every_weight_but_not_through_what_is_fed_back() -> None:
    net = network()
    sample = batch(32, 48)
    task().loss(net(sample.image), sample).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []
    net.zero_grad()
    net(sample.image).levels[-1].sum().backward()
    assert net.predict[0].weight.grad is None


def pairs(**settings: object) -> Shapes3D:
    return Shapes3D(**{"length": 3, "seed": 4, "height": 48, "width": 64, **settings})  # type: ignore[arg-type]


def test_class_maps_are_exact_and_of_the_left_view() -> None:
    source = pairs()
    data = Shapes3DClasses(source)
    for index in (2, 0):
        sample, pair = data[index], source[index]
        assert torch.equal(sample.image, pair.left)
        assert sample.classes.shape == pair.disparity.shape[-2:]
        assert int(sample.classes.max()) < len(CLASSES)
        assert torch.equal(sample.classes, Shapes3DClasses(pairs())[index].classes)
        # Where the class changes, another surface begins: the disparity, smooth on each, jumps.
        classes, disparity = sample.classes[24].tolist(), pair.disparity[0, 24].tolist()
        steps = [abs(b - a) for a, b in pairwise(disparity)]
        borders = [step for step, (a, b) in zip(steps, pairwise(classes), strict=True) if a != b]
        if borders:
            assert np.median(borders) > np.median(steps)
    assert {int(index) for sample in map(data.__getitem__, range(3)) for index in sample.classes.unique()} > {0}
    assert not Shapes3DClasses(pairs(objects=(0, 0)))[0].classes.any()
    with pytest.raises(IndexError):
        data[3]


def striped() -> SegmentedImage:
    """An image whose red channel is its class map."""
    classes = (torch.arange(40)[None] // 5 % COUNT).repeat(30, 1).to(torch.uint8)
    image = torch.stack([classes / 8, torch.rand(30, 40), torch.rand(30, 40)])
    return SegmentedImage(image, classes)


def test_augmentation_is_seeded_and_has_the_size_of_the_crop() -> None:
    augment, sample = SegmentationAugmentation(scale=1.0, crop=(16, 24)), striped()
    before = sample.image.clone()
    state = torch.get_rng_state()
    first, again, other = (augment(sample, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(sample.image, before)
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.classes, again.classes)
    assert not torch.equal(first.image, other.image)
    for result in (first, other):
        assert result.image.shape == (3, 16, 24)
        assert result.classes.shape == (16, 24)
        assert result.classes.dtype == torch.uint8
        assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
        assert set(result.classes.unique().tolist()) <= {*range(COUNT), IGNORED}
    assert SegmentationAugmentation(scale=1.0, crop=None)(sample, np.random.default_rng(0)).image.shape == (3, 30, 40)


def test_geometry_is_the_same_in_image_and_class_map() -> None:
    augment = SegmentationAugmentation(scale=2.0, crop=(16, 24))
    augment._colour = torch.nn.Identity()
    flipped = 0
    for seed in range(8):
        result = augment(striped(), np.random.default_rng(seed))
        known = result.classes != IGNORED
        inside = (result.classes[:, 1:-1] == result.classes[:, :-2]) & (
            result.classes[:, 1:-1] == result.classes[:, 2:]
        )
        right = (result.image[0] * 8 - result.classes).abs() < 0.3
        assert right[:, 1:-1][inside & known[:, 1:-1]].float().mean() > 0.9
        flipped += bool((result.classes[:, 1:].int() - result.classes[:, :-1].int()).clamp(-1, 1).sum() < 0)
    assert 0 < flipped < 8


def test_without_strength_only_the_window_is_random() -> None:
    sample = striped()
    assert all(map(torch.equal, SegmentationAugmentation(scale=0, crop=None)(sample, np.random.default_rng(0)), sample))
    with pytest.raises(InputError, match=r"augmentation\.scale=5"):
        SegmentationAugmentation(scale=5, crop=None)


def test_the_fixed_crop_pads_with_ignored_pixels() -> None:
    result = CenterCrop(crop=(20, 50))(striped())
    assert torch.equal(result.classes[:, :40], striped().classes[5:25])
    assert (result.classes[:, 40:] == IGNORED).all()
    assert result.image.shape == (3, 20, 50)
