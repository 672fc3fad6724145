"""Sections shared by several programs, and the sections of tasks, datasets and networks by name."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf

from autodisp.config.checks import (
    Device,
    Must,
    PathTo,
    Precision,
    Seed,
    Threads,
    at_least,
    at_most,
    checked_factory,
    need,
)
from autodisp.config.parsing import read, settings_of
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.own import OWN, WANTED, OwnNetworkConfig, OwnTaskConfig
from autodisp.tasks.registry import KITS, kit_of, kit_of_dataset, open_kit
from autodisp.tasks.sections import DatasetSection, NetworkSection, TaskSection

Correction = Literal["residual", "fusion"]
ONE_SCALE = [1.0]
Scales = Annotated[
    list[float],
    Must(
        "up to 8 different factors, each 0.25 to 4, such as [1,1.5]",
        lambda scales: 0 < len(scales) == len(set(scales)) <= 8 and all(0.25 <= scale <= 4 for scale in scales),
    ),
]
"""Sizes of the images at which a model predicts, as factors of height and width."""
Quietness = Literal["quiet", "normal"]
_SCALE = Must("at least 0 and at most 4; 0 is none, 1 the default, 2 strong", lambda scale: 0 <= scale <= 4)
_ZOOM = Must("1 to 4, or null for 1.32", lambda zoom: 1 <= zoom <= 4)
_SIDE = Must("at least 0 and at most 32, the side of the images; 0 is none, 16 is usual", lambda side: 0 <= side <= 32)


@dataclass(frozen=True)
class AugmentationConfig:
    """Strength of the task's augmentation, its zoom, and its cut-out, which is for classification only."""

    scale: Annotated[float, _SCALE] = 1.0
    zoom: Annotated[float | None, _ZOOM] = None
    cutout: Annotated[int | None, _SIDE] = None

    def __post_init__(self) -> None:
        fits = self.scale > 0 or not self.cutout
        need(fits, "augmentation.cutout", self.cutout, "0 or null with augmentation.scale=0, which is no augmentation")


@dataclass(frozen=True)
class MachineConfig:
    """Device, threads, precision and output of a prediction or an evaluation."""

    device: Device = "auto"
    threads: Threads = None
    precision: Precision = "float32"
    verbosity: Quietness = "normal"

    def check_model(self, checkpoint: str | None) -> None:
        """Refuses a precision for an exported file, whose precision was fixed by the export."""
        fits = self.precision == "float32" or not str(checkpoint).lower().endswith((".onnx", ".pt2"))
        wanted = f"float32 for checkpoint={checkpoint}, which has a precision of its own"
        need(fits, "run.precision", self.precision, wanted)


@dataclass(frozen=True)
class ReadersConfig:
    """Reading processes and output of a check."""

    workers: Annotated[int | None, at_least(1, null="all cores"), at_most(256)] = None
    verbosity: Quietness = "normal"


@dataclass(frozen=True)
class RunConfig:
    """Folder and machine of a run."""

    folder: Annotated[str, PathTo("a folder that the run makes, such as runs/first")] = "runs/search"
    device: Device = "auto"
    workers: Annotated[int, at_least(0), at_most(256)] = 1
    threads: Threads = None
    sync_batchnorm: bool = False
    graphs: Literal["auto", "true", "false"] = "auto"
    verbosity: Literal["quiet", "normal", "verbose"] = "normal"


Config = TypeVar("Config")
PUBLISHED_CUTOUT = 16
"""Side of the square of cut-out, for images of 32x32 pixels in RobustDARTS."""
TASKS: dict[str, type] = {**{name: kit.section for name, kit in KITS.items()}, OWN: OwnTaskConfig}
DATASETS: dict[str, type] = {name: entry.section for kit in KITS.values() for name, entry in kit.datasets.items()}
NETWORKS: dict[str, type] = {
    **{name: section for kit in KITS.values() for name, section in kit.networks.items()},
    OWN: OwnNetworkConfig,
}


