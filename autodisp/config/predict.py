"""The config of autodisp-predict."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from autodisp.config import sections
from autodisp.config.checks import ModelFile, Must, PathTo, need, need_choice, shown
from autodisp.config.sections import Correction, MachineConfig, Scales, TaskChoiceConfig
from autodisp.errors import InputError
from autodisp.tasks.registry import KITS

OUTPUTS = tuple(dict.fromkeys(name for kit in KITS.values() if kit.prediction for name in kit.prediction.outputs))
METRIC = ("depth", "ply")
EXAMPLES = {"focal": 721.5, "baseline": 0.54}
_LEFT = "an image, a folder, or a quoted pattern such as 'left/*.png'"
_CALIBRATION = Must("above 0 (focal in pixels, baseline in metres)", lambda value: 0 < value < math.inf)
_OUTPUTS = Must(f"some of {', '.join(OUTPUTS)}, or null for the usual ones", lambda outputs: bool(outputs))
_CENTRE = Must(
    "[x, y] in pixels, or null for the middle", lambda centre: len(centre) == 2 and all(map(math.isfinite, centre))
)
_COLOURS = Must(
    "[low, high] in pixels, low below high, or null for each image's own",
    lambda limits: len(limits) == 2 and -math.inf < limits[0] < limits[1] < math.inf,
)
_UNKNOWN = Must("0 to 1, or null for the point cloud's own", lambda confidence: 0 <= confidence <= 1)
_DEPTH = Must("above 0 metres, or null for no limit", lambda depth: 0 < depth < math.inf)


@dataclass(frozen=True)
class PredictConfig:
    """All settings of autodisp-predict."""

    checkpoint: ModelFile
    left: Annotated[str | None, PathTo(_LEFT)]
    right: Annotated[str | None, PathTo("the same kind as left, or null for one folder that holds both views")]
    out: Annotated[str, PathTo("a folder for the predictions, such as predictions")]
    outputs: Annotated[list[str] | None, _OUTPUTS]
    focal: Annotated[float | None, _CALIBRATION]
    baseline: Annotated[float | None, _CALIBRATION]
    doffs: Annotated[float, Must("a number of pixels; 0 is usual", math.isfinite)]
    centre: Annotated[list[float] | None, _CENTRE]
    max_depth: Annotated[float | None, _DEPTH]
    colour_range: Annotated[list[float] | None, _COLOURS]
    unknown: Annotated[float | None, _UNKNOWN]
    scales: Scales
    correction: Correction | None
    overwrite: bool
    run: MachineConfig
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        if (kit := self.task.kit) is not None and kit.prediction is None:
            raise InputError(
                f"task.factory={self.task.factory}: task {kit.name} has no prediction of own images, which "
                "autodisp-predict needs: call its model from Python, see docs/files.md"
            )
        need(self.left is not None, "left", None, _LEFT)
        self.run.check_model(self.checkpoint)
        self._check_calibration()
        self._check_outputs()

    def _check_outputs(self) -> None:
        metric, outputs = self.focal is not None, self.outputs or ()
        for name in outputs:
            need_choice("outputs", name, OUTPUTS)
        wants = [name for name in METRIC if name in outputs]
        without = f"without {' and '.join(wants)}, or with focal and baseline"
        need(metric or not wants, "outputs", self.outputs, without)
        used = self.outputs is None or bool(wants) or not metric
        need(used, "focal", self.focal, f"null for outputs={shown(self.outputs)}; or add depth or ply")
        used = self.max_depth is None or self._writes("ply")
        need(used, "max_depth", self.max_depth, "null without the output ply; or give focal and baseline")
        used = self.colour_range is None or self._writes("colour")
        need(used, "colour_range", self.colour_range, "null without the output colour; or add it")

    def _writes(self, output: str) -> bool:
        if self.outputs is not None:
            return output in self.outputs
        return self.focal is not None or output not in METRIC

    def _check_calibration(self) -> None:
        known = self.focal is not None
        for key, other, there in (("baseline", "focal", known), ("focal", "baseline", self.baseline is not None)):
            value, given = getattr(self, key), getattr(self, other)
            both = f"given along with {other}={given}, such as {key}={EXAMPLES[key]}"
            need(value is not None or not there, key, value, both)
        need(known or self.doffs == 0, "doffs", self.doffs, "0 unless focal and baseline are given")
        need(known or self.centre is None, "centre", self.centre, "null without focal and baseline")


parse = partial(sections.parse, schema=PredictConfig)
"""Returns the typed config of a prediction; see :func:`autodisp.config.sections.parse`."""
