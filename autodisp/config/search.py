"""The config of autodisp-search."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.cells.spaces import SPACES
from autodisp.config.checks import (
    PRECISIONS,
    checked_factory,
    need,
    need_at_least,
    need_at_most,
    need_choice,
    need_count,
    need_path,
)
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

RELAXATIONS = ("softmax", "dirichlet", "gumbel", "sigmoid", "partial", "perturbed", "frozen", "uniform", "own")
WITHOUT_ALPHAS = ("frozen", "uniform")
"""Those that move no alphas."""
RELAXATIONS_BY_SOFTMAX = ("softmax", "gumbel", "partial", "own")
"""Those whose edge weights are, on average, the softmax of the alphas; nothing is known of the user's own."""
BASES = ("softmax", "dirichlet", "partial")
"""Relaxations that relaxation=perturbed may perturb: the weights of an edge add up to 1, and none is 0."""
ALPHA_PENALTIES = ("none", "beta")


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
    """relaxation=softmax, dirichlet, ...; the YAML of a choice has the settings that it reads."""

    name: str = "softmax"
    penalty: float | None = None
    first_temperature: float = 10.0
    last_temperature: float = 0.1
    base: str = "softmax"
    attack: str = "random"
    radius: float = 0.3
    steps: int = 7
    share: int = 4
    factory: str | None = None

    def __post_init__(self) -> None:
        need_choice("relaxation.name", self.name, RELAXATIONS)
        if self.penalty is not None:
            need_at_least("relaxation", self, penalty=0.0)
        for key in ("first_temperature", "last_temperature"):
            value = getattr(self, key)
            need(0 < value < math.inf, f"relaxation.{key}", value, "above 0 and finite")
        wanted = "a file and a class in it, such as sharpened.py:Sharpened"
        object.__setattr__(self, "factory", checked_factory("relaxation.factory", self.factory, what=wanted))
        need(self.name != "own" or self.factory is not None, "relaxation.factory", "null", wanted)
        need_choice("relaxation.base", self.base, BASES)
        need_choice("relaxation.attack", self.attack, ("random", "adversarial"))
        need(0 < self.radius <= 1, "relaxation.radius", self.radius, "above 0 and at most 1; 0.3 is usual")
        need_at_least("relaxation", self, steps=1, share=1)

    @property
    def method(self) -> str:
        """What makes the edge weights: of a perturbed relaxation its base."""
        return self.base if self.name == "perturbed" else self.name

    @property
    def divisor(self) -> int:
        """One in so many channels goes through the operations of an edge."""
        return self.share if self.method == "partial" else 1


@dataclass(frozen=True)
class AlphaPenaltyConfig:
    """alpha_penalty=none, beta."""

    name: str = "none"
    weight: float = 25.0

    def __post_init__(self) -> None:
        need_choice("alpha_penalty.name", self.name, ALPHA_PENALTIES)
        need_at_least("alpha_penalty", self, weight=0.0)


@dataclass(frozen=True)
class SkipConfig:
    """skip=none, auxiliary."""

    name: str = "none"

    def __post_init__(self) -> None:
        need_choice("skip.name", self.name, ("none", "auxiliary"))


@dataclass(frozen=True)
class SelectionConfig:
    """selection=argmax, ranking, perturbation."""

    name: str = "argmax"
    samples: int = 1000
    batches: int = 10
    finalists: int = 10
    tuning_epochs: int = 5

    def __post_init__(self) -> None:
        need_choice("selection.name", self.name, ("argmax", "ranking", "perturbation"))
        need_at_least("selection", self, samples=1, batches=1, finalists=1, tuning_epochs=0)
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
    relaxation: RelaxationConfig = field(default_factory=RelaxationConfig)
    alpha_penalty: AlphaPenaltyConfig = field(default_factory=AlphaPenaltyConfig)
    skip: SkipConfig = field(default_factory=SkipConfig)
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
        self._check_alpha_penalty()
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
        relaxation, selection = self.relaxation.name, self.selection.name
        without_alphas = relaxation in WITHOUT_ALPHAS
        if without_alphas and selection == "argmax":
            raise InputError(
                f"selection=argmax takes the operations of largest alpha, but relaxation={relaxation} moves no alphas: "
                f"take selection={'ranking' if relaxation == 'uniform' else 'perturbation'}"
            )
        if relaxation == "uniform" and selection == "perturbation":
            raise InputError(
                "selection=perturbation removes operations from a mixture, but relaxation=uniform trains single paths: "
                "take relaxation=frozen, or selection=ranking"
            )
        adversarial = self.relaxation.name == "perturbed" and self.relaxation.attack == "adversarial"
        if adversarial and self.search.precision == "float16":
            raise InputError(
                "search.precision=float16: the ascent of relaxation.attack=adversarial has no gradient scaling, so "
                "small gradients would vanish: take search.precision=bfloat16 or float32"
            )
        channels, divisor = self.network.channels, self.relaxation.divisor
        if channels % divisor:
            raise InputError(
                f"relaxation.share={divisor}: must divide network.channels={channels}, of which widths are multiples"
            )
        if without_alphas and self.skip.name == "auxiliary":
            raise InputError(
                f"skip=auxiliary keeps skips from gathering large alphas, but relaxation={self.relaxation.name} moves "
                "none: take skip=none"
            )
        answers = self.regularization.name
        if without_alphas and answers != "none":
            raise InputError(
                f"regularization={answers} watches the curvature in the alphas, but relaxation={relaxation} moves "
                "none: take regularization=none"
            )
        if selection != "argmax" and answers == "es":
            raise InputError(
                f"regularization=es returns an earlier epoch, but selection={selection} needs the weights of the last "
                "one: take selection=argmax or regularization=none"
            )

    def _check_alpha_penalty(self) -> None:
        """A bound on the logits of a softmax needs a softmax."""
        if self.alpha_penalty.name == "beta" and self.relaxation.method not in RELAXATIONS_BY_SOFTMAX:
            raise InputError(
                f"alpha_penalty=beta bounds what a softmax is taken of, but relaxation={self.relaxation.method} takes "
                f"none: take relaxation={' or relaxation='.join(RELAXATIONS_BY_SOFTMAX)}, or alpha_penalty=none"
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
