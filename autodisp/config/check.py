"""The config of autodisp-check."""

from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from autodisp.config import sections
from autodisp.config.checks import ABOVE_0, Must, PathTo, Seed
from autodisp.config.sections import ReadersConfig, TaskChoiceConfig, check_dataset, kit_by_choice
from autodisp.errors import InputError
from autodisp.tasks.kit import DatasetEntry, Split, TaskKit
from autodisp.tasks.sections import DatasetSection


@dataclass(frozen=True)
class CheckConfig:
    """All settings of autodisp-check."""

    dataset: DatasetSection
    split: Split | None
    seed: Seed
    timeout: Annotated[float, Must("a number of seconds above 0", ABOVE_0.holds)]
    out: Annotated[str, PathTo("a folder that the check makes, such as runs/check")]
    run: ReadersConfig
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        check_dataset(self.kit, self.dataset, f"task.factory={self.task.factory}")
        if self.split == "test" and self.split not in self.entry.splits:
            raise InputError(
                f"split=test: dataset={self.dataset.name} has ground truth for its training images only; "
                "take split=train"
            )

    @property
    def kit(self) -> TaskKit:
        """The kit of the dataset's task."""
        return kit_by_choice(self.task, self.dataset)

    @property
    def entry(self) -> DatasetEntry:
        """The dataset's entry in the kit."""
        return self.kit.datasets[self.dataset.name]

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits to check; a generated test split needs no check."""
        if self.entry.generated and self.split is None:
            return ("train",)
        return tuple(split for split in self.entry.splits if self.split in (None, split))


parse = partial(sections.parse, schema=CheckConfig)
"""Returns the typed config of a check; see :func:`autodisp.config.sections.parse`."""
