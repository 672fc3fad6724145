"""The config of autodisp-search."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

from autodisp.cells.spaces import SPACES
from autodisp.config import sections
from autodisp.config.checks import (
    ABOVE_0,
    SHARED,
    Clip,
    Momentum,
    Must,
    PathTo,
    Precision,
    Probability,
    at_least,
    at_most,
    checked_factory,
    need,
    need_choice,
    need_falling,
)
from autodisp.config.sections import PUBLISHED_CUTOUT, LearningConfig, RunConfig, need_ground_truth
from autodisp.errors import InputError
from autodisp.tasks.sections import NetworkSection

_ODD = Must("odd, since an average belongs to its middle epoch; 3 or 5 are usual", lambda window: window % 2 == 1)
_RULES_GROWTH = Must("a growth above 1, or null for the rule's own", lambda factor: 1 < factor < math.inf)
_GROWTH = Must("a growth above 1", _RULES_GROWTH.holds)
_DECAY = Must("a weight decay above 0", ABOVE_0.holds)
_TARGET = Must("above 0 and finite, or null with plan=true", ABOVE_0.holds)
_TOLERANCE = Must("between 0 and 1", lambda tolerance: 0 < tolerance < 1)
_BETAS = Must(
    "two numbers, each at least 0 and below 1, such as [0.5,0.999]",
    lambda betas: len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
)

_SIZE = Must(
    "[height, width], each at least 1, or null for that of a sample",
    lambda size: len(size) == 2 and all(1 <= side <= 2**16 for side in size),
)
_RADIUS = Must("above 0 and at most 1; 0.3 is usual", lambda radius: 0 < radius <= 1)
WITHOUT_ALPHAS = ("frozen", "uniform")
"""Relaxations that move no alphas."""
RELAXATIONS_BY_SOFTMAX = ("softmax", "gumbel", "partial", "own")
"""Relaxations whose mean edge weights are the softmax of the alphas; assumed for user-defined ones."""


@dataclass(frozen=True)
class SpaceConfig:
    """space=..., or the file of a custom space."""

    name: str = "darts"
    file: Annotated[str | None, PathTo("the JSON of a search space, or null for a named one")] = None

    def __post_init__(self) -> None:
        if self.file is None:
            need_choice("space.name", self.name, tuple(SPACES))


@dataclass(frozen=True)
class RegularizationConfig:
    """regularization=none, es, ada."""

    name: Literal["none", "es", "ada"] = "none"
    rule: Literal["ratio", "paper"] = "ratio"
    window: Annotated[int, at_least(1), _ODD] = 5
    start_epoch: Annotated[int, at_least(0)] = 10
    delta: Annotated[int | None, at_least(1, null="the rule's own")] = None
    factor: Annotated[float | None, _RULES_GROWTH] = None
    raise_by: Annotated[float, _GROWTH] = 10.0
    cap: Annotated[float, _DECAY] = 3e-2


@dataclass(frozen=True)
class RelaxationConfig:
    """relaxation=softmax, dirichlet, ...; the YAML of a choice contains the settings that it uses."""

    name: Literal["softmax", "dirichlet", "gumbel", "sigmoid", "partial", "perturbed", "frozen", "uniform", "own"] = (
        "softmax"
    )
    penalty: Annotated[float | None, at_least(0.0, null="the relaxation's own")] = None
    first_temperature: Annotated[float, ABOVE_0] = 10.0
    last_temperature: Annotated[float, ABOVE_0] = 0.1
    base: Literal["softmax", "dirichlet", "partial"] = "softmax"
    """Relaxations whose weights of an edge are positive and add up to 1."""
    attack: Literal["random", "adversarial"] = "random"
    radius: Annotated[float, _RADIUS] = 0.3
    steps: Annotated[int, at_least(1)] = 7
    share: Annotated[int, at_least(1)] = 4
    factory: str | None = None

    def __post_init__(self) -> None:
        wanted = "a file and a class in it, such as sharpened.py:Sharpened"
        object.__setattr__(self, "factory", checked_factory("relaxation.factory", self.factory, what=wanted))
        need(self.name != "own" or self.factory is not None, "relaxation.factory", "null", wanted)

    @property
    def method(self) -> str:
        """The relaxation of the edge weights; for a perturbed one, its base."""
        return self.base if self.name == "perturbed" else self.name

    @property
    def divisor(self) -> int:
        """Divisor d of the channels: a share of 1/d passes through the operations of an edge."""
        return self.share if self.method == "partial" else 1


@dataclass(frozen=True)
class AlphaPenaltyConfig:
    """alpha_penalty=none, beta."""

    name: Literal["none", "beta"] = "none"
    weight: Annotated[float, at_least(0.0)] = 25.0


@dataclass(frozen=True)
class CostPenaltyConfig:
    """cost_penalty=none, latency, macs, parameters."""

    name: Literal["none", "latency", "macs", "parameters"] = "none"
    target: Annotated[float | None, _TARGET] = None
    weight: Annotated[float, at_least(0.0)] = 1.0
    size: Annotated[list[int] | None, _SIZE] = None
    table: Annotated[str | None, PathTo("a cost table such as costs.json, or null to measure one")] = None
    save: Annotated[str | None, PathTo("the file to write a cost table to, or null for none")] = None

    def __post_init__(self) -> None:
        if self.table is not None and self.save is not None:
            raise InputError(
                f"cost_penalty.save={self.save}: would copy cost_penalty.table={self.table}; leave out one"
            )


@dataclass(frozen=True)
class SkipConfig:
    """skip=none, auxiliary."""

    name: Literal["none", "auxiliary"] = "none"


@dataclass(frozen=True)
class SelectionConfig:
    """selection=argmax, ranking, perturbation."""

    name: Literal["argmax", "ranking", "perturbation"] = "argmax"
    samples: Annotated[int, at_least(1)] = 1000
    batches: Annotated[int, at_least(1)] = 10
    finalists: Annotated[int, at_least(1)] = 10
    tuning_epochs: Annotated[int, at_least(0)] = 5

    def __post_init__(self) -> None:
        need(self.finalists <= self.samples, "selection.finalists", self.finalists, f"at most samples={self.samples}")


@dataclass(frozen=True)
class WeightsConfig:
    """The optimizer of the weights."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, at_least(0.0)] = 0.025
    min_learning_rate: Annotated[float, at_least(0.0)] = 0.001
    momentum: Momentum = 0.9
    weight_decay: Annotated[float, at_least(0.0)] = 3e-4
    decay: Literal["l2", "decoupled"] | None = None
    clip: Clip = 5.0

    def __post_init__(self) -> None:
        if self.name == "sgd" and self.decay == "decoupled":
            raise InputError(
                "optimizer.weights.decay=decoupled: is of optimizer.weights.name=adamw, but it is sgd: take l2 or null"
            )
        need_falling("optimizer.weights", self)


