"""The measurements of `make bench`: single actions of a search, each prepared once and run repeatedly.

An implementation is a function that prepares an action. Those in ``IMPLEMENTATIONS`` are measured in turn (A B A B), so
that a change in the machine's load affects all of them alike; one that lacks a measurement raises ``NotOffered``. Each
action has a process of its own, since only the peak of a process's memory is known.

Learning rates are zero, so that every run does the same work. The networks are untrained, so the eigenvalue needs
another number of Hessian-vector products than late in a search. CPU only.
"""

import io
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch

import autodisp
from autodisp.assembly.networks import build_style
from autodisp.assembly.search import (
    SearchData,
    build_data,
    build_search,
    build_search_task,
    build_space,
    build_supernet,
    build_weight_optimizer,
)
from autodisp.cli.malloc import keep_freed_memory
from autodisp.cli.studied_run import composed
from autodisp.config.search import SearchConfig, parse
from autodisp.datasets.image_transforms import ImageAugmentation
from autodisp.datasets.samples import LabelledImage
from autodisp.datasets.streams import Stream, fixed_batches
from autodisp.search.bilevel import Order
from autodisp.search.loop import Search
from autodisp.search.supernet import Supernet
from autodisp.tasks.registry import dataset_entries
from autodisp.tracking import ConsoleProgress
from benchmarks import textbook

WEIGHT_STEP, EIGENVALUE, FULL_HESSIAN, CHECKPOINT, EPOCH, PAIR, INFERENCE = (
    "weight step",
    "eigenvalue",
    "full Hessian",
    "checkpoint",
    "search epoch",
    "pair",
    "inference",
)
FIRST_ORDER, DIFFERENCES = "alpha, first order", "alpha, differences"
ALPHA_STEPS: dict[str, Order] = {FIRST_ORDER: "first", "alpha, exact": "exact", DIFFERENCES: "finite_difference"}
SEARCH = (WEIGHT_STEP, *ALPHA_STEPS, EIGENVALUE, CHECKPOINT, EPOCH)
STEPS = 10
"""Steps of the search epoch, which also measures curvature and validates, and reads its data from workers."""
INFERENCE_SIZE = (540, 960)
PAIRS = 8
"""Pairs drawn in one run, whose time is divided by their number, since scenes differ in duration."""
ROWS = 2
"""Rows of the textbook's Hessian that are measured in one run."""
CLASSES = 10

Notes = Mapping[str, float]


@dataclass(frozen=True)
class Case:
    """A search to take actions from."""

    overrides: tuple[str, ...]
    """Of configs/search.yaml."""
    measurements: tuple[str, ...] = SEARCH


@dataclass(frozen=True)
class Action:
    """A prepared action that can be run and timed."""

    run: Callable[[], Notes]
    """Returns numbers to be reported next to the time."""
    warm_up: Callable[[], Notes] | None = None
    """Called once before; None: the action itself. A cheaper action of the same kind if that takes minutes."""
    pieces: float = 1
    """Number of units that a run makes, by which its time is divided; below one if a run makes a part of the unit."""


class NotOffered(Exception):
    """An implementation has no such action."""


STILL = (
    "optimizer=sgd",
    "optimizer.weights.learning_rate=0",
    "optimizer.weights.min_learning_rate=0",
    "optimizer.alphas.learning_rate=0",
    "run.device=cpu",
    "run.workers=0",
    "run.threads=null",  # the benchmark's own are meant
    "run.folder=unused",
)
IMAGES = ("task=classification", "network.channels=16", "network.layers=5", "search.batch_size=16", *STILL)
CASES = {
    "darts": Case(("space=darts", *IMAGES)),
    "s2": Case(("space=s2", *IMAGES)),
    "recompute": Case(("space=darts", "search.recompute=true", *IMAGES), (WEIGHT_STEP, FIRST_ORDER)),
    "gumbel": Case(("space=darts", "relaxation=gumbel", *IMAGES), (WEIGHT_STEP, FIRST_ORDER)),
    "partial": Case(("space=darts", "relaxation=partial", *IMAGES), (WEIGHT_STEP, FIRST_ORDER)),
    "autodispnet": Case(("experiment=demo", "dataset.length=4", *STILL)),
    "shapes3d": Case(("dataset.height=256", "dataset.width=512", "dataset.max_disparity=128", *STILL), (PAIR,)),
    "shipped": Case(STILL, (INFERENCE,)),
}


