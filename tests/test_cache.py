import math
import pickle
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autodisp.datasets.cache import Cached, Stored
from autodisp.errors import InputError


class Sample(NamedTuple):
    image: Any
    other: Any = None


class Source:
    """Makes its samples anew each time, and counts."""

    def __init__(self, *samples: Sample) -> None:
        self.samples = samples
        self.made: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        self.made[index] += 1
        return Sample(*(entry.clone() if isinstance(entry, Tensor) else entry for entry in self.samples[index]))


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, Tensor):
        assert (first.dtype, first.shape, first.stride()) == (second.dtype, second.shape, second.stride())
        assert bits(first) == bits(second)
    else:
        assert first == second


EIGHT_BIT = torch.arange(256, dtype=torch.float32) / 255


@pytest.mark.parametrize(
    "entry",
    [
        EIGHT_BIT,
        EIGHT_BIT.view(16, 16).t(),
        EIGHT_BIT[:192].view(1, 3, 8, 8).to(memory_format=torch.channels_last),
        EIGHT_BIT.double(),
        torch.arange(256, dtype=torch.float64) / 255,
        EIGHT_BIT.half(),
        torch.tensor([0.0, -0.0, 1.0]),
        torch.tensor([0.0, 1.0]).nextafter(torch.tensor(2.0)),
        EIGHT_BIT + 1e-7,
        torch.tensor([math.nan, 0.0]),
        torch.tensor([math.inf, 0.0]),
        torch.tensor([-1 / 255, 256 / 255]),
        torch.rand(3, 5, 7),
        torch.tensor(0.0),
        torch.tensor(0.5),
        torch.empty(0),
        torch.tensor([True, False]),
        torch.tensor([3, -1]),
        torch.tensor([1, 2], dtype=torch.uint8),
        7,
        "a name",
        None,
    ],
)
def test_entries_come_back_bit_for_bit(entry: Any) -> None:
    source = Source(Sample(entry, entry))
    cached: Cached[Sample] = Cached(source)
    for _ in range(3):
        found = cached[0]
        assert type(found) is Sample
        for seen in found:
            assert_same(seen, entry)
    assert source.made == {0: 1}


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12))
def test_any_bits_of_a_float_come_back(words: list[int]) -> None:
    entry = torch.from_numpy(np.array(words, dtype=np.uint32).view(np.float32).copy())
    cached: Cached[Sample] = Cached(Source(Sample(entry)))
    assert_same(cached[0].image, entry)
    assert_same(cached[0].image, entry)


@pytest.mark.parametrize("entry", [EIGHT_BIT, torch.rand(8), torch.tensor([1, 2])])
def test_changing_a_sample_does_not_change_the_memory(entry: Tensor) -> None:
    cached: Cached[Sample] = Cached(Source(Sample(entry)))
    for _ in range(3):
        found = cached[0].image
        assert_same(found, entry)
        found.zero_()


def test_each_sample_is_made_once_and_only_when_asked_for() -> None:
    source = Source(*(Sample(torch.full((2,), float(index)), index) for index in range(4)))
    cached: Cached[Sample] = Cached(source)
    assert len(cached) == 4
    assert not source.made
    for index in (2, 0, 2, 2, 0):
        assert cached[index].other == index
        assert cached[index].image.tolist() == [index] * 2
    assert source.made == {2: 1, 0: 1}
    with pytest.raises(IndexError):
        cached[4]


def test_eight_bit_images_take_a_quarter_of_the_memory() -> None:
    image = EIGHT_BIT.repeat(100)
    cached: Cached[Sample] = Cached(Source(Sample(image)))
    before = len(pickle.dumps(cached))
    cached[0]
    assert len(pickle.dumps(cached)) - before < 0.3 * image.nbytes


def stereo_like() -> Sample:
    return Sample(torch.randint(0, 256, (3, 4, 5)).to(torch.float32) / 255, torch.randn(1, 4, 5) * 40)


def test_stored_samples_are_made_once_and_come_back_bit_for_bit(tmp_path: Path) -> None:
    source = Source(stereo_like(), Sample(torch.rand(3, 2, 2), torch.rand(1, 2, 2) > 0.5))
    folder = tmp_path / "kept" / "here"
    for _ in range(2):
        stored = Stored(source, folder, Sample)
        assert len(stored) == 2
        for index in range(2):
            found = stored[index]
            assert isinstance(found, Sample)
            for entry, expected in zip(found, source.samples[index], strict=True):
                assert entry.dtype == expected.dtype
                assert torch.equal(entry, expected)
    assert source.made == {0: 1, 1: 1}
    assert sorted(path.name for path in folder.iterdir()) == ["0000000.npy.z", "0000001.npy.z"]


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes | None) -> None:
    stored = Stored(Source(stereo_like()), tmp_path, Sample)
    _ = stored[0]
    path = tmp_path / "0000000.npy.z"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(InputError, match=r"0000000\.npy\.z: is damaged; delete it"):
        _ = stored[0]
