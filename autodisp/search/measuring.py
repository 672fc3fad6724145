"""Measures the costs of operations where they stand in a network, for a ``CostTable``.

One network holds every operation of the space at every edge, each built as in a found network. It is run on a set of
genotypes that contain each of them, and only the operations of the genotype run; a meter is read before and after each.
The rest of the network is what a few found networks cost beyond their operations.

Latency is measured in evaluation and inference mode on one sample, with batch normalisation folded as for prediction.
Each operation is timed among its neighbours, so that caches are as in use. All genotypes are run in turn, round after
round, and the median over the rounds is taken: a load of the machine that comes and goes reaches all of them alike.
With one thread on the CPU, the processor time of the thread is measured, which other programs disturb less than the
clock.
"""

import json
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autodisp.cells.cell import Cell, CellFactory, FoundCells, MixedCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixed import Edge, IncomingEdge, total
from autodisp.cells.mixture import Mixture
from autodisp.cells.operations import Style
from autodisp.cells.spaces import EdgeSpace, SearchSpace
from autodisp.networks.fused import fused
from autodisp.networks.parameter_count import count_parameters
from autodisp.networks.unbuilt import unbuilt
from autodisp.search.costs import CellCosts, CostTable, Quantity
from autodisp.search.curvature import preserved_rng
from autodisp.tasks.base import Task, channels_last

Active = Mapping[str, Sequence[Sequence[int]]]
"""For each kind of cell and edge the places of the operations that run."""
REFERENCES = 3
"""Found networks by which the rest of the network is measured."""
LEAST_ROUNDS, MOST_ROUNDS = 5, 30
SECONDS = 15.0
"""Seconds after which no further round begins, once there have been enough."""


@dataclass(frozen=True)
class Deployment:
    """A network to be found, and the input for which its cost counts."""

    task: Task
    space: SearchSpace
    style: Style
    """Style of the found network."""
    inputs: tuple[Tensor, ...]
    """Inputs of the network for one sample, on its device."""

    @property
    def about(self) -> dict[str, Any]:
        """The task, the network and the sizes of the inputs, as plain data."""
        return {
            "task": self.task.name,
            "network": json.loads(json.dumps(self.task.settings)),  # compared with what is read from a file
            "style": asdict(self.style),
            "inputs": [list(tensor.shape) for tensor in self.inputs],
        }

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Name and kind of each cell of the network."""
        cells = FoundCells(Genotype(self.space.name, self.space.sample(0)), style=self.style)
        with unbuilt():
            network = self.task.build_network(cells)
        return [(name, cell.kind) for name, cell in network.named_modules() if isinstance(cell, Cell)]

    @property
    def device(self) -> torch.device:
        """Device of the inputs."""
        return self.inputs[0].device

    def build(self, cells: CellFactory) -> nn.Module:
        """Builds the network in evaluation mode on the device."""
        with self.device:
            return self.task.build_network(cells).eval()

    def found(self, genotype: Genotype) -> nn.Module:
        """Builds the network of a genotype."""
        return self.build(FoundCells(genotype, style=self.style))


class Meter(NamedTuple):
    """Something that is read before and after a computation."""

    mark: Callable[[], Any]
    """Reads the meter."""
    between: Callable[[Any, Any], float]
    """Returns what was spent between two readings; called after ``finish``."""
    finish: Callable[[], None] = lambda: None
    """Waits for the end of all computations."""


def clock_of(device: torch.device) -> Meter:
    """Returns the clock of a device in milliseconds; on a GPU by events in its stream."""
    if device.type == "cuda":
        return Meter(_event, lambda first, second: float(first.elapsed_time(second)), torch.cuda.synchronize)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    return Meter(clock, lambda first, second: 1e3 * (second - first))


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _multiplications(counter: FlopCounterMode) -> Meter:
    """Returns the meter of the multiplications in convolutions and matrix products."""
    return Meter(lambda: int(counter.get_total_flops()) // 2, lambda first, second: second - first)


class CandidateCells(MixedCells):
    """Builds cells with every operation of the space on every edge, each as in a found network."""

    def edge(self, operations: tuple[str, ...], *, channels: int, stride: int) -> nn.Module:
        """The operations of the edge."""
        return nn.ModuleList(Edge(name, channels=channels, stride=stride, style=self.style) for name in operations)


class Candidates:
    """The network of ``CandidateCells``, and what its operations spend.

    Args:
        deployment: the network.
        prepare: rewrites the network for evaluation.
    """

    def __init__(
        self, deployment: Deployment, prepare: Callable[[nn.Module], nn.Module] = lambda network: network
    ) -> None:
        self.deployment = deployment
        self.meter = clock_of(deployment.device)
        self.spent: list[tuple[nn.Module, Any, Any]] = []
        self.outputs: dict[nn.Module, tuple[int, ...]] = {}

        def node(edges: Sequence[IncomingEdge], drop_probability: float | Tensor) -> Tensor | None:
            return total([self._timed(edge, place) for edge in edges for place in edge.row.active or ()])

        # a function, which a copy of the network shares; a bound method would be copied with its object
        self.network = prepare(deployment.build(CandidateCells(deployment.space, style=deployment.style, node=node)))

    def _timed(self, edge: IncomingEdge, place: int) -> Tensor:
        operation = cast(nn.ModuleList, edge.mixed)[place]
        began = self.meter.mark()
        y: Tensor = operation(edge.source.x, 0.0)
        self.spent.append((operation, began, self.meter.mark()))
        self.outputs[operation] = tuple(y.shape)
        return y

    def run(self, active: Active, meter: Meter) -> dict[nn.Module, float]:
        """Returns what each active operation spends in one forward pass, added up over its calls."""
        self.meter, self.spent = meter, []
        mixture = Mixture({kind: torch.empty(len(rows), 0) for kind, rows in active.items()}, active=active)
        with torch.inference_mode():
            self.network(*self.deployment.inputs, mixture)
        meter.finish()
        sums: dict[nn.Module, float] = {}
        for operation, first, second in self.spent:
            sums[operation] = sums.get(operation, 0) + meter.between(first, second)
        return sums

    def cells(self, costs: Callable[[nn.Module], float]) -> Iterator[CellCosts]:
        """Yields the cells of the network with the costs of their operations."""
        for name, cell in self.network.named_modules():
            if isinstance(cell, Cell):
                edges = [cast(nn.ModuleList, edge) for edge in cell.edges]
                outputs = tuple(next((self.outputs[o] for o in edge if o in self.outputs), ()) for edge in edges)
                rows = tuple(tuple(costs(operation) for operation in edge) for edge in edges)
                yield CellCosts(name, cell.kind, outputs, rows)


def measure(quantity: Quantity, deployment: Deployment) -> CostTable:
    """Measures or counts the costs of all operations; leaves torch's random generators as they are."""
    with preserved_rng():
        return _latencies(deployment) if quantity == "latency" else _counted(quantity, deployment)


