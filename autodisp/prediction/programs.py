"""Prediction of the user's own images, as autodisp-predict runs it for any task whose model takes images alone."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from autodisp.datasets.images import read_rgb
from autodisp.errors import InputError
from autodisp.prediction.outputs import OutputFolder, Write
from autodisp.prediction.pairs import SingleImage, StereoPair, read_pair

STEREO_ONLY = ("focal", "baseline", "colour_range", "unknown")
"""Settings of autodisp-predict for disparities."""
Item = StereoPair | SingleImage
NOTE = " · "
"""Begins each note in the line about a prediction."""


def refuse(config: Any, keys: Iterable[str], why: str) -> None:
    """Refuses settings for stereo pairs.

    Raises:
        InputError: one of them is set.
    """
    for key in keys:
        if (value := getattr(config, key)) is not None:
            raise InputError(f"{key}={value}: is for stereo pairs, but this model {why}: leave it null")


def build_writer(outputs: Mapping[str, Sequence[str]], config: Any, items: Sequence[Item]) -> OutputFolder:
    """Builds the folder of the wanted outputs, by default all of them."""
    return OutputFolder(
        Path(config.out),
        tuple(outputs) if config.outputs is None else config.outputs,
        endings=outputs,
        overwrite=config.overwrite,
        inputs=[path for item in items for path in _paths(item)],
    )


def predict(
    files_of: Callable[[Tensor, Sequence[Tensor], Any], tuple[Mapping[str, Write], str]],
    item: Item,
    model: Any,
    writer: OutputFolder,
) -> str:
    """Predicts and writes one item; returns a line about it.

    Args:
        files_of: takes the prediction (C, H, W) on the CPU, the images and the model; returns functions that write
            the outputs, by name, and a description of the prediction.
    """
    writer.check(item.name)
    images = read_pair(item) if isinstance(item, StereoPair) else (read_rgb(item.path, upright=True),)
    began = time.perf_counter()
    found = model(*images)[0].cpu()
    seconds = time.perf_counter() - began
    files, words = files_of(found, images, model)
    height, width = found.shape[-2:]
    notes = writer.save_all(item.name, {name: [write] for name, write in files.items()}, pixels=height * width)
    return f"{item.name}: {width}x{height}, {words}, {seconds:.2f} s{''.join(f'{NOTE}{note}' for note in notes)}"


def _paths(item: Item) -> tuple[Path, ...]:
    return (item.left, item.right) if isinstance(item, StereoPair) else (item.path,)
