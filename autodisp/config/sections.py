"""The sections that several programs share: augmentation, run; those of tasks, datasets and networks by name."""

import os
from dataclasses import dataclass
from typing import Any

from autodisp.config.checks import (
    DEVICES,
    need,
    need_at_least,
    need_at_most,
    need_choice,
    need_count,
    need_path,
    need_threads,
)
from autodisp.errors import InputError
from autodisp.tasks.registry import KITS, dataset_entries


@dataclass(frozen=True)
class AugmentationConfig:
    """One strength factor for the task's augmentation, and the part that classification searches do without."""

    scale: float = 1.0
    cutout: int | None = None

    def __post_init__(self) -> None:
        need_at_least("augmentation", self, scale=0.0)
        need(self.scale <= 4, "augmentation.scale", self.scale, "at most 4; 0 is none, 1 the default, 2 strong")
        side = "at least 0 and at most 32, the side of the images; 0 is none, 16 is usual"
        need(self.cutout is None or 0 <= self.cutout <= 32, "augmentation.cutout", self.cutout, side)
        fits = self.scale > 0 or not self.cutout
        need(fits, "augmentation.cutout", self.cutout, "0 or null with augmentation.scale=0, which is no augmentation")


@dataclass(frozen=True)
class MachineConfig:
    """What a prediction or an evaluation runs on."""

    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        need_choice("run.device", self.device, DEVICES)
        need_threads("run.threads", self.threads)


@dataclass(frozen=True)
class ReadersConfig:
    """What a check runs on."""

    workers: int | None = None

    def __post_init__(self) -> None:
        need_count("run.workers", self.workers, null="all cores")
        need_at_most("run", self, workers=256)


@dataclass(frozen=True)
class RunConfig:
    """Where the run lives and what it runs on."""

    folder: str = "runs/search"
    device: str = "auto"
    workers: int = 1
    threads: int | None = None
    verbosity: str = "normal"

    def __post_init__(self) -> None:
        need_choice("run.verbosity", self.verbosity, ("quiet", "normal", "verbose"))
        need_path("run.folder", self.folder, what="a folder that the run makes, such as runs/first")
        object.__setattr__(self, "folder", os.path.expanduser(self.folder))
        need_choice("run.device", self.device, DEVICES)
        need_at_least("run", self, workers=0)
        need_at_most("run", self, workers=256)
        need_threads("run.threads", self.threads)


PUBLISHED_CUTOUT = 16
"""Of images of 32 by 32 pixels, in RobustDARTS."""
TASKS: dict[str, type] = {name: kit.section for name, kit in KITS.items()}
DATASETS: dict[str, type] = {name: entry.section for name, entry in dataset_entries().items()}
NETWORKS: dict[str, type] = {name: section for kit in KITS.values() for name, section in kit.networks.items()}


def check_augmentation(task: Any, augmentation: AugmentationConfig) -> None:
    """Makes sure that the augmentation has no part that the task lacks.

    Raises:
        InputError: cut-out of a task that has none.
    """
    fits = KITS[task.name].cutout or not augmentation.cutout
    need(fits, "augmentation.cutout", augmentation.cutout, f"0 or null for task={task.name}, which has no cut-out")


def check_task(task: Any, dataset: Any, network: Any | None) -> None:
    """Makes sure that the sections are of one task.

    Raises:
        InputError: dataset or network is of another one.
    """
    kit = KITS[task.name]
    if dataset.name not in kit.datasets:
        raise InputError(
            f"dataset={dataset.name} does not fit task={task.name}: take dataset={' or dataset='.join(kit.datasets)}"
        )
    if network is None:
        return
    if network.name not in kit.networks:
        raise InputError(
            f"network={network.name} does not fit task={task.name}: take network={' or network='.join(kit.networks)}"
        )
    kit.check_sections(task, network)
