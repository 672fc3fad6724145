"""A trained disparity network as a function from two images to a disparity map."""

from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp.networks.confidence import confidence_of, has_volume
from autodisp.networks.disparity import StereoPrediction
from autodisp.prediction.image_models import ready
from autodisp.tasks.base import main_output

Array = npt.NDArray[Any]

_FULL_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}
_OVERSHOOT = 0.01  # tolerance of colours due to rounding and resampling; a larger excess means another scale


class StereoMatcher:
    """Calls a network on images in the usual formats: numpy arrays or tensors of any height and width.

    Args:
        network: called as network(left, right), returns a StereoPrediction or the disparity alone; it is moved to the
            device and permanently set to eval mode. The module of a torch.export.ExportedProgram is accepted as well.
        device: device on which the network runs.
    """

    def __init__(self, network: nn.Module, *, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = ready(network, self.device)

    @overload
    def __call__(self, left: Array, right: Array) -> npt.NDArray[np.float32]: ...
    @overload
    def __call__(self, left: Tensor, right: Tensor) -> Tensor: ...
    def __call__(self, left: Array | Tensor, right: Array | Tensor) -> npt.NDArray[np.float32] | Tensor:
        """Predicts the disparity of the left view: position x there matches x - disparity in the right view.

        Args:
            left, right: rectified views of equal size, RGB (not OpenCV's BGR) or grey. Arrays are (H, W, 3), (H, W) or
                (B, H, W, 3), tensors (3, H, W) or (B, 3, H, W), also with 1 channel instead of 3. Either uint8 or
                uint16, with a maximum of 255 or 65535, or floating point in 0..1.

        Returns:
            (B, 1, H, W) float32, pixels; an array for arrays, a tensor on the device of `left` for tensors. Clipped to
            0..W, since no pixel has a match in the right view beyond W; predictions for images much smaller than those
            in training may exceed it.

        Raises:
            TypeError: the views are neither arrays nor tensors, or one of each, or of an unsupported dtype.
            ValueError: a shape or a range of values is wrong, or the views differ in size.
        """
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            return self._matched(_from_array(left, "left"), _from_array(right, "right")).cpu().numpy()
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            return self._matched(_from_tensor(left, "left"), _from_tensor(right, "right")).to(left.device)
        raise TypeError(
            f"left is a {type(left).__name__} and right a {type(right).__name__}: both must be numpy arrays "
            "or both tensors, such as np.asarray(image)"
        )

    @property
    def has_confidence(self) -> bool:
        """True for a network with a matching volume, or one that was exported with its confidence."""
        return has_volume(self.network) or getattr(self.network, "outputs", 1) > 1

    def with_confidence(self, left: Tensor, right: Tensor) -> Tensor:
        """Predicts the disparity like ``__call__``, and its confidence where the network has one.

        Args:
            left, right: tensors as in ``__call__``.

        Returns:
            (B, 2, H, W) float32: pixels, and 0..1, see ``autodisp.networks.confidence``; (B, 1, H, W) without
            ``has_confidence``.
        """
        matched = self._matched(_from_tensor(left, "left"), _from_tensor(right, "right"), confident=self.has_confidence)
        return matched.to(left.device)

    def _matched(self, left: Tensor, right: Tensor, *, confident: bool = False) -> Tensor:
        if _size(left) != _size(right):
            raise ValueError(
                f"left is {_size(left)} and right {_size(right)} (batch x height x width): "
                "the views of a rectified pair have one size"
            )
        with torch.inference_mode():
            views = [self._on_device(view) for view in (left, right)]
            prediction = self.network(*views)
            disparity = main_output(prediction).to(torch.float32).clamp(min=0.0)
            limited = disparity.clamp(max=float(left.shape[-1]))
            disparity = torch.where(disparity.isinf(), disparity, limited)  # an overflow stays visible
            if confident:
                own = isinstance(prediction, StereoPrediction)
                confidence = confidence_of(prediction._replace(disparity=disparity)) if own else prediction[1]
                disparity = disparity if confidence is None else torch.cat([disparity, confidence], dim=1)
        return disparity.clone()  # an inference-mode tensor could not be used in the user's training

    def _on_device(self, view: Tensor) -> Tensor:
        """Converts a view to (B, 3, H, W) float32 in 0..1."""
        view = in_unit_range(view.to(self.device))
        return view.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def in_unit_range(view: Tensor) -> Tensor:
    """Converts the colours of a view to float32 in 0..1."""
    return view.to(torch.float32) / _FULL_SCALE.get(view.dtype, 1.0)


def _from_array(view: Array, name: str) -> Tensor:
    """(B, C, H, W), dtype as it was."""
    if not (view.ndim == 2 or (view.ndim in (3, 4) and view.shape[-1] in (1, 3))):
        raise ValueError(
            f"{name} has the shape {view.shape}: an array must be (H, W, 3), (H, W) or (B, H, W, 3); "
            f"{_remedy(view.shape)}"
        )
    batch = view[None, ..., None] if view.ndim == 2 else view if view.ndim == 4 else view[None]
    if view.dtype.byteorder == ">":
        batch = batch.astype(view.dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
    except TypeError as error:
        raise TypeError(_unfit(name, str(view.dtype))) from error
    return _checked(tensor, name)


def _from_tensor(view: Tensor, name: str) -> Tensor:
    """(B, C, H, W), dtype as it was."""
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


def _size(view: Tensor) -> str:
    return "x".join(str(side) for side in (view.shape[0], *view.shape[2:]))
