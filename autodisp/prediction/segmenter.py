"""A trained segmentation network as a function from images to class probabilities."""

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp.tasks.base import channels_last


class Segmenter:
    """Calls a segmentation network on images of any height and width.

    Args:
        network: called as network(images), returns ClassMaps or the logits alone; it is moved to the device and
            permanently set to eval mode.
        device: device on which the network runs.
        classes: class names; None if unknown.
    """

    def __init__(
        self, network: nn.Module, *, device: str | torch.device = "cpu", classes: list[str] | None = None
    ) -> None:
        self.device = torch.device(device)
        self.network = channels_last(network.to(self.device))
        with suppress(NotImplementedError):  # an exported network cannot change its mode
            self.network.eval()
        self.classes = classes

    def __call__(self, images: Tensor | npt.NDArray[Any]) -> Tensor:
        """Returns the class probabilities of each pixel, (B, classes, H, W) float32.

        Args:
            images: (B, 3, H, W) or (3, H, W) RGB in 0..1 or uint8.

        Raises:
            TypeError: the dtype is not supported.
            ValueError: the shape is wrong.
        """
        values = images_in(images, self.device)
        with torch.inference_mode():
            output = self.network(values)
            logits = output if isinstance(output, Tensor) else output.logits
            probabilities = torch.softmax(logits.float(), dim=1)
        return probabilities.clone()  # an inference-mode tensor could not be used in the user's training


def images_in(images: Tensor | npt.NDArray[Any], device: torch.device) -> Tensor:
    """Converts images (B, 3, H, W) or (3, H, W), RGB in 0..1 or uint8, to (B, 3, H, W) float32 in 0..1 on a device.

    Raises:
        TypeError: the dtype is not supported.
        ValueError: the shape is wrong.
    """
    batch = torch.as_tensor(np.asarray(images)) if not isinstance(images, Tensor) else images
    batch = batch.unsqueeze(0) if batch.dim() == 3 else batch
    if batch.dim() != 4 or batch.shape[1] != 3:
        raise ValueError(f"images are {tuple(batch.shape)} but must be (B, 3, H, W) or (3, H, W)")
    if batch.dtype != torch.uint8 and not batch.dtype.is_floating_point:
        raise TypeError(f"images are of {batch.dtype} but must be uint8, or floating in 0..1")
    return batch.to(device).to(torch.float32) / (255.0 if batch.dtype == torch.uint8 else 1.0)
