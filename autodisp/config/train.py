"""The config of autodisp-train."""

import hashlib
import itertools
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import PRECISIONS, need, need_at_least, need_choice, need_count, need_path
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
from autodisp.tasks.registry import KITS, kit_of

MOST_PARAMETERS = 1_000_000_000
"""4 GB of weights, four times as much while they are trained."""


@dataclass(frozen=True)
class FromCheckpointConfig:
    """network=from_checkpoint: the network of the model that ``init`` names."""

    name: str = "from_checkpoint"


@dataclass(frozen=True)
class TrainOptimizerConfig:
    """How the weights learn; everything counts in steps."""

    name: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 5.0
    schedule: str = "cosine"
    min_learning_rate: float = 0.0
    milestones: list[int] = field(default_factory=list)
    factor: float = 0.5
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        need_choice("optimizer.name", self.name, ("sgd", "adam", "adamw"))
        need_choice("optimizer.schedule", self.schedule, ("cosine", "milestones", "constant"))
        need_at_least("optimizer", self, learning_rate=0.0, min_learning_rate=0.0, weight_decay=0.0, warmup_steps=0)
        need(self.learning_rate > 0, "optimizer.learning_rate", self.learning_rate, "above 0; 0.001 is usual")
        need(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "at least 0 and below 1; 0.9 is usual")
        need(self.clip > 0, "optimizer.clip", self.clip, "above 0 (inf for no clipping)")
        need(0 < self.factor < math.inf, "optimizer.factor", self.factor, "above 0; 0.5 is usual")
        need(
            self.min_learning_rate <= self.learning_rate,
            "optimizer.min_learning_rate",
            self.min_learning_rate,
            f"at most learning_rate={self.learning_rate}, where the schedule begins",
        )
        ascending = all(a < b for a, b in itertools.pairwise([0, *self.milestones]))
        need(ascending, "optimizer.milestones", self.milestones, "ascending steps above 0, such as [6000,8000]")
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
    """How long and on how much."""

    steps: int = 10000
    batch_size: int = 4
    drop_path: float = 0.0
    average: float | None = None
    precision: str = "float32"
    level_weights: list[list[Any]] = field(default_factory=list)  # OmegaConf takes no 1 for 1.0 in a list of lists
    level_steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        need_at_least("training", self, steps=1, batch_size=1)
        need(0 <= self.drop_path < 1, "training.drop_path", self.drop_path, "at least 0 and below 1; 0 is none")
        need(
            self.average is None or 0 < self.average < 1,
            "training.average",
            self.average,
            "between 0 and 1, such as 0.999, or null for none",
        )
        need_choice("training.precision", self.precision, PRECISIONS)
        self._check_levels()

    def _check_levels(self) -> None:
        weights, steps = self.level_weights, self.level_steps
        need(
            len(weights) == len(steps),
            "training.level_steps",
            steps,
            f"as many as training.level_weights has lists, {len(weights)}, such as [0,5000] for two",
        )
        for row in weights:
            numbers = bool(row) and all(type(weight) in (int, float) for weight in row)
            need(
                numbers and min(row) >= 0 and max(row) < math.inf and row[-1] > 0,
                "training.level_weights",
                weights,
                "lists of weights of at least 0, coarse to fine, the last one of each above 0, such as [[0.5,1]]",
            )
        object.__setattr__(self, "level_weights", [[float(weight) for weight in row] for row in weights])
        ascending = all(a < b for a, b in itertools.pairwise(steps))
        fine = not steps or (steps[0] == 0 and ascending)
        need(fine, "training.level_steps", steps, "ascending from 0, such as [0,5000]")


@dataclass(frozen=True)
class ValidationConfig:
    """What the best model is chosen by."""

    every: int = 500
    samples: int | None = 100
    fraction: float | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        need_at_least("validation", self, every=1, batch_size=1)
        need_count("validation.samples", self.samples, null="all")
        need(
            self.fraction is None or 0 < self.fraction < 1,
            "validation.fraction",
            self.fraction,
            "between 0 and 1, or null for the dataset's own test split",
        )


@dataclass(frozen=True)
class TrainConfig:
    """All of autodisp-train."""

    seed: int
    genotype: str | None
    space_file: str | None
    parameters: int | None
    init: str | None
    resume: str | None
    task: Any
    dataset: Any
    network: Any
    augmentation: AugmentationConfig
    optimizer: TrainOptimizerConfig
    training: TrainingConfig
    validation: ValidationConfig
    run: RunConfig

    def __post_init__(self) -> None:
        need(0 <= self.seed < 2**32, "seed", self.seed, "at least 0 and below 2^32; 0 is usual")
        self._check_paths()
        check_task(self.task, self.dataset, None if self.network.name == "from_checkpoint" else self.network)
        check_augmentation(self.task, self.augmentation)
        self._check_origin()
        few = self.parameters is None or 1 <= self.parameters <= MOST_PARAMETERS
        need(few, "parameters", self.parameters, f"at least 1 and at most {MOST_PARAMETERS}, or null for as they are")
        if self.training.level_weights and not self.kit.level_weights:
            having = " or ".join(name for name, kit in KITS.items() if kit.level_weights)
            raise InputError(
                f"training.level_weights={self.training.level_weights}: are of a {having} network's levels, but "
                f"task={self.task.name}: leave them empty"
            )

    @property
    def kit(self) -> TaskKit:
        """The kit of the task."""
        return kit_of(self.task)

    @property
    def cutout(self) -> int:
        """Side of the square that cut-out covers in every image."""
        return PUBLISHED_CUTOUT if self.augmentation.cutout is None else self.augmentation.cutout

    def _check_paths(self) -> None:
        need_path("genotype", self.genotype, what="a genotype.json, or a name of the zoo, designed, or null")
        need_path("space_file", self.space_file, what="the JSON of a search space, or null for a named one")
        need_path("init", self.init, what="a model file such as best.safetensors, shipped, or null")
        need_path("resume", self.resume, what="the folder of a run to go on with, or null")

    def _check_origin(self) -> None:
        """Where the network comes from is said once."""
        if self.network.name == "from_checkpoint":
            wanted = "a model file such as best.safetensors, or shipped, since network=from_checkpoint takes it"
            need(self.init is not None, "init", self.init, wanted)
            if self.genotype is not None:
                raise InputError(
                    f"genotype={self.genotype}: network=from_checkpoint takes the cells of init={self.init}: "
                    "leave genotype null"
                )
            for key in ("parameters", "space_file"):
                value = getattr(self, key)
                need(value is None, key, value, "null with network=from_checkpoint, whose model says so itself")
        elif self.genotype is None:
            raise InputError("genotype=null: must be a name of the zoo, a genotype.json of a search, or 'designed'")
        frozen = getattr(self.network, "frozen_stages", 0)
        if frozen > 0 and self.init is None:
            raise InputError(
                f"network.frozen_stages={frozen}: freezes stages that were trained before: give "
                "the model that holds them as init=best.safetensors"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def fingerprint(self) -> str:
        """A short hash of everything that the result depends on; where it runs does not count."""
        what = {key: value for key, value in self.as_dict().items() if key not in ("run", "resume")}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def parse(tree: DictConfig) -> TrainConfig:
    """The typed config of a training out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    sections = sections_by_name(tree)
    networks = {**sections["network"], "from_checkpoint": FromCheckpointConfig}
    return read(tree, TrainConfig, {**sections, "network": networks})