@dataclass(frozen=True)
class FromCheckpointConfig:
    """network=from_checkpoint: the network of the model in ``init``."""

    name: str = "from_checkpoint"


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """The settings that a search and a training have in common."""

    seed: Seed
    task: TaskSection
    dataset: DatasetSection
    network: NetworkSection | FromCheckpointConfig
    augmentation: AugmentationConfig
    run: RunConfig
    resume: Annotated[str | None, PathTo("the folder of a run to resume, or null")] = None

    WITHOUT_EFFECT: ClassVar = ("run", "resume", "plan")
    """Settings that do not affect the result."""

    def __post_init__(self) -> None:
        kit, task, cutout = self.kit, self.task.name, self.augmentation.cutout
        check_dataset(kit, self.dataset, f"task={task}")
        if not isinstance(self.network, FromCheckpointConfig):
            if self.network.name not in kit.networks:
                fitting = " or network=".join(kit.networks)
                raise InputError(f"network={self.network.name} does not fit task={task}: take network={fitting}")
            kit.check_sections(self.task, self.network)
        fits = kit.cutout or not cutout
        need(fits, "augmentation.cutout", cutout, f"0 or null for task={task}, which has no cut-out")
        fits, zoom = kit.zoom, self.augmentation.zoom
        need(fits or zoom is None, "augmentation.zoom", zoom, f"null for task={task}, whose zoom is fixed")

    @property
    def kit(self) -> TaskKit:
        """The kit of the task."""
        return kit_of(self.task)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as in the run folder."""
        return asdict(self)

    def fingerprint(self) -> str:
        """Returns a short hash of all settings that affect the result."""
        what = {key: value for key, value in self.as_dict().items() if key not in self.WITHOUT_EFFECT}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class TaskChoiceConfig:
    """The task of a program that infers it from the dataset or the model, unless it is user-defined."""

    name: Literal["own"] | None = None
    factory: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factory", checked_factory("task.factory", self.factory, what=WANTED))
        need(self.name is None or self.factory is not None, "task.factory", "null", WANTED)

    @property
    def kit(self) -> TaskKit | None:
        """The user-defined kit, which is imported; None without a factory."""
        return None if self.factory is None else open_kit(self.factory)


def parse(tree: DictConfig, schema: type[Config]) -> Config:
    """Returns the typed config of a config composed by Hydra.

    Raises:
        InputError: the first error, in one line.
    """
    sections, settings = _sections_by_name(tree), settings_of(schema)  # type: ignore[arg-type]
    by_name = {
        name: sections[name]
        for name, setting in settings.items()
        if setting.section in (TaskSection, DatasetSection, NetworkSection)
    }
    if "network" in settings and FromCheckpointConfig in settings["network"].kinds:
        by_name["network"] = {**by_name["network"], "from_checkpoint": FromCheckpointConfig}
    return read(tree, schema, by_name)


def _sections_by_name(tree: DictConfig) -> dict[str, dict[str, type]]:
    """The sections of task, dataset and network by ``name``, including those of a user-defined task."""
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
    """Returns the user-defined kit, or else that of the dataset's task."""
    return task.kit or kit_of_dataset(dataset.name)


def check_dataset(kit: TaskKit, dataset: DatasetSection, task: str) -> None:
    """Checks that the dataset is for the task; ``task`` is the setting of the task.

    Raises:
        InputError: it is for another task.
    """
    if dataset.name not in kit.datasets:
        fitting = " or dataset=".join(kit.datasets)
        raise InputError(f"dataset={dataset.name} does not fit {task}: take dataset={fitting}")


def need_ground_truth(kit: TaskKit, dataset: DatasetSection, what: str) -> None:
    """Checks that the dataset has ground truth, which ``what`` needs.

    Raises:
        InputError: it has none.
    """
    if not kit.datasets[dataset.name].ground_truth:
        raise InputError(
            f"dataset={dataset.name}: has no ground truth, which {what} needs; take another dataset, or "
            "autodisp-train recipe=adapt"
        )
