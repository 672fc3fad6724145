"""The config of autodisp-report."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need
from autodisp.config.parsing import read
from autodisp.config.sections import TaskChoiceConfig
from autodisp.errors import InputError


@dataclass(frozen=True)
class ReportConfig:
    """All of autodisp-report."""

    run: str | None
    runs: Any
    key: str | None
    out: str | None
    animation: bool
    threads: int | None
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.task.kit  # opened, so that models of it are known
        if self.run is None and self.runs is None:
            raise InputError("nothing to report on: give run= (the folder of a run) or runs= (a pattern, as 'runs/**')")
        if self.run is not None and self.runs is not None:
            raise InputError(f"run={self.run}: excludes runs=; give one of them")
        if self.run is not None:
            need(self.run != "", "run", self.run, "the folder of a run")
            need(self.key is None, "key", self.key, "null with run=: it is what several runs are compared by")
        else:
            fits = bool(self.runs) and all(isinstance(pattern, str) and pattern for pattern in self.patterns)
            need(fits, "runs", self.runs, "a folder or a pattern of folders, or a list of them")
        need(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1, or null for all")

    @property
    def patterns(self) -> tuple[Any, ...]:
        """Of the runs to compare."""
        return tuple(self.runs) if isinstance(self.runs, list) else (self.runs,)


def parse(tree: DictConfig) -> ReportConfig:
    """The typed config of a report out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, ReportConfig, {})
