"""A search of two small cells on batches made up for it, whose observer keeps what it is told."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import MixedCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.search.adaptive import AdaptiveRegularization
from autodisp.search.curvature import preserved_rng
from autodisp.search.early_stopping import EarlyStopping
from autodisp.search.loop import Search, SearchSettings
from autodisp.search.regularization import Regularization, RollBack, Stop
from autodisp.search.relaxations import Uniform
from autodisp.search.selection import Ranking
from autodisp.search.supernet import Supernet
from tests.shared_runs import MaskedTask, Sample


class Batches:
    """Batch k is a function of k; some are without truth, some spoilt."""

    def __init__(self, seed: int, *, empty: Iterable[int] = (), spoilt: Iterable[int] = ()) -> None:
        self.seed, self.empty, self.spoilt = seed, set(empty), set(spoilt)
        self.position, self.waited = 0, 0.0

    def at(self, position: int) -> Sample:
        draw = torch.Generator().manual_seed(1000 * self.seed + position)
        image = torch.rand(2, 3, 6, 6, generator=draw)
        target = image.mean(dim=1, keepdim=True)[..., ::2, ::2]
        valid = torch.rand(target.shape, generator=draw) < 0.8
        if position in self.empty:
            valid = torch.zeros_like(valid)
        if position in self.spoilt:
            target = target * math.nan
        return Sample(image, target, valid)

    def next(self) -> Sample:
        self.position += 1
        return self.at(self.position - 1)

    def seek(self, position: int) -> None:
        self.position = position


class Listener:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.steps = 0
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def step(self, epoch: int, step: int, figures: Callable[[], Mapping[str, float]]) -> None:
        self.steps += 1

    def epoch(self, record: dict[str, Any], genotype: Genotype, edge_weights: Mapping[str, Tensor]) -> None:
        self.records.append(record)

    def event(self, kind: str, **entries: Any) -> None:
        self.events.append((kind, entries))


class Scripted(Regularization):
    """Answers once, at one epoch."""

    def __init__(self, at: int, answer: Stop | RollBack) -> None:
        super().__init__(EarlyStopping(), AdaptiveRegularization())
        self.at, self.scripted, self.seen = at, answer, []

    def answer(self, history: Any, *, last_epoch: int, weight_decay: float) -> Stop | RollBack | None:
        self.seen.append(list(history))
        if history[-1][0] == self.at and self.scripted is not None:
            answer, self.scripted = self.scripted, None
            return answer
        return None

    def returnable(self, history: Any, epoch: int, *, weight_decay: float) -> set[int]:
        return set(range(epoch + 1))


def make(
    folder: Path,
    *,
    seed: int = 0,
    regularization: Regularization | None = None,
    share: int = 1,
    auxiliary: bool = False,
    **settings: Any,
) -> tuple[Search, Listener]:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    space, task = SPACES["tiny81"], MaskedTask()
    network = task.build_network(MixedCells(space, style=Style(), share=share, auxiliary=auxiliary))
    supernet = Supernet(task, network, Architecture(space, seed=seed, edges=share > 1))
    weights = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4)
    listener = Listener()
    numbers = {"epochs": 3, "steps_per_epoch": 3, "curvature_every": 1, "curvature_tolerance": 0.3, **settings}
    search = Search(
        supernet,
        weight_stream=Batches(1),
        alpha_stream=Batches(2),
        validation=[Batches(3).at(0)],
        weight_optimizer=weights,
        alpha_optimizer=torch.optim.Adam(supernet.alphas, lr=0.01, betas=(0.5, 0.999), weight_decay=1e-3),
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(weights, numbers["epochs"]),
        regularization=regularization or Regularization(),
        settings=SearchSettings(**numbers),
        checkpoints=Checkpoints(folder / "checkpoints"),
        observer=listener,
    )
    return search, listener


def uniform_search(folder: Path, **settings: Any) -> Any:
    search, listener = make(folder, **settings)
    search.supernet.relaxation = Uniform()
    search.selection = Ranking([Batches(4).at(0)], [Batches(4).at(k) for k in range(2)], seed=1, samples=4, finalists=2)
    return search, listener


def tensors(search: Search) -> list[Tensor]:
    supernet = search.supernet
    state = [*supernet.network.state_dict().values(), *supernet.alphas]
    return [tensor.detach().clone() for tensor in state]


def alpha_gradients(search: Search, batch: Sample, order: str = "first") -> list[Tensor]:
    """What an alpha step would descend along; nothing moves."""
    found: list[list[Tensor]] = []
    with preserved_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.guard, "note", lambda _, gradients: found.append([g.clone() for g in gradients]))
        patch.setattr(search.guard, "step", lambda optimizer: None)
        search.alpha_step(batch, order)
    return found[-1]
