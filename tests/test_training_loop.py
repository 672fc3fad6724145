"""The training loop against plain PyTorch loops, on a task of its own, which shows that it knows none."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from autodisp.cells.cell import Cell, FoundCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.errors import InputError, WrongSetting
from autodisp.tasks.base import Figure
from autodisp.training import schedules
from autodisp.training.average import MovingAverage
from autodisp.training.loop import Training, TrainSettings
from tests.made_searches import Batches
from tests.programs import differences, same
from tests.shared_runs import MaskedTask, Network, Sample

NAN, INF = math.nan, math.inf
RATE = 0.05


class DenseTask(MaskedTask):
    name = "dense"

    def __init__(self, direction: Any = "min") -> None:
        self.figure = Figure("mse", direction)
        self.modes: list[bool] = []
        """Whether each loss was of an output that learns."""

    def loss(self, output: Tensor, batch: Sample) -> Tensor:
        self.modes.append(output.requires_grad)
        return super().loss(output, batch)


def dense_network() -> Network:
    """Batch normalisation throughout."""
    return Network(FoundCells(Genotype("tiny81", SPACES["tiny81"].sample(3)), style=Style(affine=True)))


def masked_mse(output: Tensor, batch: Sample) -> Tensor:
    error = torch.where(batch.valid, output - batch.target, 0.0).square()
    return error.sum() / batch.valid.sum().clamp(min=1)


class Cut(Batches):
    def at(self, position: int) -> Sample:
        if position == 4:
            raise InputError("a.png: is cut off")
        return super().at(position)


class Listener:
    """Who was told what; copies of the weights after every step."""

    def __init__(self) -> None:
        self.training: Training | None = None
        self.steps: list[tuple[int, int]] = []
        self.shown: list[Mapping[str, float]] = []
        self.records: list[dict[str, Any]] = []
        self.best: list[bool] = []
        self.weights: list[list[Tensor]] = []
        self.rates: list[float] = []

    def step(self, interval: int, step: int, figures: Callable[[], Mapping[str, float]]) -> None:
        self.steps.append((interval, step))
        self.shown.append(figures())
        assert self.training is not None
        self.weights.append(copies(self.training.network.parameters()))
        self.rates.append(self.training.optimizer.param_groups[0]["lr"])

    def interval(self, record: dict[str, Any], *, best: bool) -> None:
        self.records.append(record)
        self.best.append(best)


def copies(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def optimizer_of(name: str, network: nn.Module, *, fused: bool | None = None) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, weight_decay=0.01, fused=fused)
    return torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01, fused=fused)


def make(
    folder: Path,
    *,
    optimizer: str = "adamw",
    fused: bool | None = None,
    factor: schedules.Factor | None = None,
    stream: Batches | None = None,
    validation: Iterable[Any] | None = None,
    task: Any = None,
    network: nn.Module | None = None,
    average: float | None = None,
    loss: Callable[[int, Any, Any], Tensor] | None = None,
    labels: Callable[[nn.Module, Any], Any] | None = None,
    **settings: Any,
) -> tuple[Training, Listener]:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = network or dense_network()
    chosen = optimizer_of(optimizer, network, fused=fused)
    listener = Listener()
    training = Training(
        task or DenseTask(),
        network,
        stream=stream or Batches(1),
        validation=[Batches(2).at(0), Batches(2).at(1)] if validation is None else validation,
        optimizer=chosen,
        schedule=factor,
        settings=TrainSettings(**{"steps": 6, "validate_every": 3, **settings}),
        checkpoints=Checkpoints(folder / "checkpoints", unit="step"),
        observer=listener,
        average=None if average is None else MovingAverage(network, average),
        loss=loss,
        labels=labels,
    )
    listener.training = training
    return training, listener


def resume(training: Training) -> int:
    state = training.checkpoints.newest(print)
    if state is not None:
        training.state.restore(state)
    return training.progress.steps


def seen(step: int) -> Sample:
    """Batch of a training step; channels_last changes no value, but the order in which convolutions add up."""
    batch = Batches(1).at(step)
    return batch._replace(image=batch.image.to(memory_format=torch.channels_last))


def descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def by_hand(
    steps: int, *, optimizer: str, clip: float, factor: schedules.Factor, dtype: torch.dtype | None = None
) -> tuple[nn.Module, list[float]]:
    """The plainest loop: network and losses."""
    torch.manual_seed(0)
    network = dense_network()
    chosen = optimizer_of(optimizer, network)
    network.train()
    losses = []
    for step in range(steps):
        chosen.param_groups[0]["lr"] = RATE * factor(step)
        batch = seen(step)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            loss = masked_mse(network(batch.image), batch)
        chosen.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        if norm > clip:
            torch._foreach_mul_(gradients, clip / (norm + 1e-6))
        chosen.step()
        losses.append(loss.item())
    return network, losses


@pytest.mark.parametrize(
    ("optimizer", "clip", "factor"),
    [
        ("sgd", 0.05, schedules.constant()),
        ("adamw", INF, schedules.constant()),
        ("sgd", INF, schedules.cosine(7, floor=0.1)),
        ("adamw", 0.05, schedules.cosine(7, floor=0.1)),
        ("sgd", 0.05, schedules.milestones([2, 5])),
        ("adamw", INF, schedules.milestones([2, 5])),
        ("sgd", INF, schedules.warmed_up(schedules.cosine(7), 3)),
        ("adamw", 0.05, schedules.warmed_up(schedules.cosine(7), 3)),
    ],
    ids=lambda value: None if callable(value) else str(value),
)
def test_the_weights_are_those_of_a_plain_loop(
    tmp_path: Path, optimizer: str, clip: float, factor: schedules.Factor
) -> None:
    training, listener = make(tmp_path, optimizer=optimizer, clip=clip, factor=factor, steps=7, validate_every=3)
    training.run()
    network, losses = by_hand(7, optimizer=optimizer, clip=clip, factor=factor)
    assert same(training.network.state_dict().values(), network.state_dict().values())
    means = [math.fsum(losses[start : start + 3]) / len(losses[start : start + 3]) for start in (0, 3, 6)]
    assert [record["train/loss"] for record in listener.records] == pytest.approx(means)
    assert [record["learning_rate"] for record in listener.records] == [RATE * factor(step) for step in (2, 5, 6)]


def test_the_average_is_what_is_judged(tmp_path: Path) -> None:
    training, listener = make(tmp_path, average=0.9)
    training.run()
    assert training.average is not None
    assert training.evaluated is training.average.module
    found = training.validate()["mse"]
    sums = torch.zeros(2, dtype=torch.float64)
    training.evaluated.eval()
    for batch in training.validation:
        sums += DenseTask().measure(training.evaluated(batch.image), batch)["mse"]
    assert found == pytest.approx((sums[0] / sums[1]).item())
    assert listener.records[-1]["valid/mse"] == found
    training.average = None
    assert training.evaluated is training.network
    assert training.validate()["mse"] != found


def test_the_average_does_not_touch_the_training(tmp_path: Path) -> None:
    plain, _ = make(tmp_path / "a", drop_path=0.3)
    plain.run()
    averaged, _ = make(tmp_path / "b", average=0.9, drop_path=0.3)
    averaged.run()
    assert same(plain.network.state_dict().values(), averaged.network.state_dict().values())


@pytest.mark.parametrize(
    ("steps", "every", "ends"),
    [(7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 5, [2]), (3, 1, [1, 2, 3]), (1, 1, [1])],
)
def test_the_last_interval_may_be_shorter(tmp_path: Path, steps: int, every: int, ends: list[int]) -> None:
    training, listener = make(tmp_path, steps=steps, validate_every=every)
    last = training.run()
    assert [record["step"] for record in listener.records] == ends
    assert [record["epoch"] for record in listener.records] == list(range(len(ends)))
    assert training.settings.intervals == len(ends)
    assert listener.steps == [(step // every, step % every) for step in range(steps)]
    assert last == listener.records[-1]
    assert training.checkpoints.epochs() == ends[-2:]
    assert training.stream.position == steps


def test_a_record_holds_what_was_measured(tmp_path: Path) -> None:
    training, listener = make(tmp_path)
    training.run()
    assert set(listener.records[0]) == {
        "epoch", "step", "learning_rate", "train/loss", "train/mse", "valid/loss", "valid/mse", "seconds",
        "seconds_waiting", "seconds_training", "steps_per_second",
    }  # fmt: skip
    assert listener.shown[2] == {
        "loss": pytest.approx(listener.records[0]["train/loss"]),
        "mse": pytest.approx(listener.records[0]["train/mse"]),
    }
    assert listener.shown[3] != listener.shown[2], "an interval begins with nothing"


@pytest.mark.parametrize(
    ("direction", "values", "best"),
    [
        ("min", [3.0, 2.0, 2.0, 4.0, 1.0], [True, True, False, False, True]),
        ("max", [3.0, 2.0, 3.0, 4.0, 1.0], [True, False, False, True, False]),
        ("min", [NAN, 5.0, NAN, 6.0, 4.0], [False, True, False, False, True]),
        ("max", [NAN, NAN, -2.0, NAN, -3.0], [False, False, True, False, False]),
        ("min", [INF, 7.0, INF, NAN, 7.0], [True, True, False, False, False]),
        ("min", [NAN, NAN, NAN, NAN, NAN], [False] * 5),
    ],
)
def test_the_best_is_kept_by_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direction: str, values: list[float], best: list[bool]
) -> None:
    given = iter(values)
    monkeypatch.setattr(Training, "validate", lambda training: {"loss": 0.0, "mse": next(given)})
    training, listener = make(tmp_path, task=DenseTask(direction), steps=10, validate_every=2)
    training.run()
    assert listener.best == best
    at = max((place for place, flag in enumerate(best) if flag), default=None)
    progress = training.progress
    assert progress.best_step == (0 if at is None else 2 * (at + 1))
    assert progress.best == pytest.approx(NAN if at is None else values[at], nan_ok=True)


def test_drop_path_grows_with_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = Cell.forward

    def spy(cell: Cell, inputs: Any, weights: Any) -> Tensor:
        if cell.kind == "normal" and cell.training:
            seen.append(cell.drop_probability)
        return original(cell, inputs, weights)

    monkeypatch.setattr(Cell, "forward", spy)
    training, _ = make(tmp_path, steps=5, validate_every=2, drop_path=0.4, average=0.9)
    training.run()
    assert seen == pytest.approx([0.4 * step / 5 for step in range(5)])


def test_the_loss_may_vary_with_the_steps(tmp_path: Path) -> None:
    """A validation takes that of the newest step."""
    told: list[int] = []

    def loss(steps: int, output: Tensor, batch: Sample) -> Tensor:
        told.append(steps)
        return (1 + steps) * masked_mse(output, batch)

    training, listener = make(tmp_path, steps=3, validate_every=2, loss=loss, factor=lambda _: 0.0)
    training.run()
    assert told == [0, 1, 1, 1, 2, 2, 2]
    training.network.train()
    values = [masked_mse(training.network(Batches(1).at(k).image), Batches(1).at(k)).item() for k in range(3)]
    assert listener.records[0]["train/loss"] == pytest.approx((values[0] + 2 * values[1]) / 2)
    assert listener.records[1]["train/loss"] == pytest.approx(3 * values[2])


def test_frozen_normalisation_uses_and_keeps_the_running_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = dense_network()
    for batch in range(3):
        network(Batches(5).at(batch).image)  # statistics other than the initial ones
    training, _ = make(tmp_path, optimizer="sgd", network=copy.deepcopy(network), labels=by_teacher, freeze_norm=True)
    training.run()
    assert same(training.network.buffers(), network.buffers())
    chosen = optimizer_of("sgd", network)
    network.eval()
    for step in range(6):
        with torch.no_grad():
            target = by_teacher(network, seen(step))
        descend(chosen, masked_mse(network(target.image), target))
    assert same(training.network.parameters(), network.parameters())


def by_teacher(teacher: nn.Module, batch: Sample) -> Sample:
    """Replace the target by what the averaged weights predict, where that is large."""
    assert not teacher.training
    assert not torch.is_grad_enabled()
    target = teacher(batch.image)
    return batch._replace(target=target + 0.5, valid=target > target.median())


@pytest.mark.parametrize("decay", [0.5, None])
def test_a_teacher_of_averaged_weights_against_a_plain_loop(tmp_path: Path, decay: float | None) -> None:
    training, _ = make(tmp_path, optimizer="sgd", average=decay, labels=by_teacher, steps=4, validate_every=4)
    training.run()
    torch.manual_seed(0)
    network = dense_network()
    teacher = copy.deepcopy(network) if decay else network
    chosen = optimizer_of("sgd", network)
    for step in range(4):
        output = network.train()(seen(step).image)
        with torch.no_grad():
            target = by_teacher(teacher.eval(), seen(step))
        network.train()
        descend(chosen, masked_mse(output, target))
        if decay:
            for mean, value in zip(teacher.parameters(), network.parameters(), strict=True):
                share = 1.0 if step == 0 else 1 - decay
                mean.data.copy_((1 - share) * mean.data + share * value.data)
            teacher.load_state_dict(dict(network.named_buffers()), strict=False)
    assert same(training.network.parameters(), network.parameters())
    assert all(map(torch.allclose, training.evaluated.parameters(), teacher.parameters()))


def test_labels_do_not_reach_the_metrics(tmp_path: Path) -> None:
    """Measured is the ground truth, even if the loss is of something else."""
    plain, _ = make(tmp_path / "plain", steps=1, validate_every=1)
    labelled, _ = make(tmp_path / "labelled", labels=by_teacher, steps=1, validate_every=1)
    first, second = plain.validate(), labelled.validate()
    assert first["mse"] == second["mse"]
    assert first["loss"] != second["loss"]


def test_bfloat16_is_of_forward_and_loss(tmp_path: Path) -> None:
    training, listener = make(tmp_path, precision="bfloat16", optimizer="sgd", steps=4, validate_every=4)
    training.run()
    factor = schedules.constant()
    network, losses = by_hand(4, optimizer="sgd", clip=INF, factor=factor, dtype=torch.bfloat16)
    exact, exact_losses = by_hand(4, optimizer="sgd", clip=INF, factor=factor)
    assert same(training.network.state_dict().values(), network.state_dict().values())
    assert not same(network.parameters(), exact.parameters())
    assert {weight.dtype for weight in training.network.parameters()} == {torch.float32}
    assert listener.records[0]["train/loss"] == pytest.approx(math.fsum(losses) / 4)
    assert losses[0] == pytest.approx(exact_losses[0], rel=0.05)


def test_validation_takes_its_loss_in_the_precision_of_the_training(tmp_path: Path) -> None:
    """Autocast keeps a cross-entropy in float32; on bfloat16 scores alone it would be one of 8 bits."""

    class Scores(DenseTask):
        def loss(self, output: Tensor, batch: Sample) -> Tensor:
            self.modes.append(torch.is_autocast_enabled("cpu"))
            return nn.functional.cross_entropy(output.flatten(1), torch.zeros(len(output), dtype=torch.long))

    task = Scores()
    training, _ = make(tmp_path, task=task, precision="bfloat16", steps=1, validate_every=1)
    training.run()
    assert task.modes == [True] * 3


def test_a_float16_step_that_overflows_is_left_out(tmp_path: Path) -> None:
    """The first one, before which a schedule of torch must not step without saying so."""
    overflowing = iter([True])

    class Overflowing(DenseTask):
        def loss(self, output: Tensor, batch: Sample) -> Tensor:
            if output.requires_grad and next(overflowing, False):
                output.register_hook(lambda gradient: gradient * INF)  # type: ignore[no-untyped-call]
            return super().loss(output, batch)

    training, listener = make(tmp_path, task=Overflowing(), precision="float16", steps=16, validate_every=16)
    start, scale = copies(training.network.parameters()), training.scaler.get_scale()
    training.run()
    assert same(listener.weights[0], start)
    assert not same(listener.weights[-1], start), "the scale was halved until the gradients fitted"
    assert training.scaler.get_scale() <= scale / 2
    assert all(weight.isfinite().all() for weight in listener.weights[-1])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_loss_that_is_no_number_stops_before_the_update(tmp_path: Path, optimizer: str) -> None:
    training, listener = make(tmp_path, stream=Batches(1, spoilt=[4]), optimizer=optimizer, average=0.9, clip=0.5)
    says = r"^step 4 \(batch 4\): the training loss is not finite; the step was not made\. "
    with pytest.raises(InputError, match=rf"{says}.*optimizer\.learning_rate \({RATE:g} now\)"):
        training.run()
    assert len(listener.weights) == 4
    assert same(training.network.parameters(), listener.weights[-1])
    assert training.progress.steps == training.stream.position == 4
    assert training.checkpoints.epochs() == [3, 4], "the state before that step is there to be looked at"


@pytest.mark.parametrize(
    ("fused", "optimizer", "spoilt"),
    [(True, "sgd", 0), (True, "adamw", 2), (False, "sgd", 2), (False, "adamw", 0)],
)
def test_a_late_look_rolls_back_to_the_spoilt_step(tmp_path: Path, optimizer: str, fused: bool, spoilt: int) -> None:
    """As on a GPU, where the host reads the flag every 50 steps; here at the end of the interval."""
    states: list[dict[str, Any]] = []
    words: list[str] = []
    for every in (1, 50):
        stream = Batches(1, spoilt=[spoilt], empty=[1])
        training, _ = make(
            tmp_path / str(every), stream=stream, optimizer=optimizer, fused=fused, average=0.9, drop_path=0.3,
            factor=schedules.cosine(6), validate_every=6,
        )  # fmt: skip
        training.guard.every = every
        with pytest.raises(WrongSetting) as caught:
            training.run()
        words.append(str(caught.value))
        states.append(everything(training))
    assert training.progress.steps == training.stream.position == spoilt
    assert words[0] == words[1]
    assert differences(*states) == []


def test_a_fault_after_a_spoilt_step_names_the_spoilt_one(tmp_path: Path) -> None:
    training, _ = make(tmp_path, stream=Cut(1, spoilt=[2]), fused=True, validate_every=6)
    training.guard.every = 50
    with pytest.raises(WrongSetting, match=r"^step 2 \(batch 2\)"):
        training.run()
    assert training.checkpoints.epochs() == [2]


def test_states_of_earlier_versions_are_resumed(tmp_path: Path) -> None:
    """They have a schedule and an average of torch's, and an optimizer that is not fused."""
    training, _ = make(tmp_path / "now", average=0.9, steps=3)
    training.run()
    then, network = training.state.capture(), dense_network()
    network.load_state_dict(training.network.state_dict())
    average = AveragedModel(network)
    average.load_state_dict(then["parts"]["average"])  # the same keys
    optimizer = optimizer_of("adamw", network)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedules.cosine(6))
    optimizer.load_state_dict(then["parts"]["optimizer"])
    parts = {"average": average, "optimizer": optimizer, "schedule": schedule}
    then["parts"] |= {name: part.state_dict() for name, part in parts.items()}
    (tmp_path / "then").mkdir()
    Checkpoints(tmp_path / "then" / "checkpoints", unit="step").save(3, then)
    results = []
    for name, fused in (("now", None), ("then", True)):
        again, _ = make(tmp_path / name, average=0.9, steps=6, fused=fused)
        assert resume(again) == 3
        again.run()
        results.append([*again.network.parameters(), *again.evaluated.parameters()])
    assert same(*results)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gradient_that_is_no_number_stops_too(tmp_path: Path, precision: str) -> None:
    class Steep(DenseTask):
        def loss(self, output: Tensor, batch: Sample) -> Tensor:
            output.register_hook(lambda gradient: gradient * INF)  # type: ignore[no-untyped-call]
            return super().loss(output, batch)

    training, _ = make(tmp_path, task=Steep(), precision=precision)
    start = copies(training.network.parameters())
    with pytest.raises(
        InputError, match=r"^step 0 \(batch 0\): the gradient of the weights is not finite; the step was not made\. "
    ):
        training.run()
    assert same(training.network.parameters(), start)


