"""Prediction of stereo pairs, as autodisp-predict runs it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.outputs import CONFIDENCE, OUTPUTS, PredictionWriter
from autodisp.prediction.pairs import FoundPairs, StereoPair, find_pairs, read_pair
from autodisp.prediction.point_cloud import Calibration
from autodisp.prediction.programs import NOTE
from autodisp.prediction.sanity import find_oddities

WITHOUT_CALIBRATION = ("pfm", "png16", "colour")


def find(config: Any) -> FoundPairs:
    """Finds the pairs that the config of a prediction names."""
    return find_pairs(str(config.left), config.right, skip=config.out)


def build_writer(config: Any, pairs: Sequence[StereoPair]) -> PredictionWriter:
    """Builds the writer of the wanted outputs."""
    calibration = None
    if config.focal is not None and config.baseline is not None:
        centre = None if config.centre is None else (config.centre[0], config.centre[1])
        calibration = Calibration(config.focal, config.baseline, config.doffs, centre)
    default = WITHOUT_CALIBRATION if calibration is None else tuple(name for name in OUTPUTS if name != CONFIDENCE)
    return PredictionWriter(
        Path(config.out),
        default if config.outputs is None else config.outputs,
        calibration=calibration,
        max_depth=config.max_depth,
        colour_range=None if config.colour_range is None else (config.colour_range[0], config.colour_range[1]),
        unknown=config.unknown,
        overwrite=config.overwrite,
        inputs=[view for pair in pairs for view in (pair.left, pair.right)],
    )


def predict(pair: StereoPair, matcher: StereoMatcher, writer: PredictionWriter) -> str:
    """Predicts and writes one pair; returns a line about it."""
    writer.check(pair.name)
    left, right = read_pair(pair)
    began = time.perf_counter()
    matched = (matcher.with_confidence if writer.reads_confidence else matcher)(left, right)[0].cpu()
    seconds = time.perf_counter() - began
    found, confidence = matched[:1], matched[1].numpy() if len(matched) > 1 else None
    disparity = found[0].numpy()
    written = writer.write(pair.name, disparity, left, confidence)
    size = f"{disparity.shape[1]}x{disparity.shape[0]}"
    middle = f"{disparity.min():.1f} to {disparity.max():.1f} px"
    if written.colours is not None:
        middle += f" (colours {written.colours[0]:.1f} to {written.colours[1]:.1f})"
    if written.unknown is not None:
        middle += f", {written.unknown:.1%} unknown"
    notes = "".join(f"{NOTE}{note}" for note in (*written.notes, *find_oddities(left, right, found)))
    return f"{pair.name}: {size}, {middle}, {seconds:.2f} s{notes}"
