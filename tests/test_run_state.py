import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import MixedCells, set_drop_path
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError
from autodisp.networks.classification import ClassificationNetwork
from autodisp.run_state import Checkpoints, Progress, RunState


class Batches:
    """Batch k depends on k alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.position = 0

    def seek(self, position: int) -> None:
        self.position = position

    def next(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.seed + self.position)
        self.position += 1
        images = torch.rand(4, 3, 4, 4, generator=generator)
        return images, torch.randint(3, (4,), generator=generator)


class Training:
    """A tiny search with everything that draws or remembers: noise, drop-path, BN, momentum, Adam, a schedule."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        space = SPACES["s4"]
        self.network = ClassificationNetwork(MixedCells(space, style=Style()), channels=2, layers=3, classes=3)
        set_drop_path(self.network, 0.3)
        self.architecture = Architecture(space, seed=seed)
        self.weights = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=3e-4)
        self.alphas = torch.optim.Adam(self.architecture.parameters(), lr=0.01)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.weights, 10)
        self.streams = {"weights": Batches(1), "alphas": Batches(2)}
        self.progress = Progress(weight_decay=3e-4)
        self.state = RunState(
            parts={
                "network": self.network,
                "architecture": self.architecture,
                "weight_optimizer": self.weights,
                "alpha_optimizer": self.alphas,
                "schedule": self.schedule,
            },
            streams=self.streams,
            progress=self.progress,
        )

    def epoch(self) -> None:
        for _ in range(2):
            for optimizer, stream in ((self.alphas, "alphas"), (self.weights, "weights")):
                images, labels = self.streams[stream].next()
                loss = functional.cross_entropy(self.network(images, self.architecture.weights()).logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            self.progress.steps += 1
        self.schedule.step()
        self.progress.history.append((self.progress.epochs, float(loss.detach())))
        self.progress.eigenvector = torch.rand(3)
        self.progress.epochs += 1


def assert_same(first: Any, second: Any, where: str = "state") -> None:
    assert type(first) is type(second), where
    if isinstance(first, Tensor):
        assert first.dtype == second.dtype, where
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert first == second, where


def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    straight = Training(seed=0)
    straight.epoch()
    checkpoints.save(0, straight.state.capture())
    saved = checkpoints.load(0)
    straight.epoch()
    straight.epoch()
    checkpoints.save(2, straight.state.capture())
    expected = checkpoints.load(2)

    resumed = Training(seed=7)
    resumed.epoch()
    torch.rand(5)
    resumed.state.restore(saved)
    assert_same(resumed.state.capture(), checkpoints.load(0))
    resumed.epoch()
    resumed.epoch()
    assert_same(resumed.state.capture(), expected)

    straight.state.restore(checkpoints.load(0))  # rolling back the run itself
    assert straight.progress.history == [(0, straight.progress.history[0][1])]
    assert (straight.progress.epochs, straight.progress.steps) == (1, 2)
    straight.epoch()
    straight.epoch()
    assert_same(straight.state.capture(), expected)


def test_a_written_state_does_not_move_with_the_run(tmp_path: Path) -> None:
    checkpoints, training = Checkpoints(tmp_path), Training(seed=0)
    training.epoch()
    checkpoints.save(0, training.state.capture())
    before = checkpoints.load(0)
    history = list(training.progress.history)
    training.epoch()
    assert_same(checkpoints.load(0), before)
    assert before["progress"]["history"] == [list(pair) for pair in history]
    assert before["parts"]["schedule"]["last_epoch"] == 1


def test_what_changes_during_a_run_is_in_the_state() -> None:
    training = Training(seed=0)
    training.progress.weight_decay = 3e-3
    training.progress.restarts = 2
    state = training.state.capture()
    other = Training(seed=1)
    other.state.restore(state)
    assert (other.progress.weight_decay, other.progress.restarts, other.progress.eigenvector) == (3e-3, 2, None)
    assert set(state["progress"]) == set(vars(Progress(weight_decay=0.0)))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Checkpoints, bytes, dict[str, Any]]:
    checkpoints = Checkpoints(tmp_path)
    layer = nn.Linear(5, 3)
    state = RunState(parts={"network": layer}, streams={"weights": Batches(1)}, progress=Progress(1e-3)).capture()
    checkpoints.save(4, state)
    return checkpoints, checkpoints.path(4).read_bytes(), checkpoints.load(4)


