import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import MixedCells, set_drop_path
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.errors import InputError
from autodisp.networks.classification import ClassificationNetwork
from autodisp.run_state import RunState, StepSnapshot
from autodisp.search.loop import SearchProgress
from tests.programs import differences


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
        self.progress = SearchProgress(weight_decay=3e-4)
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


@pytest.mark.slow
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
    assert differences(resumed.state.capture(), checkpoints.load(0)) == []
    resumed.epoch()
    resumed.epoch()
    assert differences(resumed.state.capture(), expected) == []

    straight.state.restore(checkpoints.load(0))  # rolling back the run itself
    assert straight.progress.history == [(0, straight.progress.history[0][1])]
    assert (straight.progress.epochs, straight.progress.steps) == (1, 2)
    straight.epoch()
    straight.epoch()
    assert differences(straight.state.capture(), expected) == []


def test_a_written_state_does_not_move_with_the_run(tmp_path: Path) -> None:
    checkpoints, training = Checkpoints(tmp_path), Training(seed=0)
    training.epoch()
    checkpoints.save(0, training.state.capture())
    before = checkpoints.load(0)
    history = list(training.progress.history)
    training.epoch()
    assert differences(checkpoints.load(0), before) == []
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
    assert set(state["progress"]) == set(vars(SearchProgress(weight_decay=0.0)))


def test_another_networks_state_is_refused() -> None:
    training, other = Training(seed=0), Training(seed=0)
    state = training.state.capture()
    parts = {**state["parts"], "network": nn.Linear(2, 2).state_dict()}
    for wrong in ({**state, "parts": parts}, {**state, "parts": {}}, {**state, "rng": {}}, {**state, "streams": {}}):
        with pytest.raises(InputError, match="state does not fit this run"):
            other.state.restore(wrong)


def test_a_snapshot_rolls_a_step_back() -> None:
    training = Training(seed=0)
    training.alphas = torch.optim.Adam(training.architecture.parameters(), lr=0.01, fused=True)
    for _ in range(2):  # the first one finds Adam without memory
        before = copy.deepcopy((training.state.capture(), dict(training.alphas.state)))
        moved = [*training.architecture.parameters(), *training.network.buffers()]
        snapshot = StepSnapshot(training.state, moved, training.alphas)
        for stream in training.streams.values():
            images, labels = stream.next()
        logits = training.network(images, training.architecture.weights()).logits
        functional.cross_entropy(logits, labels).backward()
        training.alphas.step()
        training.progress.steps += 1
        assert not torch.equal(moved[-1], before[0]["parts"]["network"][list(training.network.state_dict())[-1]])
        snapshot.roll_back()
        after = copy.deepcopy((training.state.capture(), dict(training.alphas.state)))
        assert differences(after[0], before[0]) == []
        assert [list(entries) for entries in after[1].values()] == [list(entries) for entries in before[1].values()]
        training.alphas.step()
