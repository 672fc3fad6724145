"""The config of autodisp-study."""

import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from omegaconf import DictConfig

from autodisp.cells.spaces import SPACES
from autodisp.config.checks import Must, PathTo, at_least, at_most, need, need_choice
from autodisp.config.parsing import read
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import KITS

POLICIES = ("none", "es", "ada")
_SEEDS = Must(
    "one or more different whole numbers of at least 0, such as [0,1,2]",
    lambda seeds: bool(seeds) and min(seeds) >= 0 and len(set(seeds)) == len(seeds),
)
_POLICIES = Must(
    f"one or more of {', '.join(POLICIES)}", lambda policies: bool(policies) and set(policies) <= set(POLICIES)
)
_SPACES = Must(f"one or more of {', '.join(SPACES)}", lambda spaces: bool(spaces) and set(spaces) <= set(SPACES))
_SPACE = Must(f"one of {', '.join(SPACES)}", lambda space: space in SPACES)
_WORDS = Must("words such as training.steps=500", lambda words: all("=" in word for word in words))
_VALUES = Must("two or more different numbers", lambda values: len(values) > 1 and len(set(values)) == len(values))
_RANGE = Must("the lowest and the highest value, above 0", lambda ends: len(ends) == 2 and 0 < ends[0] < ends[1])
_STEPS = Must("ascending numbers of steps above 0", lambda steps: all(a < b for a, b in pairwise([0, *steps])))
_OPTIONS = Must("KEY=VALUE, such as [walltime=24:00:00]", lambda words: all("=" in word for word in words))
_TABLE = PathTo("a table.json of study=table, or the name of a table in the package")
_Workers = Annotated[int | None, at_least(1, null="as many as the cores allow"), at_most(1024)]
_Threads = Annotated[int, at_least(1), at_most(1024)]


@dataclass(frozen=True)
class StudyTaskConfig:
    """The task of all runs."""

    name: str

    def __post_init__(self) -> None:
        need_choice("task", self.name, KITS)


@dataclass(frozen=True)
class BudgetConfig:
    """Words of the programs, which determine what a run costs, and training steps of hyperparameters."""

    name: str = "two_cores"
    search: Annotated[list[str], _WORDS] = field(default_factory=list)
    train: Annotated[list[str], _WORDS] = field(default_factory=list)
    short: Annotated[list[str], _WORDS] = field(default_factory=list)
    evaluate: Annotated[list[str], _WORDS] = field(default_factory=list)
    steps: Annotated[list[int], _STEPS] = field(default_factory=list)


@dataclass(frozen=True)
class LocalConfig:
    """cluster=local."""

    name: str = "local"
    workers: _Workers = None
    threads: _Threads = 1


@dataclass(frozen=True)
class AddressConfig:
    """cluster=address."""

    name: str = "address"
    address: str | None = None
    threads: _Threads = 1

    def __post_init__(self) -> None:
        need(self.address is not None, "cluster.address", self.address, "that of a Dask scheduler, tcp://HOST:8786")


@dataclass(frozen=True)
class SlurmConfig:
    """cluster=slurm."""

    name: str = "slurm"
    workers: Annotated[int, at_least(1), at_most(10_000)] = 4
    threads: _Threads = 4
    options: Annotated[list[str], _OPTIONS] = field(default_factory=list)


@dataclass(frozen=True)
class TableConfig:
    """study=table."""

    name: str = "table"
    dataset: str = ""
    space: Annotated[str, _SPACE] = "tiny81"
    samples: Annotated[int | None, at_least(1, null="all")] = None


@dataclass(frozen=True)
class SpacesConfig:
    """study=spaces."""

    name: str = "spaces"
    datasets: list[str] = field(default_factory=list)
    spaces: Annotated[list[str], _SPACES] = field(default_factory=list)
    policies: Annotated[list[str], _POLICIES] = field(default_factory=lambda: list(POLICIES))


@dataclass(frozen=True)
class RegretConfig:
    """study=regret."""

    name: str = "regret"
    table: Annotated[str | None, _TABLE] = None
    dataset: str | None = None
    policies: Annotated[list[str], _POLICIES] = field(default_factory=lambda: list(POLICIES))
    methods: Annotated[list[str], _WORDS] = field(default_factory=list)

    def __post_init__(self) -> None:
        need(self.table is not None, "study.table", self.table, _TABLE.words)


