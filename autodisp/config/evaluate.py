"""The config of autodisp-evaluate."""

import itertools
import math
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated

from autodisp.config import sections
from autodisp.config.checks import ModelFile, Must, PathTo, at_least, need, need_choice, shown
from autodisp.config.sections import (
    ONE_SCALE,
    Correction,
    MachineConfig,
    Scales,
    TaskChoiceConfig,
    check_dataset,
    kit_by_choice,
    need_ground_truth,
)
from autodisp.errors import InputError
from autodisp.tasks.kit import Split, TaskKit
from autodisp.tasks.registry import KITS
from autodisp.tasks.sections import DatasetSection, SgbmConfig

MOST_PICTURES = 100
RANGES, DENSITIES = [10.0, 40.0], [95.0, 90.0, 80.0, 70.0]
_RANGES = Must(
    "ascending disparities above 0, such as [10,40]",
    lambda edges: all(a < b for a, b in itertools.pairwise([0.0, *edges, math.inf])),
)
_DENSITIES = Must(
    "percentages above 0 and at most 100, such as [95,80]", lambda shares: all(0 < share <= 100 for share in shares)
)
_PICTURES = Must(f"0 to {MOST_PICTURES}", lambda pictures: 0 <= pictures <= MOST_PICTURES)


@dataclass(frozen=True)
class EvaluateConfig:
    """All settings of autodisp-evaluate."""

    checkpoint: ModelFile
    baseline: str | None
    dataset: DatasetSection
    split: Split | None
    sgbm: SgbmConfig
    ranges: Annotated[list[float], _RANGES]
    densities: Annotated[list[float], _DENSITIES]
    scales: Scales
    correction: Correction | None
    batch_size: Annotated[int, at_least(1)]
    pictures: Annotated[int, _PICTURES]
    out: Annotated[str, PathTo("a folder that the evaluation makes, such as runs/metrics")]
    run: MachineConfig
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        _ = self.kit  # imports it, so that its baselines are known
        known = tuple(dict.fromkeys(name for kit in KITS.values() for name in kit.baselines))
        if self.checkpoint is None and self.baseline is None:
            raise InputError(
                "checkpoint=null and baseline=null: give checkpoint=best.safetensors, checkpoint=shipped for the "
                f"network of the package, baseline={' or baseline='.join(known)}, or a checkpoint and a baseline"
            )
        if self.baseline is not None:
            need_choice("baseline", self.baseline, known)
        for key, usual in asdict(SgbmConfig()).items():
            value = getattr(self.sgbm, key)
            need(self.baseline == "sgbm" or value == usual, f"sgbm.{key}", value, f"{usual} without baseline=sgbm")
        check_dataset(self.kit, self.dataset, f"task.factory={self.task.factory}")
        need_ground_truth(self.kit, self.dataset, "an evaluation")
        if self.baseline is not None and self.baseline not in self.kit.baselines:
            having = [kit for kit in KITS.values() if self.baseline in kit.baselines]
            fitting = [name for kit in having for name in kit.datasets]
            raise InputError(
                f"baseline={self.baseline}: is for {' and '.join(kit.name for kit in having)}, but dataset="
                f"{self.dataset.name} is not; leave it null, or take dataset={' or dataset='.join(fitting)}"
            )
        fits = self.checkpoint is not None and self.kit.scaled is not None
        need(fits or self.scales == ONE_SCALE, "scales", self.scales, "[1] without a checkpoint for disparity")
        fits = self.checkpoint is not None and self.correction in self.kit.corrections
        need(fits or self.correction is None, "correction", self.correction, "null without a checkpoint for disparity")
        for key, edges in (("ranges", RANGES), ("densities", DENSITIES)):
            value, fits = getattr(self, key), key in self.kit.metric_settings
            need(fits or value == edges, key, value, f"{shown(edges)} for metrics of {self.kit.name}, which have none")
        if self.kit.worst is None and self.pictures:
            raise InputError(
                f"pictures={self.pictures}: shows disparities, but dataset={self.dataset.name} has none; leave it at 0"
            )
        self.run.check_model(self.checkpoint)
        self.kit.check_evaluation(self)

    @property
    def kit(self) -> TaskKit:
        """The kit of the dataset's task."""
        return kit_by_choice(self.task, self.dataset)


parse = partial(sections.parse, schema=EvaluateConfig)
"""Returns the typed config of an evaluation; see :func:`autodisp.config.sections.parse`."""
