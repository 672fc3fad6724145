"""A training from its typed config."""

import dataclasses
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import autodisp
from autodisp import model_file
from autodisp.assembly.data import groups_of, kept, need_truth, require_one_size
from autodisp.assembly.networks import build_device, build_style, build_task, check_batch, find_genotype, load_space
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, SearchSpace, find_space
from autodisp.checkpoints import Checkpoints
from autodisp.config.checks import naming, nearest
from autodisp.config.train import TrainConfig
from autodisp.datasets.splits import Part, halves, subset
from autodisp.datasets.streams import MapDataset, Stream, fixed_batches
from autodisp.errors import InputError, WrongSetting
from autodisp.model_file import SUFFIX, ModelCard
from autodisp.networks.parameter_count import channels_for, count_parameters
from autodisp.observers.train_folder import TrainFolder
from autodisp.run_files import CHECKPOINTS
from autodisp.tasks.base import Task, channels_last, move
from autodisp.tasks.kit import DatasetEntry, TaskKit
from autodisp.tasks.registry import KITS, rebuild
from autodisp.tracking import ConsoleProgress, Tracker
from autodisp.training import schedules
from autodisp.training.loop import Settings, Training

DESIGNED = "designed"
"""What ``genotype`` says for hand-designed cells."""
RANDOM = "random:"
"""What it begins with for cells drawn from a space."""
FARTHEST_COUNT = 0.25
"""How far, as a share, a network's parameters may be from those asked for."""
HELD_OUT_FRACTION = 0.1
"""For validation, of a dataset that has no test split with a truth."""


@dataclass(frozen=True)
class TrainData:
    """What a training reads."""

    train: MapDataset[Any]
    transform: Callable[[Any, np.random.Generator], Any]
    validation: Iterable[Any]
    trained_on: Sequence[str] = ()
    """Names of the training samples, where others of the same and only split are held out."""
    held_out: Sequence[str] = ()
    """Names of these others."""
    class_names: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """See ``TaskKit.facts``."""


def build_train_data(config: TrainConfig) -> TrainData:
    """Reads the training split, and the test split or a held-out part for validation.

    Raises:
        InputError: the data is missing, damaged or too little.
    """
    data = _read_data(config)
    if len(data.train) < config.training.batch_size:
        raise InputError(
            f"training.batch_size={config.training.batch_size}: there are {len(data.train)} training samples; "
            f"take training.batch_size={len(data.train)} or smaller, or more data"
        )
    return data


def _read_data(config: TrainConfig) -> TrainData:
    kit, section, size = config.kit, config.dataset, config.training.batch_size
    entry = kit.datasets[section.name]
    has_test = "test" in entry.splits
    dataset = entry.build(section, seed=config.seed, split="train", strict=True)
    chosen = subset(len(dataset), limit=section.limit, seed=config.seed)
    trained_on: list[str] = []
    untrained: list[str] = []
    if config.validation.fraction is None and has_test:
        test = _test_split(config, entry)
        held_out = Part(kept(section, test), list(range(len(test))))
    else:
        fraction = config.validation.fraction or HELD_OUT_FRACTION
        groups = groups_of(dataset)
        among = len(chosen) if isinstance(groups, int) else [groups[index] for index in chosen]
        train, rest = halves(among, seed=config.seed, fraction=1 - fraction)
        held_out = Part(kept(section, dataset), [chosen[index] for index in rest])
        chosen = [chosen[index] for index in train]
        if not has_test:
            trained_on = [dataset.names[index] for index in chosen]
            untrained = [dataset.names[index] for index in held_out.indices]
    train_part = Part(kept(section, dataset), chosen)
    need_truth(section, entry, train_part)
    require_one_size(section, dataset, chosen, key="training.batch_size", batch_size=size)
    return TrainData(
        train=train_part,
        transform=kit.augment(section, config.augmentation, config.cutout, dataset),
        validation=_validation(config, held_out),
        trained_on=trained_on,
        held_out=untrained,
        class_names=getattr(dataset, "classes", ()),
        facts=kit.facts(dataset),
    )


def _test_split(config: TrainConfig, entry: DatasetEntry) -> Any:
    try:
        return entry.build(config.dataset, seed=config.seed, split="test", strict=True)
    except WrongSetting:
        raise
    except InputError as error:
        raise InputError(f"{error}; or hold out a tenth of the training split: validation.fraction=0.1") from None


def _validation(config: TrainConfig, held_out: Part[Any]) -> Iterable[Any]:
    """Whole samples from all over the held-out ones, the same ones whatever the run's seed."""
    places = subset(len(held_out), limit=config.validation.samples, seed=0)
    part = Part(held_out.dataset, [held_out.indices[place] for place in places])
    return fixed_batches(part, config.validation.batch_size)


