"""Segmentation of single images, as autodisp-predict runs it."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from autodisp.datasets.images import read_rgb
from autodisp.errors import InputError
from autodisp.prediction.outputs import CLASS_OUTPUTS, OutputFolder
from autodisp.prediction.pairs import SingleImage, find_images
from autodisp.prediction.segmentation_images import Image, colour_classes, overlay, predicted
from autodisp.prediction.segmenter import Segmenter

_FOR_PAIRS = ("right", "focal", "baseline", "colour_range", "unknown")
_SHOWN = 3


def find(config: Any) -> tuple[list[SingleImage], list[str]]:
    """Finds the images that the config of a prediction names.

    Raises:
        InputError: there is none, or a setting is for stereo pairs.
    """
    for key in _FOR_PAIRS:
        if (value := getattr(config, key)) is not None:
            raise InputError(f"{key}={value}: is for stereo pairs, but this model takes single images: leave it null")
    return find_images(str(config.left), skip=config.out)


def build_writer(config: Any, images: Sequence[SingleImage]) -> OutputFolder:
    """Builds the folder of the wanted outputs."""
    return OutputFolder(
        Path(config.out).expanduser(),
        tuple(CLASS_OUTPUTS) if config.outputs is None else config.outputs,
        endings=CLASS_OUTPUTS,
        overwrite=config.overwrite,
        inputs=[image.path for image in images],
    )


def predict(image: SingleImage, segmenter: Segmenter, writer: OutputFolder) -> str:
    """Segments and writes one image; returns a line about it with its most frequent classes."""
    writer.check(image.name)
    pixels = read_rgb(image.path, upright=True)
    began = time.perf_counter()
    probabilities = segmenter(pixels)[0].cpu()
    seconds = time.perf_counter() - began
    classes = predicted(probabilities)
    drawn: dict[str, Callable[[], Image]] = {
        "colour": lambda: colour_classes(classes),
        "index": lambda: classes,
        "overlay": lambda: overlay(pixels, classes),
    }
    for file, wanted in zip(writer.files(image.name), writer.wanted, strict=True):
        picture = drawn[wanted]()
        writer.save(file, partial(_write_png, picture=picture))
    counts = np.bincount(classes.ravel())
    names = segmenter.classes or [f"class {index}" for index in range(len(counts))]
    most = [index for index in counts.argsort(kind="stable")[::-1][:_SHOWN] if counts[index]]
    shares = ", ".join(f"{names[index]} {100 * counts[index] / classes.size:.0f} %" for index in most)
    return f"{image.name}: {classes.shape[1]}x{classes.shape[0]}, {shares}, {seconds:.2f} s"


def _write_png(path: Path, *, picture: Image) -> None:
    """Writes a PNG, RGB or grey; an index map as grey values."""
    stored = picture[..., ::-1] if picture.ndim == 3 else picture
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(stored))
    path.write_bytes(encoded.tobytes())
