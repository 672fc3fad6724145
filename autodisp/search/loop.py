"""The bilevel search: alpha step, weight step, curvature, policy; epoch by epoch, whatever the task.

As DARTS and RobustDARTS run it, with these departures: an alpha step leaves BN statistics alone; validation and
curvature use the statistics of their own batch; what ADA rolls back to is the whole state of that epoch, its
eigenvalue history included.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autodisp.cells.cell import set_drop_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import PARAMETER_FREE
from autodisp.errors import InputError
from autodisp.run_state import BatchStream, Checkpoints, Progress, RunState
from autodisp.search.bilevel import Order, alpha_gradient, first_order, momentum_buffers_of
from autodisp.search.curvature import curvature, frozen_statistics, preserved_rng
from autodisp.search.regularization import Regularization, RollBack, Stop
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Sums, autocast, means, pool

Record = dict[str, Any]


class Observer(Protocol):
    """Who is told of the search; see ``autodisp.tracking`` and ``autodisp.report.search_folder``."""

    def step(self, epoch: int, step: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """A step is done; the figures cost a synchronisation, so they are computed only when shown."""
        ...

    def epoch(self, record: Record, genotype: Genotype, edge_weights: Mapping[str, Tensor]) -> None:
        """An epoch is done."""
        ...

    def event(self, kind: str, **entries: Any) -> None:
        """Early stopping or a roll-back."""
        ...


@dataclass(frozen=True)
class Settings:
    """The numbers of a search; see the config of the same names."""

    epochs: int
    steps_per_epoch: int
    warmup_epochs: int = 0
    drop_path: float = 0.0
    clip: float = 5.0
    order: Order = "first"
    first_order_epochs: int = 0
    """After the warm-up, before ``order`` takes over: a second-order step costs several first-order ones."""
    curvature_every: int = 2
    curvature_full: bool = False
    curvature_tolerance: float = 1e-3
    alpha_decay_in_curvature: float = 0.0
    precision: str = "float32"
    """Of the weight step's forward pass; alphas and curvature keep float32."""

    def order_at(self, epoch: int) -> Order:
        """The order of that epoch's alpha steps."""
        return "first" if epoch < self.warmup_epochs + self.first_order_epochs else self.order

    def measures(self, epoch: int) -> bool:
        """Whether the curvature is measured after that epoch: every so often, and after the last one."""
        return epoch % self.curvature_every == 0 or epoch == self.epochs - 1


@dataclass
class Outcome:
    """What a search leaves behind."""

    genotype: Genotype
    epoch: int
    """The epoch whose alphas gave the genotype."""
    stopped: Stop | None
    restarts: int
    records: list[Record] = field(default_factory=list)


