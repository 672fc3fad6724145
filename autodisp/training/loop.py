"""Trains a network step by step: any task, any network; validates at intervals, keeps the best and the last.

An interval is what lies between two validations. Weights that are validated and written are the averaged ones where
there is an average (EMA), else the network's own.

A batch of which nothing can be measured, such as one without a valid pixel, is a step that changes neither weights,
optimizer nor average: with a gradient of zero, momentum and weight decay would still move the weights. Only the
running statistics of batch normalisation, which are of the input, go on. Its loss counts in no mean.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from autodisp.cells.cell import set_drop_path
from autodisp.checkpoints import Checkpoints
from autodisp.errors import InputError, Interrupted, RunFault, WrongSetting
from autodisp.run_state import BatchStream, Moment, RunState
from autodisp.tasks.base import Sums, Task, autocast, means, move, pool

Record = dict[str, Any]


class Observer(Protocol):
    """Who is told of the training."""

    @property
    def kept(self) -> int:
        """How many records; a run that is resumed has them cut back to the state's number."""
        ...

    def step(self, interval: int, step: int, figures: Callable[[], Mapping[str, float]]) -> None:
        """A step of an interval is done; the figures cost a synchronisation, so they are computed only when shown."""
        ...

    def interval(self, record: Record, *, best: bool) -> None:
        """An interval is done and validated; whether it is the best so far."""
        ...


@dataclass(frozen=True)
class Settings:
    """The numbers of a training; see the config of the same names."""

    steps: int
    validate_every: int
    clip: float = math.inf
    drop_path: float = 0.0
    precision: str = "float32"
    """Of the forward pass and the loss: float32, bfloat16 or float16."""

    @property
    def intervals(self) -> int:
        """How often it validates; the last interval may be shorter."""
        return math.ceil(self.steps / self.validate_every)


@dataclass
class Progress:
    """How far a training is."""

    steps: int = 0
    best: float = math.nan
    """The task's figure at the best validation so far."""
    best_step: int = 0
    record: Record = field(default_factory=dict)
    """Of the newest interval."""
    sums: Sums = field(default_factory=dict)
    """Of the loss and figures of the interval now running."""
    learning_rate: float = math.nan
    """Of the newest step."""

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        vars(self).update(state_dict)


