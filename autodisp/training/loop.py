"""Step-based training of a network, for any task; validates at intervals, and keeps the best and the last model.

An interval is the steps between two validations. The weights that are validated and written are the averaged ones (EMA)
if there is an average, else the network's own.

A batch on which nothing can be measured, such as one without a valid pixel, is a step that changes neither weights,
optimizer nor average: with a gradient of zero, momentum and weight decay would still move the weights. Only the
running statistics of batch normalisation are updated, since they depend on the input alone. Its loss counts in no mean.
"""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autodisp import distributed
from autodisp.cells.cell import drop_path_memory, set_drop_path
from autodisp.checkpoints import Checkpoints
from autodisp.errors import Interrupted
from autodisp.graphs import Graphs
from autodisp.run_state import BatchStream, Stateful
from autodisp.stepping import NotFinite, Observer, SteppedRun
from autodisp.tasks.base import Sums, Task, autocast, means, move, over_processes, pool, pooled_over_processes
from autodisp.training.average import MovingAverage
from autodisp.training.schedules import Factor, constant


class TrainObserver(Observer, Protocol):
    """Follows a training; see ``autodisp.observers.train_folder``."""

    def interval(self, record: dict[str, Any], *, best: bool) -> None:
        """Called after each interval and its validation; ``best`` is True for the best validation so far."""


@dataclass(frozen=True)
class TrainSettings:
    """Numeric settings of a training; see the settings of the same names."""

    steps: int
    validate_every: int
    clip: float = math.inf
    drop_path: float = 0.0
    freeze_norm: bool = False
    precision: str = "float32"
    """Precision of the forward pass and the loss: float32, bfloat16 or float16."""

    @property
    def intervals(self) -> int:
        """Number of validations; the last interval may be shorter."""
        return math.ceil(self.steps / self.validate_every)