@dataclass(frozen=True)
class AlphasConfig:
    """The optimizer of the alphas."""

    learning_rate: Annotated[float, at_least(0.0)] = 3e-4
    betas: Annotated[list[float], _BETAS] = field(default_factory=lambda: [0.5, 0.999])
    weight_decay: Annotated[float, at_least(0.0)] = 1e-3
    order: Literal["first", "exact", "finite_difference"] = "first"
    first_order_epochs: Annotated[int, at_least(0)] = 0


@dataclass(frozen=True)
class OptimizerConfig:
    """The two optimizers of the bilevel problem."""

    weights: WeightsConfig = field(default_factory=WeightsConfig)
    alphas: AlphasConfig = field(default_factory=AlphasConfig)


@dataclass(frozen=True)
class ScheduleConfig:
    """Length and batches of a search."""

    epochs: Annotated[int, at_least(1), at_most(1_000_000)] = 50
    batch_size: Annotated[int, at_least(1), SHARED] = 64
    steps_per_epoch: Annotated[int | None, at_least(1, null="all")] = None
    warmup_epochs: Annotated[int, at_least(0)] = 0
    validation_batches: Annotated[int | None, at_least(1, null="all")] = None
    drop_path: Probability = 0.0
    precision: Precision = "float32"
    recompute: bool = False


@dataclass(frozen=True)
class CurvatureConfig:
    """Measurement of the curvature."""

    every: Annotated[int, at_least(1)] = 2
    method: Literal["lanczos", "hessian"] = "lanczos"
    tolerance: Annotated[float, _TOLERANCE] = 1e-3
    with_weight_decay: bool = False


@dataclass(frozen=True)
class SearchRunConfig(RunConfig):
    """Folder of the search, and the hardware and kernels that it uses."""

    kernels: Literal["auto", "native", "plain"] = "auto"