@pytest.mark.parametrize("training_mode", [True, False])
@pytest.mark.parametrize("average", [None, 0.9])
def test_validating_changes_nothing(tmp_path: Path, training_mode: bool, average: float | None) -> None:
    task = DenseTask()
    training, _ = make(tmp_path, task=task, average=average, drop_path=0.5)
    training.run_interval()
    training.evaluated.train(training_mode)
    before, random = copies(training.evaluated.state_dict().values()), torch.get_rng_state()
    modes: list[bool] = []
    handle = training.evaluated.register_forward_hook(lambda module, *_: modes.append(module.training))
    task.modes.clear()
    first = training.validate()
    assert first == training.validate()
    handle.remove()
    assert modes == [False] * 4
    assert task.modes == [False] * 4
    assert training.evaluated.training == training_mode
    assert all(module.training == training_mode for module in training.evaluated.modules())
    assert same(training.evaluated.state_dict().values(), before)
    assert torch.equal(torch.get_rng_state(), random)


def test_validation_that_fails_leaves_the_mode(tmp_path: Path) -> None:
    def unreadable() -> Iterable[Sample]:
        yield Batches(2).at(0)
        raise InputError("x.png: damaged")

    training, _ = make(tmp_path, validation=unreadable())
    training.network.train()
    with pytest.raises(InputError, match="damaged"):
        training.validate()
    assert training.network.training