def build_genotype(config: TrainConfig) -> tuple[Genotype | None, SearchSpace | None]:
    """The cells that the config names, and their space; None for designed ones.

    Raises:
        InputError: no such cells, or cells of another task.
    """
    own = load_space(config.space_file, key="space_file")
    name, kit = str(config.genotype), config.kit
    if name == DESIGNED:
        if not kit.designed:
            having = " or ".join(f"task={name}" for name, other in KITS.items() if other.designed)
            raise InputError(f"genotype={DESIGNED}: is for {having}; take a genotype for {config.task.name}")
        return None, None
    if name.startswith(RANDOM):
        wanted = name.removeprefix(RANDOM)
        space = own if own is not None and own.name == wanted else _named_space(wanted)
        genotype = Genotype(space.name, space.sample(config.seed), {"origin": f"sampled with seed {config.seed}"})
    else:
        genotype = find_genotype(name, space=own)
        space = own or find_space(genotype.space)
    if set(genotype.kinds) != kit.kinds:
        raise InputError(
            f"genotype={name}: has the cells {', '.join(genotype.kinds)}, but task={config.task.name} needs "
            f"{', '.join(sorted(kit.kinds))}; take cells of such a search, or the other task"
        )
    return genotype, space


def _named_space(name: str) -> SearchSpace:
    if name not in SPACES:
        near = nearest(name, SPACES, cutoff=0.5)
        hint = f"; did you mean '{RANDOM}{near}'?" if near else ""
        raise InputError(f"genotype={RANDOM}{name}: no such space; there are {', '.join(SPACES)}{hint}")
    return SPACES[name]


def build_card(config: TrainConfig, data: TrainData) -> ModelCard:
    """What network is to be trained.

    Raises:
        InputError: the cells, or the model that they are to be taken from, cannot be used.
    """
    about = provenance(config, data)
    if config.network.name == "from_checkpoint":
        with naming("init", config.init, choices=["shipped"]):
            card, _ = model_file.load(model_file.model_path(config.init))
        if card.task != config.kit.name:
            raise InputError(f"init={config.init}: is for task={card.task}, but task={config.task.name}")
        settings = config.kit.adapt(card.settings, config, data.facts)
        return dataclasses.replace(card, settings=settings, about=about)
    genotype, space = build_genotype(config)
    if space is None:
        style = Style(
            flavour="dense",
            batch_norm=config.network.batch_norm,
            affine=True,
            norm_first=getattr(config.network, "norm_first", False),
        )
    else:
        style = build_style(config.network, space, affine=True)

    facts = {**data.facts, **_inherited(config)}

    def card_at(channels: int) -> ModelCard:
        network = dataclasses.replace(config.network, channels=channels)
        task = build_task(config.task, network, config.dataset, facts)
        return model_file.card_of(task, style, genotype, space, about)

    channels = config.network.channels
    if config.parameters is not None:
        try:
            channels = channels_for(config.parameters, lambda channels: card_at(channels).build()[1], smallest=2)
        except ValueError as error:
            raise InputError(f"parameters={config.parameters}: {error}; ask for fewer") from None
        with torch.device("meta"):
            nearest = count_parameters(card_at(channels).build()[1])
        if abs(nearest - config.parameters) > FARTHEST_COUNT * config.parameters:
            raise InputError(
                f"parameters={config.parameters}: the nearest that this network can have is {nearest}, at "
                f"network.channels={channels}; ask for that, or take another network"
            )
    return card_at(channels)


def _inherited(config: TrainConfig) -> Mapping[str, Any]:
    """Settings of the model that ``init`` names, which its weights need but do not show."""
    inherited = config.kit.inherited
    if config.init is None or not inherited:
        return {}
    with naming("init", config.init, choices=["shipped"]):
        card, _ = model_file.load(model_file.model_path(config.init))
    settings = rebuild(card.task, dict(card.settings)).settings
    return {name: settings[name] for name in inherited if name in settings}


def build_network(config: TrainConfig, card: ModelCard, *, resumed: bool = False) -> tuple[Task, nn.Module]:
    """Task and network on the CPU, initialised from the seed or from the model that ``init`` names.

    A training that is resumed gets its weights from its state, and needs that model no more.
    """
    torch.manual_seed(config.seed)
    task, network = card.build()
    kit = config.kit
    kit.prepare(task, network, config.task, config.network)
    if config.init is not None and not resumed:
        with naming("init", config.init, choices=["shipped"]):
            _, weights = model_file.load(model_file.model_path(config.init))
        take_over(kit, network, weights, origin=f"init={config.init}")
    return task, channels_last(network)


def take_over(kit: TaskKit, network: nn.Module, weights: Mapping[str, Tensor], *, origin: str) -> None:
    """Starts from the weights of another training, as far as the task lets them differ.

    Raises:
        InputError: they are of another network.
    """
    start = kit.start(weights, network)
    model_file.compare(network, start, origin=origin)
    network.load_state_dict(start)


