"""The config of autodisp-predict."""

import math
from dataclasses import dataclass, field

from omegaconf import DictConfig

from autodisp.config.checks import need, need_choice, need_path, shown
from autodisp.config.parsing import read
from autodisp.config.sections import MachineConfig, TaskChoiceConfig
from autodisp.errors import InputError

OUTPUTS = ("pfm", "png16", "colour", "depth", "ply")
METRIC = ("depth", "ply")
EXAMPLES = {"focal": 721.5, "baseline": 0.54}


@dataclass(frozen=True)
class PredictConfig:
    """All of autodisp-predict."""

    checkpoint: str | None
    left: str | None
    right: str | None
    out: str
    outputs: list[str] | None
    focal: float | None
    baseline: float | None
    doffs: float
    centre: list[float] | None
    max_depth: float | None
    colour_range: list[float] | None
    overwrite: bool
    run: MachineConfig
    task: TaskChoiceConfig = field(default_factory=TaskChoiceConfig)

    def __post_init__(self) -> None:
        if (kit := self.task.kit) is not None and not kit.predicts:
            raise InputError(
                f"task.factory={self.task.factory}: task {kit.name} is not for stereo pairs, which autodisp-predict "
                "takes: call its model from Python, see docs/files.md"
            )
        need(self.left is not None, "left", "null", "a picture, a folder, or a quoted pattern such as 'left/*.png'")
        need_path("checkpoint", self.checkpoint, what="a model file such as best.safetensors, or shipped")
        need_path("left", self.left, what="a picture, a folder, or a quoted pattern such as 'left/*.png'")
        need_path("right", self.right, what="the same kind as left, or null for one folder that holds both views")
        need_path("out", self.out, what="a folder for the predictions, such as predictions")
        self._check_calibration()
        self._check_outputs()

    def _check_outputs(self) -> None:
        metric = self.focal is not None
        if self.outputs is not None:
            need(
                bool(self.outputs), "outputs", self.outputs, f"some of {', '.join(OUTPUTS)}, or null for the usual ones"
            )
            for name in self.outputs:
                need_choice("outputs", name, OUTPUTS)
            wants = [name for name in METRIC if name in self.outputs]
            need(
                metric or not wants,
                "outputs",
                self.outputs,
                f"without {' and '.join(wants)}, or with focal and baseline",
            )
            need(
                bool(wants) or not metric,
                "focal",
                self.focal,
                f"null for outputs={shown(self.outputs)}; or add depth or ply",
            )
        far, limits = self.max_depth, self.colour_range
        need(far is None or 0 < far < math.inf, "max_depth", far, "above 0 metres, or null for no limit")
        need(
            far is None or self._writes("ply"),
            "max_depth",
            far,
            "null without the output ply; or give focal and baseline",
        )
        rises = limits is None or (len(limits) == 2 and -math.inf < limits[0] < limits[1] < math.inf)
        need(rises, "colour_range", limits, "[low, high] in pixels, low below high, or null for each picture's own")
        need(
            limits is None or self._writes("colour"),
            "colour_range",
            limits,
            "null without the output colour; or add it",
        )

    def _writes(self, output: str) -> bool:
        if self.outputs is not None:
            return output in self.outputs
        return self.focal is not None or output not in METRIC

    def _check_calibration(self) -> None:
        for key in ("focal", "baseline"):
            value = getattr(self, key)
            need(value is None or 0 < value < math.inf, key, value, "above 0 (focal in pixels, baseline in metres)")
        known = self.focal is not None
        for key, other, there in (("baseline", "focal", known), ("focal", "baseline", self.baseline is not None)):
            value, given = getattr(self, key), getattr(self, other)
            both = f"given along with {other}={given}, such as {key}={EXAMPLES[key]}"
            need(value is not None or not there, key, value, both)
        need(math.isfinite(self.doffs), "doffs", self.doffs, "a number of pixels; 0 is usual")
        need(known or self.doffs == 0, "doffs", self.doffs, "0 unless focal and baseline are given")
        fine = self.centre is None or (len(self.centre) == 2 and all(map(math.isfinite, self.centre)))
        need(fine, "centre", self.centre, "[x, y] in pixels, or null for the middle")
        need(known or self.centre is None, "centre", self.centre, "null without focal and baseline")


def parse(tree: DictConfig) -> PredictConfig:
    """The typed config of a prediction out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, PredictConfig, {})