def outcome(checkpoints: Checkpoints, content: bytes) -> dict[str, Any] | str:
    checkpoints.path(4).write_bytes(content)
    try:
        return checkpoints.load(4)
    except InputError as error:
        return str(error)


def test_a_truncated_file_is_refused(saved: tuple[Checkpoints, bytes, dict[str, Any]]) -> None:
    checkpoints, content, _ = saved
    for length in [*range(0, len(content), 97), len(content) - 1]:
        assert "epoch_0004.pt: cannot be read as a checkpoint" in outcome(checkpoints, content[:length])


def test_a_damaged_file_is_refused_or_read_as_it_was(saved: tuple[Checkpoints, bytes, dict[str, Any]]) -> None:
    checkpoints, content, whole = saved
    draw = random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        start = draw.randrange(len(damaged))
        for position in range(start, min(start + draw.choice([1, 1, 50]), len(damaged))):
            damaged[position] = draw.randrange(256)
        found = outcome(checkpoints, bytes(damaged))
        if isinstance(found, str):
            assert "epoch_0004.pt: " in found
            assert "\n" not in found
            refused += 1
        else:
            assert_same(found, whole)
    assert refused > 50


def test_damage_in_the_weights_is_noticed(saved: tuple[Checkpoints, bytes, dict[str, Any]]) -> None:
    checkpoints, content, whole = saved
    weight = whole["parts"]["network"]["weight"].numpy().tobytes()
    position = content.index(weight) + 7
    damaged = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    assert "damaged, the checksum of its part" in outcome(checkpoints, damaged)


@pytest.mark.parametrize(
    "state",
    [
        {"version": 2, "parts": {}, "streams": {}, "progress": {}, "rng": {}},
        {"version": 1},
        {"parts": {}},
        [1, 2],
        torch.zeros(3),
    ],
)
def test_other_files_are_refused(state: Any, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, state)
    with pytest.raises(InputError, match=r"epoch_0000\.pt: not a checkpoint of version 1"):
        checkpoints.load(0)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "trace",)

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"version": 1, "parts": Attack()})
    with pytest.raises(InputError, match=r"cannot be read as a checkpoint \(UnpicklingError"):
        checkpoints.load(0)
    assert not (tmp_path / "trace").exists()


def test_missing_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"epoch_0003.pt: .*FileNotFoundError"):
        Checkpoints(tmp_path / "absent").load(3)
    assert Checkpoints(tmp_path / "absent").epochs() == []


def test_only_wanted_epochs_stay_and_foreign_files_are_let_alone(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (3, 0, 12345, 7):
        checkpoints.save(epoch, {"version": 1})
    foreign = [tmp_path / name for name in ("epoch_final.pt", "epoch_0001.tmp", "notes.txt", "epoch_3.pt")]
    for path in foreign:
        path.write_text("mine")
    assert checkpoints.epochs() == [0, 3, 7, 12345]
    checkpoints.keep_only({7, 3, 99})
    assert checkpoints.epochs() == [3, 7]
    checkpoints.keep_only(iter([7]))
    assert checkpoints.epochs() == [7]
    checkpoints.keep_only([])
    assert checkpoints.epochs() == []
    assert all(path.read_text() == "mine" for path in foreign)


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    complete = {"version": 1, "parts": {}, "streams": {}, "progress": {}, "rng": {}}
    checkpoints.save(0, complete)

    def fail(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    for epoch in (0, 1):
        with pytest.raises(OSError, match="disk full"):
            checkpoints.save(epoch, complete)
    monkeypatch.undo()
    assert checkpoints.epochs() == [0]
    assert checkpoints.load(0) == complete
    checkpoints.save(1, complete)
    assert checkpoints.load(1) == complete
