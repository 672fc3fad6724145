"""The tasks by name: where a third one is entered."""

from typing import Any

from autodisp.tasks.base import Task
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask

TASKS: dict[str, type[Any]] = {"classification": ClassificationTask, "disparity": DisparityTask}


def rebuild(name: str, settings: dict[str, Any]) -> Task:
    """The task that had those ``settings``.

    Raises:
        KeyError: there is no task of that name.
        TypeError: the settings are of another version or task.
    """
    task: Task = TASKS[name](**settings)
    return task
