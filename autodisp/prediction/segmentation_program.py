"""Segmentation of single images, as autodisp-predict runs it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from autodisp.prediction.image_models import ImageClassifier
from autodisp.prediction.outputs import Write, write_png
from autodisp.prediction.pairs import SingleImage, find_images
from autodisp.prediction.programs import STEREO_ONLY, refuse
from autodisp.prediction.segmentation_images import colour_classes, overlay, predicted

_SHOWN = 3


def find(config: Any) -> tuple[list[SingleImage], list[str]]:
    """Finds the images that the config of a prediction names.

    Raises:
        InputError: there is none, or a setting is for stereo pairs.
    """
    refuse(config, ("right", *STEREO_ONLY), "takes single images")
    return find_images(str(config.left), skip=config.out)


def files_of(
    probabilities: Tensor, images: Sequence[Tensor], model: ImageClassifier
) -> tuple[Mapping[str, Write], str]:
    """Returns the files of class probabilities (classes, H, W), see ``programs.predict``, and the largest classes."""
    classes = predicted(probabilities)
    files: dict[str, Write] = {
        "colour": lambda file: write_png(file, colour_classes(classes)),
        "index": lambda file: write_png(file, classes),
        "overlay": lambda file: write_png(file, overlay(images[0], classes)),
    }
    counts = np.bincount(classes.ravel())
    named = list(model.classes or ())
    names = [*named, *(f"class {index}" for index in range(len(named), len(counts)))]
    most = [index for index in counts.argsort(kind="stable")[::-1][:_SHOWN] if counts[index]]
    return files, ", ".join(f"{names[index]} {100 * counts[index] / classes.size:.0f} %" for index in most)
