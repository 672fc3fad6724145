"""A search in float64 that several processes share, for test_distributed; each process runs this file."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from autodisp import distributed
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, FoundCells, MixedCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.datasets.streams import Stream
from autodisp.errors import InputError, Interrupted, RunFault
from autodisp.networks.synchronised import synchronise
from autodisp.search.bilevel import Order
from autodisp.search.loop import Search, SearchSettings
from autodisp.search.regularization import Regularization
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Figure, Sums, mean_over, sum_of
from autodisp.training.average import MovingAverage
from autodisp.training.loop import Training, TrainSettings

EPOCHS, STEPS, BATCH = 2, 3, 4
ORDERS: tuple[Order, ...] = ("first", "exact", "finite_difference")


class Sample(NamedTuple):
    image: Tensor
    target: Tensor
    valid: Tensor


class Samples:
    """Valid pixels differ in number, and every second sample has none."""

    unreadable: int | None = None

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> Sample:
        if index == self.unreadable:
            raise InputError(f"sample {index}: damaged")
        draw = torch.Generator().manual_seed(100 * self.seed + index)
        image = torch.rand(3, 8, 8, generator=draw, dtype=torch.float64)
        valid = torch.rand(1, 4, 4, generator=draw) < (index % 2) * (index + 1) / 14
        return Sample(image, image.mean(dim=0, keepdim=True)[..., ::2, ::2], valid)


class Network(nn.Module):
    """One normal and one reduction cell, then a value per pixel at half resolution."""

    def __init__(self, cells: CellFactory) -> None:
        super().__init__()
        self.normal = cells.encoder_cell("normal", inputs=(3, 3), channels=2, after_reduction=False)
        self.reduce = cells.encoder_cell("reduce", inputs=(3, 2), channels=2, after_reduction=False)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, image: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        value: Tensor = self.head(self.reduce((image, self.normal((image, image), weights)), weights))
        return value


class MaskedTask:
    name = "masked"
    kinds = ("normal", "reduce")
    figure = Figure("mse", "min")
    settings: Mapping[str, Any] = {}

    def build_network(self, cells: CellFactory) -> nn.Module:
        return Network(cells)

    def inputs(self, batch: Sample) -> tuple[Tensor, ...]:
        return (batch.image,)

    def loss(self, output: Tensor, batch: Sample) -> Tensor:
        wrong = torch.where(batch.valid, output - batch.target, 0.0).square()
        return mean_over(wrong.sum(), batch.valid.sum())

    def measure(self, output: Tensor, batch: Sample) -> Sums:
        return {"mse": sum_of((output.detach() - batch.target).square(), batch.valid)}

    def constant(self, batches: Iterable[Sample]) -> float:
        return float("nan")


class Records:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def message(self, text: str) -> None: ...

    def step(self, *_: Any) -> None: ...

    def event(self, *_: Any, **__: Any) -> None: ...

    def epoch(self, record: dict[str, Any], *_: Any) -> None:
        self.records.append(record)

    def interval(self, record: dict[str, Any], *, best: bool) -> None:
        self.records.append(record)


class StopAfter:
    """Asks for a stop after some calls, in the last process only."""

    def __init__(self, calls: int | None) -> None:
        self.left = calls

    def __call__(self) -> bool:
        if self.left is None or distributed.rank() != distributed.world() - 1:
            return False
        self.left -= 1
        return self.left == 0


def build(folder: Path, order: Order = "first", *, stop_after: int | None = None, normalised: bool = False) -> Search:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    space, task = SPACES["tiny81"], MaskedTask()
    style = Style() if normalised else Style(flavour="dense", batch_norm=False)
    network = synchronise(task.build_network(MixedCells(space, style=style)).double())
    supernet = Supernet(task, network, Architecture(space, seed=0).double())
    weights = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=3e-4, fused=True)
    return Search(
        supernet,
        weight_stream=Stream(Samples(1), batch_size=BATCH, seed=1),
        alpha_stream=Stream(Samples(2), batch_size=BATCH, seed=2),
        validation=[Stream(Samples(3), batch_size=2 * distributed.world(), seed=3).at(k) for k in range(3)],
        weight_optimizer=weights,
        alpha_optimizer=torch.optim.Adam(supernet.alphas, lr=0.01, betas=(0.5, 0.999), fused=True),
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(weights, EPOCHS),
        regularization=Regularization(),
        settings=SearchSettings(epochs=EPOCHS, steps_per_epoch=STEPS, curvature_every=1, order=order, clip=0.01),
        checkpoints=Checkpoints(folder / "checkpoints"),
        observer=Records(),
        stopping=StopAfter(stop_after),
    )


def state_of(search: Search) -> dict[str, Any]:
    """Returns what a finished search has reached."""
    weights = torch.cat([value.detach().flatten() for value in search.supernet.network.state_dict().values()])
    record = search.observer.records[-1]
    return {
        "weights": weights,
        "alphas": torch.cat([alpha.detach().flatten() for alpha in search.supernet.alphas]),
        "eigenvalues": torch.tensor([value for _, value in search.progress.history], dtype=torch.float64),
        "metrics": torch.tensor([record[f"train/{name}"] for name in ("loss", "mse")], dtype=torch.float64),
        "genotypes": dict(search.progress.genotypes),
    }


def trained(folder: Path) -> dict[str, Any]:
    """Returns what a training with batches of few valid pixels has reached; its average and metrics too."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    task, space = MaskedTask(), SPACES["tiny81"]
    cells = FoundCells(Genotype("tiny81", space.sample(3)), style=Style(flavour="dense", batch_norm=False))
    network = task.build_network(cells).double()
    average = MovingAverage(network, 0.9)
    training = Training(
        task,
        network,
        stream=Stream(Samples(1), batch_size=BATCH // 2, seed=1),
        validation=[Stream(Samples(3), batch_size=2 * distributed.world(), seed=3).at(0)],
        optimizer=torch.optim.AdamW(network.parameters(), 0.01, fused=True),
        settings=TrainSettings(steps=7, validate_every=4, clip=0.01),
        checkpoints=Checkpoints(folder / "checkpoints", unit="step"),
        observer=Records(),
        average=average,
    )
    record = training.run()
    values = [tensor.detach().flatten().double() for tensor in (*network.parameters(), *average.state_dict().values())]
    metrics = torch.tensor([record[f"train/{name}"] for name in ("loss", "mse")], dtype=torch.float64)
    return {"weights": torch.cat(values), "metrics": metrics}


def whole(folder: Path, order: Order, *, normalised: bool = False) -> dict[str, Any]:
    search = build(folder, order, normalised=normalised)
    search.run()
    return state_of(search)


def resumed(folder: Path) -> dict[str, Any]:
    """Resumes the newest state in a folder, by the processes of now, and returns what the search has reached."""
    search = build(folder)
    state = search.checkpoints.newest(print)
    assert state is not None
    search.state.restore(state)
    search.run()
    return state_of(search)


def ending(search: Search) -> str:
    """Runs a search that fails or stops; returns how."""
    try:
        search.run()
    except (InputError, RunFault, Interrupted) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def share_all(folder: Path) -> dict[str, Any]:
    """Runs what several processes can do one after another."""
    found: dict[str, Any] = {order: whole(folder / order, order) for order in ORDERS}
    found["normalised"] = whole(folder / "normalised", "exact", normalised=True)
    found["stopped"] = ending(build(folder / "stopped", stop_after=2))
    found["resumed"] = resumed(folder / "stopped")
    found["trained"] = trained(folder / "trained")
    damaged = build(folder / "damaged")
    # sample of the third batch that the last process reads
    damaged.weight_stream._reader._samples.dataset.unreadable = damaged.weight_stream._sampler.batch(2)[-1].index
    if distributed.is_first():
        damaged.weight_stream._reader._samples.dataset.unreadable = None
    found["damaged"] = ending(damaged)
    return found


def lose_one(folder: Path) -> dict[str, Any]:
    """Ends the last process in the middle of a step."""
    search = build(folder / "lost")
    if not distributed.is_first():
        reads = iter(range(2))
        step = search.alpha_step

        def killed(*arguments: Any) -> None:
            if next(reads, None) is None:
                os._exit(9)
            step(*arguments)

        search.alpha_step = killed  # type: ignore[method-assign,assignment]
    return {"lost": ending(search)}


if __name__ == "__main__":
    scenario, place = {"share_all": share_all, "lose_one": lose_one}[sys.argv[1]], Path(sys.argv[2])
    torch.set_num_threads(1)
    with distributed.joined():
        torch.save(scenario(place), place / f"result_{distributed.rank()}.pt")
