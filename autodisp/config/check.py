"""The config of autodisp-check."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from autodisp.config.checks import need, need_choice
from autodisp.config.parsing import read
from autodisp.config.sections import ReadersConfig, TaskChoiceConfig, sections_by_name
from autodisp.errors import InputError
from autodisp.tasks.kit import DatasetEntry, Split, TaskKit
from autodisp.tasks.registry import kit_of_dataset


@dataclass(frozen=True)
class CheckConfig:
    """All of autodisp-check."""

    dataset: Any
    split: str | None
    seed: int
    timeout: float
    out: str
    run: ReadersConfig
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        if self.split is not None:
            need_choice("split", self.split, ("train", "test"))
        if self.dataset.name not in self.kit.datasets:
            raise InputError(
                f"dataset={self.dataset.name} does not fit task.factory={self.task.factory}: take dataset="
                f"{' or dataset='.join(self.kit.datasets)}"
            )
        if self.split == "test" and self.split not in self.entry.splits:
            raise InputError(
                f"split=test: dataset={self.dataset.name} has ground truth for training only; take split=train"
            )
        need(self.seed >= 0, "seed", self.seed, "at least 0")
        need(0 < self.timeout < float("inf"), "timeout", self.timeout, "a number of seconds above 0")

    @property
    def kit(self) -> TaskKit:
        """The kit of the task that the dataset is for."""
        return self.task.kit or kit_of_dataset(self.dataset.name)

    @property
    def entry(self) -> DatasetEntry:
        """The entry of the dataset in its kit."""
        return self.kit.datasets[self.dataset.name]

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits to inspect; a generated test split is made anew for every run, so there is nothing to find."""
        if self.entry.generated and self.split is None:
            return ("train",)
        return tuple(split for split in self.entry.splits if self.split in (None, split))


def parse(tree: DictConfig) -> CheckConfig:
    """The typed config of a check out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, CheckConfig, {"dataset": sections_by_name(tree)["dataset"]})