@dataclass
class TrainProgress:
    """Progress of a training."""

    steps: int = 0
    best: float = math.nan
    """The task's metric at the best validation so far."""
    best_step: int = 0
    record: dict[str, Any] = field(default_factory=dict)
    """Record of the newest interval."""
    sums: Sums = field(default_factory=dict)
    """Sums of loss and metrics over the current interval."""
    learning_rate: float = math.nan
    """Learning rate of the newest step."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the progress as plain data."""
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the progress."""
        vars(self).update(state_dict)


class Training(SteppedRun):
    """A training.

    Args:
        task: defines inputs, loss and metrics.
        network: on its device.
        stream: training batches.
        validation: batches, the same every time.
        optimizer: of the trainable parameters, with their base learning rates.
        settings: the numbers.
        checkpoints: where the states are saved.
        observer: follows the training.
        schedule: factor of the learning rates by the number of steps done.
        average: of the network's weights, None for none.
        loss: of an output and a batch, by the number of steps done; by default the task's.
        labels: replaces the ground truth of a batch for the loss by predictions of the given network, which is the
            evaluated one, see ``SelfTaughtTask.labelled``; None keeps the ground truth.
        stopping, graphs: see ``SteppedRun``.
        stage: a number of steps -> whatever ``loss`` depends on by them.
    """

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        *,
        stream: BatchStream,
        validation: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        settings: TrainSettings,
        checkpoints: Checkpoints,
        observer: TrainObserver,
        schedule: Factor | None = None,
        average: MovingAverage | None = None,
        loss: Callable[[int, Any, Any], Tensor] | None = None,
        labels: Callable[[nn.Module, Any], Any] | None = None,
        stopping: Callable[[], bool] = lambda: False,
        graphs: Graphs | None = None,
        stage: Callable[[int], Hashable] = lambda steps: None,
    ) -> None:
        self.task = task
        self.network = network
        self.stream = stream
        self.validation = validation
        self.optimizer = optimizer
        self.settings = settings
        self.observer = observer
        self.schedule = schedule or constant()
        self.average = average
        self.progress = TrainProgress()
        self._loss = loss
        self._labels = labels
        self._stage = stage
        self._rates = [float(group["lr"]) for group in optimizer.param_groups]
        parts: dict[str, Stateful] = {"network": network, "optimizer": optimizer}
        if average is not None:
            parts["average"] = average
        super().__init__(
            parts=parts,
            streams={"train": stream},
            progress=self.progress,
            device=next(network.parameters()).device,
            precision=settings.precision,
            checkpoints=checkpoints,
            observer=observer,
            stopping=stopping,
            graphs=graphs,
        )

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and written."""
        return self.network if self.average is None else self.average.module

    def run(self) -> Mapping[str, Any]:
        """Trains from the current state to the end; returns the last record.

        Raises:
            Interrupted, WrongSetting, InputError, RunFault: see ``SteppedRun.make_steps``.
            RunFault: a file could not be written.
        """
        progress = self.progress
        while progress.steps < self.settings.steps or progress.sums:
            record = progress.record = self.run_interval()
            progress.sums = {}
            value = float(record[f"valid/{self.task.figure.name}"])
            best = self.task.figure.better(value, progress.best)
            if best:
                progress.best, progress.best_step = value, progress.steps
            self.observer.interval(record, best=best)
            self._save()
            if self.stopping() and progress.steps < self.settings.steps:
                raise Interrupted
        return progress.record

    def _save(self) -> None:
        """Saves the current state; the previous one is kept in case this one is damaged."""
        self._set_rates()
        self.checkpoints.save(self.progress.steps, self.captured())
        self.checkpoints.keep_only(self.checkpoints.epochs()[-2:])

    def save_step(self) -> None:
        """Saves the state between two steps; does nothing before the first one."""
        if self.progress.steps:
            self._save()

    def run_interval(self) -> dict[str, Any]:
        """Trains to the next validation, and validates.

        If validation fails, the state after the last step is saved, and a resumed training validates without a step.
        """
        began, waited = time.perf_counter(), self.stream.waited
        first, interval = self.progress.steps, self._interval()
        until = min((interval + 1) * self.settings.validate_every, self.settings.steps)
        self._set_training_mode()
        self.make_steps(until - first)
        train, trained = means(self.progress.sums), time.perf_counter() - began
        with self.step_saved():
            valid = self.validate()
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

    def _set_training_mode(self) -> None:
        self.network.train()
        for module in self.network.modules():
            if self.settings.freeze_norm and isinstance(module, nn.BatchNorm2d):
                module.eval()

    def _interval(self) -> int:
        """Number of the current interval. One with sums has begun, and may only lack its validation."""
        return (self.progress.steps - bool(self.progress.sums)) // self.settings.validate_every

    def step(self) -> None:
        """Makes one step."""
        progress, settings = self.progress, self.settings
        average = self.average
        self.guard.begin([*self.network.buffers(), *(() if average is None else average.buffers())])
        progress.learning_rate = self._set_rates()
        if settings.drop_path:
            set_drop_path(self.network, settings.drop_path * progress.steps / settings.steps)
        steps = progress.steps

        def compute(batch: Any) -> tuple[Tensor, Sums]:
            loss, sums = self._forward(self.network, batch, steps)
            self.scaler.scale(loss).backward()
            return loss.detach(), sums

        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        loss, sums = self.graphs.run(
            "training steps",
            compute,
            move(self.next_batch(self.stream), self.device),
            parameters=trained,
            constants=(self._stage(steps), drop_path_memory(self.network)),
            obstacle=None if self._labels is None else "a teacher labels their batches",
        )
        value, sums = over_processes(loss.to(torch.float64), sums)
        wanted = sums[self.task.figure.name][1].sum() > 0  # a batch without ground truth makes no step
        made = self.descend(
            loss, self.optimizer, trained, clip=settings.clip, wanted=wanted, statistics=self.network.buffers()
        )
        if average is not None:
            average.update(self.network, made)
        progress.sums = pool(dict(progress.sums), self._with_loss(value, sums))
        progress.steps += 1
        self.guard.end()
        interval = self._interval()
        step = progress.steps - 1 - interval * settings.validate_every
        self.observer.step(interval, step, partial(self._shown, progress.sums))

    def _set_rates(self) -> float:
        """Sets the learning rates of the next step; returns the first one."""
        factor = self.schedule(self.progress.steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        return self._rates[0] * factor

    def _forward(self, network: nn.Module, batch: Any, steps: int) -> tuple[Tensor, Sums]:
        """Returns the loss of a batch after that many steps, and the sums of its metrics."""
        batch = move(batch, self.device)
        with autocast(self.settings.precision, self.device):
            output = network(*self.task.inputs(batch))
            target = self._labelled(batch)
            loss = self.task.loss(output, target) if self._loss is None else self._loss(steps, output, target)
        with torch.no_grad():
            return loss, self.task.measure(output, batch)

    def _labelled(self, batch: Any) -> Any:
        if self._labels is None:
            return batch
        with evaluating(self.evaluated) as teacher:
            return self._labels(teacher, batch)

    def _with_loss(self, loss: Tensor, sums: Sums) -> Sums:
        """Returns the sums with those of the loss, which counts if something was measured."""
        counts = (sums[self.task.figure.name][1] > 0).to(torch.float64)
        return {"loss": torch.stack([torch.where(counts > 0, loss, 0.0), counts]), **sums}

    def advice(self, found: NotFinite) -> str:
        """Explains where a number was not finite, and the remedy."""
        rate = self._set_rates()
        return (
            f"step {self.progress.steps} (batch {self.stream.position}): the {found.quantity} is not finite; the step "
            f"was not made. Look at that batch, or lower optimizer.learning_rate ({rate:g} now) or optimizer.clip"
        )

    def _shown(self, sums: Sums) -> dict[str, float]:
        return means({name: sums[name] for name in ("loss", self.task.figure.name)})

    def validate(self) -> dict[str, float]:
        """Returns loss and metrics pooled over the validation batches, with running statistics, without drop-path."""
        sums: Sums = {}
        mine = distributed.share(self.validation)
        with distributed.agreed(), distributed.alone(), evaluating(self.evaluated) as network:
            for batch in mine:
                loss, more = self._forward(network, batch, max(self.progress.steps - 1, 0))
                pool(sums, self._with_loss(loss.to(torch.float64), more))
        return means(pooled_over_processes([sums])[0])


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Sets evaluation mode, without gradients, inside the block; each module has its own mode again afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        for module, training in modes:
            module.training = training
