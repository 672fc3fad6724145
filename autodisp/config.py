"""The schema of every YAML: typed dataclasses, the checks of each value and the checks across sections.

``parse`` turns what Hydra composed into one frozen ``SearchConfig``. A setting is honoured or refused: unknown keys,
wrong types, values out of range and sections that do not fit together all end in one ``InputError``.
"""

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError

Section = TypeVar("Section")


def need(holds: bool, key: str, value: Any, constraint: str) -> None:
    """Refuses a setting: names it, its value and what it must be."""
    if not holds:
        raise InputError(f"{key}={value}: must be {constraint}")


def need_at_least(section: str, config: Any, **minima: float) -> None:
    """Refuses the settings below their minimum, and what is no number."""
    for key, minimum in minima.items():
        value = getattr(config, key)
        need(value is not None and minimum <= value < math.inf, f"{section}.{key}", value, f"at least {minimum}")


def need_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuses a name that is not among the choices, and offers the nearest."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"{key}={value}: must be one of {', '.join(choices)}{hint}")


@dataclass(frozen=True)
class DisparityTaskConfig:
    """task=disparity."""

    name: str = "disparity"
    volume_weight: float = 1.0

    def __post_init__(self) -> None:
        need_at_least("task", self, volume_weight=0.0)


@dataclass(frozen=True)
class ClassificationTaskConfig:
    """task=classification."""

    name: str = "classification"


@dataclass(frozen=True)
class Shapes3DConfig:
    """dataset=shapes3d."""

    name: str = "shapes3d"
    length: int = 400
    height: int = 192
    width: int = 384
    max_disparity: int = 96
    crop: list[int] | None = None
    limit: int | None = None
    cache: bool = True

    def __post_init__(self) -> None:
        need(self.max_disparity < self.width, "dataset.max_disparity", self.max_disparity, f"below width={self.width}")
        _check_stereo(self)
        need(
            self.crop is None or (self.crop[0] <= self.height and self.crop[1] <= self.width),
            "dataset.crop",
            self.crop,
            f"no larger than the pictures, {self.height}x{self.width}",
        )


@dataclass(frozen=True)
class FlyingThings3DConfig:
    """dataset=flyingthings3d."""

    name: str = "flyingthings3d"
    root: str | None = None
    render_pass: str = "cleanpass"
    subsets: list[str] = field(default_factory=lambda: ["A", "B", "C"])
    excluded: str | None = None
    layout: str = "auto"
    half_resolution: bool = False
    max_disparity: int = 192
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        need_choice("dataset.render_pass", self.render_pass, ("cleanpass", "finalpass"))
        need_choice("dataset.layout", self.layout, ("auto", "full", "subset"))
        for subset in self.subsets:
            need_choice("dataset.subsets", subset, ("A", "B", "C"))
        need(bool(self.subsets), "dataset.subsets", self.subsets, "a list of A, B, C")
        _check_stereo(self)


@dataclass(frozen=True)
class SintelConfig:
    """dataset=sintel."""

    name: str = "sintel"
    root: str | None = None
    render_pass: str = "clean"
    half_resolution: bool = False
    max_disparity: int = 192
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        need_choice("dataset.render_pass", self.render_pass, ("clean", "final"))
        _check_stereo(self)


def _check_stereo(config: Any) -> None:
    need_at_least("dataset", config, max_disparity=4)
    crop = config.crop
    need(
        crop is None or (len(crop) == 2 and min(crop) >= 32),
        "dataset.crop",
        crop,
        "[height, width], each at least 32, or null",
    )
    _check_limit(config.limit)


def _check_limit(limit: int | None) -> None:
    need(limit is None or limit >= 4, "dataset.limit", limit, "at least 4, or null for all")


@dataclass(frozen=True)
class ImagesConfig:
    """dataset=cifar10, cifar100, svhn."""

    name: str = "cifar10"
    root: str | None = None
    flip: bool = True
    limit: int | None = None

    def __post_init__(self) -> None:
        _check_limit(self.limit)


