"""The cost of a search, estimated from a few measured steps before running it."""

import operator
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from autodisp.checkpoints import Checkpoints
from autodisp.devices import peak_memory, wait_for
from autodisp.graphs import WARM_UPS
from autodisp.search.bilevel import Order
from autodisp.search.curvature import flat_gradient, frozen_statistics, hessian_product, preserved_rng
from autodisp.search.loop import Search, SearchSettings

PRODUCTS = 12
"""Hessian-vector products of a Lanczos measurement in the middle of a search (EXPERIMENTS.md: 6 to 19)."""
REPEATS = 3


@dataclass(frozen=True)
class Costs:
    """Seconds of the parts of a search, and their peak memory."""

    weight_step: float
    """Includes reading the batch."""
    alpha_steps: dict[Order, float]
    gradient_graph: float
    """Shared by all Hessian-vector products of one measurement."""
    product: float
    validation_batch: float
    """Before and after discretisation."""
    checkpoint: float
    memory: float
    """MiB: peak of the process, or of the GPU."""


@dataclass(frozen=True)
class Plan:
    """The cost of a whole search."""

    settings: SearchSettings
    costs: Costs
    validation_batches: int
    alphas: int
    """Number of alphas that move; the full Hessian takes as many products."""
    evaluations: int = 0
    """Number of batches that the selection evaluates at the end."""
    tuning: int = 0
    """Number of epochs for which the selection tunes the supernet."""

    def epoch(self, number: int) -> float:
        """Seconds of that epoch."""
        settings, costs = self.settings, self.costs
        measured = self.measurement if self.alphas and settings.measures(number) else 0.0
        return settings.steps_per_epoch * self.step(number) + measured + self.validation + costs.checkpoint

    def step(self, number: int) -> float:
        """Seconds of a step of that epoch."""
        moves = self.alphas and number >= self.settings.warmup_epochs
        return self.costs.weight_step + (self.costs.alpha_steps[self.settings.order_at(number)] if moves else 0.0)

    @property
    def validation(self) -> float:
        """Seconds of one validation, before and after discretisation."""
        return self.validation_batches * self.costs.validation_batch

    @property
    def measurement(self) -> float:
        """Seconds of one measurement of the curvature."""
        products = self.alphas if self.settings.curvature_full else PRODUCTS
        return self.costs.gradient_graph + products * self.costs.product

    @property
    def total(self) -> float:
        """Seconds of all epochs and the selection, without roll-backs and early stopping."""
        return sum(self.epoch(number) for number in range(self.settings.epochs)) + self.selection

    @property
    def selection(self) -> float:
        """Seconds of the selection's evaluations and steps, at most: less if only some of the operations run."""
        tuned = self.tuning * self.settings.steps_per_epoch * self.step(self.settings.epochs - 1)
        return self.evaluations * self.costs.validation_batch / 2 + tuned


def plan_search(search: Search) -> Plan:
    """Measures a few steps of a newly built search, which must not be used afterwards.

    Weights and alphas move as in the search itself; the first step of each kind is not timed.
    """
    settings, moves = search.settings, search.supernet.relaxation.moves_alphas
    with_alphas = range(settings.warmup_epochs, settings.epochs) if moves else ()
    orders = {settings.order_at(number) for number in with_alphas}
    batch = search.supernet.to_device(search.weight_stream.next())
    search.supernet.network.train()

    def weight_step() -> None:
        search.weight_step(search.supernet.to_device(search.weight_stream.next()))

    alpha_steps = {order: _seconds(partial(search.alpha_step, batch, order)) for order in sorted(orders)}
    graph, product = _curvature(search) if moves else (0.0, 0.0)
    costs = Costs(
        weight_step=_seconds(weight_step),
        alpha_steps=alpha_steps,
        gradient_graph=graph,
        product=product,
        validation_batch=_validation_batch(search),
        checkpoint=_checkpoint(search),
        memory=peak_memory(search.supernet.device)[0] / 2**20,
    )
    alphas = sum(alpha.numel() for alpha in search.supernet.alphas) if moves else 0
    evaluations = search.selection.evaluations(settings.epochs * settings.steps_per_epoch)
    batches = operator.length_hint(search.validation) or sum(1 for _ in search.validation)
    return Plan(settings, costs, batches, alphas, evaluations, search.selection.tuning())


def _curvature(search: Search) -> tuple[float, float]:
    """Seconds of the gradient's graph and of one Hessian-vector product."""
    supernet = search.supernet
    batch = supernet.to_device(search.alpha_stream.next())
    with preserved_rng(), frozen_statistics(supernet.network):
        began = time.perf_counter()
        gradient = flat_gradient(lambda: supernet.alpha_loss(batch), supernet.alphas)
        wait_for(supernet.device)
        graph = time.perf_counter() - began
        direction = torch.ones_like(gradient)

        def product() -> None:
            hessian_product(gradient, supernet.alphas, direction)

        return graph, _seconds(product, repeats=2)


def _validation_batch(search: Search) -> float:
    """Seconds of reading one batch and evaluating it twice."""
    supernet = search.supernet
    began = time.perf_counter()
    supernet.evaluate_each([next(iter(search.validation))], [None, supernet.discretised()])
    return time.perf_counter() - began


def _checkpoint(search: Search) -> float:
    with tempfile.TemporaryDirectory(dir=search.checkpoints.folder.parent) as folder:
        checkpoints = Checkpoints(Path(folder))
        return _seconds(lambda: checkpoints.save(0, search.captured()), repeats=1, warm_up=False)


def _seconds(run: Callable[[], object], *, repeats: int = REPEATS, warm_up: bool = True) -> float:
    """Median of a few runs, after those before a CUDA graph is replayed."""
    on_gpu = torch.cuda.is_initialized()
    for _ in range((WARM_UPS + 1 if on_gpu else 1) * warm_up):
        run()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        if on_gpu:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
