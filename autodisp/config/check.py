"""The config of autodisp-check."""

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need, need_choice
from autodisp.config.parsing import read
from autodisp.config.sections import DATASETS, TASK_DATASETS, ReadersConfig
from autodisp.errors import InputError

WITH_TEST_SPLIT = ("shapes3d", "flyingthings3d", *TASK_DATASETS["classification"])
"""Those with a second split that has a truth."""


@dataclass(frozen=True)
class CheckConfig:
    """All of autodisp-check."""

    dataset: Any
    split: str | None
    seed: int
    timeout: float
    out: str
    run: ReadersConfig

    def __post_init__(self) -> None:
        if self.split is not None:
            need_choice("split", self.split, ("train", "test"))
        if self.split == "test" and self.dataset.name not in WITH_TEST_SPLIT:
            raise InputError(
                f"split=test: dataset={self.dataset.name} has a truth for its training pictures only; take split=train"
            )
        need(self.seed >= 0, "seed", self.seed, "at least 0")
        need(0 < self.timeout < float("inf"), "timeout", self.timeout, "a number of seconds above 0")

    @property
    def task(self) -> str:
        """The task that the dataset is for."""
        return next(task for task, names in TASK_DATASETS.items() if self.dataset.name in names)

    @property
    def splits(self) -> tuple[str, ...]:
        """What is looked at; shapes3d makes its test split anew for every run, so there is nothing to find."""
        if self.split is not None:
            return (self.split,)
        return ("train", "test") if self.dataset.name in WITH_TEST_SPLIT[1:] else ("train",)


def parse(tree: DictConfig) -> CheckConfig:
    """The typed config of a check out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, CheckConfig, {"dataset": DATASETS})