@dataclass(frozen=True)
class SpaceConfig:
    """space=..., or a file of your own."""

    name: str = "darts"
    file: str | None = None

    def __post_init__(self) -> None:
        if self.file is None:
            need_choice("space.name", self.name, tuple(SPACES))


@dataclass(frozen=True)
class ClassificationNetworkConfig:
    """network=classification."""

    name: str = "classification"
    channels: int = 16
    layers: int = 8

    def __post_init__(self) -> None:
        need_at_least("network", self, channels=1, layers=3)


@dataclass(frozen=True)
class DisparityNetworkConfig:
    """network=disparity."""

    name: str = "disparity"
    channels: int = 24
    stem_scale: float = 2.0
    encoder_cells: int = 6
    decoder_cells: int = 3
    max_displacement: int = 40
    head: str = "regression"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        need_at_least("network", self, channels=1, stem_scale=0.0, encoder_cells=2, decoder_cells=1, max_displacement=1)
        need(self.encoder_cells % 2 == 0, "network.encoder_cells", self.encoder_cells, "even (normal, reduction, ...)")
        most = self.encoder_cells // 2 + 1
        need(
            self.decoder_cells <= most, "network.decoder_cells", self.decoder_cells, f"at most {most}, which is at 1/4"
        )
        need_choice("network.head", self.head, ("regression", "matching"))
        need(int(self.stem_scale * self.channels) >= 1, "network.stem_scale", self.stem_scale, "at least 1 / channels")


@dataclass(frozen=True)
class RegularizationConfig:
    """regularization=none, es, ada."""

    name: str = "none"
    rule: str = "ratio"
    window: int = 5
    start_epoch: int = 10
    delta: int | None = None
    factor: float | None = None
    raise_by: float = 10.0
    cap: float = 3e-2

    def __post_init__(self) -> None:
        need_choice("regularization.name", self.name, ("none", "es", "ada"))
        need_choice("regularization.rule", self.rule, ("ratio", "paper"))


@dataclass(frozen=True)
class WeightsConfig:
    """How the weights learn."""

    name: str = "sgd"
    learning_rate: float = 0.025
    min_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip: float = 5.0

    def __post_init__(self) -> None:
        need_choice("optimizer.weights.name", self.name, ("sgd", "adamw"))
        need_at_least("optimizer.weights", self, learning_rate=0.0, min_learning_rate=0.0, weight_decay=0.0)
        need(0 <= self.momentum < 1, "optimizer.weights.momentum", self.momentum, "at least 0 and below 1")
        need(self.clip > 0, "optimizer.weights.clip", self.clip, "above 0 (inf for no clipping)")
        need(
            self.min_learning_rate <= self.learning_rate,
            "optimizer.weights.min_learning_rate",
            self.min_learning_rate,
            f"at most learning_rate={self.learning_rate}",
        )


