"""Builds the parts of a prediction from its typed config."""

from collections.abc import Iterable
from pathlib import Path

import torch

from autodisp.config.checks import naming
from autodisp.config.predict import PredictConfig
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.models import load_stereo
from autodisp.prediction.outputs import OUTPUTS, PredictionWriter
from autodisp.prediction.point_cloud import Calibration

WITHOUT_CALIBRATION = ("pfm", "png16", "colour")


def build_matcher(config: PredictConfig, device: torch.device) -> StereoMatcher:
    """Loads the model named by the config, or the shipped one."""
    with naming("checkpoint", config.checkpoint, choices=["shipped"]):
        return load_stereo(config.checkpoint, device=device)


def build_writer(config: PredictConfig, inputs: Iterable[Path]) -> PredictionWriter:
    """Builds the writer of the wanted outputs."""
    calibration = None
    if config.focal is not None and config.baseline is not None:
        centre = None if config.centre is None else (config.centre[0], config.centre[1])
        calibration = Calibration(config.focal, config.baseline, config.doffs, centre)
    default = WITHOUT_CALIBRATION if calibration is None else tuple(OUTPUTS)
    return PredictionWriter(
        Path(config.out).expanduser(),
        default if config.outputs is None else config.outputs,
        calibration=calibration,
        max_depth=config.max_depth,
        colour_range=None if config.colour_range is None else (config.colour_range[0], config.colour_range[1]),
        overwrite=config.overwrite,
        inputs=inputs,
    )
