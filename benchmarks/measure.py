"""What `make bench` measures: single actions of a search, each prepared once and then run again and again.

An implementation is a function that prepares an action. Whatever stands in ``IMPLEMENTATIONS`` is measured in turn
(A B A B), so that a change in the machine's load meets all of them alike; one that lacks a measurement raises
``NotOffered``. Every action lives in a process of its own (``serve``), since a process tells its peak memory only once.

Learning rates are zero, so that every run does the same work; the networks are as they are initialised, where the
eigenvalue needs other numbers of products than late in a search. CPU only.
"""

import io
import itertools
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import torch
from hydra import compose, initialize_config_module

from autodisp.build import SearchData, build_data, build_search, build_stereo_dataset
from autodisp.config import SearchConfig, parse
from autodisp.datasets.cifar import CIFAR10
from autodisp.datasets.samples import LabelledImage
from autodisp.search.bilevel import Order
from autodisp.search.loop import Search
from autodisp.tracking import ConsoleProgress

WEIGHT_STEP = "weight step"
EIGENVALUE = "dominant eigenvalue"
FULL_HESSIAN = "full Hessian"
PAIR = "one pair"
ORDERS: dict[str, Order] = {
    "alpha step, first order": "first",
    "alpha step, exact": "exact",
    "alpha step, finite difference": "finite_difference",
}
SEARCH = (WEIGHT_STEP, *ORDERS, EIGENVALUE, "checkpoint")
PAIRS = 8
"""Drawn in one run, whose time is divided by it: scenes differ in how long they take."""
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
    """Something ready to be run and timed."""

    run: Callable[[], Notes]
    """Gives what is worth knowing beside the time."""
    warm_up: Callable[[], Notes] | None = None
    """Is run once before; None: the action itself. Something of the same kind where that takes minutes."""
    pieces: int = 1
    """How many of the thing measured one run makes."""


Prepare = Callable[[Case, str, Path], Action]
"""From a case, one of its measurements and an empty folder to write in."""


class NotOffered(Exception):
    """An implementation has no such action."""


STILL = (
    "optimizer=sgd",
    "optimizer.weights.learning_rate=0",
    "optimizer.weights.min_learning_rate=0",
    "optimizer.alphas.learning_rate=0",
    "run.device=cpu",
    "run.workers=0",
    "run.folder=unused",
)
CLASSIFICATION = ("task=classification", "network.channels=16", "network.layers=5", "search.batch_size=16", *STILL)
CASES = {
    "darts": Case(("space=darts", *CLASSIFICATION)),
    "s2": Case(("space=s2", *CLASSIFICATION)),
    "autodispnet": Case(("experiment=demo", "dataset.length=4", *STILL)),
    "shapes3d": Case(("dataset.height=256", "dataset.width=512", "dataset.max_disparity=128", *STILL), (PAIR,)),
}


def config_of(case: Case) -> SearchConfig:
    """The typed config of a case."""
    with initialize_config_module("autodisp.configs", version_base="1.3"):
        return parse(compose("search", overrides=list(case.overrides)))


def prepare_autodisp(case: Case, measurement: str, folder: Path) -> Action:
    """The actions as the engine takes them.

    Raises:
        NotOffered: there is no such measurement.
    """
    config = config_of(case)
    if measurement == PAIR:
        return _drawing_of_pairs(config)
    data = build_data(config) if config.task.name == "disparity" else _random_images(config)
    actions = _Actions(build_search(config, data, folder, ConsoleProgress(io.StringIO())).search)
    if measurement not in actions.by_name:
        raise NotOffered(f"autodisp has no measurement '{measurement}'")
    slow = measurement in (EIGENVALUE, FULL_HESSIAN)
    return Action(actions.by_name[measurement], warm_up=partial(actions.alpha_step, "exact") if slow else None)


IMPLEMENTATIONS: dict[str, Prepare] = {"autodisp": prepare_autodisp}


class _Actions:
    """A search that is taken apart into its steps."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.batch = search.supernet.to_device(search.weight_stream.next())
        # momentum buffers belong to a later step, and to a checkpoint
        search._weight_step(self.batch)
        self.by_name: dict[str, Callable[[], Notes]] = {
            WEIGHT_STEP: self.weight_step,
            **{name: partial(self.alpha_step, order) for name, order in ORDERS.items()},
            EIGENVALUE: self.eigenvalue,
            FULL_HESSIAN: partial(self.eigenvalue, full=True),
            "checkpoint": self.checkpoint,
        }

    def weight_step(self) -> Notes:
        self.search._weight_step(self.batch)
        return {}

    def alpha_step(self, order: Order) -> Notes:
        self.search._alpha_step(self.batch, order)
        return {}

    def eigenvalue(self, *, full: bool = False) -> Notes:
        self.search.settings = replace(self.search.settings, curvature_full=full)
        self.search.progress.eigenvector = None  # of the run before, which would be the answer already
        record = self.search._measure_curvature(0)
        return {"products": record["eigenvalue_products"], "eigenvalue": record["eigenvalue"]}

    def checkpoint(self) -> Notes:
        checkpoints = self.search.checkpoints
        checkpoints.save(0, self.search.state.capture())
        return {"MB": checkpoints.path(0).stat().st_size / 1e6}


def _random_images(config: SearchConfig) -> SearchData:
    """Two batches of noise in the place of CIFAR-10; steps take as long on it."""
    draw = torch.Generator().manual_seed(0)
    count = config.search.batch_size
    images = [LabelledImage(torch.rand(3, 32, 32, generator=draw), index % CLASSES) for index in range(2 * count)]
    return SearchData(images[:count], images[count:], _as_it_is, [], CLASSES)


def _as_it_is(sample: LabelledImage, _: object) -> LabelledImage:
    return sample


def _drawing_of_pairs(config: SearchConfig) -> Action:
    dataset = build_stereo_dataset(config)
    cv2.setNumThreads(1)  # as in a loader's worker
    index = itertools.cycle(range(PAIRS))

    def run() -> Notes:
        for _ in range(PAIRS):
            dataset[next(index)]
        return {}

    return Action(run, pieces=PAIRS)


def serve(connection: Connection, implementation: str, case: str, measurement: str, folder: str, threads: int) -> None:
    """The life of a measuring process: prepares, warms up, runs when asked to, tells its memory in the end.

    Sends ``("ready",)``, then for every True that comes ``("run", seconds a piece, notes)``, and at False
    ``("done", MiB of the idle process, peak MiB)``. Whatever goes wrong: ``("failed", traceback)``; and
    ``("not offered",)``.
    """
    try:
        torch.set_num_threads(threads)
        idle = _idle_memory()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            action = IMPLEMENTATIONS[implementation](CASES[case], measurement, Path(place))
            (action.warm_up or action.run)()
            connection.send(("ready",))
            while connection.recv():
                began = time.perf_counter()
                notes = action.run()
                connection.send(("run", (time.perf_counter() - began) / action.pieces, dict(notes)))
            connection.send(("done", idle, peak_memory()))
    except NotOffered:
        connection.send(("not offered",))
    except Exception:
        connection.send(("failed", traceback.format_exc()))


def peak_memory() -> float:
    """The most memory this process ever held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _idle_memory() -> float:
    """What Python and the libraries take once they are in use."""
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)
    torch.nn.functional.conv2d(x, torch.zeros(1, 1, 3, 3)).sum().backward()  # type: ignore[no-untyped-call]
    return peak_memory()