def test_figures_are_pooled_over_what_counts(tmp_path: Path) -> None:
    few = Batches(2).at(0)
    few = few._replace(valid=few.valid & (torch.arange(few.valid.numel()).view(few.valid.shape) < 2))
    empty = Batches(2, empty=[1]).at(1)
    batches = [few, empty, Batches(2).at(2)]
    training, _ = make(tmp_path, validation=batches)
    found = training.validate()
    training.network.eval()
    with torch.no_grad():
        outputs = [training.network(batch.image) for batch in batches]
    pairs = list(zip(outputs, batches, strict=True))
    errors = torch.cat([(output - batch.target)[batch.valid].square() for output, batch in pairs])
    assert found["mse"] == pytest.approx(errors.double().mean().item(), rel=1e-5)
    losses = [masked_mse(*pair).item() for pair in pairs if pair[1].valid.any()]
    assert found["loss"] == pytest.approx(math.fsum(losses) / 2), "a batch without truth has no loss, not one of zero"


def everything(training: Training) -> dict[str, Any]:
    state = copy.deepcopy(training.state.capture())
    progress = state["progress"]
    progress["record"] = untimed(progress["record"])
    return state


def untimed(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if "second" not in name}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("damaged", "settings"),
    [
        (partial(Batches, spoilt=[4]), {"average": 0.9}),
        (partial(Batches, spoilt=[4]), {"precision": "float16"}),
        (Cut, {"average": 0.8, "labels": by_teacher}),
    ],
)
def test_a_resumed_training_is_the_uninterrupted_one(
    tmp_path: Path, optimizer: str, damaged: Callable[[int], Batches], settings: dict[str, Any]
) -> None:
    factor = schedules.warmed_up(schedules.cosine(6), 2)
    options: dict[str, Any] = {"optimizer": optimizer, "drop_path": 0.4, "clip": 0.5, "factor": factor, **settings}
    straight, expected = make(tmp_path / "straight", **options)
    straight.run()

    stopped, first = make(tmp_path / "stopped", stream=damaged(1), **options)
    with pytest.raises(InputError):
        stopped.run()
    torch.manual_seed(77)
    resumed, second = make(tmp_path / "stopped", **options)
    torch.rand(5)
    assert resume(resumed) == 4, "the state before the batch that was refused"
    resumed.run()
    assert differences(everything(straight), everything(resumed)) == []
    assert [*map(untimed, [*first.records, *second.records])] == [*map(untimed, expected.records)]
    assert resumed.checkpoints.epochs() == [4, 6]


