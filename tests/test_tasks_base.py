import copy
import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.tasks.base import Figure, Sums, channels_last, means, move, pool, sum_of
from tests.programs import differences

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("direction", "value", "than", "better"),
    [
        ("min", 1.0, 2.0, True),
        ("min", 2.0, 1.0, False),
        ("min", 1.0, 1.0, False),
        ("max", 2.0, 1.0, True),
        ("max", 1.0, 2.0, False),
        ("min", NAN, 1.0, False),
        ("max", NAN, 1.0, False),
        ("min", 1.0, NAN, True),
        ("max", -INF, NAN, True),
        ("min", NAN, NAN, False),
        ("min", 1.0, INF, True),
        ("min", INF, INF, False),
        ("max", 0.0, -INF, True),
    ],
)
def test_which_figure_is_better(direction: Literal["min", "max"], value: float, than: float, better: bool) -> None:
    assert Figure("f", direction).better(value, than) is better


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), max_size=6), min_size=1, max_size=5))
def test_pooled_means_are_those_of_the_whole(batches: list[list[float]]) -> None:
    sums: Sums = {}
    for batch in batches:
        assert pool(sums, {"f": sum_of(torch.tensor(batch))}) is sums
    whole = [value for batch in batches for value in batch]
    expected = math.fsum(whole) / len(whole) if whole else NAN
    assert means(sums)["f"] == pytest.approx(expected, rel=1e-12, abs=1e-9, nan_ok=True)


def test_pooling_leaves_the_parts_alone_and_joins_names() -> None:
    first = {"a": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    sums = pool(pool(pool({}, first), first), {"b": torch.tensor([0.0, 0.0], dtype=torch.float64)})
    assert first["a"].tolist() == [1.0, 2.0]
    assert sums["a"].tolist() == [2.0, 4.0]
    assert math.isnan(means(sums)["b"])


def test_sums_are_exact_where_float32_is_not() -> None:
    values = torch.full((3_000_001,), 0.1)
    total, count = sum_of(values).tolist()
    assert count == 3_000_001
    assert total == pytest.approx(float(values[0]) * count, rel=1e-12)


def test_sums_over_a_mask_do_not_see_the_rest() -> None:
    values = torch.tensor([1.0, NAN, 3.0, INF, -5.0])
    among = torch.tensor([True, False, True, False, False])
    assert sum_of(values, among).tolist() == [4.0, 2.0]
    assert sum_of(values, torch.zeros(5, dtype=torch.bool)).tolist() == [0.0, 0.0]
    assert sum_of(torch.tensor([INF, 1.0]), torch.tensor([True, True])).tolist() == [INF, 2.0]
    assert sum_of(torch.tensor([True, False, True])).tolist() == [2.0, 3.0]


def test_batches_move_whole() -> None:
    images = torch.rand(2, 3, 4, 5)
    flags = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    batch = StereoSample(images, images, torch.rand(2, 1, 4, 5), flags, flags, flags)
    moved = move(batch, torch.device("cpu"))
    assert type(moved) is StereoSample
    assert differences(tuple(batch), tuple(moved)) == []
    assert moved.left.is_contiguous(memory_format=torch.channels_last)
    assert all(entry.is_meta for entry in move(batch, torch.device("meta")))


@pytest.mark.parametrize("label", [3, torch.tensor([1, 2])])
def test_numbers_move_as_they_are(label: Any) -> None:
    moved = move(LabelledImage(torch.rand(2, 3, 4, 4), label), torch.device("cpu"))
    assert type(moved) is LabelledImage
    assert torch.equal(torch.as_tensor(moved.label), torch.as_tensor(label))


def test_channels_last_is_what_to_does_and_spares_3d_convolutions() -> None:
    torch.manual_seed(0)
    flat = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 1, 1), torch.nn.BatchNorm2d(1))
    expected = copy.deepcopy(flat).to(memory_format=torch.channels_last)
    for ours, theirs in zip(channels_last(flat).parameters(), expected.parameters(), strict=True):
        assert ours.stride() == theirs.stride()
        assert torch.equal(ours, theirs)
    deep = torch.nn.Sequential(torch.nn.Conv3d(2, 3, 3))
    before = deep[0].weight.stride()
    assert channels_last(deep)[0].weight.stride() == before
