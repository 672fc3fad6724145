"""Config sections of a custom task."""

from dataclasses import dataclass

from autodisp.config.checks import checked_factory, need
from autodisp.tasks.sections import NetworkSection, TaskSection

OWN = "own"
WANTED = "a file and a TaskKit in it, such as depth.py:KIT"


@dataclass(frozen=True)
class OwnTaskConfig(TaskSection):
    """task=own; the section of a custom kit is this class or derived from it."""

    name: str = OWN
    factory: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factory", checked_factory("task.factory", self.factory, what=WANTED))
        need(self.factory is not None, "task.factory", "null", WANTED)


@dataclass(frozen=True)
class OwnNetworkConfig(NetworkSection):
    """network=own; the section of a custom kit is this class or another NetworkSection."""

    name: str = OWN
