"""Builds a search from its typed config."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from autodisp.assembly.data import digest_of, fingerprint_of, groups_of, kept, need_truth, require_one_size
from autodisp.assembly.networks import build_device, build_style, check_batch, load_space, use_threads
from autodisp.assembly.relaxation import build_alpha_penalty, build_cost_penalty, build_relaxation
from autodisp.assembly.running import build_graphs, build_images, build_optimizer, build_tracker, origin_of
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import CellFactory, MixedCells
from autodisp.cells.mixed import Node, plain_node
from autodisp.cells.spaces import SearchSpace, find_space
from autodisp.checkpoints import Checkpoints
from autodisp.config.search import SearchConfig
from autodisp.datasets.splits import Part, deal, subset
from autodisp.datasets.streams import Scheduled, Stream, Transform, fixed_batches
from autodisp.errors import InputError
from autodisp.kernels.nodes import build_node
from autodisp.networks.synchronised import synchronise
from autodisp.observers.search_folder import SearchFolder
from autodisp.run_files import CHECKPOINTS
from autodisp.search.adaptive import AdaptiveRegularization
from autodisp.search.costs import CostPenalty, CostTable
from autodisp.search.early_stopping import EarlyStopping
from autodisp.search.loop import Search, SearchSettings
from autodisp.search.perturbation import Perturbation
from autodisp.search.regularization import Regularization
from autodisp.search.relaxations import Relaxation
from autodisp.search.selection import Argmax, Ranking, Selection
from autodisp.search.supernet import Supernet
from autodisp.tasks.base import Task, channels_last
from autodisp.tracking import ConsoleProgress

WEIGHT_STREAM, ALPHA_STREAM = 1, 2
"""Offsets of the run's seed, so that both splits draw and augment independently."""


