"""The config sections of a task of the user's own."""

from dataclasses import dataclass

from autodisp.config.checks import checked_factory, need, need_at_least

OWN = "own"
WANTED = "a file and a TaskKit in it, such as depth.py:KIT"


@dataclass(frozen=True)
class OwnTaskConfig:
    """task=own; a kit's own section is this one or derived from it."""

    name: str = OWN
    factory: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factory", checked_factory("task.factory", self.factory, what=WANTED))
        need(self.factory is not None, "task.factory", "null", WANTED)


@dataclass(frozen=True)
class OwnNetworkConfig:
    """network=own; a kit's own section is this one, derived from it, or another."""

    name: str = OWN
    channels: int = 8

    def __post_init__(self) -> None:
        need_at_least("network", self, channels=1)
