"""The sections that several programs share: augmentation, run; those of tasks, datasets and networks by name."""

import os
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from autodisp.config.checks import (
    DEVICES,
    checked_factory,
    need,
    need_at_least,
    need_at_most,
    need_choice,
    need_count,
    need_path,
    need_threads,
)
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.own import OWN, WANTED, OwnNetworkConfig, OwnTaskConfig
from autodisp.tasks.registry import KITS, kit_of, open_kit


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
TASKS: dict[str, type] = {**{name: kit.section for name, kit in KITS.items()}, OWN: OwnTaskConfig}
DATASETS: dict[str, type] = {name: entry.section for kit in KITS.values() for name, entry in kit.datasets.items()}
NETWORKS: dict[str, type] = {
    **{name: section for kit in KITS.values() for name, section in kit.networks.items()},
    OWN: OwnNetworkConfig,
}


@dataclass(frozen=True)
class TaskChoiceConfig:
    """The task of a program that learns it from the data or the model, unless it is one of the user's own."""

    name: str | None = None
    factory: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factory", checked_factory("task.factory", self.factory, what=WANTED))
        need(self.name in (None, OWN), "task", self.name, f"{OWN}, or null for the task of the data or the model")
        need(self.name is None or self.factory is not None, "task.factory", "null", WANTED)

    @property
    def kit(self) -> TaskKit | None:
        """The kit of the user's own; opens it."""
        return None if self.factory is None else open_kit(self.factory)


def sections_by_name(tree: DictConfig) -> dict[str, dict[str, type]]:
    """The sections that ``name`` stands for in task, dataset and network, those of the user's own task among them."""
    task = OmegaConf.select(tree, "task") if "task" in tree else None
    factory = OmegaConf.select(task, "factory") if isinstance(task, DictConfig) and "factory" in task else None
    if not isinstance(factory, str):
        return {"task": TASKS, "dataset": DATASETS, "network": NETWORKS}
    kit = open_kit(str(TaskChoiceConfig(factory=factory).factory))
    datasets = {name: entry.section for name, entry in kit.datasets.items()}
    return {
        "task": {**TASKS, OWN: kit.section},
        "dataset": {**DATASETS, **datasets},
        "network": {**NETWORKS, **kit.networks},
    }


def check_augmentation(task: Any, augmentation: AugmentationConfig) -> None:
    """Makes sure that the augmentation has no part that the task lacks.

    Raises:
        InputError: cut-out of a task that has none.
    """
    fits = kit_of(task).cutout or not augmentation.cutout
    need(fits, "augmentation.cutout", augmentation.cutout, f"0 or null for task={task.name}, which has no cut-out")


def check_task(task: Any, dataset: Any, network: Any | None) -> None:
    """Makes sure that the sections are of one task.

    Raises:
        InputError: dataset or network is of another one.
    """
    kit = kit_of(task)
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