@dataclass(frozen=True)
class SearchData:
    """Data of a search: weight split, architecture split, and fixed validation batches of the latter."""

    weight_half: Part[Any]
    alpha_half: Part[Any]
    transform: Callable[[Any, np.random.Generator], Any]
    validation: Iterable[Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """See ``TaskKit.facts``."""
    fixed: Callable[[Any], Any] | None = None
    """Transform of validation samples, in place of the augmentation."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """Facts about files outside of the run's folder that a resumed run must find as they were."""


def build_space(config: SearchConfig) -> SearchSpace:
    """Builds the search space by name or from its file.

    Raises:
        InputError: the file is not a search space, or lacks the kinds of cell that the task needs.
    """
    space = load_space(config.space.file, key="space.file")
    if space is None:
        return find_space(config.space.name)
    needed = config.kit.kinds
    if set(space.kinds) != needed:
        raise InputError(
            f"space.file={config.space.file}: has the cells {', '.join(space.kinds)} but task={config.task.name} "
            f"needs {', '.join(sorted(needed))}"
        )
    return space


def build_data(config: SearchConfig) -> SearchData:
    """Reads the training split and divides it into weight split and architecture split.

    Raises:
        InputError: the data is missing, damaged or too little.
    """
    data = _read_data(config)
    smaller, size = min(len(data.weight_half), len(data.alpha_half)), config.search.batch_size
    if smaller < size:
        raise InputError(
            f"search.batch_size={size}: the smaller part of the training split has {smaller} samples; "
            f"take search.batch_size={smaller} or smaller, or more data"
        )
    _check_batches(config, data)
    return data


def _check_batches(config: SearchConfig, data: SearchData) -> None:
    """Refuses batches too small for batch normalisation, which a search uses in validation too."""
    task, style = build_search_task(config, data), build_style(config.network, build_space(config))
    size, count = config.search.batch_size, len(data.alpha_half)
    batches = None if config.selection.name == "ranking" else config.search.validation_batches
    last = 0 if batches is not None and batches * size <= count else count % size
    for key, samples, batch in (
        (f"search.batch_size={size}", data.weight_half, size),
        (f"search.batch_size={size} in the last of the validation batches", data.alpha_half, last or size),
    ):
        check_batch(task, style, config.dataset, samples, batch=batch, key=key)


def _read_data(config: SearchConfig) -> SearchData:
    kit, section = config.kit, config.dataset
    entry, size = kit.datasets[section.name], config.search.batch_size
    dataset = entry.build(section, seed=config.seed, split="train", strict=True)
    samples = kept(section, dataset)
    weights, alphas = deal(groups_of(dataset), limit=section.limit, seed=config.seed)
    require_one_size(section, dataset, (*weights, *alphas), key="search.batch_size", batch_size=size)
    fixed = kit.fixed(section)
    validation = _validation(config, Part(samples, alphas, fixed))
    for part in (Part(samples, weights), validation):
        need_truth(section, entry, part)
    weight_half, alpha_half = Part(samples, weights), Part(samples, alphas)
    return SearchData(
        weight_half=weight_half,
        alpha_half=alpha_half,
        transform=kit.augment(section, config.augmentation, config.cutout, dataset),
        validation=fixed_batches(validation, size),
        facts=kit.facts(dataset),
        fixed=fixed,
        fingerprint={
            "samples": fingerprint_of(weight_half, alpha_half),
            "space": digest_of(build_space(config).to_json()),
        },
    )


def _validation(config: SearchConfig, half: Part[Any]) -> Part[Any]:
    """Samples evenly spread over the architecture split, without augmentation; always the same."""
    batches = config.search.validation_batches
    limit = None if batches is None else batches * config.search.batch_size
    indices = [half.indices[place] for place in subset(len(half), limit=limit, seed=config.seed)]
    return Part(half.dataset, indices, half.transform)


def build_search_task(config: SearchConfig, data: SearchData) -> Task:
    """Builds the task of a search."""
    return config.kit.build_task(config.task, config.network, config.dataset, data.facts)


def build_regularization(config: SearchConfig) -> Regularization:
    """Builds the policy by name."""
    settings = config.regularization
    if settings.name == "none":
        return Regularization()
    rule = EarlyStopping(
        window=settings.window,
        start_epoch=settings.start_epoch,
        delta=settings.delta,
        factor=settings.factor,
        every=config.curvature.every,
        rule=settings.rule,
    )
    if settings.name == "es":
        return Regularization(rule)
    return Regularization(rule, AdaptiveRegularization(factor=settings.raise_by, cap=settings.cap))


def build_selection(config: SearchConfig, data: SearchData) -> Selection:
    """Builds the selection by name; all of them read the architecture split as in validation."""
    settings = config.selection
    if settings.name == "argmax":
        return Argmax()
    if settings.name == "perturbation":
        return Perturbation(
            build_space(config),
            data.validation,
            seed=config.seed,
            tuning_epochs=settings.tuning_epochs,
            learning_rate=config.optimizer.weights.learning_rate,
            min_learning_rate=config.optimizer.weights.min_learning_rate,
        )
    size, half = config.search.batch_size, data.alpha_half
    few, whole = (
        fixed_batches(Part(half, subset(len(half), limit=limit, seed=config.seed), data.fixed), size)
        for limit in (settings.batches * size, None)
    )
    return Ranking(few, whole, seed=config.seed, samples=settings.samples, finalists=settings.finalists)


def build_supernet(
    task: Task,
    cells: CellFactory,
    space: SearchSpace,
    *,
    seed: int,
    device: torch.device,
    relaxation: Relaxation | None = None,
    alpha_penalty: Callable[[Architecture, float], Tensor] | None = None,
    cost_penalty: CostPenalty | None = None,
    edges: bool = False,
    sync_batchnorm: bool = False,
) -> Supernet:
    """Builds network and alphas, initialised from the seed."""
    torch.manual_seed(seed)
    network = channels_last(task.build_network(cells).to(device))
    if sync_batchnorm:
        synchronise(network)
    architecture = Architecture(space, seed=seed, edges=edges).to(device)
    return Supernet(task, network, architecture, relaxation, alpha_penalty, cost_penalty)


def build_weight_optimizer(config: SearchConfig, supernet: Supernet) -> torch.optim.Optimizer:
    """Builds SGD with momentum, AdamW, or Adam with the weight decay as an L2 term of the loss."""
    settings = config.optimizer.weights
    return build_optimizer(
        "adam" if settings.name == "adamw" and config.decay != "decoupled" else settings.name,
        supernet.network.parameters(),
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def build_alpha_optimizer(config: SearchConfig, supernet: Supernet) -> torch.optim.Optimizer:
    """Builds Adam with L2 decay, as in DARTS."""
    settings = config.optimizer.alphas
    return torch.optim.Adam(
        supernet.alphas,
        lr=settings.learning_rate,
        betas=(settings.betas[0], settings.betas[1]),
        weight_decay=settings.weight_decay,
        fused=True,
    )


@dataclass(frozen=True)
class SearchParts:
    """A search ready to run, and its run folder."""

    search: Search
    folder: SearchFolder
    close: Callable[[], None]
    arithmetic: Mapping[str, Any]
    """Settings that change the last digits: "kernels", native or plain, and "threads"."""
    fingerprint: Mapping[str, Any]
    """See ``SearchData``."""
    resumed: bool
    """True if it resumes from a saved state."""

    def begin(self) -> dict[str, float]:
        """Records the metrics of the best constant baseline and of the untrained supernet, before the first step."""
        supernet, validation = self.search.supernet, self.search.validation
        first = {f"valid/{name}": value for name, value in supernet.evaluate(validation).items()}
        start = {"constant": supernet.task.constant(validation), **first}
        self.folder.tracker.event("start", **start, **self.arithmetic, **self.fingerprint)
        return start


def build_search(
    config: SearchConfig,
    data: SearchData,
    folder: Path,
    console: ConsoleProgress,
    *,
    costs: CostTable | None = None,
    resume: bool = False,
    stopping: Callable[[], bool] = lambda: False,
) -> SearchParts:
    """Builds all parts of a search, in a run folder that exists.

    Args:
        config, data, folder, console: of the search; the console shows its progress.
        costs, stopping: see ``assembly.costs.build_costs`` and ``SteppedRun``.
        resume: resume from the newest state in the folder, or start from the beginning if there is none yet.

    Raises:
        InputError: a setting cannot be used, or no state can be read.
    """
    device = build_device(config.run.device)
    use_threads(config.run.threads)
    node = build_node(config.run.kernels, device, console.message, console.note)
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    state = checkpoints.newest(console.message) if resume else None
    supernet = _build_supernet(config, build_search_task(config, data), costs, node=node, device=device)
    settings = build_settings(config, min(map(len, (data.weight_half, data.alpha_half))) // config.search.batch_size)
    regularization = build_regularization(config)
    closing = ExitStack()
    metrics = [f"{measured}/{supernet.task.figure.name}" for measured in ("valid", "found")]
    observer = SearchFolder(
        build_tracker(config, folder, console, closing, state, metrics),
        space=supernet.architecture.space,
        figure=supernet.task.figure,
        early_stopping=regularization.early_stopping,
        provenance=provenance(config, folder),
        pictures=build_images(config, data.validation, device, supernet.predict),
    )
    weight_stream, alpha_stream = _streams(config, data, settings, closing, pinned=device.type == "cuda")
    weight_optimizer, last_rate = build_weight_optimizer(config, supernet), config.optimizer.weights.min_learning_rate
    search = Search(
        supernet,
        weight_stream=weight_stream,
        alpha_stream=alpha_stream,
        validation=data.validation,
        weight_optimizer=weight_optimizer,
        alpha_optimizer=build_alpha_optimizer(config, supernet),
        schedule=CosineAnnealingLR(weight_optimizer, config.search.epochs, eta_min=last_rate),
        regularization=regularization,
        settings=settings,
        checkpoints=checkpoints,
        observer=observer,
        selection=build_selection(config, data),
        stopping=stopping,
        graphs=build_graphs(config, device, console.message),
    )
    if state is not None:
        search.state.restore(state)
    arithmetic = {"kernels": "plain" if node is plain_node else "native", "threads": torch.get_num_threads()}
    return SearchParts(search, observer, closing.close, arithmetic, data.fingerprint, resumed=state is not None)


def _build_supernet(
    config: SearchConfig, task: Task, costs: CostTable | None, *, node: Node, device: torch.device
) -> Supernet:
    space = build_space(config)
    cells = MixedCells(
        space,
        style=build_style(config.network, space),
        share=config.relaxation.divisor,
        auxiliary=config.skip.name == "auxiliary",
        node=node,
        recompute=config.search.recompute,
    )
    return build_supernet(
        task,
        cells,
        space,
        seed=config.seed,
        device=device,
        relaxation=build_relaxation(config.relaxation),
        alpha_penalty=build_alpha_penalty(config.alpha_penalty),
        cost_penalty=build_cost_penalty(config.cost_penalty, costs),
        edges=config.relaxation.method == "partial",
        sync_batchnorm=config.run.sync_batchnorm,
    )


def _streams(
    config: SearchConfig, data: SearchData, settings: SearchSettings, closing: ExitStack, *, pinned: bool
) -> tuple[Stream[Any], Stream[Any]]:
    """Builds the training batches of both splits; those of the alphas begin after the warm-up."""
    covering = partial(_covering, data.transform, settings)
    weights, alphas = (
        Stream(
            half,
            batch_size=config.search.batch_size,
            seed=3 * config.seed + offset,
            transform=Scheduled(partial(covering, first)) if config.cutout else data.transform,
            workers=config.run.workers,
            pinned=pinned,
        )
        for half, offset, first in (
            (data.weight_half, WEIGHT_STREAM, 0),
            (data.alpha_half, ALPHA_STREAM, settings.warmup_epochs),
        )
    )
    closing.callback(weights.close)
    closing.callback(alphas.close)
    return weights, alphas


def _covering(augmentation: Any, settings: SearchSettings, first: int, batch: int) -> Transform[Any]:
    """The augmentation of a batch, with cut-out as frequent as in its epoch; batch 0 belongs to the epoch ``first``."""
    changed: Transform[Any] = augmentation.covering(settings.growth(first + batch // settings.steps_per_epoch))
    return changed


def build_settings(config: SearchConfig, batches_per_epoch: int) -> SearchSettings:
    """The numeric settings of the search."""
    return SearchSettings(
        epochs=config.search.epochs,
        steps_per_epoch=config.search.steps_per_epoch or batches_per_epoch,
        warmup_epochs=config.search.warmup_epochs,
        drop_path=config.search.drop_path,
        clip=config.optimizer.weights.clip,
        order=config.optimizer.alphas.order,
        first_order_epochs=config.optimizer.alphas.first_order_epochs,
        curvature_every=config.curvature.every,
        curvature_full=config.curvature.method == "hessian",
        curvature_tolerance=config.curvature.tolerance,
        precision=config.search.precision,
        alpha_decay_in_curvature=config.optimizer.alphas.weight_decay if config.curvature.with_weight_decay else 0.0,
    )


def provenance(config: SearchConfig, folder: Path) -> Mapping[str, Any]:
    """The origin of a genotype file."""
    names = {
        group: getattr(config, group).name
        for group in ("relaxation", "alpha_penalty", "cost_penalty", "skip", "selection")
    }
    return {"run": folder.name, "task": config.task.name, **names, **origin_of(config)}
