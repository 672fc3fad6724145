"""A trained network as a function from images to its prediction."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp.graphs import CudaRecorder, Graphs
from autodisp.tasks.base import channels_last, main_output

Array = npt.NDArray[Any]

_FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}
_OVERSHOOT = 0.01  # tolerance of colours due to rounding and resampling; a larger excess means another scale


def ready(network: nn.Module, device: torch.device) -> nn.Module:
    """Moves a network to the device and permanently sets it to eval mode."""
    network = channels_last(network.to(device))
    with suppress(NotImplementedError):  # an exported network cannot change its mode
        network.eval()
    return network


class Replayed:
    """Calls a network on images; on a GPU, from the fifth ones of the same size on, by replaying a CUDA graph.

    Threads may share it. Copies of it record graphs of their own.

    Args:
        network: on the device, in eval mode.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network, device
        on_current = device.type == "cuda" and device.index in (None, torch.cuda.current_device())
        self._graphs = Graphs(CudaRecorder()) if on_current else None
        self._memory = [*network.parameters(), *network.buffers()]
        self._lock = threading.Lock()

    def __call__(self, *images: Tensor) -> Any:
        """Returns the network's output; later calls do not change it."""
        if self._graphs is None or not self._can_replay():
            return self.network(*images)
        constants = (*(image.shape for image in images), *(tensor.data_ptr() for tensor in self._memory))
        with self._lock:
            return self._graphs.run("predictions", self.network, *images, constants=constants)

    def _can_replay(self) -> bool:
        """False under autocast, which frees the casts of weights that a graph reads, and on a stream of the user."""
        if torch.is_autocast_enabled(self.device.type):
            return False
        return self.device.type != "cuda" or torch.cuda.current_stream() == torch.cuda.default_stream()

    def __reduce__(self) -> tuple[type["Replayed"], tuple[nn.Module, torch.device]]:
        return Replayed, (self.network, self.device)


class ImageModel:
    """Calls a network on images of any height and width.

    Args:
        network: called as network(images, ...), returns the prediction, or a named tuple that begins with it; it is
            moved to the device and permanently set to eval mode.
        inputs: number of images that it takes.
    """

    def __init__(self, network: nn.Module, *, device: str | torch.device = "cpu", inputs: int = 1) -> None:
        self.device = torch.device(device)
        self.network = ready(network, self.device)
        self.inputs = inputs
        self._call = Replayed(self.network, self.device)

    def __call__(self, *images: Array | Tensor) -> Tensor:
        """Returns the prediction, (B, ...) float32.

        Args:
            images: as many as ``inputs``, RGB or grey. Arrays are (H, W, 3), (H, W) or (B, H, W, 3), tensors
                (3, H, W) or (B, 3, H, W), also with 1 channel instead of 3. Either uint8 or uint16, with a maximum of
                255 or 65535, or floating point in 0..1.

        Raises:
            TypeError: their number, the type or the dtype is not supported.
            ValueError: a shape or a range of values is wrong, or the shapes differ.
        """
        if len(images) != self.inputs:
            raise TypeError(
                f"{len(images)} images: the network takes {self.inputs}; np.stack makes a batch of several of one size"
            )
        batches = (_from_any(each, "images") for each in images)
        values = [in_unit_range(batch.to(self.device)).expand(-1, 3, -1, -1) for batch in batches]
        if len({value.shape for value in values}) > 1:
            shapes = " and ".join(str(tuple(value.shape)) for value in values)
            raise ValueError(f"the images are {shapes}: must be of one size")
        with torch.inference_mode():
            prediction = self._result(main_output(self._call(*values)).float())
        return prediction.clone()  # an inference-mode tensor could not be used in the user's training

    def _result(self, prediction: Tensor) -> Tensor:
        return prediction


