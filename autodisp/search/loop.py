"""The bilevel search: alpha step, weight step, curvature, policy; epoch by epoch, for any task.

As in DARTS and RobustDARTS, with these departures: an alpha step does not update BN statistics; validation and
curvature use the statistics of their own batch; ADA rolls back to the whole state of an epoch, including its eigenvalue
history.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from autodisp import distributed
from autodisp.cells.architecture import entropy
from autodisp.cells.cell import auxiliary_factor, drop_path_memory, set_auxiliary, set_drop_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture, Tables
from autodisp.cells.operations import PARAMETER_FREE
from autodisp.checkpoints import Checkpoints
from autodisp.errors import InputError, Interrupted, RunFault, WrongSetting
from autodisp.graphs import Graphs
from autodisp.records import Record
from autodisp.run_state import BatchStream
from autodisp.search.bilevel import InnerStep, Order, alpha_gradient, new_seed
from autodisp.search.curvature import Curvature, curvature, frozen_statistics, preserved_rng
from autodisp.search.regularization import Regularization, RollBack, Stop
from autodisp.search.relaxations import Phase
from autodisp.search.selection import Argmax, Selection
from autodisp.search.supernet import Supernet
from autodisp.stepping import ALPHAS, NotFinite, Observer, SteppedRun, advance
from autodisp.tasks.base import Sums, autocast, means, over_processes, pool

_CHOSEN = "the relaxation chooses the operations on the host"


class SearchObserver(Observer, Protocol):
    """Follows a search; see ``autodisp.observers.search_folder``."""

    def epoch(self, record: dict[str, Any], genotype: Genotype, edge_weights: Mapping[str, Tensor]) -> None:
        """Called after each epoch."""

    def event(self, kind: str, **entries: Any) -> None:
        """Called after early stopping, a roll-back, or a ranking."""

    def message(self, text: str) -> None:
        """Shows a line to the user at once."""


@dataclass(frozen=True)
class SearchSettings:
    """Numeric settings of a search; see the settings of the same names."""

    epochs: int
    steps_per_epoch: int
    warmup_epochs: int = 0
    drop_path: float = 0.0
    clip: float = 5.0
    order: Order = "first"
    first_order_epochs: int = 0
    """Epochs of first order between warm-up and ``order``, as a second-order step costs several first-order ones."""
    curvature_every: int = 2
    curvature_full: bool = False
    curvature_tolerance: float = 1e-3
    alpha_decay_in_curvature: float = 0.0
    precision: str = "float32"
    """Precision of the weight step's forward pass; alphas and curvature keep float32."""

    def order_at(self, epoch: int) -> Order:
        """Order of that epoch's alpha steps."""
        return "first" if epoch < self.warmup_epochs + self.first_order_epochs else self.order

    def growth(self, epoch: int) -> float:
        """Fraction of the full strength of drop-path and cut-out in an epoch, 0 in the first and 1 in the last one.

        e / (n - 1), as in the searches of RobustDARTS; 1 in epochs after the last one, 0 in a search of one epoch.
        """
        return min(epoch / (self.epochs - 1), 1.0) if self.epochs > 1 else 0.0

    def measures(self, epoch: int) -> bool:
        """Returns True if the curvature is measured after that epoch; it always is after the last one."""
        return epoch % self.curvature_every == 0 or epoch == self.epochs - 1


