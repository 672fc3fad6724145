"""Accuracies against a loop that ranks with sorted()."""

import math

import pytest
import torch
from torch import Tensor

from autodisp.datasets.samples import LabelledImage
from autodisp.evaluation.classification_metrics import ClassificationFigures, ClassificationMetrics

NAN, INF = math.nan, math.inf


def names(count: int) -> list[str]:
    return [f"class {k}" for k in range(count)]


def evaluated(classes: int, *batches: tuple[Tensor, Tensor]) -> ClassificationFigures:
    metrics = ClassificationMetrics(names(classes))
    for scores, labels in batches:
        metrics.update(scores, LabelledImage(torch.zeros(len(labels), 3, 2, 2), labels))  # type: ignore[arg-type]
    return metrics.figures()


def random_batch(count: int, classes: int, seed: int, *, levels: int = 1000) -> tuple[Tensor, Tensor]:
    """Few levels give many ties."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, levels, (count, classes), generator=generator).float()
    return scores, torch.randint(0, classes, (count,), generator=generator)


def percent(hits: list[bool]) -> float:
    return 100 * sum(hits) / len(hits) if hits else NAN


@pytest.mark.parametrize(("classes", "levels"), [(10, 1000), (10, 3), (7, 2), (5, 4), (3, 1000), (1, 2), (100, 9)])
def test_against_a_loop(classes: int, levels: int) -> None:
    batches = [random_batch(40, classes, 0, levels=levels), random_batch(1, classes, 1, levels=levels)]
    batches[0][0][::7, 0] = NAN
    figures = evaluated(classes, *batches)
    tops = sorted({1, min(5, classes)})
    hits: dict[int, list[tuple[int, list[bool]]]] = {top: [] for top in tops}
    confusion = [[0] * classes for _ in range(classes)]
    unanswered = 0
    for scores, labels in batches:
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
            lost = any(math.isnan(score) for score in row)
            order = sorted(range(classes), key=lambda k: (-row[k], k))
            for top in tops:
                hits[top].append((label, [not lost and label in order[:top]]))
            unanswered += lost
            if not lost:
                confusion[label][order[0]] += 1
    assert figures.unanswered == unanswered
    assert figures.confusion == confusion
    assert figures.overall.images == 41
    for top in tops:
        name = f"top{top}"
        assert figures.overall.accuracy[name] == pytest.approx(percent([hit for _, (hit,) in hits[top]]))
        own = {k: percent([hit for label, (hit,) in hits[top] if label == k]) for k in range(classes)}
        for k in range(classes):
            assert figures.classes[f"class {k}"].accuracy[name] == pytest.approx(own[k], nan_ok=True)
        known = [value for value in own.values() if not math.isnan(value)]
        assert figures.mean_per_class[name] == pytest.approx(sum(known) / len(known))
    assert list(figures.overall.accuracy) == [f"top{top}" for top in tops]
    assert list(figures.classes) == names(classes)


def test_ties_go_to_the_smaller_number() -> None:
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    figures = evaluated(3, (scores, torch.tensor([0, 1, 0])))
    assert figures.overall.accuracy == {"top1": 100.0, "top3": 100.0}
    assert evaluated(3, (scores, torch.tensor([1, 2, 2]))).overall.accuracy["top1"] == 0.0


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_nan_anywhere_is_wrong(place: int) -> None:
    scores = torch.eye(6)[:2]
    scores[0, place] = NAN
    figures = evaluated(6, (scores, torch.tensor([0, 1])))
    assert figures.overall.accuracy == {"top1": 50.0, "top5": 50.0}
    assert figures.classes["class 0"].accuracy == {"top1": 0.0, "top5": 0.0}
    assert figures.unanswered == 1
    assert sum(map(sum, figures.confusion)) == 1


def test_infinite_scores_are_ranked() -> None:
    scores = torch.tensor([[-INF, 0.0], [INF, 0.0]])
    assert evaluated(2, (scores, torch.tensor([1, 0]))).overall.accuracy["top1"] == 100.0


def test_nothing_at_all_gives_nan() -> None:
    for figures in (evaluated(4), evaluated(4, (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))):
        assert figures.overall.images == figures.unanswered == 0
        for values in (figures.overall.accuracy, figures.mean_per_class, figures.classes["class 3"].accuracy):
            assert all(math.isnan(value) for value in values.values())


def test_wrong_arguments() -> None:
    metrics = ClassificationMetrics(names(3))
    image = torch.zeros(2, 3, 2, 2)
    for scores, labels in ((torch.zeros(2, 4), [0, 1]), (torch.zeros(3, 3), [0, 1]), (torch.zeros(3), [0, 1])):
        with pytest.raises(ValueError, match="3 classes"):
            metrics.update(scores, LabelledImage(image, torch.tensor(labels)))  # type: ignore[arg-type]
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="0 to 2"):
            metrics.update(torch.zeros(2, 3), LabelledImage(image, torch.tensor(labels)))  # type: ignore[arg-type]
    for classes in ([], ["cat", "cat"]):
        with pytest.raises(ValueError, match="name of its own"):
            ClassificationMetrics(classes)
