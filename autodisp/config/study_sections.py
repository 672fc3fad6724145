"""The section of each study in the config of autodisp-study."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from autodisp.cells.spaces import SPACES
from autodisp.config.checks import Must, PathTo, at_least, at_most, need
from autodisp.config.search import SearchConfig

POLICIES = ("none", "es", "ada")
_POLICIES = Must(f"one or more of {', '.join(POLICIES)}, each once", lambda policies: _once(policies, POLICIES))
_SPACES = Must(f"one or more of {', '.join(SPACES)}, each once", lambda spaces: _once(spaces, SPACES))
_SPACE = Must(f"one of {', '.join(SPACES)}", lambda space: space in SPACES)
_VALUES = Must(
    "two or more different finite numbers",
    lambda values: len(values) > 1 and len(set(values)) == len(values) and all(map(math.isfinite, values)),
)
_RANGE = Must(
    "the lowest and the highest value, above 0 and finite",
    lambda ends: len(ends) == 2 and 0 < ends[0] < ends[1] < math.inf,
)
_SECTIONS = tuple(section.name for section in fields(SearchConfig) if section.name not in ("run", "resume", "plan"))
_KEY = Must(
    "a setting of autodisp-search, such as search.drop_path",
    lambda key: key == "seed" or (key.partition(".")[0] in _SECTIONS and bool(key.partition(".")[2])),
)
MOST_ARCHITECTURES = 100_000
"""Largest number of architectures in a table."""
_TABLE = PathTo("a table.json of study=table, or the name of a table in the package")
GIVEN = (
    "task", "dataset", "dataset.root", "space", "genotype", "checkpoint", "seed", "run.folder", "run.threads", "resume",
)  # fmt: skip
"""Settings of the runs that a study sets itself; those of Hydra have no effect in it."""
BUDGET_WORDS = Must(
    "words such as training.steps=500, of settings that the study does not set itself",
    lambda words: all(map(_is_free, words)),
)
_METHODS = Must(
    "words such as relaxation=dirichlet, of settings that the study does not set itself",
    lambda methods: all(method.strip() and all(map(_is_free, method.split())) for method in methods),
)


def _is_free(word: str) -> bool:
    """Returns True for a word that sets something that the study does not set itself."""
    key, equals, _ = word.lstrip("+~").partition("=")
    return bool(key and equals) and key not in GIVEN and re.split(r"[./]", key)[0] != "hydra"


def _once(names: Sequence[str], choices: Iterable[str]) -> bool:
    return bool(names) and set(names) <= set(choices) and len(set(names)) == len(names)


@dataclass(frozen=True)
class StudySection:
    """Settings of every study."""

    name: str


@dataclass(frozen=True)
class TableConfig(StudySection):
    """study=table."""

    name: str = "table"
    dataset: str = ""
    space: Annotated[str, _SPACE] = "tiny81"
    samples: Annotated[int | None, at_least(1, null="all"), at_most(MOST_ARCHITECTURES)] = None
    checked: Annotated[int, at_least(0)] = 0

    def __post_init__(self) -> None:
        fits = self.samples is None or self.checked <= self.samples
        need(fits, "study.checked", self.checked, f"at most study.samples={self.samples}")


@dataclass(frozen=True)
class SpacesConfig(StudySection):
    """study=spaces."""

    name: str = "spaces"
    datasets: list[str] = field(default_factory=list)
    spaces: Annotated[list[str], _SPACES] = field(default_factory=list)
    policies: Annotated[list[str], _POLICIES] = field(default_factory=lambda: list(POLICIES))


@dataclass(frozen=True)
class RegretConfig(StudySection):
    """study=regret."""

    name: str = "regret"
    table: Annotated[str | None, _TABLE] = None
    dataset: str | None = None
    policies: Annotated[list[str], _POLICIES] = field(default_factory=lambda: list(POLICIES))
    methods: Annotated[list[str], _METHODS] = field(default_factory=list)

    def __post_init__(self) -> None:
        need(self.table is not None, "study.table", self.table, _TABLE.words)


@dataclass(frozen=True)
class DropConfig(StudySection):
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
class RdartsConfig(StudySection):
    """study=rdarts."""

    name: str = "rdarts"
    datasets: list[str] = field(default_factory=list)
    spaces: Annotated[list[str], _SPACES] = field(default_factory=list)
    key: Annotated[str, _KEY] = "optimizer.weights.weight_decay"
    values: Annotated[list[float], _VALUES] = field(default_factory=list)
    policy: Literal["none", "es", "ada"] = "none"


@dataclass(frozen=True)
class FactorConfig(StudySection):
    """study=regularization and study=augmentation."""

    name: str = "regularization"
    datasets: list[str] = field(default_factory=list)
    spaces: Annotated[list[str], _SPACES] = field(default_factory=list)
    policies: Annotated[list[str], _POLICIES] = field(default_factory=lambda: ["none", "es"])
    key: Annotated[str, _KEY] = "optimizer.weights.weight_decay"
    values: Annotated[list[float], _VALUES] = field(default_factory=list)


@dataclass(frozen=True)
class HyperparametersConfig(StudySection):
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