@dataclass(frozen=True, kw_only=True)
class SearchConfig(LearningConfig):
    """All settings of autodisp-search."""

    network: NetworkSection
    space: SpaceConfig
    regularization: RegularizationConfig
    optimizer: OptimizerConfig
    search: ScheduleConfig
    curvature: CurvatureConfig
    run: SearchRunConfig
    relaxation: RelaxationConfig = field(default_factory=RelaxationConfig)
    alpha_penalty: AlphaPenaltyConfig = field(default_factory=AlphaPenaltyConfig)
    cost_penalty: CostPenaltyConfig = field(default_factory=CostPenaltyConfig)
    skip: SkipConfig = field(default_factory=SkipConfig)
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    plan: bool = False
    """Estimate the cost of the search instead of running it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        need_ground_truth(self.kit, self.dataset, "a search")
        self.kit.check_search(self)
        self._check_space(self.task.name)
        self._check_regularization()
        self._check_relaxation()
        self._check_alpha_penalty()
        self._check_cost_penalty()
        warmup, epochs = self.search.warmup_epochs, self.search.epochs
        need(warmup < epochs, "search.warmup_epochs", warmup, f"below search.epochs={epochs}, or no alpha ever moves")
        self._check_order()

    @property
    def cutout(self) -> int:
        """Side of the square of cut-out in the last epoch; as in RobustDARTS, drop-path implies cut-out."""
        if self.augmentation.cutout is not None:
            return self.augmentation.cutout
        return PUBLISHED_CUTOUT if self.kit.cutout and self.search.drop_path > 0 else 0

    def _check_order(self) -> None:
        """Checks that a second order has a step of SGD to unroll, and an epoch after the warm-up."""
        weights, alphas = self.optimizer.weights, self.optimizer.alphas
        if alphas.order != "first" and weights.name != "sgd":
            raise InputError(
                f"optimizer.alphas.order={alphas.order} unrolls a step of SGD, but optimizer.weights.name="
                f"{weights.name}: take order=first or weights.name=sgd"
            )
        room, first = self.search.epochs - self.search.warmup_epochs, alphas.first_order_epochs
        wanted = f"at most {room}, the epochs after the warm-up; 0 is usual"
        need(first <= room, "optimizer.alphas.first_order_epochs", first, wanted)

    def _check_space(self, task: str) -> None:
        kinds = self.kit.kinds
        if self.space.file is None and set(SPACES[self.space.name].kinds) != kinds:
            fitting = [name for name, space in SPACES.items() if set(space.kinds) == kinds]
            raise InputError(
                f"space={self.space.name} does not fit task={task}: take space={' or space='.join(fitting)}"
            )

    @property
    def decay(self) -> str:
        """Kind of weight decay: ``l2``, a term of the loss, or ``decoupled`` from it.

        ADA raises the L2 term of the inner objective and needs ``l2``; only adamw has ``decoupled``.
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
        """Checks that policies and selections that need alphas have them."""
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
        """Checks that the beta penalty, a bound on the logits of a softmax, has a softmax."""
        if self.alpha_penalty.name == "beta" and self.relaxation.method not in RELAXATIONS_BY_SOFTMAX:
            raise InputError(
                f"alpha_penalty=beta bounds what a softmax is taken of, but relaxation={self.relaxation.method} takes "
                f"none: take relaxation={' or relaxation='.join(RELAXATIONS_BY_SOFTMAX)}, or alpha_penalty=none"
            )

    def _check_cost_penalty(self) -> None:
        """Checks that a penalty on the cost has alphas to act on and a target."""
        penalty = self.cost_penalty
        if penalty.name == "none":
            return
        if self.relaxation.name in WITHOUT_ALPHAS:
            raise InputError(
                f"cost_penalty={penalty.name} is a term of the alphas' loss, but relaxation={self.relaxation.name} "
                "moves none: take cost_penalty=none"
            )
        if penalty.target is None and not self.plan:
            raise InputError(
                f"cost_penalty.target=null: cost_penalty={penalty.name} needs one; plan=true "
                f"cost_penalty={penalty.name} prints the costs of the space"
            )
        if penalty.save is not None and not self.plan:
            raise InputError(
                f"cost_penalty.save={penalty.save}: needs plan=true; a search writes costs.json to its folder"
            )


parse = partial(sections.parse, schema=SearchConfig)
"""Returns the typed config of a search; see :func:`autodisp.config.sections.parse`."""
