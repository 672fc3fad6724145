"""Every step of every task on the meta device: a tensor left on the CPU is an error there, as on a GPU.

The meta device has shapes and no numbers. ``Card`` adds what a GPU refuses and the meta device does not: operations
on tensors of both devices, and inside a step copies that make the host wait.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autodisp.assembly.networks import build_style
from autodisp.assembly.relaxation import build_alpha_penalty, build_relaxation
from autodisp.assembly.search import SearchData, build_regularization, build_search_task, build_supernet
from autodisp.assembly.train_data import TrainData
from autodisp.assembly.training import build_card, build_network
from autodisp.cells.cell import MixedCells, set_drop_path
from autodisp.cells.operations import OPERATIONS
from autodisp.cells.spaces import SearchSpace, dense_cell
from autodisp.checkpoints import Checkpoints
from autodisp.config.search import parse
from autodisp.config.train import parse as parse_train
from autodisp.datasets.samples import LabelledImage, SegmentedImage, StereoSample
from autodisp.search.loop import Search, SearchSettings
from autodisp.training.average import MovingAverage
from autodisp.training.loop import Training, TrainSettings
from tests.programs import composed
from tests.shared_runs import Records

META = torch.device("meta")
WAITING = ("masked_scatter_backward", "masked_select", "nonzero")
"""Operations whose result's size the host asks the device for."""
FACTS = {
    "classification": {"classes": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3},
    "segmentation": {"classes": 3},
    "disparity": {},
}


class Card(TorchDispatchMode):
    """Makes operations on tensors of both devices an error, and gives zeros for what is copied to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = Counter[str]()
        """Number of copies "to the host" and "to the device"."""

    def __enter__(self) -> "Card":
        self.functions = Constructions()
        self.functions.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.functions.__exit__(*error)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name = function.overloadpacket.__name__
        if name in WAITING and any(tensor.is_meta for tensor in tensors):
            self.copies["to the host"] += 1
        if name == "_local_scalar_dense" and tensors[0].is_meta:
            self.copies["to the host"] += 1
            return torch.zeros((), dtype=tensors[0].dtype).item()
        if name == "_to_copy":
            device = kwargs.get("device")
            if tensors[0].is_meta and device is not None and device.type == "cpu":
                self.copies["to the host"] += 1
                return torch.zeros(tensors[0].shape, dtype=kwargs.get("dtype") or tensors[0].dtype)
            self.copies["to the device"] += not tensors[0].is_meta and device == META
        elif any(tensor.is_meta for tensor in tensors):
            left = [tuple(tensor.shape) for tensor in tensors if not tensor.is_meta and tensor.dim()]
            assert not left, f"{name}: a tensor {left[0]} is on the CPU"
        return function(*args, **kwargs)


class Constructions(TorchFunctionMode):
    """Makes the construction of tensors on the device from Python's numbers an error: the host would wait."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in ("new_tensor", "tensor", "as_tensor") and isinstance(result, Tensor):
            given = args[1] if function is Tensor.new_tensor else args[0]
            assert isinstance(given, Tensor) or not result.is_meta, f"{function.__name__}({given}) copies to the device"
        return result


class Batches:
    """The same batch of the CPU again and again."""

    def __init__(self, batch: Any) -> None:
        self.batch, self.position, self.waited = batch, 0, 0.0

    def next(self) -> Any:
        self.position += 1
        return self.batch

    def at(self, position: int) -> Any:
        return self.batch

    def seek(self, position: int) -> None:
        self.position = position


def batch_of(task: str) -> Any:
    if task == "classification":
        return LabelledImage(torch.rand(2, 3, 16, 16), torch.tensor([0, 2]))  # type: ignore[arg-type]
    if task == "segmentation":
        return SegmentedImage(torch.rand(2, 3, 32, 48), torch.ones(2, 32, 48, dtype=torch.uint8))
    valid = torch.ones(2, 1, 32, 64, dtype=torch.bool)
    return StereoSample(*torch.rand(2, 2, 3, 32, 64), torch.rand(2, 1, 32, 64), valid, ~valid, ~valid)


def space_of(kinds: list[str], operations: tuple[str, ...]) -> SearchSpace:
    """Cells of one node."""
    flavour = "dense" if "upsample" in kinds else "darts"
    return SearchSpace("small", flavour, {kind: dense_cell(kind, nodes=1, operations=operations) for kind in kinds})


def search_on_meta(
    folder: Path, *overrides: str, operations: tuple[str, ...] = ("skip_connect", "dil_conv_3x3"), **settings: Any
) -> Search:
    config = parse(composed("search", "run.folder=unused", "experiment=smoke", *overrides))
    batch = batch_of(config.task.name)
    data = SearchData([], [], lambda sample, _: sample, [batch], FACTS[config.task.name])
    space = space_of(sorted(config.kit.kinds), operations)
    task, style = build_search_task(config, data), build_style(config.network, space)
    cells = MixedCells(
        space,
        style=style,
        share=config.relaxation.divisor,
        auxiliary=config.skip.name == "auxiliary",
        recompute=config.search.recompute,
    )
    supernet = build_supernet(
        task,
        cells,
        space,
        seed=0,
        device=META,
        relaxation=build_relaxation(config.relaxation),
        alpha_penalty=build_alpha_penalty(config.alpha_penalty),
        edges=config.relaxation.method == "partial",
    )
    weights = torch.optim.SGD(supernet.network.parameters(), 0.1, 0.9, weight_decay=1e-3)
    return Search(
        supernet,
        weight_stream=Batches(batch),
        alpha_stream=Batches(batch),
        validation=[batch],
        weight_optimizer=weights,
        alpha_optimizer=torch.optim.Adam(supernet.alphas, weight_decay=1e-3),
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(weights, 3),
        regularization=build_regularization(config),
        settings=SearchSettings(epochs=1, steps_per_epoch=2, **settings),
        checkpoints=Checkpoints(folder),
        observer=Records(),  # type: ignore[arg-type]
    )


