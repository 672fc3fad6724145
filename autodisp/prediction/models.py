"""Opens a trained model in any format as a callable on images."""

from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp import model_file
from autodisp.errors import InputError
from autodisp.networks.fused import fused
from autodisp.prediction.exported import EXPORTED, open_exported
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.segmenter import images_in
from autodisp.tasks.registry import DEFAULT, KITS


def load(model: str | Path | None = None, *, device: str | torch.device = "cpu") -> Any:
    """Loads a model that is ready to be called.

    Args:
        model: a ``.safetensors`` file of autodisp-train, or one exported by autodisp-export (``.pt2``, ``.onnx``);
            None or "shipped" for the disparity network that ships with the package.
        device: device on which it runs; an ``.onnx`` file runs on the CPU.

    Returns:
        For a disparity network a StereoMatcher, called with two images; for a classification network an
        ImageClassifier, called with images.

    Raises:
        InputError: the file is missing, damaged, or not such a model.
    """
    return open_model(model, device=device)[1]


def open_model(model: str | Path | None, *, device: str | torch.device) -> tuple[str, Any]:
    """Returns the name of the model's task, and the model as in ``load``."""
    path = model_file.model_path(model)
    where = torch.device(device)
    if path.suffix.lower() in EXPORTED:
        network, data = open_exported(path, device=where)
        task, about = str(data["task"]), data["about"]
    else:
        card, _, network = model_file.load_network(path)
        network, task, about = fused(network), card.task, card.about
    return task, KITS[task].open_model(network, where, about)


def load_stereo(model: str | Path | None = None, *, device: str | torch.device = "cpu") -> StereoMatcher:
    """Loads a disparity model like ``load``; models for other tasks are rejected."""
    task, found = open_model(model, device=device)
    if not isinstance(found, StereoMatcher):
        raise InputError(f"{model}: is a model for {task}, but this needs one for {DEFAULT}")
    return found


class ImageClassifier:
    """Calls a classification network on images.

    Args:
        network: called as network(images), returns ClassScores or the logits alone.
        device: device on which the network runs.
        classes: class names; None if unknown.
    """

    def __init__(
        self, network: nn.Module, *, device: str | torch.device = "cpu", classes: list[str] | None = None
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.classes = classes

    def __call__(self, images: Tensor | npt.NDArray[Any]) -> Tensor:
        """Returns the class probabilities, (B, classes) float32.

        Args:
            images: (B, 3, H, W) or (3, H, W) RGB in 0..1 or uint8.

        Raises:
            TypeError: the dtype is not supported.
            ValueError: the shape is wrong.
        """
        values = images_in(images, self.device)
        with torch.inference_mode():
            scores = self.network(values)
            logits = scores if isinstance(scores, Tensor) else scores.logits
            probabilities = torch.softmax(logits, dim=1)
        return probabilities.clone()  # an inference-mode tensor could not be used in the user's training
