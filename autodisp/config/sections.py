"""Sections that several programs share, and the sections of tasks, datasets and networks by name."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

from omegaconf import DictConfig, OmegaConf

from autodisp.config.checks import (
    Device,
    Must,
    PathTo,
    Threads,
    at_least,
    at_most,
    checked_factory,
    need,
)
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.own import OWN, WANTED, OwnNetworkConfig, OwnTaskConfig
from autodisp.tasks.registry import KITS, kit_of, kit_of_dataset, open_kit
from autodisp.tasks.sections import DatasetSection, NetworkSection, TaskSection

Split = Literal["train", "test"]
_SCALE = Must("at least 0 and at most 4; 0 is none, 1 the default, 2 strong", lambda scale: 0 <= scale <= 4)
_SIDE = Must("at least 0 and at most 32, the side of the images; 0 is none, 16 is usual", lambda side: 0 <= side <= 32)


@dataclass(frozen=True)
class AugmentationConfig:
    """The strength of the task's augmentation, and its cut-out, which only classification has."""

    scale: Annotated[float, _SCALE] = 1.0
    cutout: Annotated[int | None, _SIDE] = None

    def __post_init__(self) -> None:
        fits = self.scale > 0 or not self.cutout
        need(fits, "augmentation.cutout", self.cutout, "0 or null with augmentation.scale=0, which is no augmentation")


@dataclass(frozen=True)
class MachineConfig:
    """Device and threads of a prediction or an evaluation."""

    device: Device = "auto"
    threads: Threads = None


@dataclass(frozen=True)
class ReadersConfig:
    """Reading processes of a check."""

    workers: Annotated[int | None, at_least(1, null="all cores"), at_most(256)] = None


@dataclass(frozen=True)
class RunConfig:
    """Folder and machine of a run."""

    folder: Annotated[str, PathTo("a folder that the run makes, such as runs/first")] = "runs/search"
    device: Device = "auto"
    workers: Annotated[int, at_least(0), at_most(256)] = 1
    threads: Threads = None
    verbosity: Literal["quiet", "normal", "verbose"] = "normal"

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", os.path.expanduser(self.folder))


PUBLISHED_CUTOUT = 16
"""Side of the square, for images of 32x32 pixels in RobustDARTS."""
TASKS: dict[str, type] = {**{name: kit.section for name, kit in KITS.items()}, OWN: OwnTaskConfig}
DATASETS: dict[str, type] = {name: entry.section for kit in KITS.values() for name, entry in kit.datasets.items()}
NETWORKS: dict[str, type] = {
    **{name: section for kit in KITS.values() for name, section in kit.networks.items()},
    OWN: OwnNetworkConfig,
}


@dataclass(frozen=True)
class TaskChoiceConfig:
    """The task of a program that infers it from the dataset or the model, unless it is the user's own."""

    name: Literal["own"] | None = None
    factory: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factory", checked_factory("task.factory", self.factory, what=WANTED))
        need(self.name is None or self.factory is not None, "task.factory", "null", WANTED)

    @property
    def kit(self) -> TaskKit | None:
        """The user's own kit, which is opened; None where no factory is given."""
        return None if self.factory is None else open_kit(self.factory)


def sections_by_name(tree: DictConfig) -> dict[str, dict[str, type]]:
    """The sections of task, dataset and network by ``name``, including those of the user's own task."""
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


def kit_by_choice(task: TaskChoiceConfig, dataset: DatasetSection) -> TaskKit:
    """The user's own kit, or else that of the task that the dataset is for."""
    return task.kit or kit_of_dataset(dataset.name)


def check_choice(task: TaskChoiceConfig, dataset: DatasetSection) -> None:
    """Checks that the dataset belongs to the user's own task, if there is one.

    Raises:
        InputError: it belongs to another one.
    """
    _check_dataset(kit_by_choice(task, dataset), dataset, f"task.factory={task.factory}")


def _check_dataset(kit: TaskKit, dataset: DatasetSection, task: str) -> None:
    if dataset.name not in kit.datasets:
        raise InputError(
            f"dataset={dataset.name} does not fit {task}: take dataset={' or dataset='.join(kit.datasets)}"
        )


def check_augmentation(task: TaskSection, augmentation: AugmentationConfig) -> None:
    """Checks that the task has the augmentation that is set.

    Raises:
        InputError: the task has no cut-out.
    """
    fits = kit_of(task).cutout or not augmentation.cutout
    need(fits, "augmentation.cutout", augmentation.cutout, f"0 or null for task={task.name}, which has no cut-out")


def check_task(task: TaskSection, dataset: DatasetSection, network: NetworkSection | None) -> None:
    """Checks that the sections belong to one task.

    Raises:
        InputError: dataset or network belongs to another one.
    """
    kit = kit_of(task)
    _check_dataset(kit, dataset, f"task={task.name}")
    if network is None:
        return
    if network.name not in kit.networks:
        raise InputError(
            f"network={network.name} does not fit task={task.name}: take network={' or network='.join(kit.networks)}"
        )
    kit.check_sections(task, network)
