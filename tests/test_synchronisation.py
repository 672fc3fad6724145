"""The steps of a search and of a training never wait for the device: nothing is fetched from it."""

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from autodisp.assembly.search import SearchData, build_search
from autodisp.cells.operations import Style
from autodisp.checkpoints import Checkpoints
from autodisp.config.search import parse
from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.datasets.streams import collate, fixed_batches
from autodisp.search import loop
from autodisp.search.bilevel import Order
from autodisp.search.loop import Search
from autodisp.tasks.disparity import DisparityTask
from autodisp.tracking import ConsoleProgress
from autodisp.training.average import MovingAverage
from autodisp.training.loop import Training, TrainSettings
from autodisp.training.schedules import cosine
from tests.made_models import found_cells
from tests.programs import composed, same

FETCHING = {
    "aten::_local_scalar_dense",
    "aten::is_nonzero",
    "aten::equal",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
}
"""Operations that hand a number, or a shape that depends on numbers, to the host."""
SMALL = ("experiment=smoke", "run.folder=unused", "run.workers=0", "search.batch_size=2")
TASKS: dict[str, Sequence[str]] = {
    "disparity": ("network=disparity_tiny", "dataset.max_disparity=16", "dataset.crop=null"),
    "classification": ("task=classification", "space=s2", "network.channels=4", "network.layers=3"),
}


class Fetches(TorchDispatchMode):
    """Lists the operations that fetch from a device; on a CPU as on a GPU, where each would be a wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = operation.overloadpacket._qualified_op_name
        by_mask = name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in FETCHING or by_mask:
            self.found.append(name)
        return operation(*args, **(kwargs or {}))


def data_of(task: str) -> SearchData:
    draw = torch.Generator().manual_seed(0)
    samples: list[Any]
    if task == "disparity":
        nowhere = torch.zeros(1, 32, 64, dtype=torch.bool)
        samples = [
            StereoSample(*torch.rand(2, 3, 32, 64, generator=draw), 8 * torch.rand(1, 32, 64, generator=draw),
                         ~nowhere, nowhere, nowhere)
            for _ in range(4)
        ]  # fmt: skip
        facts = {}
    else:
        samples = [LabelledImage(torch.rand(3, 16, 16, generator=draw), label) for label in range(4)]
        facts = {"classes": 4, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return SearchData(samples, samples, lambda sample, _: sample, fixed_batches(samples, 2), facts)


def made(task: str, folder: Path) -> Search:
    config = parse(composed("search", *SMALL, *TASKS[task]))
    return build_search(config, data_of(task), folder, ConsoleProgress(io.StringIO())).search


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_step_fetches_nothing(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = made(task, tmp_path)
    batch = search.supernet.to_device(search.weight_stream.next())
    monkeypatch.setattr(search.alpha_stream, "next", lambda: batch)  # reading and augmenting are the CPU's anyway
    monkeypatch.setattr(loop, "new_seed", lambda: 7)  # drawn on the CPU whatever the device
    search.guard.every = 10**6  # as on a GPU, but for its look now and then
    search.alpha_step(batch, "first")  # a first step sets up the optimizers' memory
    search.weight_step(batch)
    parameters = [*search.supernet.alphas, *search.supernet.network.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    orders: tuple[Order, ...] = ("first", "exact", "finite_difference")
    with Fetches() as fetches:
        for order in orders:
            search.alpha_step(batch, order)
            search.weight_step(batch)
    assert fetches.found == []
    assert any(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


@pytest.mark.parametrize(("optimizer", "precision"), [("sgd", "float32"), ("adamw", "bfloat16")])
def test_a_training_step_fetches_nothing(tmp_path: Path, optimizer: str, precision: str) -> None:
    """Nor does a batch without a valid pixel, which moves nothing."""
    task = DisparityTask(channels=2, stem_scale=1, encoder_cells=2, decoder_cells=2, max_displacement=2,
                         head="matching", max_disparity=16)  # fmt: skip
    network = task.build_network(found_cells(Style("dense", affine=True)))
    batch = collate([*data_of("disparity").weight_half][:2])
    batches = iter([batch, batch, batch._replace(valid=torch.zeros_like(batch.valid)), batch])
    stream = SimpleNamespace(next=lambda: next(batches), position=0, seek=lambda _: None, waited=0.0)
    kind = torch.optim.AdamW if optimizer == "adamw" else partial(torch.optim.SGD, momentum=0.9)
    training = Training(
        task, network, stream=stream, validation=[], optimizer=kind(network.parameters(), lr=0.01, fused=True),
        settings=TrainSettings(9, 9, clip=1.0, drop_path=0.2, precision=precision),
        checkpoints=Checkpoints(tmp_path), observer=SimpleNamespace(records=[], step=lambda *_: None),
        average=MovingAverage(network, 0.9), schedule=cosine(9),
    )  # fmt: skip
    training.guard.every = 10**6  # as on a GPU
    network.train()
    training.step()  # sets up the optimizer's memory
    weights = []
    with Fetches() as fetches:
        for _ in range(3):
            weights.append([parameter.detach().clone() for parameter in network.parameters()])
            training.step()
    assert fetches.found == []
    assert same(weights[1], weights[2])
    assert any(not torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    training.guard.look()


def test_a_fetch_would_be_seen() -> None:
    values: Tensor = torch.arange(3.0)
    with Fetches() as fetches:
        float(values.sum())
        values[values > 1]
        bool(torch.equal(values, values))
    assert fetches.found == ["aten::_local_scalar_dense", "aten::index", "aten::equal"]