@dataclass(frozen=True)
class DropConfig:
    """study=drop."""

    name: str = "drop"
    runs: Any = "runs"

    def __post_init__(self) -> None:
        fits = bool(self.runs) and all(isinstance(pattern, str) and pattern for pattern in self.patterns)
        need(fits, "study.runs", self.runs, "a folder or a pattern of folders, or a list of them")

    @property
    def patterns(self) -> tuple[Any, ...]:
        """The folders or patterns."""
        return tuple(self.runs) if isinstance(self.runs, list) else (self.runs,)


@dataclass(frozen=True)
class RdartsConfig:
    """study=rdarts."""

    name: str = "rdarts"
    datasets: list[str] = field(default_factory=list)
    spaces: Annotated[list[str], _SPACES] = field(default_factory=list)
    key: str = "optimizer.weights.weight_decay"
    values: Annotated[list[float], _VALUES] = field(default_factory=list)
    policy: Literal["none", "es", "ada"] = "none"


@dataclass(frozen=True)
class FactorConfig:
    """study=regularization and study=augmentation."""

    name: str = "regularization"
    datasets: list[str] = field(default_factory=list)
    spaces: Annotated[list[str], _SPACES] = field(default_factory=list)
    policies: Annotated[list[str], _POLICIES] = field(default_factory=lambda: ["none", "es"])
    key: str = "optimizer.weights.weight_decay"
    values: Annotated[list[float], _VALUES] = field(default_factory=list)


@dataclass(frozen=True)
class HyperparametersConfig:
    """study=hyperparameters."""

    name: str = "hyperparameters"
    dataset: str = ""
    genotype: Annotated[str, PathTo("a genotype.json, or a name of the zoo, or SPACE:INDEX")] = "autodispnet"
    trials: Annotated[int, at_least(1), at_most(100_000)] = 30
    learning_rate: Annotated[list[float], _RANGE] = field(default_factory=lambda: [1e-4, 1e-2])
    weight_decay: Annotated[list[float], _RANGE] = field(default_factory=lambda: [1e-6, 1e-2])


STUDIES: dict[str, type] = {
    "table": TableConfig, "spaces": SpacesConfig, "regret": RegretConfig, "drop": DropConfig, "rdarts": RdartsConfig,
    "regularization": FactorConfig, "augmentation": FactorConfig, "hyperparameters": HyperparametersConfig,
}  # fmt: skip
CLUSTERS: dict[str, type] = {"local": LocalConfig, "address": AddressConfig, "slurm": SlurmConfig}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """All settings of autodisp-study."""

    study: Any
    task: StudyTaskConfig
    budget: BudgetConfig
    cluster: Any
    folder: Annotated[str, PathTo("the folder of the study, such as runs/studies/first")]
    root: Annotated[str | None, PathTo("the folder of the data, or null")]
    seeds: Annotated[list[int], _SEEDS]
    plan: bool

    SECTIONS: ClassVar = {"study": STUDIES, "cluster": CLUSTERS}

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", os.path.expanduser(self.folder))
        if self.root is not None:
            object.__setattr__(self, "root", os.path.abspath(os.path.expanduser(self.root)))
        if self.study.name != "drop":
            need(bool(self.budget.search), "budget", self.budget.name, f"one that has words for task={self.task.name}")
        for dataset in self.datasets:
            if dataset not in self.kit.datasets:
                fitting = ", ".join(self.kit.datasets)
                raise InputError(f"dataset {dataset} does not fit task={self.task.name}: take one of {fitting}")
        for space in self.spaces:
            if set(SPACES[space].kinds) != self.kit.kinds:
                fitting = ", ".join(name for name, one in SPACES.items() if set(one.kinds) == self.kit.kinds)
                raise InputError(f"space {space} does not fit task={self.task.name}: take one of {fitting}")

    @property
    def kit(self) -> TaskKit:
        """The kit of the task."""
        return KITS[self.task.name]

    @property
    def datasets(self) -> list[str]:
        """The datasets of the study that are named."""
        one = getattr(self.study, "dataset", None)
        return [*getattr(self.study, "datasets", []), *([one] if one else [])]

    @property
    def spaces(self) -> list[str]:
        """The spaces of the study that are named."""
        one = getattr(self.study, "space", None)
        return [*getattr(self.study, "spaces", []), *([one] if one else [])]


def parse(tree: DictConfig) -> StudyConfig:
    """The typed config of a study.

    Raises:
        InputError: the first error, in one line.
    """
    return read(tree, StudyConfig, StudyConfig.SECTIONS)
