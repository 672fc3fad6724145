"""The config of autodisp-report."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.config import sections
from autodisp.config.checks import Threads, need
from autodisp.config.sections import TaskChoiceConfig
from autodisp.errors import InputError


@dataclass(frozen=True)
class ReportConfig:
    """All settings of autodisp-report."""

    run: str | None
    runs: Any
    key: str | None
    out: str | None
    animation: bool
    threads: Threads
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.task.kit  # imports it, so that its models are known
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

    @property
    def patterns(self) -> tuple[Any, ...]:
        """The folders or patterns of the runs to compare."""
        return tuple(self.runs) if isinstance(self.runs, list) else (self.runs,)


def parse(tree: DictConfig) -> ReportConfig:
    """The typed config of a report; see :func:`autodisp.config.sections.parse`."""
    return sections.parse(tree, ReportConfig)
