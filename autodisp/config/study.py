"""The config of autodisp-study."""

import os
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, ClassVar

from omegaconf import DictConfig

from autodisp.cells.spaces import SPACES
from autodisp.config.checks import Must, PathTo, at_least, at_most, need, need_choice
from autodisp.config.parsing import read
from autodisp.config.study_sections import BUDGET_WORDS, MOST_ARCHITECTURES, STUDIES, StudySection, TableConfig
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import KITS

_SEEDS = Must(
    "one or more different whole numbers of at least 0, such as [0,1,2]",
    lambda seeds: bool(seeds) and min(seeds) >= 0 and len(set(seeds)) == len(seeds),
)
_STEPS = Must("ascending numbers of steps above 0", lambda steps: all(a < b for a, b in pairwise([0, *steps])))
_OPTIONS = Must("KEY=VALUE, such as [walltime=24:00:00]", lambda words: all("=" in word for word in words))
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
    search: Annotated[list[str], BUDGET_WORDS] = field(default_factory=list)
    train: Annotated[list[str], BUDGET_WORDS] = field(default_factory=list)
    short: Annotated[list[str], BUDGET_WORDS] = field(default_factory=list)
    check: Annotated[list[str], BUDGET_WORDS] = field(default_factory=list)
    evaluate: Annotated[list[str], BUDGET_WORDS] = field(default_factory=list)
    steps: Annotated[list[int], _STEPS] = field(default_factory=list)


@dataclass(frozen=True)
class ClusterSection:
    """Settings of every cluster."""

    name: str
    threads: _Threads = 1


@dataclass(frozen=True)
class LocalConfig(ClusterSection):
    """cluster=local."""

    name: str = "local"
    workers: _Workers = None


@dataclass(frozen=True)
class AddressConfig(ClusterSection):
    """cluster=address."""

    name: str = "address"
    address: str | None = None

    def __post_init__(self) -> None:
        known = self.address is not None and re.match(r"(tcp|tls|ucx|wss?)://.", self.address) is not None
        need(known, "cluster.address", self.address, "that of a Dask scheduler, tcp://HOST:8786")


@dataclass(frozen=True)
class SlurmConfig(ClusterSection):
    """cluster=slurm."""

    name: str = "slurm"
    workers: Annotated[int, at_least(1), at_most(10_000)] = 4
    threads: _Threads = 4
    options: Annotated[list[str], _OPTIONS] = field(default_factory=list)


CLUSTERS: dict[str, type] = {"local": LocalConfig, "address": AddressConfig, "slurm": SlurmConfig}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """All settings of autodisp-study."""

    study: StudySection
    task: StudyTaskConfig
    budget: BudgetConfig
    cluster: ClusterSection
    folder: Annotated[str, PathTo("the folder of the study, such as runs/studies/first")]
    root: Annotated[str | None, PathTo("the folder of the data, or null")]
    seeds: Annotated[list[int], _SEEDS]
    plan: bool

    SECTIONS: ClassVar = {"study": STUDIES, "cluster": CLUSTERS}

    def __post_init__(self) -> None:
        if self.root is not None:
            object.__setattr__(self, "root", os.path.abspath(self.root))
        if self.study.name != "drop":
            need(bool(self.budget.search), "budget", self.budget.name, f"one that has words for task={self.task.name}")
        if hasattr(self.study, "datasets"):
            once = bool(self.datasets) and len(set(self.datasets)) == len(self.datasets)
            choices = ", ".join(self.kit.datasets)
            need(once, "study.datasets", self.datasets, f"one or more of {choices}, each once")
        if self.study.name == "hyperparameters":
            need(bool(self.budget.steps), "budget.steps", self.budget.steps, "one or more numbers of steps")
        for dataset in self.datasets:
            if dataset not in self.kit.datasets:
                fitting = ", ".join(self.kit.datasets)
                raise InputError(f"dataset {dataset} does not fit task={self.task.name}: take one of {fitting}")
            if self.root is not None and self.kit.datasets[dataset].generated:
                raise InputError(f"root={self.root}: dataset {dataset} is generated and has no folder; leave root null")
        for space in self.spaces:
            if set(SPACES[space].kinds) != self.kit.kinds:
                fitting = ", ".join(name for name, one in SPACES.items() if set(one.kinds) == self.kit.kinds)
                raise InputError(f"space {space} does not fit task={self.task.name}: take one of {fitting}")
        if isinstance(self.study, TableConfig):
            few = self.study.samples is not None or SPACES[self.study.space].size <= MOST_ARCHITECTURES
            need(few, "study.samples", None, f"a number, since space {self.study.space} is too large for all")

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
