"""Opens a trained model in any format as a callable on images."""

from pathlib import Path
from typing import Any

import torch

from autodisp import model_file
from autodisp.networks.fused import fused
from autodisp.prediction.exported import EXPORTED, open_exported
from autodisp.prediction.image_models import ImageModel
from autodisp.tasks.registry import KITS


def load(model: str | Path | None = None, *, device: str | torch.device = "cpu") -> Any:
    """Loads a model that is ready to be called.

    Args:
        model: a ``.safetensors`` file of autodisp-train, or one exported by autodisp-export (``.pt2``, ``.onnx``);
            None or "shipped" for the disparity network that ships with the package.
        device: device on which it runs; an ``.onnx`` file runs on the CPU.

    Returns:
        For a disparity network a StereoMatcher, called with two images; for a network that classifies images or pixels
        an ImageClassifier, called with images; for others an ImageModel.

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
    kit = KITS[task]
    if kit.open_model is not None:
        return task, kit.open_model(network, where, about)
    return task, ImageModel(network, device=where, inputs=len(kit.interface.inputs))
