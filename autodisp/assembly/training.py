"""A training from its typed config."""

import dataclasses
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import autodisp
from autodisp import model_file
from autodisp.assembly.data import (
    SHAPES3D_TEST_SEED,
    TEST_SPLITS,
    build_image_dataset,
    build_stereo_dataset,
    kept,
    need_truth,
    require_one_size,
)
from autodisp.assembly.networks import build_device, build_style, build_task, check_batch, find_genotype, load_space
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, SearchSpace, find_space
from autodisp.checkpoints import Checkpoints
from autodisp.config.checks import naming, nearest
from autodisp.config.sections import TASK_KINDS
from autodisp.config.train import TrainConfig
from autodisp.datasets.image_transforms import ImageAugmentation
from autodisp.datasets.splits import Part, halves, subset
from autodisp.datasets.stereo_transforms import StereoAugmentation
from autodisp.datasets.streams import MapDataset, Stream, fixed_batches
from autodisp.errors import InputError
from autodisp.model_file import SUFFIX, ModelCard
from autodisp.networks.hourglass import Support
from autodisp.networks.parameter_count import channels_for, count_parameters
from autodisp.networks.stack import StackedDisparityNetwork
from autodisp.observers.train_folder import TrainFolder
from autodisp.report.disparity_pictures import panel
from autodisp.run_files import CHECKPOINTS
from autodisp.tasks.base import Task, channels_last, move
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.registry import rebuild
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
    classes: int = 0
    class_names: Sequence[str] = ()
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)


def build_train_data(config: TrainConfig) -> TrainData:
    """Reads the training split, and the test split or a held-out part for validation.

    Raises:
        InputError: the data is missing, damaged or too little.
    """
    data = _stereo_data(config) if config.task.name == "disparity" else _image_data(config)
    if len(data.train) < config.training.batch_size:
        raise InputError(
            f"training.batch_size={config.training.batch_size}: there are {len(data.train)} training samples; "
            f"take training.batch_size={len(data.train)} or smaller, or more data"
        )
    return data


def _stereo_data(config: TrainConfig) -> TrainData:
    if config.dataset.name == "shapes3d" and config.seed == SHAPES3D_TEST_SEED and config.validation.fraction is None:
        raise InputError(f"seed={config.seed}: is that of the held-out pairs of shapes3d; take another one")
    dataset = build_stereo_dataset(config.dataset, seed=config.seed)
    chosen = subset(len(dataset), limit=config.dataset.limit, seed=config.seed)
    crop = (config.dataset.crop[0], config.dataset.crop[1]) if config.dataset.crop else None
    trained_on: list[str] = []
    untrained: list[str] = []
    if config.validation.fraction is None and config.dataset.name in TEST_SPLITS:
        try:
            test = build_stereo_dataset(config.dataset, seed=config.seed, split="test")
        except InputError as error:
            raise InputError(f"{error}; or hold out a tenth of the training split: validation.fraction=0.1") from None
        held_out = Part(kept(config.dataset, test), list(range(len(test))))
    else:
        fraction = config.validation.fraction or HELD_OUT_FRACTION
        groups = [dataset.groups[index] for index in chosen]
        train, rest = halves(groups, seed=config.seed, fraction=1 - fraction)
        held_out = Part(kept(config.dataset, dataset), [chosen[index] for index in rest])
        chosen = [chosen[index] for index in train]
        if config.dataset.name not in TEST_SPLITS:
            trained_on = [dataset.names[index] for index in chosen]
            untrained = [dataset.names[index] for index in held_out.indices]
    train_part = Part(kept(config.dataset, dataset), chosen)
    need_truth(config.dataset, train_part)
    size = config.training.batch_size
    require_one_size(config.dataset, dataset, chosen, key="training.batch_size", batch_size=size)
    return TrainData(
        train=train_part,
        transform=StereoAugmentation(scale=config.augmentation.scale, crop=crop),
        validation=_validation(config, held_out),
        trained_on=trained_on,
        held_out=untrained,
    )


