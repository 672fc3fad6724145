"""The config of autodisp-train."""

import itertools
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

from autodisp.config import sections
from autodisp.config.checks import (
    ABOVE_0,
    SHARED,
    Clip,
    ModelFile,
    Momentum,
    Must,
    PathTo,
    Precision,
    Probability,
    at_least,
    need,
    need_falling,
)
from autodisp.config.sections import PUBLISHED_CUTOUT, FromCheckpointConfig, LearningConfig, need_ground_truth
from autodisp.errors import InputError
from autodisp.tasks.registry import KITS

MOST_PARAMETERS = 1_000_000_000
"""Largest number of parameters: 4 GB of weights, four times as much in training."""
_PARAMETERS = Must(
    f"at least 1 and at most {MOST_PARAMETERS}, or null for as they are",
    lambda parameters: 1 <= parameters <= MOST_PARAMETERS,
)
_MILESTONES = Must(
    "ascending steps above 0, such as [6000,8000]",
    lambda steps: all(a < b for a, b in itertools.pairwise([0, *steps])),
)
_LEVEL_STEPS = Must(
    "ascending from 0, such as [0,5000]",
    lambda steps: not steps or (steps[0] == 0 and all(a < b for a, b in itertools.pairwise(steps))),
)


def _are_level_weights(rows: list[list[Any]]) -> bool:
    return all(
        bool(row)
        and all(type(weight) in (int, float) for weight in row)
        and min(row) >= 0
        and max(row) < math.inf
        and row[-1] > 0
        for row in rows
    )


_LEVEL_WEIGHTS = Must(
    "lists of weights of at least 0, coarse to fine, the last one of each above 0, such as [[0.5,1]]",
    _are_level_weights,
)


def _share(null: str) -> Must:
    return Must(f"between 0 and 1, {null}", lambda value: 0 < value < 1)


@dataclass(frozen=True)
class TrainOptimizerConfig:
    """The optimizer; everything counts in steps."""

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Annotated[float, ABOVE_0] = 1e-3
    momentum: Momentum = 0.9
    weight_decay: Annotated[float, at_least(0.0)] = 1e-4
    clip: Clip = 5.0
    schedule: Literal["cosine", "milestones", "constant"] = "cosine"
    min_learning_rate: Annotated[float, at_least(0.0)] = 0.0
    milestones: Annotated[list[int], _MILESTONES] = field(default_factory=list)
    factor: Annotated[float, ABOVE_0] = 0.5
    warmup_steps: Annotated[int, at_least(0)] = 0

    def __post_init__(self) -> None:
        need_falling("optimizer", self)
        if self.schedule == "milestones":
            wanted = "a list of steps for schedule=milestones, such as [6000,8000]"
            need(bool(self.milestones), "optimizer.milestones", self.milestones, wanted)
        elif self.milestones:
            raise InputError(
                f"optimizer.milestones={self.milestones}: belong to schedule=milestones, but schedule={self.schedule}: "
                "leave them empty, or take that schedule"
            )
        if self.schedule != "cosine" and self.min_learning_rate > 0:
            raise InputError(
                f"optimizer.min_learning_rate={self.min_learning_rate}: is where schedule=cosine ends, but "
                f"schedule={self.schedule}: leave it 0"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Length and batches of a training."""

    steps: Annotated[int, at_least(1)] = 10000
    batch_size: Annotated[int, at_least(1), SHARED] = 4
    drop_path: Probability = 0.0
    average: Annotated[float | None, _share("such as 0.999, or null for none")] = None
    freeze_norm: bool = False
    precision: Precision = "float32"
    level_weights: Annotated[list[list[Any]], _LEVEL_WEIGHTS] = field(default_factory=list)  # OmegaConf takes no 1
    level_steps: Annotated[list[int], _LEVEL_STEPS] = field(default_factory=list)

    def __post_init__(self) -> None:
        weights, steps = self.level_weights, self.level_steps
        wanted = f"as many as training.level_weights has lists, {len(weights)}, such as [0,5000] for two"
        need(len(weights) == len(steps), "training.level_steps", steps, wanted)
        object.__setattr__(self, "level_weights", [[float(weight) for weight in row] for row in weights])


@dataclass(frozen=True)
class ValidationConfig:
    """Validation, which selects the best model."""

    every: Annotated[int, at_least(1)] = 500
    samples: Annotated[int | None, at_least(1, null="all")] = 100
    fraction: Annotated[float | None, _share("or null for the dataset's own test split")] = None
    batch_size: Annotated[int, at_least(1)] = 1


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LearningConfig):
    """All settings of autodisp-train."""

    genotype: Annotated[str | None, PathTo("a genotype.json, or a name of the zoo, designed, or null")]
    space_file: Annotated[str | None, PathTo("the JSON of a search space, or null for a named one")]
    parameters: Annotated[int | None, _PARAMETERS]
    init: ModelFile
    optimizer: TrainOptimizerConfig
    training: TrainingConfig
    validation: ValidationConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kit.self_taught(self.task) is None:
            need_ground_truth(self.kit, self.dataset, "this training")
        self.kit.check_training(self)
        self._check_origin()
        frozen = self.training.freeze_norm
        fits = not frozen or self.init is not None
        need(fits, "training.freeze_norm", frozen, "false without init, whose running statistics it keeps")
        if self.training.level_weights and not self.kit.level_weights:
            having = " or ".join(name for name, kit in KITS.items() if kit.level_weights)
            raise InputError(
                f"training.level_weights={self.training.level_weights}: are of a {having} network's levels, but "
                f"task={self.task.name}: leave them empty"
            )

    @property
    def cutout(self) -> int:
        """Side of the square of cut-out in every image."""
        return PUBLISHED_CUTOUT if self.augmentation.cutout is None else self.augmentation.cutout

    def _check_origin(self) -> None:
        """Checks that the origin of the network is given exactly once."""
        if isinstance(self.network, FromCheckpointConfig):
            wanted = "a model file such as best.safetensors, or shipped, since network=from_checkpoint takes it"
            need(self.init is not None, "init", self.init, wanted)
            if self.genotype is not None:
                raise InputError(
                    f"genotype={self.genotype}: network=from_checkpoint takes the cells of init={self.init}: "
                    "leave genotype null"
                )
            for key in ("parameters", "space_file"):
                value = getattr(self, key)
                need(value is None, key, value, "null with network=from_checkpoint, whose model determines it")
        elif self.genotype is None:
            raise InputError("genotype=null: must be a name of the zoo, a genotype.json of a search, or 'designed'")


parse = partial(sections.parse, schema=TrainConfig)
"""Returns the typed config of a training; see :func:`autodisp.config.sections.parse`."""