def config_of(case: Case) -> SearchConfig:
    """Returns the typed config of a case."""
    return parse(composed("search", case.overrides))


def data_of(config: SearchConfig) -> SearchData:
    """Returns noise in place of CIFAR-10, and procedural pairs."""
    return build_data(config) if config.task.name == "disparity" else _random_images(config)


def textbook_supernet(config: SearchConfig, data: SearchData, layout: torch.memory_format, device: str) -> Supernet:
    """Builds a supernet with the cells of ``benchmarks.textbook``, in a memory layout."""
    space = build_space(config)
    cells = textbook.TextbookCells(space, style=build_style(config.network, space))
    task = build_search_task(config, data)
    supernet = build_supernet(task, cells, space, seed=config.seed, device=torch.device(device))
    supernet.network.to(memory_format=layout)
    return supernet


def prepare_autodisp(case: Case, measurement: str, folder: Path) -> Action:
    """Prepares an action of the engine.

    Args:
        case: the search.
        measurement: its name.
        folder: for checkpoints; empty.

    Raises:
        NotOffered: there is no such measurement.
    """
    config = config_of(case)
    if measurement == PAIR:
        return _drawing_of_pairs(config)
    if measurement == INFERENCE:
        return _inference()
    if measurement == EPOCH:
        config = config_of(Case((*case.overrides, "run.workers=1", f"search.steps_per_epoch={STEPS}")))
    steps = _Steps(build_search(config, data_of(config), folder, ConsoleProgress(io.StringIO())).search)
    if measurement in ALPHA_STEPS:
        return Action(partial(steps.alpha_step, ALPHA_STEPS[measurement]))
    if measurement in (EIGENVALUE, FULL_HESSIAN):
        whole = measurement == FULL_HESSIAN
        return Action(partial(steps.curvature, whole=whole), warm_up=partial(steps.alpha_step, "exact"))
    if measurement == EPOCH:
        return Action(steps.epoch)
    if measurement not in (WEIGHT_STEP, CHECKPOINT):
        raise NotOffered(f"autodisp has no measurement '{measurement}'")
    return Action(steps.weight_step if measurement == WEIGHT_STEP else steps.checkpoint)


def prepare_textbook(
    case: Case, measurement: str, folder: Path, layout: torch.memory_format = torch.contiguous_format
) -> Action:
    """Prepares an action of ``benchmarks.textbook`` on the same weights and batches, in a memory layout.

    Its whole Hessian would take many minutes: a few rows are measured, without building the graph that they share.

    Raises:
        NotOffered: there is no such measurement.
    """
    if measurement not in (WEIGHT_STEP, FIRST_ORDER, DIFFERENCES, EIGENVALUE):
        raise NotOffered(f"the textbook has no measurement '{measurement}'")
    config = config_of(case)
    if config.relaxation.name != "softmax":
        raise NotOffered(f"the textbook has no relaxation '{config.relaxation.name}'")
    data = data_of(config)
    supernet = textbook_supernet(config, data, layout, "cpu")
    stream = Stream(data.weight_half, batch_size=config.search.batch_size, seed=0, transform=data.transform)
    batch = stream.next()
    optimizer = build_weight_optimizer(config, supernet)
    assert isinstance(optimizer, torch.optim.SGD)
    clip = config.optimizer.weights.clip
    textbook.weight_step(supernet, batch, optimizer, clip)
    if measurement == EIGENVALUE:
        return _rows_of_the_hessian(supernet, batch)

    def run() -> Notes:
        if measurement == WEIGHT_STEP:
            textbook.weight_step(supernet, batch, optimizer, clip)
        elif measurement == FIRST_ORDER:
            textbook.first_order_gradient(supernet, batch)
        else:
            textbook.second_order_gradient(supernet, batch, batch, optimizer)
        return {}

    return Action(run)


IMPLEMENTATIONS: dict[str, Callable[[Case, str, Path], Action]] = {
    "autodisp": prepare_autodisp,
    "textbook": prepare_textbook,
    "textbook_channels_last": partial(prepare_textbook, layout=torch.channels_last),
}
"""The textbook is in both memory layouts; ratios are to the faster one."""


