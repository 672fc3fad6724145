"""The config of autodisp-report."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from autodisp.config import sections
from autodisp.config.checks import Threads, need
from autodisp.config.sections import TaskChoiceConfig
from autodisp.errors import InputError


@dataclass(frozen=True)
class ReportConfig:
    """All settings of autodisp-report."""

    run: str | None
    runs: Any
    study: str | None
    key: str | None
    out: str | None
    animation: bool
    threads: Threads
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.task.kit  # imports it, so that its models are known
        given = [name for name in ("run", "runs", "study") if getattr(self, name) is not None]
        if not given:
            raise InputError(
                "nothing to report on: give run= (the folder of a run), runs= (a pattern, as 'runs/**') or study= "
                "(the folder of a study)"
            )
        if len(given) > 1:
            raise InputError(f"{given[0]}={getattr(self, given[0])}: excludes {given[1]}=; give one of them")
        if self.runs is None:
            folder = getattr(self, given[0])
            need(folder != "", given[0], folder, f"the folder of a {given[0]}")
            need(self.key is None, "key", self.key, f"null with {given[0]}=: it is what several runs are compared by")
        else:
            fits = bool(self.runs) and all(isinstance(pattern, str) and pattern for pattern in self.patterns)
            need(fits, "runs", self.runs, "a folder or a pattern of folders, or a list of them")

    @property
    def patterns(self) -> tuple[Any, ...]:
        """The folders or patterns of the runs to compare."""
        return tuple(self.runs) if isinstance(self.runs, list) else (self.runs,)


parse = partial(sections.parse, schema=ReportConfig)
"""Returns the typed config of a report; see :func:`autodisp.config.sections.parse`."""