class ImageClassifier(ImageModel):
    """Calls a network on images; returns probabilities, (B, classes) or, for each pixel, (B, classes, H, W).

    Args:
        network: see ``ImageModel``; predicts logits.
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
    names = about.get("classes")
    return ImageClassifier(network, device=device, classes=names if isinstance(names, list) else None)


def in_unit_range(view: Tensor) -> Tensor:
    """Converts the colours of a view to float32 in 0..1."""
    return view.to(torch.float32) / _FULL_SCALE.get(view.dtype, 1.0)


def _from_any(view: Array | Tensor, name: str) -> Tensor:
    if isinstance(view, np.ndarray):
        return from_array(view, name)
    if isinstance(view, Tensor):
        return from_tensor(view, name)
    raise TypeError(f"{name} is a {type(view).__name__}: must be a numpy array or a tensor, such as np.asarray(image)")


def from_array(view: Array, name: str) -> Tensor:
    """Converts an array (H, W, 3), (H, W) or (B, H, W, 3) to (B, C, H, W), dtype as it was.

    Raises:
        TypeError: the dtype is not supported.
        ValueError: the shape or the range of values is wrong.
    """
    if not (view.ndim == 2 or (view.ndim in (3, 4) and view.shape[-1] in (1, 3))):
        raise ValueError(
            f"{name} has the shape {view.shape}: an array must be (H, W, 3), (H, W) or (B, H, W, 3); "
            f"{_remedy(view.shape)}"
        )
    batch = view[None, ..., None] if view.ndim == 2 else view if view.ndim == 4 else view[None]
    if view.dtype.byteorder == ">":
        batch = batch.astype(view.dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(np.require(batch, requirements=["C", "W"])).permute(0, 3, 1, 2)
    except TypeError as error:
        raise TypeError(_unfit(name, str(view.dtype))) from error
    return _checked(tensor, name)


def from_tensor(view: Tensor, name: str) -> Tensor:
    """Converts a tensor (3, H, W) or (B, 3, H, W), also of 1 channel, to (B, C, H, W), dtype as it was.

    Raises:
        TypeError: the dtype is not supported.
        ValueError: the shape or the range of values is wrong.
    """
    if view.ndim not in (3, 4) or view.shape[-3] not in (1, 3):
        raise ValueError(
            f"{name} has the shape {tuple(view.shape)}: a tensor must be (3, H, W) or (B, 3, H, W); "
            "permute(2, 0, 1) brings the channels of (H, W, 3) to the front"
        )
    view = view.detach()
    return _checked(view if view.ndim == 4 else view[None], name)


def _checked(view: Tensor, name: str) -> Tensor:
    if not view.numel():
        raise ValueError(f"{name} holds no pixel: its shape is {tuple(view.shape)}")
    if view.dtype not in _FULL_SCALE and not view.dtype.is_floating_point:
        raise TypeError(_unfit(name, str(view.dtype).removeprefix("torch.")))
    if view.dtype.is_floating_point:
        low, high = (float(bound) for bound in view.aminmax())
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
            raise ValueError(
                f"{name} holds values of {low:g} to {high:g}, but floating colours must be in 0..1; "
                f"{_other_scale(low, high)}"
            )
    return view


def _unfit(name: str, dtype: str) -> str:
    return f"{name} is of {dtype}: colours must be uint8, uint16, or floating in 0..1; convert with .astype or .to"


def _remedy(shape: tuple[int, ...]) -> str:
    if len(shape) in (3, 4) and shape[-1] == 4:
        return "drop the alpha channel with [..., :3]"
    if len(shape) in (3, 4) and shape[-3] in (1, 3):
        return "np.moveaxis(view, -3, -1) brings the channels to the end, or pass torch.from_numpy(view)"
    return "is it an image?"


def _other_scale(low: float, high: float) -> str:
    if low >= 0 and 1 < high <= 65535:
        return "divide by the largest number that the format can hold, such as 255 or 65535"
    return "is it normalised, or damaged? The network normalises by itself"
