"""The bilevel search: alpha step, weight step, curvature, policy; epoch by epoch, whatever the task.

As DARTS and RobustDARTS run it, with these departures: an alpha step leaves BN statistics alone; validation and
curvature use the statistics of their own batch; what ADA rolls back to is the whole state of that epoch, its
eigenvalue history included.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autodisp.cells.architecture import entropy
from autodisp.cells.cell import set_auxiliary, set_drop_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture
from autodisp.cells.operations import PARAMETER_FREE
from autodisp.checkpoints import Checkpoints
from autodisp.errors import InputError, Interrupted, RunFault, WrongSetting
from autodisp.run_state import BatchStream, Progress, RunState
from autodisp.search.bilevel import Order, alpha_gradient, first_order, momentum_buffers_of
from autodisp.search.curvature import Curvature, curvature, frozen_statistics, preserved_rng
from autodisp.search.growth import growth
from autodisp.search.guard import ALPHAS, LOSS, WEIGHTS, NotFinite, StepGuard
from autodisp.search.regularization import Regularization, RollBack, Stop
from autodisp.search.relaxations import Phase
from autodisp.search.selection import Argmax, Selection
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Sums, autocast, means, pool

Record = dict[str, Any]


class Observer(Protocol):
    """Who is told of the search; see ``autodisp.tracking`` and ``autodisp.observers.search_folder``."""

    @property
    def kept(self) -> int:
        """How many records, of epochs and events; a run that is resumed has it cut back to the state's number."""
        ...

    def step(self, epoch: int, step: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """A step is done; the figures cost a synchronisation, so they are computed only when shown."""
        ...

    def epoch(self, record: Record, genotype: Genotype, edge_weights: Mapping[str, Tensor]) -> None:
        """An epoch is done."""
        ...

    def event(self, kind: str, **entries: Any) -> None:
        """Early stopping, a roll-back, or the result of a ranking."""
        ...

    def message(self, text: str) -> None:
        """Something that a person is to know at once."""
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
        selection: makes the genotype of the finished search; by default the argmax.
        stopping: asked after each step and each epoch whether the run is to save its state and stop.
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
        selection: Selection | None = None,
        stopping: Callable[[], bool] = lambda: False,
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
        self.selection = selection or Argmax()
        self.stopping = stopping
        # torch's schedules warn where they step before the optimizer does, as after a resumed epoch without a step.
        weight_optimizer.zero_grad()
        weight_optimizer.step()
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
        self.guard = StepGuard(self.state, supernet.device, every=1 if self.scaler.is_enabled() else None)

    def run(self) -> Outcome:
        """Searches to the end, or to where the policy stops it; goes on from wherever its state is.

        Raises:
            Interrupted: it was asked to stop; its state is saved.
            WrongSetting: a number was not finite; the state before that is saved.
            InputError: a sample could not be read; the state before that is saved.
            RunFault: a file could not be written, or a loader's worker died.
        """
        while True:
            answer = self._answer()
            if isinstance(answer, Stop):
                self._tell_decision("early_stop", answer.decision)
                return self._outcome(answer.decision.returned_epoch, answer)
            if isinstance(answer, RollBack):
                self._roll_back(answer)
            if self.progress.epochs >= self.settings.epochs:
                return self._outcome(self.settings.epochs - 1, None)
            self.run_epoch(self.progress.epochs)
            if self.stopping():
                raise Interrupted

    def _answer(self) -> Stop | RollBack | None:
        """The policy's, once the newest complete epoch has an eigenvalue; a resumed run gets the same one again."""
        history = self.progress.history
        if self.progress.step or not history or history[-1][0] != self.progress.epochs - 1:
            return None
        return self.regularization.answer(
            history, last_epoch=self.settings.epochs - 1, weight_decay=self.progress.weight_decay
        )

    def _outcome(self, epoch: int, stopped: Stop | None) -> Outcome:
        return Outcome(self.selection.select(self, epoch), epoch, stopped, self.progress.restarts)

    def run_epoch(self, epoch: int) -> Record:
        """One epoch, or what is left of it, with its measurements, its record and its checkpoint."""
        settings = self.settings
        set_drop_path(self.supernet.network, settings.drop_path * growth(epoch, settings.epochs))
        set_auxiliary(self.supernet.network, 1 - epoch / settings.epochs)
        began, waited = time.perf_counter(), self._waited()
        learning_rate = float(self.weight_optimizer.param_groups[0]["lr"])
        train = self._train(epoch)
        trained = time.perf_counter() - began
        measured = self._measure(epoch)
        self.schedule.step()
        record: Record = {
            "epoch": epoch,
            "restart": self.progress.restarts,
            "step": self.progress.steps,
            "learning_rate": learning_rate,
            "weight_decay": self.progress.weight_decay,
            **{f"train/{name}": value for name, value in train.items()},
            **measured,
        }
        genotype = self._candidate()
        self.progress.genotypes[epoch] = json.dumps(genotype.to_json())
        record |= self._describe(genotype)
        record["seconds"] = time.perf_counter() - began
        record["seconds_waiting"] = self._waited() - waited
        record["seconds_training"] = trained
        self.progress.epochs, self.progress.step, self.progress.sums = epoch + 1, 0, {}
        self.progress.selection = {}
        # First the record, then the state that counts it: a run killed in between goes through the epoch again.
        self.observer.epoch(record, genotype, self.supernet.mean())
        self._save_epoch(epoch)
        return record

    def _save_epoch(self, epoch: int) -> None:
        """The state after that epoch. Kept are those that may be asked for, and one more, should it be damaged."""
        self.checkpoints.save(epoch, self.state.capture(records=self.observer.kept))
        returnable = self.regularization.returnable(
            self.progress.history, epoch, weight_decay=self.progress.weight_decay
        )
        before = [older for older in self.checkpoints.epochs() if older < epoch]
        self.checkpoints.keep_only(returnable | set(before[-1:]))

    def save(self) -> None:
        """The state after the newest complete epoch, with what the selection has kept in the progress."""
        self._save_epoch(self.progress.epochs - 1)

    def save_step(self) -> None:
        """The state between two steps of an epoch; before the first one it is that of the epoch before."""
        progress = self.progress
        if progress.step:
            state = self.state.capture(records=self.observer.kept)
            self.checkpoints.save(progress.epochs, state, step=progress.step)

    def _measure(self, epoch: int) -> Record:
        """Validation and, where it is due, curvature after the steps of an epoch.

        Whatever goes wrong, the state after the last step is saved: a resumed run measures again and makes no step
        twice. The curvature comes last, since it is what the progress keeps.
        """
        try:
            validated = self.validate()
            measures = self.supernet.relaxation.moves_alphas and self.settings.measures(epoch)
            curved = self.measure_curvature(epoch) if measures else {}
        except Exception:
            self.save_step()
            raise
        return {**curved, **validated}

    def _train(self, epoch: int) -> dict[str, float]:
        """The steps of an epoch; the loss and figures over the weight half.

        Whatever goes wrong in a step, the state before it is saved.
        """
        self.supernet.network.train()
        last = self.settings.steps_per_epoch
        try:
            while self.progress.step < last:
                self._step(epoch)
                if self.stopping() and self.progress.step < last:
                    self.guard.end(last=True)
                    self.save_step()
                    raise Interrupted
            self.guard.end(last=True)
        except NotFinite as found:
            self.save_step()
            raise WrongSetting(self._what_to_try(found)) from None
        except (InputError, RunFault):
            self.guard.take_back()
            self.save_step()
            raise
        return means(self.progress.sums)

    def _step(self, epoch: int) -> None:
        """One alpha step, after the warm-up, and one weight step."""
        progress = self.progress
        self.guard.begin([*self.supernet.alphas, *self.supernet.network.buffers()], self.alpha_optimizer)
        batch = self.supernet.to_device(self.weight_stream.next())
        if self.supernet.relaxation.moves_alphas and epoch >= self.settings.warmup_epochs:
            self.alpha_step(batch, self.settings.order_at(epoch))
        sums = pool(dict(progress.sums), self.weight_step(batch))
        progress.sums = sums
        progress.step += 1
        progress.steps += 1
        self.guard.end()
        self.observer.step(epoch, progress.step - 1, lambda: self._shown(sums))

    def tune(self, *, alphas: bool) -> None:
        """One step of the weights after the last epoch, and one of the alphas before it, for a selection.

        Args:
            alphas: whether they move.

        Raises:
            WrongSetting: a number was not finite; weights and alphas stand as before the step.
        """
        supernet = self.supernet
        self.guard.begin([*supernet.alphas, *supernet.network.buffers()], self.alpha_optimizer)
        try:
            batch = supernet.to_device(self.weight_stream.next())
            if alphas:
                self.alpha_step(batch, self.settings.order_at(self.settings.epochs - 1))
            self.weight_step(batch)
            self.guard.end(last=True)
        except NotFinite as found:
            raise WrongSetting(self._what_to_try(found)) from None
        except (InputError, RunFault):
            self.guard.take_back()
            raise

    def _what_to_try(self, found: NotFinite) -> str:
        group = self.weight_optimizer.param_groups[0]
        if found.quantity == ALPHAS:
            rate = self.alpha_optimizer.param_groups[0]["lr"]
            advice = f"lower optimizer.alphas.learning_rate ({rate:g} now) or optimizer.weights.learning_rate"
        else:
            advice = f"lower optimizer.weights.learning_rate ({group['lr']:g} now) or optimizer.weights.clip"
        progress = self.progress
        return (
            f"epoch {progress.epochs}, step {progress.step} (batch {self.weight_stream.position} of the weight half, "
            f"{self.alpha_stream.position} of the architecture half): the {found.quantity} is not finite; the step was "
            f"not made. Look at these batches, or {advice}"
        )

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
                gradients = first_order(
                    lambda: self._penalised(supernet.alpha_loss(batch, self._mixture("alphas"))), supernet.alphas
                )
            else:
                weights = dict(supernet.network.named_parameters())
                group = self.weight_optimizer.param_groups[0]
                gradients = alpha_gradient(
                    order,
                    lambda parameters: supernet.loss(train_batch, parameters, self._mixture("alphas")),
                    lambda parameters: self._penalised(supernet.loss(batch, parameters, self._mixture("alphas"))),
                    weights,
                    supernet.alphas,
                    learning_rate=group["lr"],
                    momentum=group["momentum"],
                    momentum_buffers=momentum_buffers_of(self.weight_optimizer, weights),
                    weight_decay=group["weight_decay"],
                )
        self.guard.note(ALPHAS, gradients)
        for alpha, gradient in zip(supernet.alphas, gradients, strict=True):
            alpha.grad = gradient
        self.guard.step(self.alpha_optimizer)
        self.alpha_optimizer.zero_grad()

    @property
    def share(self) -> float:
        """Share of the epochs that are complete, from 0 to below 1 while a step is made."""
        return self.progress.epochs / self.settings.epochs

    def _mixture(self, phase: Phase, loss: Callable[[Mixture], Tensor] | None = None) -> Mixture:
        """The edge weights of a forward pass."""
        return self.supernet.weights(phase, self.share, loss)

    def _penalised(self, loss: Tensor) -> Tensor:
        """The upper loss."""
        penalty = self.supernet.penalty(self.share)
        return loss if penalty is None else loss + penalty

    def weight_step(self, batch: Any) -> Sums:
        """Moves the weights once; loss and figures of the batch before."""
        supernet = self.supernet
        parameters = list(supernet.network.parameters())

        def loss_under(mixture: Mixture) -> Tensor:
            with frozen_statistics(supernet.network), autocast(self.settings.precision, supernet.device):
                return supernet.loss(batch, edge_weights=mixture)

        mixture = self._mixture("weights", loss_under).detach()
        with autocast(self.settings.precision, supernet.device):
            output = supernet.output(batch, mixture)
            loss = supernet.task.loss(output, batch)
        self.weight_optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if mixture.active is not None:
            _fill_gradients(parameters)
        self.scaler.unscale_(self.weight_optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        self.guard.note(LOSS, [loss])
        if self.scaler.is_enabled():  # which leaves out steps whose gradients overflowed, and those only
            self.scaler.step(self.weight_optimizer)
            self.scaler.update()
        else:
            self.guard.note(WEIGHTS, [norm])
            self.guard.step(self.weight_optimizer)
        with torch.no_grad():
            detached = loss.detach().to(torch.float64)
            return {"loss": torch.stack([detached, torch.ones_like(detached)]), **supernet.task.measure(output, batch)}

    def measure_curvature(self, epoch: int) -> Record:
        """The dominant eigenvalue on the batch of the last alpha step, as in the published code.

        The batch is read again and none is drawn, so that measuring never changes the search, and a resumed run
        measures on the same one. Before the first alpha step (warm-up) it is the batch that this step will take.
        """
        supernet, settings = self.supernet, self.settings
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
                f"epoch {epoch}: the dominant eigenvalue is unknown: the Hessian of this batch is zero, as that of a "
                "batch without valid ground truth is; take a larger search.batch_size"
            )
        elif not math.isfinite(value):
            self.observer.message(
                f"epoch {epoch}: the dominant eigenvalue is {value}; early stopping takes inf as a rise and passes "
                "over nan"
            )
        self.progress.history.append((epoch, value))
        self.progress.eigenvector = found.dominant.vector if math.isfinite(value) else None
        return {
            "eigenvalue": value,
            "eigenvalue_products": found.dominant.products,
            "spectrum": None if found.spectrum is None else found.spectrum.tolist(),
            "seconds_curvature": time.perf_counter() - began,
        }

    def validate(self) -> Record:
        """Loss and figures on the architecture half, before and after discretisation."""
        supernet = self.supernet
        with preserved_rng():
            before = supernet.evaluate(self.validation)
            after = supernet.evaluate(self.validation, supernet.discretised(self._candidate()))
        figure = supernet.task.figure
        drop = after[figure.name] - before[figure.name]
        return {
            **{f"valid/{name}": value for name, value in before.items()},
            **{f"valid_discrete/{name}": value for name, value in after.items()},
            "discretisation_drop": drop if figure.direction == "min" else -drop,
        }

    def _describe(self, genotype: Genotype) -> Record:
        chosen = [name for cell in genotype.cells.values() for node in cell for name, _ in node]
        record = {"genotype": genotype.to_json()["cells"], "parameter_free": sum(n in PARAMETER_FREE for n in chosen)}
        if self.supernet.relaxation.moves_alphas:
            record |= self.supernet.architecture.as_record()
            record |= {f"entropy/{kind}": value for kind, value in entropy(self.supernet.mean()).items()}
        return record

    def _candidate(self) -> Genotype:
        """The cells that stand for the present epoch."""
        return self.selection.candidate(self.supernet, self.progress.epochs)

    def _roll_back(self, answer: RollBack) -> None:
        """Restores the returned epoch whole, then raises the weight decay everywhere it is read from.

        The new state takes the place of the one that it came from, before those of the path that was left go: a run
        killed anywhere in between comes to the same answer again.
        """
        restarts = self.progress.restarts + 1
        self.state.restore(self.checkpoints.load(answer.restart.epoch))
        self.progress.restarts = restarts
        self.progress.weight_decay = answer.restart.weight_decay
        for group in self.weight_optimizer.param_groups:
            group["weight_decay"] = answer.restart.weight_decay
        self._tell_decision("restart", answer.decision, weight_decay=answer.restart.weight_decay)
        self._save_epoch(answer.restart.epoch)

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


def _fill_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Zeros where an operation did not run: its weight was 0, and the step decays it as if it had run."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _is_zero(found: Curvature, decay: float) -> bool:
    """True for a Hessian of zeros with that weight decay on its diagonal."""
    dominant = found.dominant
    lowest = dominant.value - dominant.residual if found.spectrum is None else found.spectrum[0].item()
    return all(math.isclose(value, decay, rel_tol=1e-6) for value in (dominant.value, lowest))