@dataclass(frozen=True)
class AlphasConfig:
    """How the alphas learn."""

    learning_rate: float = 3e-4
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])
    weight_decay: float = 1e-3
    order: str = "first"
    first_order_epochs: int = 0

    def __post_init__(self) -> None:
        need_at_least("optimizer.alphas", self, learning_rate=0.0, weight_decay=0.0, first_order_epochs=0)
        need_choice("optimizer.alphas.order", self.order, ("first", "exact", "finite_difference"))
        need(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            "optimizer.alphas.betas",
            self.betas,
            "two numbers, each at least 0 and below 1",
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """The two optimizers of the bilevel problem."""

    weights: WeightsConfig = field(default_factory=WeightsConfig)
    alphas: AlphasConfig = field(default_factory=AlphasConfig)


@dataclass(frozen=True)
class AugmentationConfig:
    """One strength factor for the task's augmentation."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        need_at_least("augmentation", self, scale=0.0)


@dataclass(frozen=True)
class ScheduleConfig:
    """How long and on how much."""

    epochs: int = 50
    batch_size: int = 64
    steps_per_epoch: int | None = None
    warmup_epochs: int = 0
    validation_batches: int | None = None
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        need_at_least("search", self, epochs=1, batch_size=1, warmup_epochs=0)
        for key in ("steps_per_epoch", "validation_batches"):
            value = getattr(self, key)
            need(value is None or value >= 1, f"search.{key}", value, "at least 1, or null for all")
        need(0 <= self.drop_path < 1, "search.drop_path", self.drop_path, "at least 0 and below 1")


@dataclass(frozen=True)
class CurvatureConfig:
    """When and how the curvature is measured."""

    every: int = 2
    method: str = "lanczos"
    tolerance: float = 1e-3
    weight_decay: bool = False

    def __post_init__(self) -> None:
        need_at_least("curvature", self, every=1)
        need(0 < self.tolerance < 1, "curvature.tolerance", self.tolerance, "between 0 and 1")
        need_choice("curvature.method", self.method, ("lanczos", "hessian"))


@dataclass(frozen=True)
class RunConfig:
    """Where the run lives and what it runs on."""

    folder: str = "runs/search"
    device: str = "auto"
    workers: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        need_choice("run.device", self.device, ("auto", "cpu", "cuda"))
        need_at_least("run", self, workers=0)
        need(self.threads is None or self.threads >= 1, "run.threads", self.threads, "at least 1, or null for all")


TASKS: dict[str, type] = {"disparity": DisparityTaskConfig, "classification": ClassificationTaskConfig}
DATASETS: dict[str, type] = {
    "shapes3d": Shapes3DConfig,
    "flyingthings3d": FlyingThings3DConfig,
    "sintel": SintelConfig,
    "cifar10": ImagesConfig,
    "cifar100": ImagesConfig,
    "svhn": ImagesConfig,
}
NETWORKS: dict[str, type] = {"disparity": DisparityNetworkConfig, "classification": ClassificationNetworkConfig}
TASK_DATASETS = {
    "disparity": ("shapes3d", "flyingthings3d", "sintel"),
    "classification": ("cifar10", "cifar100", "svhn"),
}
TASK_KINDS = {"disparity": {"normal", "reduce", "upsample"}, "classification": {"normal", "reduce"}}


@dataclass(frozen=True)
class SearchConfig:
    """All of autodisp-search."""

    seed: int
    task: Any
    dataset: Any
    space: SpaceConfig
    network: Any
    regularization: RegularizationConfig
    optimizer: OptimizerConfig
    augmentation: AugmentationConfig
    search: ScheduleConfig
    curvature: CurvatureConfig
    run: RunConfig

    def __post_init__(self) -> None:
        need(0 <= self.seed < 2**32, "seed", self.seed, "at least 0 and below 2^32")
        task = self.task.name
        if self.dataset.name not in TASK_DATASETS[task]:
            raise InputError(
                f"dataset={self.dataset.name} does not fit task={task}: take dataset="
                f"{' or dataset='.join(TASK_DATASETS[task])}"
            )
        if self.network.name != task:
            raise InputError(f"network={self.network.name} does not fit task={task}: take network={task}")
        self._check_space(task)
        self._check_regularization()
        self._check_size()
        need(
            self.search.warmup_epochs < self.search.epochs,
            "search.warmup_epochs",
            self.search.warmup_epochs,
            f"below search.epochs={self.search.epochs}, or no alpha ever moves",
        )
        weights, alphas = self.optimizer.weights, self.optimizer.alphas
        if alphas.order != "first" and weights.name != "sgd":
            raise InputError(
                f"optimizer.alphas.order={alphas.order} unrolls a step of SGD, but optimizer.weights.name="
                f"{weights.name}: take order=first or weights.name=sgd"
            )

    def _check_space(self, task: str) -> None:
        if self.space.file is None and set(SPACES[self.space.name].kinds) != TASK_KINDS[task]:
            fitting = [name for name, space in SPACES.items() if set(space.kinds) == TASK_KINDS[task]]
            raise InputError(
                f"space={self.space.name} does not fit task={task}: take space={' or space='.join(fitting)}"
            )

    def _check_regularization(self) -> None:
        if self.regularization.name == "ada" and not self.optimizer.weights.weight_decay > 0:
            raise InputError(
                "regularization=ada multiplies optimizer.weights.weight_decay, which is 0: start from 3e-4, "
                "or use regularization=es"
            )
        cap, decay = self.regularization.cap, self.optimizer.weights.weight_decay
        if self.regularization.name == "ada" and decay >= cap:
            raise InputError(
                f"regularization.cap={cap}: must be above optimizer.weights.weight_decay={decay}, or it is never raised"
            )

    def _check_size(self) -> None:
        """Batch normalisation compares pixels: a single one at the coarsest level makes torch give up."""
        if self.task.name != "disparity" or not self.network.batch_norm:
            return
        whole = [self.dataset.height, self.dataset.width] if isinstance(self.dataset, Shapes3DConfig) else None
        size = self.dataset.crop or whole
        stride = 8 * 2 ** (self.network.encoder_cells // 2)
        if size is not None and max(size) <= stride:
            raise InputError(
                f"network.encoder_cells={self.network.encoder_cells}: with a stride of {stride} one pixel is left "
                f"of {size[0]}x{size[1]} for batch normalisation: take larger pictures or crops, or fewer encoder cells"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as the run folder keeps it."""
        return asdict(self)

    def fingerprint(self) -> str:
        """A short hash of everything that the result depends on; where it runs does not count."""
        what = {key: value for key, value in self.as_dict().items() if key != "run"}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def parse(tree: DictConfig) -> SearchConfig:
    """The typed config out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    sections = {
        "space": SpaceConfig,
        "regularization": RegularizationConfig,
        "optimizer": OptimizerConfig,
        "augmentation": AugmentationConfig,
        "search": ScheduleConfig,
        "curvature": CurvatureConfig,
        "run": RunConfig,
    }
    chosen = {"task": TASKS, "dataset": DATASETS, "network": NETWORKS}
    known = {*sections, *chosen, "seed"}
    for key in map(str, tree):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"{key}: no such section; {hint}there are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    try:
        values["seed"] = OmegaConf.select(tree, "seed")
        for name, schemas in chosen.items():
            choice = OmegaConf.select(tree, f"{name}.name")
            need_choice(name, choice, tuple(schemas))
            values[name] = _section(tree, name, schemas[choice])
        for name, schema in sections.items():
            values[name] = _section(tree, name, schema)
    except OmegaConfBaseException as error:
        raise InputError(one_line(error)) from None
    if not isinstance(values["seed"], int) or isinstance(values["seed"], bool):
        raise InputError(f"seed={values['seed']}: must be a whole number")
    return SearchConfig(**values)


def _section(tree: DictConfig, name: str, schema: type[Section]) -> Section:
    node = OmegaConf.select(tree, name)
    if not isinstance(node, DictConfig):
        raise InputError(f"{name}={node}: must be a section with keys; see --help for its choices")
    _refuse_unknown(node, name, schema)
    typed = OmegaConf.create({name: OmegaConf.structured(schema)})
    _unlock(typed[name])
    typed.merge_with({name: OmegaConf.to_container(node, resolve=True)})
    section = OmegaConf.to_object(typed[name])
    assert isinstance(section, schema)
    return section


def _unlock(node: DictConfig) -> None:
    """A frozen dataclass becomes a read-only node, which could not take the values of the YAML."""
    OmegaConf.set_readonly(node, False)
    for _, value in node.items_ex(resolve=False):
        if isinstance(value, DictConfig):
            _unlock(value)


def _refuse_unknown(node: DictConfig, path: str, schema: Any) -> None:
    known = {entry.name: entry.type for entry in fields(schema)}
    for name, value in node.items_ex(resolve=False):
        key = str(name)
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"{path}.{key}: no such setting; {hint}{path} has {', '.join(known)}")
        if isinstance(value, DictConfig) and hasattr(known[key], "__dataclass_fields__"):
            _refuse_unknown(value, f"{path}.{key}", known[key])


def one_line(error: Exception) -> str:
    """A library's message about a setting as one line that begins with the setting's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    message = lines[0] if lines else type(error).__name__
    if "is not a ListConfig" in message:
        message = "must be a list, such as [1,2]"
    return f"{key}: {message}" if key and key not in message else message
