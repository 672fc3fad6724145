"""The config of autodisp-evaluate."""

import itertools
import math
import os
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need, need_at_least, need_choice, need_path
from autodisp.config.parsing import read
from autodisp.config.sections import MachineConfig, TaskChoiceConfig, sections_by_name
from autodisp.errors import InputError
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import KITS, kit_of_dataset

MOST_PICTURES = 100


@dataclass(frozen=True)
class EvaluateConfig:
    """All of autodisp-evaluate."""

    checkpoint: str | None
    baseline: str | None
    dataset: Any
    split: str | None
    ranges: list[float]
    batch_size: int
    pictures: int
    out: str
    run: MachineConfig
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.kit  # opened, so that its baselines are known
        known = tuple(dict.fromkeys(name for kit in KITS.values() for name in kit.baselines))
        if self.checkpoint is None and self.baseline is None:
            raise InputError(
                "checkpoint=null and baseline=null: give checkpoint=best.safetensors, checkpoint=shipped for the "
                f"network of the package, baseline={' or baseline='.join(known)}, or a checkpoint and a baseline"
            )
        if self.baseline is not None:
            need_choice("baseline", self.baseline, known)
        if self.split is not None:
            need_choice("split", self.split, ("train", "test"))
        need_path("checkpoint", self.checkpoint, what="a model file such as best.safetensors, or shipped")
        need_path("out", self.out, what="a folder that the evaluation makes, such as runs/figures")
        object.__setattr__(self, "out", os.path.expanduser(self.out))
        need_at_least("", self, batch_size=1)
        need(0 <= self.pictures <= MOST_PICTURES, "pictures", self.pictures, f"0 to {MOST_PICTURES}")
        ascending = all(a < b for a, b in itertools.pairwise([0.0, *self.ranges, math.inf]))
        need(ascending, "ranges", self.ranges, "ascending disparities above 0, such as [10,40]")
        self._check_task()

    def _check_task(self) -> None:
        if self.dataset.name not in self.kit.datasets:
            raise InputError(
                f"dataset={self.dataset.name} does not fit task.factory={self.task.factory}: take dataset="
                f"{' or dataset='.join(self.kit.datasets)}"
            )
        if self.baseline is not None and self.baseline not in self.kit.baselines:
            having = [kit for kit in KITS.values() if self.baseline in kit.baselines]
            fitting = [name for kit in having for name in kit.datasets]
            raise InputError(
                f"baseline={self.baseline}: is for {' and '.join(kit.name for kit in having)}, but dataset="
                f"{self.dataset.name} is not; leave it null, or take dataset={' or dataset='.join(fitting)}"
            )
        if self.kit.worst is None and self.pictures:
            raise InputError(
                f"pictures={self.pictures}: shows disparities, but dataset={self.dataset.name} has none; leave it at 0"
            )
        self.kit.check_evaluation(self)

    @property
    def kit(self) -> TaskKit:
        """The kit of the task that the dataset is for."""
        return self.task.kit or kit_of_dataset(self.dataset.name)


def parse(tree: DictConfig) -> EvaluateConfig:
    """The typed config of an evaluation out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, EvaluateConfig, {"dataset": sections_by_name(tree)["dataset"]})