def cost_of(quantity: Quantity, deployment: Deployment, genotype: Genotype) -> float:
    """Measures or counts the cost of the network of a genotype, built for the purpose."""
    with preserved_rng():
        if quantity != "latency":
            return _count(quantity, deployment, genotype)
        network, meter = _for_prediction(deployment.found(genotype)), clock_of(deployment.device)
        taken = [_run(network, deployment.inputs, meter) for _ in _rounds()]
        return statistics.median(taken[1:])


def _latencies(deployment: Deployment) -> CostTable:
    space, meter = deployment.space, clock_of(deployment.device)
    candidates = Candidates(deployment, _for_prediction)
    paths = covering_paths(space)
    references = [Genotype(space.name, space.sample(seed)) for seed in range(REFERENCES)]
    networks = [_for_prediction(deployment.found(genotype)) for genotype in references]
    readings: defaultdict[nn.Module, list[float]] = defaultdict(list)
    totals: list[list[float]] = [[] for _ in networks]
    for number in _rounds():
        for path in paths:
            for operation, spent in candidates.run(path, meter).items():
                if number > 0:
                    readings[operation].append(spent)
        for network, taken in zip(networks, totals, strict=True):
            spent = _run(network, deployment.inputs, meter)
            if number > 0:
                taken.append(spent)
    cells = tuple(candidates.cells(lambda operation: statistics.median(readings[operation])))
    operations = CostTable("latency", space, 0.0, cells)
    rests = [statistics.median(taken) - operations.of(made) for taken, made in zip(totals, references, strict=True)]
    return CostTable("latency", space, statistics.median(rests), cells, deployment.about, machine(deployment.device))


def _for_prediction(network: nn.Module) -> nn.Module:
    return fused(channels_last(network))


def _rounds() -> Iterator[int]:
    """Yields the numbers of the rounds of a measurement; the first one warms up."""
    began = time.perf_counter()
    for number in range(MOST_ROUNDS + 1):
        if number > LEAST_ROUNDS and time.perf_counter() - began > SECONDS:
            return
        yield number


def _run(network: nn.Module, inputs: Sequence[Tensor], meter: Meter) -> float:
    with torch.inference_mode():
        began = meter.mark()
        network(*inputs)
        ended = meter.mark()
    meter.finish()
    return meter.between(began, ended)


def _counted(quantity: Quantity, deployment: Deployment) -> CostTable:
    space, macs = deployment.space, dict[nn.Module, float]()
    candidates, reference = Candidates(deployment), Genotype(space.name, space.sample(0))
    with FlopCounterMode(display=False) as counter:
        for path in covering_paths(space):
            macs |= candidates.run(path, _multiplications(counter))
    cells = tuple(candidates.cells(macs.__getitem__ if quantity == "macs" else count_parameters))
    rest = _count(quantity, deployment, reference) - CostTable(quantity, space, 0, cells).of(reference)
    return CostTable(quantity, space, rest, cells, deployment.about, _versions())


def _count(quantity: Quantity, deployment: Deployment, genotype: Genotype) -> float:
    network = deployment.found(genotype)
    if quantity == "parameters":
        return count_parameters(network)
    with FlopCounterMode(display=False) as counter:
        return _run(network, deployment.inputs, _multiplications(counter))


def covering_paths(space: SearchSpace) -> list[Active]:
    """Returns sets of operations that together are all of the space, each as many as a derived network has."""
    nodes = {kind: [_paths_of(node, keep) for node, keep in zip(cell.nodes, cell.keep, strict=True)]
             for kind, cell in space.cells.items()}  # fmt: skip
    count = max(len(paths) for of_kind in nodes.values() for paths in of_kind)
    return [
        {kind: [row for paths in of_kind for row in paths[number % len(paths)]] for kind, of_kind in nodes.items()}
        for number in range(count)
    ]


def _paths_of(edges: Sequence[EdgeSpace], keep: int) -> list[list[list[int]]]:
    """Returns sets of operations of a node, each with one operation on each of ``keep`` edges."""
    paths = []
    for first in range(0, len(edges), keep):
        chosen = {(first + step) % len(edges) for step in range(keep)}
        for place in range(max(len(edges[row].operations) for row in chosen)):
            paths.append([[place % len(edge.operations)] if row in chosen else [] for row, edge in enumerate(edges)])
    return paths


def machine(device: torch.device) -> dict[str, Any]:
    """Returns the processor and the device, the number of threads, and versions."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        **_versions(),
    }


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    """Returns the name of the processor, as far as it is known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