@pytest.mark.parametrize("fails_at", [3, 6, 7])
def test_a_validation_that_fails_loses_no_step(tmp_path: Path, fails_at: int) -> None:
    """Nor makes one twice: the training goes on with the validation. The last interval is shorter."""
    options: dict[str, Any] = {"steps": 7, "average": 0.9, "drop_path": 0.3}
    whole, expected = make(tmp_path / "whole", **options)
    whole.run()

    class Damaged(list[Sample]):
        def __iter__(self) -> Any:
            if training.progress.steps == fails_at:
                raise InputError("a.png: is cut off")
            return super().__iter__()

    training, listener = make(tmp_path / "cut", validation=Damaged([Batches(2).at(0), Batches(2).at(1)]), **options)
    with pytest.raises(InputError, match="cut off"):
        training.run()
    again, rest = make(tmp_path / "cut", **options)
    assert resume(again) == fails_at
    again.run()
    assert differences(everything(whole), everything(again)) == []
    assert [*map(untimed, [*listener.records, *rest.records])] == [*map(untimed, expected.records)]


def test_a_network_that_was_evaluated_is_trained_in_training_mode(tmp_path: Path) -> None:
    training, _ = make(tmp_path)
    training.network.eval()
    training.run()
    expected, _ = make(tmp_path / "other")
    expected.run()
    assert same(training.network.state_dict().values(), expected.network.state_dict().values())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("empty", [0, 2])