def build_train_optimizer(config: TrainConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Over whatever in the network may learn."""
    settings = config.optimizer
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(
        parameters, lr=settings.learning_rate, betas=(settings.momentum, 0.999), weight_decay=settings.weight_decay
    )


def build_schedule(config: TrainConfig) -> schedules.Factor:
    """What the learning rate is multiplied by."""
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
    fine_tunes: bool = False
    """Whether it begins with weights that were trained before."""

    def begin(self) -> dict[str, float]:
        """Records where the training starts from: the best constant and, of trained weights, their metrics."""
        training = self.training
        start = {"constant": training.task.constant(training.validation)}
        if self.fine_tunes:
            start |= {f"valid/{name}": value for name, value in training.validate().items()}
        self.folder.tracker.event("start", **start)
        return start


def build_training(
    config: TrainConfig,
    data: TrainData,
    folder: Path,
    console: ConsoleProgress,
    *,
    prepare: Callable[[], Path] | None,
    stopping: Callable[[], bool] = lambda: False,
) -> TrainParts:
    """Everything of a training.

    Args:
        config: of the training.
        data: that it reads.
        folder: the run folder.
        console: where progress is shown.
        prepare: makes the folder and returns it, as another one where this one is taken; called when the network has
            been built, which may refuse its settings. None: the training goes on from the newest state that the folder
            holds, if it holds one.
        stopping: see ``Training``.

    Raises:
        InputError: the network cannot be built, or the folder not be used.
    """
    state = Checkpoints(folder / CHECKPOINTS, unit="step").newest(console.message) if prepare is None else None
    card = _card(config, data, folder if state else None)
    device = build_device(config.run.device)
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    task, network = build_network(config, card, resumed=state is not None)
    network.to(device)
    size = config.training.batch_size
    check_batch(task, card.style, config.dataset, data.train, batch=size, key=f"training.batch_size={size}")
    if prepare is not None:
        folder = prepare()
        for note in card.genotype.notes if card.genotype else []:
            console.note(note)
    stream = Stream(
        data.train,
        batch_size=config.training.batch_size,
        seed=config.seed,
        transform=data.transform,
        workers=config.run.workers,
    )
    optimizer = build_train_optimizer(config, network)
    training = Training(
        task,
        network,
        stream=stream,
        validation=data.validation,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, build_schedule(config)),
        settings=Settings(
            steps=config.training.steps,
            validate_every=config.validation.every,
            clip=config.optimizer.clip,
            drop_path=config.training.drop_path,
            precision=config.training.precision,
        ),
        checkpoints=Checkpoints(folder / CHECKPOINTS, unit="step"),
        average=config.training.average,
        before_step=_level_weights(config, task),
        stopping=stopping,
    )
    if state is not None:
        training.state.restore(state)
    done, records = training.progress.steps, state["records"] if state else 0
    tracker = Tracker(folder, console=console, keep=records, shown_from=done + 1)
    tracker.tensorboard.settings(config.as_dict(), figures=[f"valid/{task.figure.name}"])
    observer = TrainFolder(
        folder,
        figure=task.figure,
        tracker=tracker,
        card=card,
        network=training.judged,
        pictures=_pictures(config.kit, training, data),
    )

    def close() -> None:
        stream.close()
        tracker.close()

    return TrainParts(training, observer, count_parameters(network), close, fine_tunes=config.init is not None)


def _card(config: TrainConfig, data: TrainData, folder: Path | None) -> ModelCard:
    """Of the network to be trained; from the model that a resumed run has written, where it has written one.

    The genotype that the run began with may be elsewhere by then.
    """
    if folder is not None and (model := folder / f"last{SUFFIX}").exists():
        return dataclasses.replace(model_file.load(model)[0], about=provenance(config, data))
    return build_card(config, data)


def _level_weights(config: TrainConfig, task: Task) -> Callable[[int], None] | None:
    plan = list(zip(config.training.level_steps, config.training.level_weights, strict=True))
    if not plan:
        return None

    def vary(step: int) -> None:
        task.level_weights = schedules.levels_at(plan, step)  # type: ignore[attr-defined]

    return vary


def _pictures(
    kit: TaskKit, training: Training, data: TrainData
) -> Callable[[], Mapping[str, npt.NDArray[np.uint8]]] | None:
    picture = kit.picture
    if picture is None:
        return None

    @torch.no_grad()
    def draw() -> Mapping[str, npt.NDArray[np.uint8]]:
        batch = move(next(iter(data.validation)), training.device)
        network = training.judged
        was_training = network.training
        network.eval()
        output = network(*training.task.inputs(batch))
        network.train(was_training)
        return {"prediction": picture(batch, output)}

    return draw


def provenance(config: TrainConfig, data: TrainData) -> Mapping[str, Any]:
    """What a model file says of the run it comes from, and what its classes are called."""
    return {
        **({"classes": list(data.class_names)} if data.class_names else {}),
        "dataset": config.dataset.name,
        "seed": config.seed,
        "init": config.init,
        **({"factory": config.task.factory} if hasattr(config.task, "factory") else {}),
        "config_hash": config.fingerprint(),
        "autodisp": autodisp.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
