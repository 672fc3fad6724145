"""Config sections of tasks, datasets, networks and baselines: the settings that the programs read for any task."""

from dataclasses import dataclass
from typing import Annotated, Literal

from autodisp.config.checks import Must, PathTo, at_least, at_most

BLOCK_SIZES = (1, 3, 5, 7)
"""Sides of the blocks of baseline=sgbm, pixels."""
LARGEST_PENALTY = 3.0
"""OpenCV accumulates costs in 16 bits: block size 11 with penalty 8 silently gave wrong disparities."""
_BLOCK = Must(f"one of {', '.join(map(str, BLOCK_SIZES))}", lambda side: side in BLOCK_SIZES)
_PENALTY = Must(f"above 0 and at most {LARGEST_PENALTY:g}", lambda penalty: 0 < penalty <= LARGEST_PENALTY)
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


@dataclass(frozen=True)
class SgbmConfig:
    """Settings of baseline=sgbm, see ``autodisp.evaluation.baselines.SemiGlobalMatching``."""

    mode: Literal["hh", "sgbm", "3way"] = "hh"
    block_size: Annotated[int, _BLOCK] = 5
    penalty: Annotated[float, _PENALTY] = 3.0
