"""Builds a training from its typed config."""

import dataclasses
import re
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from autodisp import model_file
from autodisp.assembly.networks import build_device, build_style, check_batch, find_genotype, load_space, use_threads
from autodisp.assembly.running import build_graphs, build_images, build_optimizer, build_tracker, origin_of
from autodisp.assembly.train_data import TrainData
from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SPACES, SearchSpace, find_space
from autodisp.checkpoints import Checkpoints
from autodisp.config.checks import naming, nearest
from autodisp.config.sections import FromCheckpointConfig
from autodisp.config.train import TrainConfig
from autodisp.datasets.streams import Stream
from autodisp.errors import InputError
from autodisp.model_file import ModelCard
from autodisp.networks.parameter_count import channels_for, count_parameters
from autodisp.networks.synchronised import synchronise
from autodisp.networks.unbuilt import unbuilt
from autodisp.observers.train_folder import TrainFolder
from autodisp.run_files import CHECKPOINTS, LAST
from autodisp.tasks.base import LevelledTask, Task, channels_last
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import KITS, rebuild
from autodisp.tracking import ConsoleProgress
from autodisp.training import schedules
from autodisp.training.average import MovingAverage
from autodisp.training.loop import Training, TrainSettings, evaluating

DESIGNED = "designed"
"""Value of ``genotype`` for hand-designed cells."""
RANDOM = "random:"
"""Prefix of ``genotype`` for cells drawn from a search space."""
INDEXED = re.compile(r"(?P<space>\w+):(?P<index>\d{1,18})", re.ASCII)
"""``genotype`` of the cells at a place of a search space, see ``SearchSpace.at``."""
FARTHEST_COUNT = 0.25
"""Largest relative difference between a network's number of parameters and the one in the config."""


def build_genotype(config: TrainConfig) -> tuple[Genotype | None, SearchSpace | None]:
    """Builds the cells of the config and their search space; None for hand-designed cells.

    Raises:
        InputError: there are no such cells, or they are of another task.
    """
    own = load_space(config.space_file, key="space_file")
    name, kit = str(config.genotype), config.kit
    if name == DESIGNED:
        if not kit.designed:
            having = " or ".join(f"task={name}" for name, other in KITS.items() if other.designed)
            raise InputError(f"genotype={DESIGNED}: is for {having}; take a genotype for {config.task.name}")
        return None, None
    indexed = INDEXED.fullmatch(name)
    if name.startswith(RANDOM):
        space = _named_space(name.removeprefix(RANDOM), own, prefix=RANDOM)
        genotype = Genotype(space.name, space.sample(config.seed), {"origin": f"sampled with seed {config.seed}"})
    elif indexed is not None:
        space = _named_space(indexed["space"], own)
        with naming("genotype", name):
            genotype = Genotype(space.name, space.at(int(indexed["index"])), {"origin": name})
    else:
        genotype = find_genotype(name, space=own)
        space = own or find_space(genotype.space)
    if set(genotype.kinds) != kit.kinds:
        raise InputError(
            f"genotype={name}: has the cells {', '.join(genotype.kinds)}, but task={config.task.name} needs "
            f"{', '.join(sorted(kit.kinds))}; take cells of such a search, or the other task"
        )
    return genotype, space


def _named_space(name: str, own: SearchSpace | None, *, prefix: str = "") -> SearchSpace:
    if own is not None and own.name == name:
        return own
    if name not in SPACES:
        near = nearest(name, SPACES, cutoff=0.5)
        hint = f"; did you mean '{prefix}{near}'?" if near else ""
        raise InputError(f"genotype={prefix}{name}: no such space; there are {', '.join(SPACES)}{hint}")
    return SPACES[name]


def build_card(config: TrainConfig, data: TrainData) -> ModelCard:
    """Describes the network to train.

    Raises:
        InputError: the cells, or the model in ``init``, cannot be used.
    """
    about = provenance(config, data)
    if isinstance(config.network, FromCheckpointConfig):
        card, _ = _initial_model(config.init)
        if card.task != config.kit.name:
            raise InputError(f"init={config.init}: is for task={card.task}, but task={config.task.name}")
        settings = config.kit.adapt(card.settings, config, data.facts)
        return dataclasses.replace(card, settings=settings, about=about)
    section = config.network
    genotype, space = build_genotype(config)
    style = build_style(section, space, affine=True)
    facts = {**data.facts, **_inherited(config)}

    def card_at(channels: int) -> ModelCard:
        network = dataclasses.replace(section, channels=channels)
        task = config.kit.build_task(config.task, network, config.dataset, facts)
        return model_file.card_of(task, style, genotype, space, about)

    channels = section.channels
    if config.parameters is not None:
        try:
            channels = channels_for(config.parameters, lambda channels: card_at(channels).build()[1], smallest=2)
        except ValueError as error:
            raise InputError(f"parameters={config.parameters}: {error}; take fewer") from None
        with unbuilt():
            nearest = count_parameters(card_at(channels).build()[1])
        if abs(nearest - config.parameters) > FARTHEST_COUNT * config.parameters:
            raise InputError(
                f"parameters={config.parameters}: the nearest that this network can have is {nearest}, at "
                f"network.channels={channels}; take that number, or another network"
            )
    return card_at(channels)


