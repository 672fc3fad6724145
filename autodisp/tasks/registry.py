"""The tasks by name: where a third one is entered."""

from typing import Any

from autodisp.tasks.base import Task
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask

UNSAID: dict[str, dict[str, Any]] = {"disparity": {"support": "normal"}}
"""Values of the settings that cards of earlier models lack, by task."""
TASKS: dict[str, type[Any]] = {"classification": ClassificationTask, "disparity": DisparityTask}


def rebuild(name: str, settings: dict[str, Any]) -> Task:
    """The task that had those ``settings``.

    Raises:
        KeyError: there is no task of that name.
        TypeError: the settings are of another version or task.
        InputError: such a network is no longer built.
    """
    task: Task = TASKS[name](**(UNSAID.get(name, {}) | settings))
    return task