def test_a_batch_without_a_valid_pixel_adds_nothing(tmp_path: Path, optimizer: str, empty: int) -> None:
    """Neither to weights (momentum and weight decay would move them), nor to optimizer, average and figures."""
    batches, factor = Batches(2, empty=[0]), schedules.cosine(4)
    training, listener = make(
        tmp_path, stream=Batches(1, empty=[empty]), optimizer=optimizer, average=0.9, steps=4, validate_every=4,
        validation=[batches.at(0), batches.at(1)], factor=factor,
    )  # fmt: skip
    assert training.average is not None
    parts = (training.optimizer, training.average)
    states = [copy.deepcopy([part.state_dict() for part in parts])]
    told = listener.step

    def step(*arguments: Any) -> None:
        told(*arguments)
        states.append(copy.deepcopy([part.state_dict() for part in parts]))

    listener.weights.append(copies(training.network.parameters()))
    listener.step = step  # type: ignore[method-assign]
    training.run()
    for before in range(4):
        optimizers = [states[before + after][0]["state"] for after in (0, 1)]
        unmoved = [
            same(*listener.weights[before : before + 2]),
            differences(*optimizers) == [],
            differences(*(states[before + after][1] for after in (0, 1))) == [],
        ]
        assert unmoved == [before == empty] * 3
    assert training.progress.steps == training.stream.position == 4
    assert listener.rates == [RATE * factor(step) for step in range(4)], "the schedule counts every step"
    record = listener.records[0]
    assert all(math.isfinite(record[f"{part}/{name}"]) for part in ("train", "valid") for name in ("loss", "mse"))
    assert record["train/loss"] > 0
    training.validation = [batches.at(1)]
    assert training.validate() == {key[6:]: record[key] for key in record if key.startswith("valid/")}
