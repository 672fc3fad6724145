"""Registry of the task kits by name; a custom kit is added when a setting names its file."""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from autodisp.datasets.own import run_file
from autodisp.errors import WrongSetting, in_one_line
from autodisp.tasks.base import Task
from autodisp.tasks.checked import check_kit, checked
from autodisp.tasks.classification.kit import KIT as CLASSIFICATION
from autodisp.tasks.disparity.kit import KIT as DISPARITY
from autodisp.tasks.flow.kit import KIT as FLOW
from autodisp.tasks.kit import DatasetEntry, TaskKit
from autodisp.tasks.own import OWN, OwnTaskConfig
from autodisp.tasks.sections import TaskSection
from autodisp.tasks.segmentation.kit import KIT as SEGMENTATION

KITS: dict[str, TaskKit] = {kit.name: kit for kit in (DISPARITY, CLASSIFICATION, SEGMENTATION, FLOW)}
DEFAULT = DISPARITY.name
"""Default task."""
_COMES_WITH_IT = frozenset(KITS)
_OPENED: dict[str, TaskKit] = {}


def open_kit(factory: str) -> TaskKit:
    """Imports the kit ``FILE.py:NAME`` or ``MODULE:NAME`` and registers it under its own name. Its file is run once.

    Only call this with a setting of the user: a factory named in a model file must never be run.

    Raises:
        WrongSetting: the kit does not exist or is invalid.
    """
    if factory in _OPENED:
        return _OPENED[factory]
    where, _, name = factory.rpartition(":")
    try:
        kit = getattr(run_file(where) if where.endswith(".py") else import_module(where), name, None)
    except (Exception, SystemExit) as error:  # the file may raise anything
        raise WrongSetting(
            f"task.factory={factory}: importing it raised {type(error).__name__}: {in_one_line(error)}; mend the file"
        ) from error
    if not isinstance(kit, TaskKit):
        raise WrongSetting(f"task.factory={factory}: {where} has no TaskKit '{name}'; write FILE.py:KIT")
    check_kit(kit, f"task.factory={factory}")
    if kit.name in (*_COMES_WITH_IT, OWN):
        raise WrongSetting(f"task.factory={factory}: its name '{kit.name}' is taken; give the kit another name")
    if kit.name != kit.task.name:
        raise WrongSetting(
            f"task.factory={factory}: its name '{kit.name}' is not '{kit.task.name}', that of its task; give both one "
            "name"
        )
    if not issubclass(kit.section, OwnTaskConfig):
        raise WrongSetting(
            f"task.factory={factory}: its section {kit.section.__name__} has no factory; derive it from OwnTaskConfig"
        )
    kit = replace(kit, task=checked(kit.task, f"task.factory={factory}"))
    _OPENED[factory] = KITS[kit.name] = kit
    return kit


def is_open(factory: Any) -> bool:
    """Returns True if the kit has been opened in this process."""
    return factory in _OPENED


def kit_of(task: TaskSection) -> TaskKit:
    """Returns the kit of a config section."""
    return open_kit(str(task.factory)) if isinstance(task, OwnTaskConfig) else KITS[task.name]


def dataset_entries() -> dict[str, DatasetEntry]:
    """Returns the datasets of all tasks by name."""
    return {name: entry for kit in reversed(KITS.values()) for name, entry in kit.datasets.items()}


def kit_of_dataset(name: str) -> TaskKit:
    """Returns the kit of the task to which the dataset belongs."""
    return next(kit for kit in KITS.values() if name in kit.datasets)


def rebuild(name: str, settings: Mapping[str, Any], **unstored: Any) -> Task:
    """Rebuilds the task from the ``settings`` of a model card and the arguments that a card does not store.

    Raises:
        KeyError: there is no task of that name.
        TypeError: the settings are of another version or task.
        InputError: such a network is no longer supported.
    """
    kit = KITS[name]
    return kit.task(**{**kit.missing, **settings, **unstored})