@dataclass
class SearchProgress:
    """Progress of a search, and its measurements so far."""

    weight_decay: float
    epochs: int = 0
    """Complete epochs; the next one has this number."""
    step: int = 0
    """Complete steps of the current epoch."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums of loss and metrics over the current epoch."""
    steps: int = 0
    """Complete steps of all epochs."""
    restarts: int = 0
    """Number of roll-backs by ADA."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """(epoch, dominant eigenvalue) pairs of the current path, without abandoned epochs."""
    eigenvector: Tensor | None = None
    """Eigenvector of the newest measurement, the start vector of the next one."""
    genotypes: dict[int, str] = field(default_factory=dict)
    """The cells of every epoch of that path, as JSON."""
    selection: dict[str, Any] = field(default_factory=dict)
    """Results of the selection since the newest epoch, as plain data and tensors."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the progress as plain data and tensors."""
        return {**vars(self), "history": [list(pair) for pair in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the progress."""
        history = [(int(epoch), float(value)) for epoch, value in state_dict["history"]]
        vars(self).update({**state_dict, "history": history})


@dataclass(frozen=True)
class Outcome:
    """Result of a search."""

    genotype: Genotype
    record: Record
    """Record of the epoch whose alphas gave the genotype."""
    stopped: Stop | None
    restarts: int


class Search(SteppedRun):
    """A search.

    Args:
        supernet: task, network and alphas, on their device.
        weight_stream, alpha_stream: training batches of the weight split and the architecture split.
        validation: batches of the architecture split, the same at every epoch.
        weight_optimizer: of the network's parameters; the learning rate and weight decay are those of its first group.
        alpha_optimizer: of the alphas.
        schedule: of the weights' learning rate, stepped once per epoch.
        regularization: the policy.
        settings: the numbers.
        checkpoints: where the states are saved.
        observer: follows the search.
        selection: chooses the genotype of the finished search; by default the argmax.
        stopping, graphs: see ``SteppedRun``; ``stopping`` is called after each epoch too.
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
        settings: SearchSettings,
        checkpoints: Checkpoints,
        observer: SearchObserver,
        selection: Selection | None = None,
        stopping: Callable[[], bool] = lambda: False,
        graphs: Graphs | None = None,
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
        self.observer = observer
        self.selection = selection or Argmax()
        self.progress = SearchProgress(weight_decay=float(weight_optimizer.param_groups[0]["weight_decay"]))
        super().__init__(
            parts={
                "network": supernet.network,
                "architecture": supernet.architecture,
                "weight_optimizer": weight_optimizer,
                "alpha_optimizer": alpha_optimizer,
                "schedule": schedule,
            },
            streams={"weights": weight_stream, "alphas": alpha_stream},
            progress=self.progress,
            device=supernet.device,
            precision=settings.precision,
            checkpoints=checkpoints,
            observer=observer,
            stopping=stopping,
            graphs=graphs,
        )

    def run(self) -> Outcome:
        """Runs the search from the current state to the end, or until the policy stops it.

        Raises:
            Interrupted, WrongSetting, InputError, RunFault: see ``SteppedRun.make_steps``.
            RunFault: a file could not be written.
        """
        while True:
            answer = self._answer()
            if isinstance(answer, Stop):
                self._record_decision("early_stop", answer.decision)
                return self._outcome(answer.decision.returned_epoch, answer)
            if isinstance(answer, RollBack):
                self._roll_back(answer)
            if self.progress.epochs >= self.settings.epochs:
                return self._outcome(self.settings.epochs - 1, None)
            self.run_epoch()
            if self.stopping():
                raise Interrupted

    def _answer(self) -> Stop | RollBack | None:
        """The policy's answer to the newest epoch, if that has an eigenvalue; the same again in a resumed run."""
        history = self.progress.history
        if self.progress.step or not history or history[-1][0] != self.progress.epochs - 1:
            return None
        return self.regularization.answer(
            history, last_epoch=self.settings.epochs - 1, weight_decay=self.progress.weight_decay
        )

    def _outcome(self, epoch: int, stopped: Stop | None) -> Outcome:
        genotype = self.selection.select(self, epoch)
        # the newest record of that epoch, since a roll-back leaves records of an abandoned path
        epochs = (record for record in reversed(self.observer.records) if "event" not in record)
        record = next(record for record in epochs if record["epoch"] == epoch)
        return Outcome(genotype, record, stopped, self.progress.restarts)

    def run_epoch(self) -> Record:
        """Runs the rest of the current epoch, and makes its measurements, its record and its checkpoint."""
        settings, progress, epoch = self.settings, self.progress, self.progress.epochs
        set_drop_path(self.supernet.network, settings.drop_path * settings.growth(epoch))
        set_auxiliary(self.supernet.network, 1 - epoch / settings.epochs)
        began, waited = time.perf_counter(), self._waited()
        learning_rate = float(self.weight_optimizer.param_groups[0]["lr"])
        self.supernet.network.train()
        self.make_steps(settings.steps_per_epoch - progress.step)
        train, trained = means(progress.sums), time.perf_counter() - began
        with self.step_saved():  # validated first, since the progress keeps the eigenvalue
            validated = self.validate()
            measures = self.supernet.relaxation.moves_alphas and settings.measures(epoch)
            curved = self.measure_curvature() if measures else {}
        advance(self.schedule)
        genotype = self._candidate()
        progress.genotypes[epoch] = json.dumps(genotype.to_json())
        distributed.require_same("architectures", progress.genotypes[epoch], *self.supernet.alphas)
        record: dict[str, Any] = {
            "epoch": epoch,
            "restart": progress.restarts,
            "step": progress.steps,
            "learning_rate": learning_rate,
            "weight_decay": progress.weight_decay,
            **{f"train/{name}": value for name, value in train.items()},
            **curved,
            **validated,
            **self._describe(genotype),
            "seconds": time.perf_counter() - began,
            "seconds_waiting": self._waited() - waited,
            "seconds_training": trained,
        }
        progress.epochs, progress.step, progress.sums, progress.selection = epoch + 1, 0, {}, {}
        # Record first, then the state with the number of records: a run killed in between repeats the epoch.
        self.observer.epoch(record, genotype, self.supernet.mean())
        self._save_epoch(epoch)
        return record

    def _save_epoch(self, epoch: int) -> None:
        """Saves the state after an epoch; deletes states that no roll-back can need, except the previous one."""
        self.checkpoints.save(epoch, self.captured())
        returnable = self.regularization.returnable(
            self.progress.history, epoch, weight_decay=self.progress.weight_decay
        )
        before = [older for older in self.checkpoints.epochs() if older < epoch]
        self.checkpoints.keep_only(returnable | set(before[-1:]))

    def save(self) -> None:
        """Saves the state after the newest complete epoch, with the results of the selection so far."""
        self._save_epoch(self.progress.epochs - 1)

    def save_step(self) -> None:
        """Saves the state between two steps of an epoch; before the first step it is that of the previous epoch."""
        if self.progress.step:
            self.checkpoints.save(self.progress.epochs, self.captured(), step=self.progress.step)

    def step(self) -> None:
        """Makes one alpha step, after the warm-up, and one weight step."""
        progress = self.progress
        epoch = progress.epochs
        self.guard.begin([*self.supernet.alphas, *self.supernet.network.buffers()], self.alpha_optimizer)
        batch = self.supernet.to_device(self.next_batch(self.weight_stream))
        if self.supernet.relaxation.moves_alphas and epoch >= self.settings.warmup_epochs:
            self.alpha_step(batch, self.settings.order_at(epoch))
        sums = pool(dict(progress.sums), self.weight_step(batch))
        progress.sums = sums
        progress.step += 1
        progress.steps += 1
        self.guard.end()
        self.observer.step(epoch, progress.step - 1, lambda: self._shown(sums))

    def tune(self, *, alphas: bool) -> None:
        """Makes a weight step after the last epoch, optionally preceded by an alpha step, for a selection.

        Raises:
            WrongSetting: a number was not finite; the step was not made.
        """
        supernet = self.supernet
        self.guard.begin([*supernet.alphas, *supernet.network.buffers()], self.alpha_optimizer)
        try:
            batch = supernet.to_device(self.next_batch(self.weight_stream))
            if alphas:
                self.alpha_step(batch, self.settings.order_at(self.settings.epochs - 1))
            self.weight_step(batch)
            self.guard.look()
        except NotFinite as found:
            raise WrongSetting(self.advice(found)) from None
        except (InputError, RunFault):
            self.guard.roll_back()
            raise

    def advice(self, found: NotFinite) -> str:
        """Explains where a number was not finite, and the remedy."""
        group = self.weight_optimizer.param_groups[0]
        if found.quantity == ALPHAS:
            rate = self.alpha_optimizer.param_groups[0]["lr"]
            advice = f"lower optimizer.alphas.learning_rate ({rate:g} now) or optimizer.weights.learning_rate"
        else:
            advice = f"lower optimizer.weights.learning_rate ({group['lr']:g} now) or optimizer.weights.clip"
        progress = self.progress
        return (
            f"epoch {progress.epochs}, step {progress.step} (batch {self.weight_stream.position} of the weight split, "
            f"{self.alpha_stream.position} of the architecture split): the {found.quantity} is not finite; the step "
            f"was not made. Look at these batches, or {advice}"
        )

    def _shown(self, sums: Sums) -> dict[str, float]:
        """Metrics for the progress bar: loss and the task's metric over the epoch so far, the newest eigenvalue."""
        metrics = means({name: sums[name] for name in ("loss", self.supernet.task.figure.name)})
        return metrics | ({"eigenvalue": self.progress.history[-1][1]} if self.progress.history else {})

    def alpha_step(self, train_batch: Any, order: Order) -> None:
        """Moves the alphas once, on the next batch of the architecture split.

        The second order needs ``train_batch``, a batch of the weight split, too.
        """
        supernet = self.supernet
        batch = supernet.to_device(self.next_batch(self.alpha_stream))
        with frozen_statistics(supernet.network):
            gradients = self._first_order(batch) if order == "first" else self._second_order(train_batch, batch, order)
        self.guard.note(ALPHAS, gradients)
        for alpha, gradient in zip(supernet.alphas, gradients, strict=True):
            alpha.grad = gradient
        self.guard.step(self.alpha_optimizer)
        self.alpha_optimizer.zero_grad()

    def _first_order(self, batch: Any) -> list[Tensor]:
        """The first-order gradient; only the part through the network is recorded, as relaxations draw on the host."""
        supernet, mixture = self.supernet, self._mixture("alphas")

        def slopes(batch: Any, operations: Tables, edges: Tables | None) -> list[Tensor]:
            leaves = mixture.with_tables(operations, edges).leaves()
            loss = supernet.alpha_loss(batch, leaves)
            return list(torch.autograd.grad(loss, leaves.tensors, materialize_grads=True))

        found = self.graphs.run(
            "first-order alpha steps",
            slopes,
            batch,
            *mixture.detach().tables,
            constants=self._host_numbers(),
            obstacle=None if mixture.active is None else _CHOSEN,
        )
        penalty = supernet.penalty(self.share)
        paths = [(table, slope) for table, slope in zip(mixture.tensors, found, strict=True) if table.requires_grad]
        if penalty is not None and penalty.requires_grad:
            paths.append((penalty, torch.ones_like(penalty)))
        outputs, slopes_of = zip(*paths, strict=True)
        gradients = torch.autograd.grad(outputs, supernet.alphas, slopes_of, materialize_grads=True)
        return distributed.mean(gradients)

    def _second_order(self, train_batch: Any, batch: Any, order: Order) -> list[Tensor]:
        """The second-order gradient; see ``alpha_gradient``."""
        supernet = self.supernet
        weights = dict(supernet.network.named_parameters())
        seed, inner = new_seed(), InnerStep.of(self.weight_optimizer, weights)

        def gradients(train_batch: Any, batch: Any) -> list[Tensor]:
            def upper_loss(parameters: Mapping[str, Tensor]) -> Tensor:
                loss, penalty = supernet.loss(batch, parameters, self._mixture("alphas")), supernet.penalty(self.share)
                return loss if penalty is None else loss + penalty

            return alpha_gradient(
                order,
                lambda parameters: supernet.loss(train_batch, parameters, self._mixture("alphas")),
                upper_loss,
                weights,
                supernet.alphas,
                inner,
                seed=seed,
            )

        numbers = (inner.learning_rate, inner.momentum, inner.weight_decay, self.share)
        return self.graphs.run(
            "second-order alpha steps",
            gradients,
            train_batch,
            batch,
            constants=(*self._host_numbers(), *numbers, *(b.data_ptr() for b in inner.buffers.values())),
            draws=False,
            obstacle="they differentiate twice" if order == "exact" else None,
        )

    def _host_numbers(self) -> tuple[Any, ...]:
        """Numbers of the host in a forward pass of the network."""
        network = self.supernet.network
        return drop_path_memory(network), auxiliary_factor(network)

    @property
    def share(self) -> float:
        """Fraction of complete epochs, from 0 to below 1 during a step."""
        return self.progress.epochs / self.settings.epochs

    def _mixture(self, phase: Phase, loss: Callable[[Mixture], Tensor] | None = None) -> Mixture:
        """The edge weights of a forward pass."""
        return self.supernet.weights(phase, self.share, loss)

    def weight_step(self, batch: Any) -> Sums:
        """Moves the weights once; returns loss and metrics of the batch before the update."""
        supernet = self.supernet

        def loss_under(mixture: Mixture) -> Tensor:
            with frozen_statistics(supernet.network), autocast(self.settings.precision, supernet.device):
                return supernet.loss(batch, edge_weights=mixture)

        mixture = self._mixture("weights", loss_under).detach()

        def compute(batch: Any, operations: Tables, edges: Tables | None) -> tuple[Tensor, Sums]:
            with autocast(self.settings.precision, supernet.device):
                output = supernet.output(batch, mixture.with_tables(operations, edges))
                loss = supernet.task.loss(output, batch)
            with torch.no_grad():
                sums = supernet.task.measure(output, batch)
            self.scaler.scale(loss).backward()
            return loss.detach(), sums

        parameters = list(supernet.network.parameters())
        # an operation that did not run had a weight of 0; its parameters decay as if it had run
        dense = mixture.active is None
        loss, sums = self.graphs.run(
            "weight steps",
            compute,
            batch,
            *mixture.tables,
            parameters=parameters,
            constants=self._host_numbers(),
            obstacle=None if dense else _CHOSEN,
        )
        value, sums = over_processes(loss.to(torch.float64), sums)
        self.descend(
            loss,
            self.weight_optimizer,
            parameters,
            clip=self.settings.clip,
            dense=dense,
            statistics=supernet.network.buffers(),
        )
        return {"loss": torch.stack([value, torch.ones_like(value)]), **sums}

    def measure_curvature(self) -> dict[str, Any]:
        """Measures the dominant eigenvalue on the batch of the last alpha step, as in the published code.

        The batch is read again instead of drawing one, so that measuring never changes the search, and a resumed run
        measures on the same batch. Before the first alpha step (warm-up) it is the batch of that step.
        """
        supernet, settings, epoch = self.supernet, self.settings, self.progress.epochs
        with distributed.agreed():
            batch = supernet.to_device(self.alpha_stream.at(max(self.alpha_stream.position - 1, 0)))
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
        value = found.dominant.value
        if _is_zero(found, settings.alpha_decay_in_curvature):
            value = math.nan
            self.observer.message(
                f"epoch {epoch}: the dominant eigenvalue is unknown: the Hessian of this batch is zero, as for a "
                "batch without valid ground truth; take a larger search.batch_size"
            )
        elif not math.isfinite(value):
            self.observer.message(
                f"epoch {epoch}: the dominant eigenvalue is {value}; early stopping treats inf as a rise and ignores "
                "nan"
            )
        self.progress.history.append((epoch, value))
        self.progress.eigenvector = found.dominant.vector if math.isfinite(value) else None
        return {
            "eigenvalue": value,
            "eigenvalue_products": found.dominant.products,
            "spectrum": None if found.spectrum is None else found.spectrum.tolist(),
            "seconds_curvature": time.perf_counter() - began,
        }

    def validate(self) -> dict[str, Any]:
        """Returns loss and metrics on the architecture split, before and after discretisation."""
        supernet = self.supernet
        with preserved_rng():
            discretised = supernet.discretised(self._candidate())
            before, after = supernet.evaluate_each(self.validation, [None, discretised])
        figure = supernet.task.figure
        drop = after[figure.name] - before[figure.name]
        return {
            **{f"valid/{name}": value for name, value in before.items()},
            **{f"valid_discrete/{name}": value for name, value in after.items()},
            "discretisation_drop": drop if figure.direction == "min" else -drop,
        }

    def _describe(self, genotype: Genotype) -> dict[str, Any]:
        chosen = [name for cell in genotype.cells.values() for node in cell for name, _ in node]
        record = {"genotype": genotype.to_json()["cells"], "parameter_free": sum(n in PARAMETER_FREE for n in chosen)}
        if self.supernet.relaxation.moves_alphas:
            weights = self.supernet.mean()
            record |= self.supernet.architecture.as_record(weights)
            record |= {f"entropy/{kind}": value for kind, value in entropy(weights).items()}
        if self.supernet.cost_penalty is not None:
            record |= self.supernet.cost_penalty.record(self.supernet.mean(), genotype)
        return record

    def _candidate(self) -> Genotype:
        """The cells that represent the current epoch."""
        return self.selection.candidate(self.supernet, self.progress.epochs)

    def _roll_back(self, answer: RollBack) -> None:
        """Restores the whole state of the returned epoch, then raises the weight decay everywhere.

        The new state replaces the restored one before those of the abandoned path are deleted: a run killed in between
        makes the same decision again.
        """
        restarts = self.progress.restarts + 1
        self.state.restore(self.checkpoints.load(answer.restart.epoch))
        self.progress.restarts = restarts
        self.progress.weight_decay = answer.restart.weight_decay
        for group in self.weight_optimizer.param_groups:
            group["weight_decay"] = answer.restart.weight_decay
        self._record_decision("restart", answer.decision, weight_decay=answer.restart.weight_decay)
        self._save_epoch(answer.restart.epoch)

    def _record_decision(self, kind: str, decision: Any, **more: Any) -> None:
        self.observer.event(
            kind,
            decided_epoch=decision.decided_epoch,
            returned_epoch=decision.returned_epoch,
            ratio=decision.ratio,
            **more,
        )

    def _waited(self) -> float:
        return self.weight_stream.waited + self.alpha_stream.waited


def _is_zero(found: Curvature, decay: float) -> bool:
    """Returns True for a Hessian of zeros with that weight decay on its diagonal."""
    dominant = found.dominant
    lowest = dominant.value - dominant.residual if found.spectrum is None else found.spectrum[0].item()
    return all(math.isclose(value, decay, rel_tol=1e-6) for value in (dominant.value, lowest))
