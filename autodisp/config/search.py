"""The config of autodisp-search."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.cells.spaces import SPACES
from autodisp.config.checks import PRECISIONS, need, need_at_least, need_at_most, need_choice, need_count, need_path
from autodisp.config.parsing import read
from autodisp.config.sections import (
    PUBLISHED_CUTOUT,
    AugmentationConfig,
    RunConfig,
    check_augmentation,
    check_task,
    sections_by_name,
)
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import kit_of


@dataclass(frozen=True)
class SpaceConfig:
    """space=..., or a file of your own."""

    name: str = "darts"
    file: str | None = None

    def __post_init__(self) -> None:
        need_path("space.file", self.file, what="the JSON of a search space, or null for a named one")
        if self.file is None:
            need_choice("space.name", self.name, tuple(SPACES))


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
        need_at_least("regularization", self, window=1, start_epoch=0)
        window = "odd, since an average belongs to its middle epoch; 3 or 5 are usual"
        need(self.window % 2 == 1, "regularization.window", self.window, window)
        need_count("regularization.delta", self.delta, null="the rule's own")
        for key, value in (("factor", self.factor), ("raise_by", self.raise_by)):
            usual = ", or null for the rule's own" if key == "factor" else "; 10 is usual"
            need(value is None or 1 < value < math.inf, f"regularization.{key}", value, f"a growth above 1{usual}")
        need(0 < self.cap < math.inf, "regularization.cap", self.cap, "a weight decay above 0; 0.03 is usual")


@dataclass(frozen=True)
class RelaxationConfig:
    """relaxation=softmax, uniform."""

    name: str = "softmax"

    def __post_init__(self) -> None:
        need_choice("relaxation.name", self.name, ("softmax", "uniform"))


@dataclass(frozen=True)
class SelectionConfig:
    """selection=argmax, ranking."""

    name: str = "argmax"
    samples: int = 1000
    batches: int = 10
    finalists: int = 10

    def __post_init__(self) -> None:
        need_choice("selection.name", self.name, ("argmax", "ranking"))
        need_at_least("selection", self, samples=1, batches=1, finalists=1)
        need(self.finalists <= self.samples, "selection.finalists", self.finalists, f"at most samples={self.samples}")


@dataclass(frozen=True)
class WeightsConfig:
    """How the weights learn."""

    name: str = "sgd"
    learning_rate: float = 0.025
    min_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    decay: str | None = None
    clip: float = 5.0

    def __post_init__(self) -> None:
        need_choice("optimizer.weights.name", self.name, ("sgd", "adamw"))
        if self.decay is not None:
            need_choice("optimizer.weights.decay", self.decay, ("l2", "decoupled"))
        if self.name == "sgd" and self.decay == "decoupled":
            raise InputError(
                "optimizer.weights.decay=decoupled: is of optimizer.weights.name=adamw, but it is sgd: take l2 or null"
            )
        need_at_least("optimizer.weights", self, learning_rate=0.0, min_learning_rate=0.0, weight_decay=0.0)
        need(
            0 <= self.momentum < 1, "optimizer.weights.momentum", self.momentum, "at least 0 and below 1; 0.9 is usual"
        )
        need(self.clip > 0, "optimizer.weights.clip", self.clip, "above 0 (inf for no clipping)")
        need(
            self.min_learning_rate <= self.learning_rate,
            "optimizer.weights.min_learning_rate",
            self.min_learning_rate,
            f"at most learning_rate={self.learning_rate}, where the schedule begins",
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
            "two numbers, each at least 0 and below 1, such as [0.5,0.999]",
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """The two optimizers of the bilevel problem."""

    weights: WeightsConfig = field(default_factory=WeightsConfig)
    alphas: AlphasConfig = field(default_factory=AlphasConfig)


@dataclass(frozen=True)
class ScheduleConfig:
    """How long and on how much."""

    epochs: int = 50
    batch_size: int = 64
    steps_per_epoch: int | None = None
    warmup_epochs: int = 0
    validation_batches: int | None = None
    drop_path: float = 0.0
    precision: str = "float32"
    recompute: bool = False

    def __post_init__(self) -> None:
        need_choice("search.precision", self.precision, PRECISIONS)
        need_at_least("search", self, epochs=1, batch_size=1, warmup_epochs=0)
        for key in ("steps_per_epoch", "validation_batches"):
            need_count(f"search.{key}", getattr(self, key), null="all")
        need(0 <= self.drop_path < 1, "search.drop_path", self.drop_path, "at least 0 and below 1; 0 is none")
        need_at_most("search", self, epochs=1_000_000)


@dataclass(frozen=True)
class CurvatureConfig:
    """When and how the curvature is measured."""

    every: int = 2
    method: str = "lanczos"
    tolerance: float = 1e-3
    weight_decay: bool = False

    def __post_init__(self) -> None:
        need_at_least("curvature", self, every=1)
        need(0 < self.tolerance < 1, "curvature.tolerance", self.tolerance, "between 0 and 1; 0.001 is usual")
        need_choice("curvature.method", self.method, ("lanczos", "hessian"))


@dataclass(frozen=True)
class SearchRunConfig(RunConfig):
    """Folder of the search, and the hardware and kernels that it uses."""

    kernels: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        need_choice("run.kernels", self.kernels, ("auto", "native", "plain"))


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
    run: SearchRunConfig
    relaxation: RelaxationConfig = field(default_factory=RelaxationConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    plan: bool = False
    """Say what the search would cost instead of running it."""
    resume: str | None = None
    """The folder of a run to go on with."""

    def __post_init__(self) -> None:
        need(0 <= self.seed < 2**32, "seed", self.seed, "at least 0 and below 2^32; 0 is usual")
        need_path("resume", self.resume, what="the folder of a run to go on with, or null")
        check_task(self.task, self.dataset, self.network)
        check_augmentation(self.task, self.augmentation)
        self.kit.check_search(self)
        self._check_space(self.task.name)
        self._check_regularization()
        self._check_relaxation()
        need(
            self.search.warmup_epochs < self.search.epochs,
            "search.warmup_epochs",
            self.search.warmup_epochs,
            f"below search.epochs={self.search.epochs}, or no alpha ever moves",
        )
        self._check_order()

    @property
    def kit(self) -> TaskKit:
        """The kit of the task."""
        return kit_of(self.task)

    @property
    def cutout(self) -> int:
        """Side of the square that cut-out covers in the last epoch; by default RobustDARTS cuts out with drop-path."""
        if self.augmentation.cutout is not None:
            return self.augmentation.cutout
        return PUBLISHED_CUTOUT if self.kit.cutout and self.search.drop_path > 0 else 0

    def _check_order(self) -> None:
        """A second order unrolls a step of SGD, and needs an epoch to be used in."""
        weights, alphas = self.optimizer.weights, self.optimizer.alphas
        if alphas.order != "first" and weights.name != "sgd":
            raise InputError(
                f"optimizer.alphas.order={alphas.order} unrolls a step of SGD, but optimizer.weights.name="
                f"{weights.name}: take order=first or weights.name=sgd"
            )
        room = self.search.epochs - self.search.warmup_epochs
        need(
            alphas.first_order_epochs <= room,
            "optimizer.alphas.first_order_epochs",
            alphas.first_order_epochs,
            f"at most {room}, the epochs after the warm-up; 0 is usual",
        )

    def _check_space(self, task: str) -> None:
        kinds = self.kit.kinds
        if self.space.file is None and set(SPACES[self.space.name].kinds) != kinds:
            fitting = [name for name, space in SPACES.items() if set(space.kinds) == kinds]
            raise InputError(
                f"space={self.space.name} does not fit task={task}: take space={' or space='.join(fitting)}"
            )

    @property
    def decay(self) -> str:
        """What the weight decay is: ``l2``, a term of the loss, or ``decoupled`` from it.

        ADA raises the L2 term of the inner objective, so it needs the former; adamw alone has the latter.
        """
        usual = "decoupled" if self.optimizer.weights.name == "adamw" and self.regularization.name != "ada" else "l2"
        return self.optimizer.weights.decay or usual

    def _check_regularization(self) -> None:
        if self.regularization.name == "ada" and self.decay != "l2":
            raise InputError(
                "regularization=ada raises the L2 term of the training loss, and optimizer.weights.decay=decoupled is "
                "none: take optimizer.weights.decay=l2 or null, or optimizer=sgd"
            )
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

    def _check_relaxation(self) -> None:
        """Without alphas there is no curvature to answer and nothing to take the largest of."""
        without_alphas, ranked = self.relaxation.name == "uniform", self.selection.name == "ranking"
        if without_alphas and not ranked:
            raise InputError(
                f"selection={self.selection.name} takes the operations of largest alpha, but relaxation=uniform moves "
                "no alphas: take selection=ranking"
            )
        answers = self.regularization.name
        if without_alphas and answers != "none":
            raise InputError(
                f"regularization={answers} watches the curvature in the alphas, but relaxation=uniform moves none: "
                "take regularization=none"
            )
        if ranked and answers == "es":
            raise InputError(
                "regularization=es returns an earlier epoch, but selection=ranking needs the weights of the last one: "
                "take selection=argmax or regularization=none"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as the run folder keeps it."""
        return asdict(self)

    def fingerprint(self) -> str:
        """A short hash of everything that the result depends on; where it runs does not count."""
        what = {key: value for key, value in self.as_dict().items() if key not in ("run", "plan", "resume")}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def parse(tree: DictConfig) -> SearchConfig:
    """The typed config of a search out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, SearchConfig, sections_by_name(tree))