class Training:
    """One training.

    Args:
        task: says what is lost and measured.
        network: on its device.
        stream: training batches.
        validation: batches, the same every time.
        optimizer: over the network's parameters that are to learn.
        schedule: of its learning rate, stepped at every step.
        settings: the numbers.
        checkpoints: where the states go.
        average: decay of the averaged weights, None for none.
        before_step: called with the number of steps done, for what a recipe varies by the step.
        stopping: asked after each step whether the run is to save its state and stop.
    """

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        *,
        stream: BatchStream,
        validation: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        settings: Settings,
        checkpoints: Checkpoints,
        average: float | None = None,
        before_step: Callable[[int], None] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.task = task
        self.network = network
        self.stream = stream
        self.validation = validation
        self.optimizer = optimizer
        self.schedule = schedule
        self.settings = settings
        self.checkpoints = checkpoints
        self.before_step = before_step
        self.stopping = stopping
        self.device = next(network.parameters()).device
        # torch's schedules warn where they step before the optimizer does, and a first step may change nothing.
        optimizer.zero_grad()
        optimizer.step()
        self.progress = Progress()
        self.average: AveragedModel | None = None
        if average is not None:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(average))
        # Scales only float16, whose small gradients would vanish; else it lets everything through.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        parts: dict[str, Any] = {
            "network": network,
            "optimizer": optimizer,
            "schedule": schedule,
            "scaler": self.scaler,
        }
        if self.average is not None:
            parts["average"] = self.average
        self.state = RunState(parts=parts, streams={"train": stream}, progress=self.progress)

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        network: nn.Module = self.network if self.average is None else self.average.module
        return network

    def run(self, observer: Observer) -> Record:
        """Trains to the end, telling the observer of everything; the last record.

        Raises:
            Interrupted: it was asked to stop; its state is saved.
            WrongSetting: a number was not finite; the state before that is saved.
            InputError: a sample could not be read; the state before that is saved.
            RunFault: a file could not be written, or a loader's worker died.
        """
        while self.progress.steps < self.settings.steps or self.progress.sums:
            self.progress.record = self.run_interval(observer)
            self.progress.sums = {}
            steps = self.progress.steps
            value = float(self.progress.record[f"valid/{self.task.figure.name}"])
            best = self.task.figure.better(value, self.progress.best)
            if best:
                self.progress.best, self.progress.best_step = value, steps
            observer.interval(self.progress.record, best=best)
            self._save(observer)
            if self.stopping() and steps < self.settings.steps:
                raise Interrupted
        return self.progress.record

    def _save(self, observer: Observer) -> None:
        """The state of now; the one before is kept, should this one be damaged."""
        steps = self.progress.steps
        self.checkpoints.save(steps, self.state.capture(records=observer.kept))
        self.checkpoints.keep_only(self.checkpoints.epochs()[-2:])

    def run_interval(self, observer: Observer) -> Record:
        """Trains to the next validation, and validates.

        If that fails, the state after the last step is saved, and a resumed training validates without another step.
        """
        began, waited = time.perf_counter(), self.stream.waited
        interval, until = self._place()
        self.network.train()
        first = self.progress.steps
        while self.progress.steps < until:
            self._guarded_step(observer)
            step = self.progress.steps - 1 - interval * self.settings.validate_every
            observer.step(interval, step, partial(self._shown, self.progress.sums))
            if self.stopping() and self.progress.steps < until:
                self._save(observer)
                raise Interrupted
        train, trained = means(self.progress.sums), time.perf_counter() - began
        try:
            valid = self.validate()
        except Exception:
            self._save(observer)
            raise
        return {
            "epoch": interval,
            "step": self.progress.steps,
            "learning_rate": self.progress.learning_rate,
            **{f"train/{name}": value for name, value in train.items()},
            **{f"valid/{name}": value for name, value in valid.items()},
            "seconds": time.perf_counter() - began,
            "seconds_waiting": self.stream.waited - waited,
            "seconds_training": trained,
            "steps_per_second": (until - first) / trained,
        }

    def _place(self) -> tuple[int, int]:
        """The interval now running, and the step at which it ends.

        One that has sums has begun, and may lack its validation alone.
        """
        interval = (self.progress.steps - bool(self.progress.sums)) // self.settings.validate_every
        return interval, min((interval + 1) * self.settings.validate_every, self.settings.steps)

    def _guarded_step(self, observer: Observer) -> None:
        """One step; if it cannot be made, the state before it is saved."""
        moment = Moment(self.state, self.network.buffers())
        try:
            self.progress.sums = self._step()
        except (InputError, RunFault):
            moment.put_back()
            if self.progress.steps:
                self._save(observer)
            raise

    def _step(self) -> Sums:
        """The sums with those of its batch."""
        steps = self.progress.steps
        self.progress.learning_rate = float(self.optimizer.param_groups[0]["lr"])
        if self.settings.drop_path:
            set_drop_path(self.network, self.settings.drop_path * steps / self.settings.steps)
        if self.before_step is not None:
            self.before_step(steps)
        loss, sums = self._judge(self.network, self.stream.next())
        if bool(sums[self.task.figure.name][1] > 0):
            self._learn(loss)
        self.schedule.step()
        self.progress.steps += 1
        return pool(dict(self.progress.sums), sums)

    def _judge(self, network: nn.Module, batch: Any) -> tuple[Tensor, Sums]:
        """The loss of a batch, and the sums of loss and figures."""
        batch = move(batch, self.device)
        with autocast(self.settings.precision, self.device):
            output = network(*self.task.inputs(batch))
            loss = self.task.loss(output, batch)
        with torch.no_grad():
            sums = self.task.measure(output, batch)
            counts = (sums[self.task.figure.name][1] > 0).to(torch.float64)
            counted = torch.where(counts > 0, loss.detach().to(torch.float64), 0.0)
        return loss, {"loss": torch.stack([counted, counts]), **sums}

    def _learn(self, loss: Tensor) -> None:
        """One update of the weights, and of their average."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        learning = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(learning, self.settings.clip)
        self._refuse_non_finite(loss, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)

    def _refuse_non_finite(self, loss: Tensor, norm: Tensor) -> None:
        """Stops before the update; a float16 gradient that overflowed is the scaler's business."""
        if bool(loss.isfinite()) and (bool(norm.isfinite()) or self.scaler.is_enabled()):
            return
        rate = self.optimizer.param_groups[0]["lr"]
        raise WrongSetting(
            f"step {self.progress.steps} (batch {self.stream.position - 1}): loss {loss.item():g}, gradient norm "
            f"{norm.item():g}; the step was not made. Look at that batch, or lower "
            f"optimizer.learning_rate ({rate:g} now) or optimizer.clip"
        )

    def _shown(self, sums: Sums) -> dict[str, float]:
        return means({name: sums[name] for name in ("loss", self.task.figure.name)})

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and figures pooled over the validation batches, with running statistics and without drop-path."""
        network = self.judged
        was_training = network.training
        network.eval()
        sums: Sums = {}
        try:
            for batch in self.validation:
                pool(sums, self._judge(network, batch)[1])
        finally:
            network.train(was_training)
        return means(sums)
