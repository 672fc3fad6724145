"""The config of autodisp-predict."""

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from autodisp.config.checks import need, need_choice
from autodisp.config.parsing import read


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
    device: str
    threads: int | None

    def __post_init__(self) -> None:
        need(self.left is not None, "left", "null", "a picture, a folder, or a quoted pattern such as 'left/*.png'")
        need_choice("device", self.device, ("auto", "cpu", "cuda"))
        need(self.threads is None or self.threads >= 1, "threads", self.threads, "at least 1, or null for all")
        limits = self.colour_range
        need(limits is None or len(limits) == 2, "colour_range", limits, "[low, high] in pixels, or null")
        self._check_calibration()

    def _check_calibration(self) -> None:
        for key in ("focal", "baseline"):
            value = getattr(self, key)
            need(value is None or 0 < value < math.inf, key, value, "above 0 (focal in pixels, baseline in metres)")
        known = self.focal is not None
        need(known == (self.baseline is not None), "baseline", self.baseline, f"given along with focal={self.focal}")
        need(math.isfinite(self.doffs), "doffs", self.doffs, "a number of pixels")
        need(known or self.doffs == 0, "doffs", self.doffs, "0 without focal and baseline, which it belongs to")
        need(self.centre is None or len(self.centre) == 2, "centre", self.centre, "[x, y] in pixels, or null")
        need(known or self.centre is None, "centre", self.centre, "null without focal and baseline")


def parse(tree: DictConfig) -> PredictConfig:
    """The typed config of a prediction out of what Hydra composed.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    return read(tree, PredictConfig, {})