def _initial_model(init: str | None) -> tuple[ModelCard, Mapping[str, Tensor]]:
    """Loads the model that a training starts from."""
    with naming("init", init, choices=["shipped"]):
        return model_file.load(model_file.model_path(init))


def _inherited(config: TrainConfig) -> Mapping[str, Any]:
    """Settings of the model in ``init`` that cannot be read from its weights."""
    inherited = config.kit.inherited
    if config.init is None or not inherited:
        return {}
    card, _ = _initial_model(config.init)
    settings = rebuild(card.task, dict(card.settings)).settings
    return {name: settings[name] for name in inherited if name in settings}


def build_network(config: TrainConfig, card: ModelCard, *, resumed: bool = False) -> tuple[Task, nn.Module]:
    """Builds task and network on the CPU, initialised from the seed or from the model in ``init``.

    A resumed training restores its weights from its state and does not need that model.
    """
    torch.manual_seed(config.seed)
    kit = config.kit
    task, network = card.build(**kit.unstored(config.task, config.network))
    if config.init is not None and not resumed:
        _, weights = _initial_model(config.init)
        take_over(kit, network, weights, origin=f"init={config.init}")
    return task, channels_last(network)


def take_over(kit: TaskKit, network: nn.Module, weights: Mapping[str, Tensor], *, origin: str) -> None:
    """Loads the weights of another training, with the differences allowed by the task.

    Raises:
        InputError: they are of another network.
    """
    start = kit.start(weights, network)
    model_file.compare(network, start, origin=origin)
    network.load_state_dict(start)


