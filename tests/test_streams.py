"""Batches are a function of the seed and their number, whatever reads them."""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.datasets.streams import Augmented, Draw, EndlessBatches, Scheduled, Stream, collate, fixed_batches
from autodisp.errors import InputError, RunFault, WrongSetting


class Numbered:
    """Image i is filled with i and has the label i."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> LabelledImage:
        return LabelledImage(torch.full((3, 2, 2), float(index)), index)


class Broken(Numbered):
    def __getitem__(self, index: int) -> LabelledImage:
        if index == 3:
            raise InputError("left/0003.png: is truncated: copy it again")
        return super().__getitem__(index)


class Crashing(Numbered):
    def __getitem__(self, index: int) -> LabelledImage:
        raise ZeroDivisionError("a fault of ours")


class WorkerState(NamedTuple):
    pid: torch.Tensor
    threads: torch.Tensor


class Introspective(Numbered):
    def __getitem__(self, index: int) -> WorkerState:
        return WorkerState(torch.tensor(os.getpid()), torch.tensor(torch.get_num_threads()))


def add_noise(sample: LabelledImage, generator: np.random.Generator) -> LabelledImage:
    return sample._replace(image=sample.image + torch.tensor(generator.normal(size=(3, 2, 2)), dtype=torch.float32))


def draw_key(batch: list[Draw]) -> list[tuple[int, int]]:
    return [(draw.index, draw.epoch) for draw in batch]


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (9, 3), (4, 4), (5, 1), (7, 5)])
def test_each_pass_takes_whole_batches_of_different_samples(n: int, batch_size: int) -> None:
    batches = EndlessBatches(n, batch_size, seed=0)
    per_epoch = batches.batches_per_epoch
    assert per_epoch == n // batch_size
    for epoch in range(5):
        draws = [draw for k in range(per_epoch) for draw in batches.batch(epoch * per_epoch + k)]
        assert {draw.epoch for draw in draws} == {epoch}
        assert len({draw.index for draw in draws}) == len(draws) == per_epoch * batch_size
        assert all(0 <= draw.index < n for draw in draws)


def test_a_batch_is_a_function_of_seed_and_number() -> None:
    first = iter(EndlessBatches(11, 4, seed=5))
    consumed = [draw_key(next(first)) for _ in range(9)]
    for k in (8, 0, 5, 3):
        assert draw_key(EndlessBatches(11, 4, seed=5).batch(k)) == consumed[k]
        sought = EndlessBatches(11, 4, seed=5)
        sought.position = k
        assert draw_key(next(iter(sought))) == consumed[k]
    others = iter(EndlessBatches(11, 4, seed=6))
    assert [draw_key(next(others)) for _ in range(9)] != consumed


def test_every_pass_has_its_own_order_and_drops_other_samples() -> None:
    batches = EndlessBatches(50, 15, seed=0)
    orders = {tuple(draw.index for k in range(3) for draw in batches.batch(3 * epoch + k)) for epoch in range(20)}
    assert len(orders) == 20
    uses = Counter(index for order in orders for index in order)
    assert set(uses) == set(range(50))


@pytest.mark.parametrize(("n", "batch_size", "says"), [(3, 4, "batch_size=4.*only 3"), (0, 1, "only 0"), (5, 0, "=0")])
def test_no_whole_batch(n: int, batch_size: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        EndlessBatches(n, batch_size, seed=0)
    with pytest.raises(InputError, match=says):
        Stream(Numbered(n), batch_size=batch_size, seed=0)


def test_augmentation_depends_on_seed_pass_and_index_alone() -> None:
    plain, data = Numbered(5), Augmented(Numbered(5), add_noise, seed=1)
    once = data[Draw(2, 7, 20)]
    for draw in (Draw(0, 0, 0), Draw(4, 9, 28)):
        data[draw]
    assert torch.equal(data[Draw(2, 7, 21)].image, once.image)
    noise = [data[Draw(i, e, 0)].image - plain[i].image for i in range(5) for e in range(4)]
    noise += [Augmented(Numbered(5), add_noise, seed=2)[Draw(i, 0, 0)].image - plain[i].image for i in range(5)]
    assert len({tuple(np.round(one.flatten().numpy(), 3)) for one in noise}) == 25
    assert torch.equal(Augmented(plain, None, seed=1)[Draw(3, 1, 0)].image, plain[3].image)


def same(one: LabelledImage, other: LabelledImage) -> bool:
    return torch.equal(one.image, other.image) and torch.equal(one.label, other.label)


def brighter(batch: int, sample: LabelledImage, generator: np.random.Generator) -> LabelledImage:
    return sample._replace(image=add_noise(sample, generator).image + 100 * batch)


def brighter_from(batch: int) -> Callable[[LabelledImage, np.random.Generator], LabelledImage]:
    return functools.partial(brighter, batch)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_scheduled_transform_is_that_of_its_batch(workers: int) -> None:
    """However far workers read ahead, and after a seek as well."""
    plain = Stream(Numbered(13), batch_size=4, seed=9, transform=add_noise)
    expected = [plain.next().image + 100 * k for k in range(7)]
    stream = Stream(Numbered(13), batch_size=4, seed=9, transform=Scheduled(brighter_from), workers=workers)
    assert all(torch.equal(stream.next().image, image) for image in expected)
    stream.seek(2)
    assert all(torch.equal(stream.next().image, image) for image in expected[2:])
    stream.close()


def test_workers_do_not_change_a_bit_and_live_on() -> None:
    here = Stream(Numbered(13), batch_size=4, seed=9, transform=add_noise)
    there = Stream(Numbered(13), batch_size=4, seed=9, transform=add_noise, workers=2)
    torch.manual_seed(1)
    expected = [here.next() for _ in range(8)]
    state = torch.get_rng_state()
    torch.manual_seed(2)
    got = [there.next() for _ in range(8)]
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))
    assert isinstance(got[0], LabelledImage)
    assert got[0].image.shape == (4, 3, 2, 2)
    assert got[0].label.dtype == torch.int64
    assert here.position == there.position == 8
    assert there.waited > 0
    for k in (2, 7, 0, 1):
        there.seek(k)
        assert there.position == k
        assert same(there.next(), expected[k])
    there.close()
    assert same(there.next(), expected[2])
    there.close()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_torch_keeps_its_random_state(workers: int) -> None:
    before = torch.get_rng_state()
    stream = Stream(Numbered(4), batch_size=2, seed=0, workers=workers)
    stream.next()
    stream.close()
    list(fixed_batches(Numbered(4), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_survive_a_seek_and_use_one_thread() -> None:
    stream = Stream(Introspective(12), batch_size=1, seed=0, workers=2)
    first = [stream.next() for _ in range(6)]
    stream.seek(100)
    second = [stream.next() for _ in range(6)]
    stream.close()
    pids = [{int(batch.pid) for batch in batches} for batches in (first, second)]
    assert pids[0] == pids[1]
    assert len(pids[0]) == 2
    assert os.getpid() not in pids[0]
    assert {int(batch.threads) for batch in first + second} == {1}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_position_can_be_sought(workers: int) -> None:
    reference = Stream(Numbered(7), batch_size=2, seed=3)
    expected = [reference.next() for _ in range(6)]
    stream = Stream(Numbered(7), batch_size=2, seed=3, workers=workers)
    stream.seek(4)
    assert same(stream.next(), expected[4])
    stream.seek(5)
    assert same(stream.next(), expected[5])
    stream.seek(1)
    stream.seek(6)
    stream.seek(1)
    assert same(stream.next(), expected[1])
    with pytest.raises(ValueError, match="-1"):
        stream.seek(-1)
    assert same(stream.next(), expected[2])
    stream.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_can_be_read_again_without_moving(workers: int) -> None:
    reference = Stream(Numbered(7), batch_size=2, seed=3)
    expected = [reference.next() for _ in range(6)]
    stream = Stream(Numbered(7), batch_size=2, seed=3, workers=workers)
    for position in range(5):
        assert stream.next().label.tolist() == expected[position].label.tolist()
        assert stream.at(position).label.tolist() == expected[position].label.tolist()
        assert stream.at(5).label.tolist() == expected[5].label.tolist(), "of another pass"
        assert stream.position == position + 1
    stream.close()
    with pytest.raises(InputError, match="truncated"):
        Stream(Broken(4), batch_size=4, seed=0).at(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_error_comes_out_as_it_went_in(workers: int) -> None:
    stream = Stream(Broken(4), batch_size=2, seed=0, workers=workers)
    bad = next(k for k in range(2) if 3 in [draw.index for draw in EndlessBatches(4, 2, seed=0).batch(k)])
    if bad == 1:
        stream.next()
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            stream.next()
        assert str(caught.value) == "left/0003.png: is truncated: copy it again"
        assert stream.position == bad
    stream.seek(1 - bad)
    assert 3 not in stream.next().label.tolist()
    stream.close()
    with pytest.raises(InputError, match="truncated"):
        list(fixed_batches(Broken(4), 2))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_stays_a_fault(workers: int) -> None:
    stream = Stream(Crashing(4), batch_size=2, seed=0, workers=workers)
    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        stream.next()
    stream.close()


def test_nothing_starts_before_the_first_batch() -> None:
    stream = Stream(Crashing(4), batch_size=2, seed=0, workers=2)
    stream.seek(3)
    assert stream.position == 3
    assert stream.waited == 0
    stream.close()


@pytest.mark.slow
def test_leaving_without_close_is_silent() -> None:
    program = """
        import torch
        from autodisp.datasets.samples import LabelledImage
        from autodisp.datasets.streams import Stream

        class Data:
            def __len__(self):
                return 64
            def __getitem__(self, index):
                return LabelledImage(torch.zeros(3, 8, 8), index)

        if __name__ == "__main__":
            stream = Stream(Data(), batch_size=4, seed=0, workers=2)
            for _ in range(5):
                stream.next()
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_fixed_batches_are_every_sample_once_in_order() -> None:
    loader = fixed_batches(Numbered(7), 3)
    for _ in range(2):
        batches = list(loader)
        assert [batch.label.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
        assert all(isinstance(batch, LabelledImage) for batch in batches)
    with pytest.raises(InputError, match="no sample"):
        fixed_batches(Numbered(0), 3)
    with pytest.raises(InputError, match="batch_size=0"):
        fixed_batches(Numbered(3), 0)


class OfSizes(Numbered):
    """Image i has the height heights[i]."""

    def __init__(self, *heights: int) -> None:
        super().__init__(len(heights))
        self.heights = heights

    def __getitem__(self, index: int) -> LabelledImage:
        return LabelledImage(torch.zeros(3, self.heights[index], 2), index)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("heights", "batches"),
    [
        ((2, 2, 2, 3), [[0, 1], [2], [3]]),  # only the last one has another size
        ((2, 3, 3, 2, 2), [[0], [1], [2], [3], [4]]),
        ((3, 3, 3, 3, 2), [[0, 1], [2, 3], [4]]),
    ],
)
def test_fixed_batches_part_where_the_size_changes(heights: tuple[int, ...], batches: list[list[int]]) -> None:
    """Or a validation would fail after all of its steps."""
    found = fixed_batches(OfSizes(*heights), 2)
    assert [batch.label.tolist() for batch in found] == batches
    assert [batch.image.shape[2] for batch in found] == [heights[batch[0]] for batch in batches]