class _Steps:
    """The single steps of a search."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.batch = search.supernet.to_device(search.weight_stream.next())
        search.weight_step(self.batch)  # momentum belongs to a later step, and to a checkpoint

    def weight_step(self) -> Notes:
        self.search.weight_step(self.batch)
        return {}

    def alpha_step(self, order: Order) -> Notes:
        self.search.alpha_step(self.batch, order)
        return {}

    def curvature(self, *, whole: bool) -> Notes:
        self.search.settings = replace(self.search.settings, curvature_full=whole)
        self.search.progress.eigenvector = None  # of the run before: the answer already
        return {"products": self.search.measure_curvature()["eigenvalue_products"]}

    def epoch(self) -> Notes:
        self.search.progress.eigenvector = None
        self.search.progress.epochs = 0  # of the run before
        record = self.search.run_epoch()
        return {"% waiting for data": 100 * record["seconds_waiting"] / record["seconds"]}

    def checkpoint(self) -> Notes:
        self.search.checkpoints.save(0, self.search.state.capture())
        return {"MB": self.search.checkpoints.path(0).stat().st_size / 1e6}


def _random_images(config: SearchConfig) -> SearchData:
    """Returns two batches of noise in place of CIFAR-10, on which steps take as long."""
    draw = torch.Generator().manual_seed(0)
    count = config.search.batch_size
    images = [LabelledImage(torch.rand(3, 32, 32, generator=draw), index % CLASSES) for index in range(2 * count)]
    augmentation = ImageAugmentation(scale=1.0, cutout=0, flip=True, fill=(0.5, 0.5, 0.5))
    validation = fixed_batches(images[count:], count)
    facts = {"classes": CLASSES, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return SearchData(images[:count], images[count:], augmentation, validation, facts)


def _inference() -> Action:
    model = autodisp.load("shipped")
    left, right = torch.rand(2, 1, 3, *INFERENCE_SIZE, generator=torch.Generator().manual_seed(0))

    def run() -> Notes:
        model(left, right)
        return {}

    return Action(run)


def _rows_of_the_hessian(supernet: Supernet, batch: Any) -> Action:
    gradient = textbook.gradient_with_graph(supernet, batch)

    def run() -> Notes:
        textbook.hessian_rows(gradient[:ROWS], supernet.alphas)
        return {f"of {len(gradient)} rows measured": ROWS}

    return Action(run, pieces=ROWS / len(gradient))


def _drawing_of_pairs(config: SearchConfig) -> Action:
    dataset = dataset_entries()[config.dataset.name].build(config.dataset, seed=config.seed, split="train", strict=True)
    cv2.setNumThreads(1)  # as in a loader's worker

    def run() -> Notes:
        for index in range(PAIRS):
            dataset[index]
        return {}

    return Action(run, pieces=PAIRS)


_prepared: list[Action] = []
"""The one action of a measuring process."""


def prepare(implementation: str, case: str | Case, measurement: str, folder: Path, threads: int) -> float:
    """Prepares the action that this process measures.

    Args:
        implementation: a key of ``IMPLEMENTATIONS``.
        case: a key of ``CASES``, or a case.
        measurement: its name.
        folder: for files; empty.
        threads: number of torch's threads.

    Returns:
        Peak memory before the preparation, MiB: that of Python and its libraries.

    Raises:
        NotOffered: the implementation has no such measurement.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()  # as the programs do, for all implementations alike
    pixel = torch.zeros(1, 1, 1, 1, requires_grad=True)
    torch.nn.functional.conv2d(pixel, pixel).sum().backward()
    idle = peak_memory()
    case = CASES[case] if isinstance(case, str) else case
    action = IMPLEMENTATIONS[implementation](case, measurement, folder)
    (action.warm_up or action.run)()
    _prepared.append(action)
    return idle


def run() -> tuple[float, Notes, float]:
    """Runs the prepared action once; returns the seconds per unit, its notes, and the peak memory so far in MiB."""
    (action,) = _prepared
    began = time.perf_counter()
    notes = action.run()
    return (time.perf_counter() - began) / action.pieces, notes, peak_memory()


def peak_memory() -> float:
    """Returns the peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
