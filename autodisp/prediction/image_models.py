"""A trained network as a function from images to its prediction."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp.tasks.base import channels_last, main_output


def ready(network: nn.Module, device: torch.device) -> nn.Module:
    """Moves a network to the device and permanently sets it to eval mode."""
    network = channels_last(network.to(device))
    with suppress(NotImplementedError):  # an exported network cannot change its mode
        network.eval()
    return network


class ImageModel:
    """Calls a network on images of any height and width.

    Args:
        network: called as network(images, ...), returns the prediction, or a named tuple that begins with it; it is
            moved to the device and permanently set to eval mode.
        device: device on which the network runs.
    """

    def __init__(self, network: nn.Module, *, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = ready(network, self.device)

    def __call__(self, *images: Tensor | npt.NDArray[Any]) -> Tensor:
        """Returns the prediction, (B, ...) float32.

        Args:
            images: as many as the network takes, (B, 3, H, W) or (3, H, W) RGB in 0..1 or uint8.

        Raises:
            TypeError: the dtype is not supported.
            ValueError: a shape is wrong, or the shapes differ.
        """
        values = [_images(each, self.device) for each in images]
        if len({value.shape for value in values}) > 1:
            shapes = " and ".join(str(tuple(value.shape)) for value in values)
            raise ValueError(f"the images are {shapes}: must be of one size")
        with torch.inference_mode():
            prediction = self._result(main_output(self.network(*values)).float())
        return prediction.clone()  # an inference-mode tensor could not be used in the user's training

    def _result(self, prediction: Tensor) -> Tensor:
        return prediction


class ImageClassifier(ImageModel):
    """Calls a network on images; returns probabilities, (B, classes) or, for each pixel, (B, classes, H, W).

    Args:
        network: see ``ImageModel``; predicts logits.
        device: device on which the network runs.
        classes: class names; None if unknown.
    """

    def __init__(
        self, network: nn.Module, *, device: str | torch.device = "cpu", classes: Sequence[str] | None = None
    ) -> None:
        super().__init__(network, device=device)
        self.classes = classes

    def _result(self, prediction: Tensor) -> Tensor:
        return torch.softmax(prediction, dim=1)


def open_classifier(network: nn.Module, device: torch.device, about: Mapping[str, Any]) -> ImageClassifier:
    """Opens a network with the class names of its model card, see ``TaskKit.open_model``."""
    return ImageClassifier(network, device=device, classes=about.get("classes"))


def _images(images: Tensor | npt.NDArray[Any], device: torch.device) -> Tensor:
    """Converts images to (B, 3, H, W) float32 in 0..1 on a device."""
    batch = torch.as_tensor(np.asarray(images)) if not isinstance(images, Tensor) else images
    batch = batch.unsqueeze(0) if batch.dim() == 3 else batch
    if batch.dim() != 4 or batch.shape[1] != 3:
        raise ValueError(f"images are {tuple(batch.shape)} but must be (B, 3, H, W) or (3, H, W)")
    if batch.dtype != torch.uint8 and not batch.dtype.is_floating_point:
        raise TypeError(f"images are of {batch.dtype} but must be uint8, or floating in 0..1")
    return batch.to(device).to(torch.float32) / (255.0 if batch.dtype == torch.uint8 else 1.0)