def build_train_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimizer of all trainable parameters."""
    settings = config.optimizer
    return build_optimizer(
        settings.name,
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def build_schedule(config: TrainConfig) -> schedules.Factor:
    """Builds the schedule: the factor of the learning rate by step."""
    settings = config.optimizer
    if settings.schedule == "cosine":
        floor = settings.min_learning_rate / settings.learning_rate
        factor = schedules.cosine(config.training.steps, floor=floor)
    elif settings.schedule == "milestones":
        factor = schedules.milestones(settings.milestones, factor=settings.factor)
    else:
        factor = schedules.constant()
    return schedules.warmed_up(factor, settings.warmup_steps)


@dataclass(frozen=True)
class TrainParts:
    """A training ready to run."""

    training: Training
    folder: TrainFolder
    parameters: int
    close: Callable[[], None]
    fine_tunes: bool
    """True if it starts from trained weights."""
    fingerprint: Mapping[str, Any]
    """See ``SearchData``."""

    def begin(self) -> dict[str, float]:
        """Records the number of parameters, and the metrics before the first step.

        Returns:
            The metrics of the best constant baseline and of trained initial weights.
        """
        training = self.training
        start = {"constant": training.task.constant(training.validation)}
        if self.fine_tunes:
            start |= {f"valid/{name}": value for name, value in training.validate().items()}
        self.folder.tracker.event("start", parameters=self.parameters, **start, **self.fingerprint)
        return start


@dataclass(frozen=True)
class TrainNetwork:
    """A network to train, on its device."""

    card: ModelCard
    task: Task
    network: nn.Module
    device: torch.device
    labels: Callable[[nn.Module, Any], Any] | None
    """See ``Training``."""
    state: dict[str, Any] | None
    """State that the training resumes from, if any."""


def build_train_network(
    config: TrainConfig, data: TrainData, *, resume: Path | None = None, warn: Callable[[str], None] = lambda _: None
) -> TrainNetwork:
    """Builds the network to train, which may fail for its settings: before the folder of a run is created.

    Args:
        config, data: of the training.
        resume: folder of a run, to resume from its newest state if there is one.
        warn: see ``Checkpoints.newest``.

    Raises:
        InputError: the network cannot be built or cannot take its batches, or no state can be read.
    """
    state = None if resume is None else _states(resume).newest(warn)
    card = _card(config, data, resume if state else None)
    device = build_device(config.run.device)
    use_threads(config.run.threads)
    task, network = build_network(config, card, resumed=state is not None)
    network.to(device)
    if config.run.sync_batchnorm:
        synchronise(network)
    size = config.training.batch_size
    check_batch(task, card.style, config.dataset, data.train, batch=size, key=f"training.batch_size={size}")
    if (self_taught := config.kit.self_taught(config.task)) is None:
        return TrainNetwork(card, task, network, device, None, state)
    taught = self_taught(task)
    return TrainNetwork(card, taught, network, device, taught.labelled, state)


def build_training(
    config: TrainConfig,
    data: TrainData,
    folder: Path,
    console: ConsoleProgress,
    built: TrainNetwork,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> TrainParts:
    """Builds all parts of a training, in a run folder that exists.

    Args:
        config, data, folder, console, built: of the training; the console shows its progress.
        stopping: see ``SteppedRun``.

    Raises:
        InputError: a setting cannot be used.
    """
    task, network, device, state = built.task, built.network, built.device, built.state
    average = None if config.training.average is None else MovingAverage(network, config.training.average)
    closing = ExitStack()
    evaluated = network if average is None else average.module
    observer = TrainFolder(
        build_tracker(config, folder, console, closing, state, [f"valid/{task.figure.name}"], by_step=True),
        figure=task.figure,
        card=built.card,
        network=evaluated,
        pictures=build_images(config, data.validation, device, _predicting(task, evaluated)),
    )
    loss, stage = _levels(config, task)
    training = Training(
        task,
        network,
        stream=_build_stream(config, data, closing, pinned=device.type == "cuda"),
        validation=data.validation,
        optimizer=build_train_optimizer(config, network),
        settings=_build_settings(config),
        checkpoints=_states(folder),
        observer=observer,
        schedule=build_schedule(config),
        average=average,
        loss=loss,
        labels=built.labels,
        stopping=stopping,
        graphs=build_graphs(config, device, console.message),
        stage=stage,
    )
    if state is not None:
        training.state.restore(state)
    return TrainParts(
        training,
        observer,
        count_parameters(network),
        closing.close,
        fine_tunes=config.init is not None,
        fingerprint=data.fingerprint,
    )


def _states(folder: Path) -> Checkpoints:
    return Checkpoints(folder / CHECKPOINTS, unit="step")


def _predicting(task: Task, network: nn.Module) -> Callable[[Any], Any]:
    """Returns a function from a batch to the network's output in evaluation mode."""

    def predict(batch: Any) -> Any:
        with evaluating(network):
            return network(*task.inputs(batch))

    return predict


def _build_stream(config: TrainConfig, data: TrainData, closing: ExitStack, *, pinned: bool) -> Stream[Any]:
    """Builds the training batches, which ``closing`` closes."""
    stream = Stream(
        data.train,
        batch_size=config.training.batch_size,
        seed=config.seed,
        transform=data.transform,
        workers=config.run.workers,
        pinned=pinned,
    )
    closing.callback(stream.close)
    return stream


def _build_settings(config: TrainConfig) -> TrainSettings:
    return TrainSettings(
        steps=config.training.steps,
        validate_every=config.validation.every,
        clip=config.optimizer.clip,
        drop_path=config.training.drop_path,
        freeze_norm=config.training.freeze_norm,
        precision=config.training.precision,
    )


def _card(config: TrainConfig, data: TrainData, folder: Path | None) -> ModelCard:
    """Describes the network to train; a resumed run reads it from the model that it has written, if any.

    The genotype file that the run started from may have been moved since then.
    """
    if folder is not None and (model := folder / LAST).exists():
        return dataclasses.replace(model_file.load(model)[0], about=provenance(config, data))
    return build_card(config, data)


def _levels(
    config: TrainConfig, task: Task
) -> tuple[Callable[[int, Any, Any], Tensor] | None, Callable[[int], Hashable]]:
    """Returns the loss under the level weights of a step, None without any, and those weights by the step."""
    plan = list(zip(config.training.level_steps, config.training.level_weights, strict=True))
    if not plan:
        return None, lambda steps: None
    weights_at = partial(schedules.levels_at, plan)
    levelled = cast(LevelledTask, task)  # see TaskKit.level_weights
    return lambda steps, output, batch: levelled.loss(output, batch, weights_at(steps)), weights_at


def provenance(config: TrainConfig, data: TrainData) -> Mapping[str, Any]:
    """Provenance of a model file, and the names of its classes."""
    return {
        **({"classes": list(data.class_names)} if data.class_names else {}),
        "init": config.init,
        **({"factory": config.task.factory} if hasattr(config.task, "factory") else {}),
        **origin_of(config),
    }
