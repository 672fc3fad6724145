"""The config of autodisp-evaluate."""

import itertools
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need, need_choice
from autodisp.config.parsing import read
from autodisp.config.sections import DATASETS
from autodisp.errors import InputError

BASELINES = ("sgbm", "constant")


@dataclass(frozen=True)
class EvaluateConfig:
    """All of autodisp-evaluate."""

    checkpoint: str | None
    baseline: str | None
    dataset: Any
    split: str | None
    ranges: list[float]
    batch_size: int
    out: str
    device: str
    threads: int | None

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
        need_choice("device", self.device, ("auto", "cpu", "cuda"))
        need(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        need(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1, or null for all")
        ascending = all(a < b for a, b in itertools.pairwise([0.0, *self.ranges]))
        need(ascending, "ranges", self.ranges, "ascending disparities above 0, such as [10,40]")


def parse(tree: DictConfig) -> EvaluateConfig:
    """The typed config of an evaluation out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, EvaluateConfig, {"dataset": DATASETS})