def stereo(height: int, width: int) -> StereoSample:
    mask = torch.ones(1, height, width, dtype=torch.bool)
    view = torch.rand(3, height, width)
    return StereoSample(view, view, torch.rand(1, height, width), mask, mask, ~mask)


def test_collate_stacks_every_field() -> None:
    samples = [stereo(4, 5), stereo(4, 5)]
    batch = collate(samples)
    assert isinstance(batch, StereoSample)
    for field, values in zip(batch, zip(*samples, strict=True), strict=True):
        assert torch.equal(field, torch.stack(list(values)))
        assert field.dtype == values[0].dtype


def test_collate_names_sizes_that_differ() -> None:
    samples = [stereo(4, 6), stereo(4, 5)]
    for stacked in (partial(collate, samples), Stream(samples, batch_size=2, seed=0, workers=1).next):
        with pytest.raises(WrongSetting, match=r"3x4x5 and 3x4x6: take dataset\.crop=.*training\.batch_size"):
            stacked()


def test_a_worker_that_dies_is_named_and_replaced() -> None:
    stream = Stream(Numbered(12), batch_size=2, seed=0, workers=1)
    straight = Stream(Numbered(12), batch_size=2, seed=0)
    labels = [straight.next().label.tolist() for _ in range(12)]
    before, others = signal.getsignal(signal.SIGCHLD), multiprocessing.active_children()
    assert stream.next().label.tolist() == labels[0]
    assert signal.getsignal(signal.SIGCHLD) is before
    (worker,) = (process for process in multiprocessing.active_children() if process not in others)
    worker.kill()
    worker.join()

    def read_on() -> None:
        for _ in range(10):  # what it had read ahead is still there
            stream.next()

    with pytest.raises(RunFault, match=r"a worker that reads samples ahead died \(DataLoader worker .*run\.workers=1"):
        read_on()
    position = stream.position
    assert stream.next().label.tolist() == labels[position]
    stream.close()