def _image_data(config: TrainConfig) -> TrainData:
    data = config.dataset
    dataset = build_image_dataset(data)
    chosen = subset(len(dataset), limit=data.limit, seed=config.seed)
    if config.validation.fraction is None:
        test = build_image_dataset(data, split="test")
        held_out = Part(test, list(range(len(test))))
    else:
        train, rest = halves(len(chosen), seed=config.seed, fraction=1 - config.validation.fraction)
        held_out = Part(dataset, [chosen[index] for index in rest])
        chosen = [chosen[index] for index in train]
    return TrainData(
        train=Part(dataset, chosen),
        transform=ImageAugmentation(
            scale=config.augmentation.scale, cutout=config.cutout, flip=data.flip, fill=dataset.mean
        ),
        validation=_validation(config, held_out),
        classes=len(dataset.classes),
        class_names=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
    )


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
    name = str(config.genotype)
    if name == DESIGNED:
        if config.task.name != "disparity":
            raise InputError(f"genotype={DESIGNED}: is for task=disparity; take a genotype for {config.task.name}")
        return None, None
    if name.startswith(RANDOM):
        wanted = name.removeprefix(RANDOM)
        space = own if own is not None and own.name == wanted else _named_space(wanted)
        genotype = Genotype(space.name, space.sample(config.seed), {"origin": f"sampled with seed {config.seed}"})
    else:
        genotype = find_genotype(name, space=own)
        space = own or find_space(genotype.space)
    if set(genotype.kinds) != TASK_KINDS[config.task.name]:
        raise InputError(
            f"genotype={name}: has the cells {', '.join(genotype.kinds)}, but task={config.task.name} needs "
            f"{', '.join(sorted(TASK_KINDS[config.task.name]))}; take cells of such a search, or the other task"
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
        if card.task != config.task.name:
            raise InputError(f"init={config.init}: is for task={card.task}, but task={config.task.name}")
        if config.task.name == "disparity" and card.settings.get("head") == "regression" and config.task.volume_weight:
            raise InputError(
                f"task.volume_weight={config.task.volume_weight}: weighs the volume of a matching head, but that of "
                f"init={config.init} has none: leave it null"
            )
        settings = dict(card.settings)
        if config.task.name == "classification":
            # the images stay normalised as the weights know them, by buffers among them
            settings |= {"classes": data.classes, "auxiliary": config.task.auxiliary_weight > 0}
        return dataclasses.replace(card, settings=settings, about=about)
    genotype, space = build_genotype(config)
    if space is None:
        style = Style(flavour="dense", batch_norm=config.network.batch_norm, affine=True)
    else:
        style = build_style(config.network, space, affine=True)

    support = _support(config)

    def card_at(channels: int) -> ModelCard:
        network = dataclasses.replace(config.network, channels=channels)
        task = build_task(
            config.task,
            network,
            config.dataset,
            classes=data.classes,
            mean=data.mean,
            std=data.std,
            support=support,
        )
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


def _support(config: TrainConfig) -> Support:
    """The wiring of the model that ``init`` names, which its weights do not show; the released one without."""
    if config.init is None or config.task.name != "disparity":
        return "reduce"
    with naming("init", config.init, choices=["shipped"]):
        card, _ = model_file.load(model_file.model_path(config.init))
    support: Support = getattr(rebuild(card.task, dict(card.settings)), "support", "reduce")
    return support


def build_network(config: TrainConfig, card: ModelCard, *, resumed: bool = False) -> tuple[Task, nn.Module]:
    """Task and network on the CPU, initialised from the seed or from the model that ``init`` names.

    A training that is resumed gets its weights from its state, and needs that model no more.
    """
    torch.manual_seed(config.seed)
    task, network = card.build()
    if isinstance(network, StackedDisparityNetwork):
        network.freeze(getattr(config.network, "frozen_stages", 0))
    if isinstance(task, DisparityTask) and config.task.volume_weight is not None:
        task.volume_weight = config.task.volume_weight
    if isinstance(task, ClassificationTask):
        task.auxiliary_weight = config.task.auxiliary_weight
    if config.init is not None and not resumed:
        with naming("init", config.init, choices=["shipped"]):
            _, weights = model_file.load(model_file.model_path(config.init))
        take_over(network, weights, origin=f"init={config.init}")
    return task, channels_last(network)


def take_over(network: nn.Module, weights: Mapping[str, Tensor], *, origin: str) -> None:
    """Starts from the weights of another training; a classifier for other classes starts afresh.

    Raises:
        InputError: they are of another network.
    """
    own = network.state_dict()
    weights = _of_first_stages(network, weights)
    heads = ("classifier.", "auxiliary.")
    other_classes = {
        name
        for name in own
        if name.startswith(heads) and (name not in weights or weights[name].shape != own[name].shape)
    }
    dropped = {name for name in weights if name.startswith(heads) and name not in own}
    start = {name: tensor for name, tensor in weights.items() if name not in other_classes | dropped}
    start |= {name: own[name] for name in other_classes}
    model_file.compare(network, start, origin=origin)
    network.load_state_dict(start)


def _of_first_stages(network: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Where the network is a stack, the weights of a shorter one or of its first network, completed by its own."""
    if not isinstance(network, StackedDisparityNetwork):
        return weights
    if not any(name.startswith("stages.") for name in weights):
        weights = {f"stages.0.{name}": tensor for name, tensor in weights.items()}
    known = {name.split(".")[1] for name in weights}
    rest = {name: tensor for name, tensor in network.state_dict().items() if name.split(".")[1] not in known}
    return {**weights, **rest}


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
        pictures=_pictures(training, data) if config.task.name == "disparity" else None,
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
    if not plan or not isinstance(task, DisparityTask):
        return None

    def vary(step: int) -> None:
        task.level_weights = schedules.levels_at(plan, step)

    return vary


def _pictures(training: Training, data: TrainData) -> Callable[[], Mapping[str, npt.NDArray[np.uint8]]]:
    @torch.no_grad()
    def draw() -> Mapping[str, npt.NDArray[np.uint8]]:
        batch = move(next(iter(data.validation)), training.device)
        network = training.judged
        was_training = network.training
        network.eval()
        predicted = network(batch.left, batch.right).disparity
        network.train(was_training)
        return {"prediction": panel(batch.left[0], batch.disparity[0], predicted[0], batch.valid[0])}

    return draw


def provenance(config: TrainConfig, data: TrainData) -> Mapping[str, Any]:
    """What a model file says of the run it comes from, and what its classes are called."""
    return {
        **({"classes": list(data.class_names)} if data.class_names else {}),
        "dataset": config.dataset.name,
        "seed": config.seed,
        "init": config.init,
        "config_hash": config.fingerprint(),
        "autodisp": autodisp.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