class Search:
    """One search.

    Args:
        supernet: task, network and alphas, on their device.
        weight_stream, alpha_stream: training batches of the weight half and the architecture half.
        validation: batches of the architecture half, the same at every epoch.
        weight_optimizer: over the network's parameters; its first group's learning rate and weight decay rule.
        alpha_optimizer: over the alphas.
        schedule: of the weights' learning rate, stepped once an epoch.
        regularization: the policy.
        settings: the numbers.
        checkpoints: where the states go.
        observer: is told of everything.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        weight_stream: BatchStream,
        alpha_stream: BatchStream,
        validation: Iterable[Any],
        weight_optimizer: torch.optim.Optimizer,
        alpha_optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        regularization: Regularization,
        settings: Settings,
        checkpoints: Checkpoints,
        observer: Observer,
    ) -> None:
        self.supernet = supernet
        self.weight_stream = weight_stream
        self.alpha_stream = alpha_stream
        self.validation = validation
        self.weight_optimizer = weight_optimizer
        self.alpha_optimizer = alpha_optimizer
        self.schedule = schedule
        self.regularization = regularization
        self.settings = settings
        self.checkpoints = checkpoints
        self.observer = observer
        # Scales only float16, whose small gradients would vanish; else it lets everything through.
        self.scaler = torch.amp.GradScaler(supernet.device.type, enabled=settings.precision == "float16")
        self.progress = Progress(weight_decay=float(weight_optimizer.param_groups[0]["weight_decay"]))
        self.state = RunState(
            parts={
                "network": supernet.network,
                "architecture": supernet.architecture,
                "weight_optimizer": weight_optimizer,
                "alpha_optimizer": alpha_optimizer,
                "schedule": schedule,
                "scaler": self.scaler,
            },
            streams={"weights": weight_stream, "alphas": alpha_stream},
            progress=self.progress,
        )
        self.genotypes: dict[int, Genotype] = {}

    def run(self) -> Outcome:
        """Searches to the end, or to where the policy stops it."""
        records = []
        last_epoch = self.settings.epochs - 1
        while self.progress.epochs < self.settings.epochs:
            epoch = self.progress.epochs
            record, measured = self.run_epoch(epoch)
            records.append(record)
            answer = None
            if measured:
                answer = self.regularization.answer(
                    self.progress.history, last_epoch=last_epoch, weight_decay=self.progress.weight_decay
                )
            if isinstance(answer, Stop):
                self._tell_decision("early_stop", answer.decision)
                returned = answer.decision.returned_epoch
                return Outcome(self.genotypes[returned], returned, answer, self.progress.restarts, records)
            if isinstance(answer, RollBack):
                self._roll_back(answer)
        return Outcome(self.genotypes[last_epoch], last_epoch, None, self.progress.restarts, records)

    def run_epoch(self, epoch: int) -> tuple[Record, bool]:
        """One epoch with its measurements, its record and its checkpoint; also whether the curvature was measured."""
        settings = self.settings
        set_drop_path(self.supernet.network, settings.drop_path * epoch / settings.epochs)
        began, waited = time.perf_counter(), self._waited()
        learning_rate = float(self.weight_optimizer.param_groups[0]["lr"])
        train = self._steps(epoch)
        trained = time.perf_counter() - began
        self.schedule.step()
        measured = settings.measures(epoch)
        record: Record = {
            "epoch": epoch,
            "restart": self.progress.restarts,
            "step": self.progress.steps,
            "learning_rate": learning_rate,
            "weight_decay": self.progress.weight_decay,
            **{f"train/{name}": value for name, value in train.items()},
            **(self.measure_curvature(epoch) if measured else {}),
            **self.validate(),
        }
        genotype = self.supernet.architecture.genotype()
        self.genotypes[epoch] = genotype
        record |= self._describe(genotype)
        record["seconds"] = time.perf_counter() - began
        record["seconds_waiting"] = self._waited() - waited
        record["seconds_training"] = trained
        self.progress.epochs = epoch + 1
        self.checkpoints.save(epoch, self.state.capture())
        self.checkpoints.keep_only(
            self.regularization.returnable(self.progress.history, epoch, weight_decay=self.progress.weight_decay)
        )
        self.observer.epoch(record, genotype, self.supernet.architecture.weights())
        return record, measured

    def _steps(self, epoch: int) -> dict[str, float]:
        """Alpha and weight steps of one epoch; the loss and figures over the weight half."""
        sums: Sums = {}
        self.supernet.network.train()
        order = self.settings.order_at(epoch)
        for step in range(self.settings.steps_per_epoch):
            batch = self.supernet.to_device(self.weight_stream.next())
            if epoch >= self.settings.warmup_epochs:
                self.alpha_step(batch, order)
            pool(sums, self.weight_step(batch))
            self.progress.steps += 1
            self.observer.step(epoch, step, lambda: self._shown(sums))
        figures = means(sums)
        if not math.isfinite(figures["loss"]):
            raise InputError(
                f"epoch {epoch}: the training loss is {figures['loss']}; lower optimizer.weights.learning_rate "
                f"({self.weight_optimizer.param_groups[0]['lr']:g} now) or optimizer.weights.clip"
            )
        return figures

    def _shown(self, sums: Sums) -> dict[str, float]:
        """What a progress bar shows: loss and figure so far in the epoch, the newest eigenvalue."""
        figures = means({name: sums[name] for name in ("loss", self.supernet.task.figure.name)})
        return figures | ({"eigenvalue": self.progress.history[-1][1]} if self.progress.history else {})

    def alpha_step(self, train_batch: Any, order: Order) -> None:
        """Moves the alphas once, on the next batch of the architecture half; the other one is for second order."""
        supernet = self.supernet
        batch = supernet.to_device(self.alpha_stream.next())
        with frozen_statistics(supernet.network):
            if order == "first":
                gradients = first_order(lambda: supernet.alpha_loss(batch), supernet.alphas)
            else:
                weights = dict(supernet.network.named_parameters())
                group = self.weight_optimizer.param_groups[0]
                gradients = alpha_gradient(
                    order,
                    lambda parameters: supernet.loss(train_batch, parameters),
                    lambda parameters: supernet.loss(batch, parameters),
                    weights,
                    supernet.alphas,
                    learning_rate=group["lr"],
                    momentum=group["momentum"],
                    momentum_buffers=momentum_buffers_of(self.weight_optimizer, weights),
                    weight_decay=group["weight_decay"],
                )
        for alpha, gradient in zip(supernet.alphas, gradients, strict=True):
            alpha.grad = gradient
        self.alpha_optimizer.step()
        self.alpha_optimizer.zero_grad()

    def weight_step(self, batch: Any) -> Sums:
        """Moves the weights once; loss and figures of the batch before."""
        supernet = self.supernet
        parameters = list(supernet.network.parameters())
        edge_weights = {kind: table.detach() for kind, table in supernet.architecture.weights().items()}
        with autocast(self.settings.precision, supernet.device):
            output = supernet.output(batch, edge_weights)
            loss = supernet.task.loss(output, batch)
        self.weight_optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.weight_optimizer)
        nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        self.scaler.step(self.weight_optimizer)
        self.scaler.update()
        with torch.no_grad():
            detached = loss.detach().to(torch.float64)
            return {"loss": torch.stack([detached, torch.ones_like(detached)]), **supernet.task.measure(output, batch)}

    def measure_curvature(self, epoch: int) -> Record:
        """The dominant eigenvalue on the next batch of the architecture half, as the published code measures it."""
        supernet, settings = self.supernet, self.settings
        batch = supernet.to_device(self.alpha_stream.next())
        began = time.perf_counter()
        with preserved_rng(), frozen_statistics(supernet.network):
            found = curvature(
                lambda: supernet.alpha_loss(batch),
                supernet.alphas,
                full=settings.curvature_full,
                tolerance=settings.curvature_tolerance,
                start=self.progress.eigenvector,
                weight_decay=settings.alpha_decay_in_curvature,
            )
        self.progress.history.append((epoch, found.dominant.value))
        self.progress.eigenvector = found.dominant.vector if math.isfinite(found.dominant.value) else None
        return {
            "eigenvalue": found.dominant.value,
            "eigenvalue_products": found.dominant.products,
            "spectrum": None if found.spectrum is None else found.spectrum.tolist(),
            "seconds_curvature": time.perf_counter() - began,
        }

    def validate(self) -> Record:
        """Loss and figures on the architecture half, before and after discretisation."""
        supernet = self.supernet
        with preserved_rng():
            before = supernet.evaluate(self.validation)
            after = supernet.evaluate(self.validation, supernet.discretised())
        figure = supernet.task.figure
        drop = after[figure.name] - before[figure.name]
        return {
            **{f"valid/{name}": value for name, value in before.items()},
            **{f"valid_discrete/{name}": value for name, value in after.items()},
            "discretisation_drop": drop if figure.direction == "min" else -drop,
        }

    def _describe(self, genotype: Genotype) -> Record:
        architecture = self.supernet.architecture
        chosen = [name for cell in genotype.cells.values() for node in cell for name, _ in node]
        return {
            "genotype": genotype.to_json()["cells"],
            "alphas": {kind: alphas.detach().tolist() for kind, alphas in architecture.alphas.items()},
            **{f"entropy/{kind}": entropy for kind, entropy in architecture.entropy().items()},
            "parameter_free": sum(name in PARAMETER_FREE for name in chosen),
        }

    def _roll_back(self, answer: RollBack) -> None:
        """Restores the returned epoch whole, then raises the weight decay everywhere it is read from."""
        restarts = self.progress.restarts + 1
        self.state.restore(self.checkpoints.load(answer.restart.epoch))
        self.progress.restarts = restarts
        self.progress.weight_decay = answer.restart.weight_decay
        for group in self.weight_optimizer.param_groups:
            group["weight_decay"] = answer.restart.weight_decay
        self._tell_decision("restart", answer.decision, weight_decay=answer.restart.weight_decay)

    def _tell_decision(self, kind: str, decision: Any, **more: Any) -> None:
        self.observer.event(
            kind,
            decided_epoch=decision.decided_epoch,
            returned_epoch=decision.returned_epoch,
            ratio=decision.ratio,
            **more,
        )

    def _waited(self) -> float:
        return self.weight_stream.waited + self.alpha_stream.waited