TASKS = (
    ("network.head=regression", "network.aggregation=0"),
    ("network.head=matching",),
    ("network=disparity_refined", "network.channels=4", "network.aggregation=2", "network.groups=1"),
    ("task=classification", "network.layers=3"),
    ("task=segmentation",),
)
SHORT = TASKS[3]


def each(tasks: tuple[tuple[str, ...], ...]) -> pytest.MarkDecorator:
    """Classification in the daily tests, the others in the slow ones: an operation takes a millisecond on meta."""
    marked = [pytest.param(task, marks=() if task == SHORT else pytest.mark.slow) for task in tasks]
    return pytest.mark.parametrize("task", marked, ids=lambda task: task[0].partition("=")[2])


@pytest.fixture
def card() -> Iterator[Card]:
    with Card() as card:
        yield card


@each(TASKS)
def test_steps_and_validation(tmp_path: Path, card: Card, task: tuple[str, ...]) -> None:
    search = search_on_meta(tmp_path, *task, drop_path=0.2, order="first")
    set_drop_path(search.supernet.network, 0.2)
    search.step()
    search.progress.sums = {name: torch.zeros(pair.shape) for name, pair in search.progress.sums.items()}  # resumed
    search.step()
    assert search.validate().keys() >= {"valid/loss", "valid_discrete/loss"}


@pytest.mark.slow
@each(TASKS)
def test_curvature(tmp_path: Path, card: Card, task: tuple[str, ...]) -> None:
    found = search_on_meta(tmp_path, *task, curvature_tolerance=1.0).measure_curvature()
    assert found["eigenvalue_products"] > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "order"), [*((task, "exact") for task in TASKS), (SHORT, "finite_difference")], ids=str
)
def test_second_order(tmp_path: Path, card: Card, task: tuple[str, ...], order: Any) -> None:
    """Finite differences are first derivatives, which a step of each task has."""
    search = search_on_meta(tmp_path, *task)
    search.alpha_step(search.supernet.to_device(batch_of(search.supernet.task.name)), order)


RELAXATIONS = ("frozen", "dirichlet", "gumbel", "partial", "perturbed", "sigmoid", "uniform", "adversarial")


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_every_relaxation(tmp_path: Path, card: Card, relaxation: str) -> None:
    more = {
        "partial": ["network.channels=4"],
        "sigmoid": ["skip=auxiliary"],
        "frozen": ["selection=perturbation"],
        "uniform": ["selection=ranking"],
        "adversarial": ["relaxation.attack=adversarial", "relaxation.steps=1"],
    }
    name = "perturbed" if relaxation == "adversarial" else relaxation
    search = search_on_meta(tmp_path, *SHORT, f"relaxation={name}", *more.get(relaxation, []))
    search.step()
    search.validate()


@pytest.mark.slow
def test_every_operation(tmp_path: Path, card: Card) -> None:
    search_on_meta(tmp_path, *SHORT, "alpha_penalty=beta", operations=tuple(OPERATIONS)).step()


@each(TASKS)
def test_a_training(tmp_path: Path, card: Card, task: tuple[str, ...]) -> None:
    more = ["task.auxiliary_weight=0"] if task == SHORT else []
    config = parse_train(composed("train", "run.folder=unused", *task, *more))
    batch = batch_of(config.task.name)
    model = build_card(config, TrainData([], lambda sample, _: sample, [batch], facts=FACTS[config.task.name]))
    kind, network = build_network(config, model)
    network.to(META)
    training = Training(
        kind,
        network,
        stream=Batches(batch),
        validation=[batch],
        optimizer=torch.optim.AdamW(network.parameters()),
        settings=TrainSettings(steps=1, validate_every=1, drop_path=0.2),
        checkpoints=Checkpoints(tmp_path),
        observer=Records(),  # type: ignore[arg-type]
        average=MovingAverage(network, 0.9),
    )
    training.network.train()
    training.step()
    training.progress.sums = {name: torch.zeros(pair.shape) for name, pair in training.progress.sums.items()}  # resumed
    training.step()
    assert "loss" in training.validate()


def test_a_step_that_recomputes_its_cells(tmp_path: Path, card: Card) -> None:
    search_on_meta(tmp_path, *SHORT, "search.recompute=true").step()


def test_a_step_does_not_wait_for_the_device(tmp_path: Path, card: Card) -> None:
    search = search_on_meta(tmp_path, *SHORT)
    batch = search.supernet.to_device(batch_of("classification"))
    card.copies.clear()
    mixture = search.supernet.weights("alphas", 0.0)
    output = search.supernet.output(batch, mixture)
    search.supernet.task.loss(output, batch).backward()
    search.supernet.task.measure(output, batch)
    assert not card.copies


def test_the_device_finds_what_is_left_on_the_cpu(card: Card) -> None:
    here, there = torch.ones(2), torch.ones(2, device=META)
    with pytest.raises(AssertionError, match=r"a tensor \(2,\) is on the CPU"):
        there * here
    with pytest.raises(AssertionError, match=r"new_tensor\(1\) copies to the device"):
        there.new_tensor(1)
    assert there.tolist() == [0, 0]
    assert card.copies["to the host"] == 1
