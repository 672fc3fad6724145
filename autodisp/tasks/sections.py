"""Config sections of tasks, datasets and networks: the settings that the programs read for any task."""

from dataclasses import dataclass
from typing import Annotated

from autodisp.config.checks import PathTo, at_least, at_most

Channels = Annotated[int, at_least(1), at_most(1024)]


@dataclass(frozen=True)
class TaskSection:
    """task=...; ``name`` is that of its kit, or ``own``."""

    name: str


@dataclass(frozen=True)
class NetworkSection:
    """network=...; ``name`` is that of the section in its kit."""

    name: str
    channels: Channels = 8


@dataclass(frozen=True)
class DatasetSection:
    """dataset=...; ``name`` is that of the entry in its kit, ``limit`` the number of samples to use, None for all."""

    name: str
    limit: Annotated[int | None, at_least(1, null="all")] = None


@dataclass(frozen=True)
class FilesSection(DatasetSection):
    """Settings common to all datasets that are read from files."""

    root: Annotated[str | None, PathTo("the folder of the data")] = None
    exclude: Annotated[str | None, PathTo("a list of samples to leave out, or null")] = None
