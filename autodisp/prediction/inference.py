"""A trained disparity network as a function from two images to a disparity map."""

from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp.networks.confidence import confidence_of, end_of_volume, has_volume
from autodisp.networks.disparity import StereoPrediction
from autodisp.prediction.image_models import Array, Replayed, from_array, from_tensor, in_unit_range, ready
from autodisp.tasks.base import main_output


class StereoMatcher:
    """Calls a network on images in the usual formats: numpy arrays or tensors of any height and width.

    Args:
        network: called as network(left, right), returns a StereoPrediction or the disparity alone; it is moved to the
            device and permanently set to eval mode. The module of a torch.export.ExportedProgram is accepted as well.
    """

    def __init__(self, network: nn.Module, *, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = ready(network, self.device)
        self._call = Replayed(self.network, self.device)

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
        return self._called(left, right, confident=False)

    @property
    def has_confidence(self) -> bool:
        """True for a network with a matching volume, or one that was exported with its confidence."""
        return has_volume(self.network) or getattr(self.network, "outputs", 1) > 1

    @property
    def max_disparity(self) -> float:
        """Largest disparity that its matching volume holds, pixels; infinite if there is none, or it is not known."""
        return end_of_volume(self.network)

    @overload
    def with_confidence(self, left: Array, right: Array) -> npt.NDArray[np.float32]: ...
    @overload
    def with_confidence(self, left: Tensor, right: Tensor) -> Tensor: ...
    def with_confidence(self, left: Array | Tensor, right: Array | Tensor) -> npt.NDArray[np.float32] | Tensor:
        """Predicts the disparity like ``__call__``, and its confidence where the network has one.

        Args:
            left, right: see ``__call__``.

        Returns:
            (B, 2, H, W) float32: pixels, and 0..1, see ``autodisp.networks.confidence``; (B, 1, H, W) without
            ``has_confidence``.
        """
        return self._called(left, right, confident=self.has_confidence)

    def _called(
        self, left: Array | Tensor, right: Array | Tensor, *, confident: bool
    ) -> npt.NDArray[np.float32] | Tensor:
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            arrays = _of_one_size(from_array(left, "left"), from_array(right, "right"))
            return self._matched(*arrays, confident=confident).cpu().numpy()
        if isinstance(left, Tensor) and isinstance(right, Tensor):
            tensors = _of_one_size(from_tensor(left, "left"), from_tensor(right, "right"))
            return self._matched(*tensors, confident=confident).to(left.device)
        raise TypeError(
            f"left is a {type(left).__name__} and right a {type(right).__name__}: both must be numpy arrays "
            "or both tensors, such as np.asarray(image)"
        )

    def _matched(self, left: Tensor, right: Tensor, *, confident: bool = False) -> Tensor:
        with torch.inference_mode():
            views = [self._on_device(view) for view in (left, right)]
            prediction = self._call(*views)
            disparity = clipped(main_output(prediction).to(torch.float32))
            if confident:
                own = isinstance(prediction, StereoPrediction)
                confidence = confidence_of(prediction._replace(disparity=disparity)) if own else prediction[1]
                disparity = disparity if confidence is None else torch.cat([disparity, confidence], dim=1)
        return disparity.clone()  # an inference-mode tensor could not be used in the user's training

    def _on_device(self, view: Tensor) -> Tensor:
        """Converts a view to (B, 3, H, W) float32 in 0..1."""
        view = in_unit_range(view.to(self.device))
        return view.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class WrappedMatcher(StereoMatcher):
    """Base of the matchers that change what another one predicts, in ``_matched``."""

    def __init__(self, matcher: StereoMatcher) -> None:
        super().__init__(matcher.network, device=matcher.device)
        self.matcher = matcher

    @property
    def max_disparity(self) -> float:
        """See ``StereoMatcher``."""
        return self.matcher.max_disparity


def clipped(disparity: Tensor) -> Tensor:
    """Clips disparities (..., W) to 0..W, but for an overflow, which stays visible."""
    disparity = disparity.clamp(min=0.0)
    return torch.where(disparity.isinf(), disparity, disparity.clamp(max=float(disparity.shape[-1])))


def _of_one_size(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    if _size(left) != _size(right):
        raise ValueError(
            f"left is {_size(left)} and right {_size(right)} (batch x height x width): "
            "the views of a rectified pair have one size"
        )
    return left, right


def _size(view: Tensor) -> str:
    return "x".join(str(side) for side in (view.shape[0], *view.shape[2:]))
