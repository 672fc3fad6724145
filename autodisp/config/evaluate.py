"""The config of autodisp-evaluate."""

import itertools
import math
import os
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need, need_at_least, need_choice, need_path
from autodisp.config.parsing import read
from autodisp.config.sections import DATASETS, TASK_DATASETS, MachineConfig
from autodisp.errors import InputError

BASELINES = ("sgbm", "constant")
MOST_PICTURES = 100
LARGEST_SGBM = 2032
"""Pixels: OpenCV counts sixteenths of them in 16 bits."""


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

    def __post_init__(self) -> None:
        if self.checkpoint is None and self.baseline is None:
            raise InputError(
                "checkpoint=null and baseline=null: give checkpoint=best.safetensors, checkpoint=shipped for the "
                f"network of the package, baseline={' or baseline='.join(BASELINES)}, or a checkpoint and a baseline"
            )
        if self.baseline is not None:
            need_choice("baseline", self.baseline, BASELINES)
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
        images = self.dataset.name in TASK_DATASETS["classification"]
        if images and self.baseline is not None:
            raise InputError(
                f"baseline={self.baseline}: is for disparity, but dataset={self.dataset.name} is not; leave it null, "
                f"or take dataset={' or dataset='.join(TASK_DATASETS['disparity'])}"
            )
        if images and self.pictures:
            raise InputError(
                f"pictures={self.pictures}: shows disparities, but dataset={self.dataset.name} has none; leave it at 0"
            )
        if self.baseline == "sgbm":
            most = self.dataset.max_disparity
            need(most <= LARGEST_SGBM, "dataset.max_disparity", most, f"at most {LARGEST_SGBM} for baseline=sgbm")


def parse(tree: DictConfig) -> EvaluateConfig:
    """The typed config of an evaluation out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, EvaluateConfig, {"dataset": DATASETS})
