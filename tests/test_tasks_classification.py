import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from autodisp.cells.cell import FoundCells, MixedCells
from autodisp.cells.genotype import load
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.datasets.samples import LabelledImage
from autodisp.networks.classification import ClassScores
from autodisp.tasks.base import Sums, means, pool
from autodisp.tasks.classification import ClassificationTask

CLASSES = 5


def task(**arguments: object) -> ClassificationTask:
    numbers = {"channels": 2, "layers": 3, "classes": CLASSES, "mean": (0.4,) * 3, "std": (0.2,) * 3, **arguments}
    return ClassificationTask(**numbers)  # type: ignore[arg-type]


def batch(*labels: int) -> LabelledImage:
    images = torch.rand(len(labels), 3, 4, 4)
    return LabelledImage(images, torch.tensor(labels))  # type: ignore[arg-type]


def cross_entropy_by_loop(logits: Tensor, labels: list[int]) -> float:
    losses = []
    for scores, label in zip(logits.tolist(), labels, strict=True):
        losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[label])
    return sum(losses) / len(losses)


def test_loss_against_a_loop() -> None:
    logits, auxiliary = torch.randn(2, 3, CLASSES, dtype=torch.float64)
    labels = [0, 4, 2]
    main, second = cross_entropy_by_loop(logits, labels), cross_entropy_by_loop(auxiliary, labels)
    assert task().loss(ClassScores(logits, None), batch(*labels)).item() == pytest.approx(main)
    both = task(auxiliary_weight=0.3).loss(ClassScores(logits, auxiliary), batch(*labels))
    assert both.item() == pytest.approx(main + 0.3 * second)


def test_accuracy_counts_nan_scores_as_wrong() -> None:
    logits = torch.zeros(4, CLASSES)
    logits[0, 1] = 1.0
    logits[1, 2] = 1.0
    logits[2] = math.nan
    logits[3, 0] = math.nan
    sums = task().measure(ClassScores(logits, None), batch(1, 3, 0, 0))
    assert sums["accuracy"].tolist() == [100.0, 4.0]


def test_pooled_accuracy_is_that_of_the_whole_set() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(23, CLASSES, requires_grad=True), torch.randint(CLASSES, (23,))
    sums: Sums = {}
    for part in torch.arange(23).split(5):
        one = LabelledImage(torch.rand(len(part), 3, 4, 4), labels[part])  # type: ignore[arg-type]
        measured = task().measure(ClassScores(logits[part], None), one)
        assert not measured["accuracy"].requires_grad
        pool(sums, measured)
    right = sum(int(scores.argmax()) == int(label) for scores, label in zip(logits, labels, strict=True))
    assert means(sums)["accuracy"] == pytest.approx(100 * right / 23)


def test_no_constant_is_better_than_the_best_one() -> None:
    batches = [batch(0, 3, 3), batch(3), batch(1, 1, 4, 3)]
    best = task().constant(batches)
    answers = []
    for name in range(CLASSES):
        sums: Sums = {}
        for one in batches:
            logits = torch.eye(CLASSES)[[name] * len(one.image)]
            pool(sums, task().measure(ClassScores(logits, None), one))
        answers.append(means(sums)["accuracy"])
    assert best == pytest.approx(max(answers)) == pytest.approx(50.0)
    assert math.isnan(task().constant([]))


@pytest.mark.parametrize("auxiliary", [False, True])
def test_the_coarsest_feature_map_is_the_one_that_torch_cannot_normalise(auxiliary: bool) -> None:
    one = task(auxiliary=auxiliary)
    network = one.build_network(FoundCells(load("darts_v2"), style=Style())).train()
    with pytest.raises(ValueError, match="more than 1 value") if one.coarsest(32, 32) == (1, 1) else nullcontext():
        network(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("auxiliary", [False, True])
def test_the_network_has_the_numbers_of_the_task(auxiliary: bool) -> None:
    one = task(auxiliary=auxiliary)
    network = one.build_network(MixedCells(SPACES["s2"], style=Style()))
    assert len(network.cells) == 3
    assert [cell.channels for cell in network.cells] == [2, 4, 8]
    assert network.classifier.out_features == CLASSES
    assert (network.auxiliary is not None) == auxiliary
    assert network.mean.flatten().tolist() == pytest.approx([0.4] * 3)
    images = batch(1, 2)
    assert one.inputs(images) == (images.image,)
    assert set(one.kinds) == set(SPACES["s2"].kinds)
    assert (one.figure.name, one.figure.direction) == ("accuracy", "max")
