"""The kits of the tasks by name: where a third one is entered."""

from typing import Any

from autodisp.tasks.base import Task
from autodisp.tasks.classification.kit import KIT as CLASSIFICATION
from autodisp.tasks.disparity.kit import KIT as DISPARITY
from autodisp.tasks.kit import DatasetEntry, TaskKit

KITS: dict[str, TaskKit] = {kit.name: kit for kit in (DISPARITY, CLASSIFICATION)}
DEFAULT = DISPARITY.name
"""The task of a program that is given none."""


def dataset_entries() -> dict[str, DatasetEntry]:
    """All datasets by name, whatever their task."""
    return {name: entry for kit in KITS.values() for name, entry in kit.datasets.items()}


def kit_of_dataset(name: str) -> TaskKit:
    """The kit of the task that the dataset is for."""
    return next(kit for kit in KITS.values() if name in kit.datasets)


def rebuild(name: str, settings: dict[str, Any]) -> Task:
    """The task that had those ``settings``.

    Raises:
        KeyError: there is no task of that name.
        TypeError: the settings are of another version or task.
        InputError: such a network is no longer built.
    """
    kit = KITS[name]
    task: Task = kit.task(**{**kit.unsaid, **settings})
    return task
