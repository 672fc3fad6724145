"""Colours disparities and their errors, and lays them out next to the ground truth, for TensorBoard and PNG files.

Pixels are not resampled: a tile shows each pixel of the image once, or as a square of equal pixels if the image is
small. Black means unknown; neither colour map contains black.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Image = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_DISPARITY_MAP, _ERROR_MAP = "turbo", "YlOrRd"
_FIRST = {_DISPARITY_MAP: 0.08, _ERROR_MAP: 0.0}  # the first colours of turbo are nearly black
_TILE_WIDTH = 300  # minimum in pixels, so that the text above and below a tile fits
_UNIT_WIDTH = 1000  # text, bars and gaps double beyond each multiple, since large images are viewed scaled down
_GAP, _HEAD, _FOOT, _BAR_MARGIN = 8, 20, 24, 70
_INK = "#22303C"


def colour_disparity(
    disparity: Tensor, valid: Tensor | None = None, *, low: float | None = None, high: float | None = None
) -> Image:
    """Colours a disparity from blue (far) to red (near).

    Args:
        disparity: (1, H, W) or (H, W), pixels, on any device.
        valid: bool mask of the same shape; None: all pixels.
        low: disparity of the first colour; by default a low quantile of the valid pixels.
        high: disparity of the last colour; by default a high quantile of the valid pixels.

    Returns:
        (H, W, 3); black where the disparity is not valid or not finite.

    Raises:
        ValueError: a shape is wrong.
    """
    values, known = _map(disparity, valid)
    usual = _scale(values[known])
    return _colour(values, known, _DISPARITY_MAP, usual[0] if low is None else low, usual[1] if high is None else high)


def usual_range(disparity: Tensor, valid: Tensor | None = None) -> tuple[float, float]:
    """Returns the default disparities of the first and last colour, between which nearly all valid pixels lie."""
    values, known = _map(disparity, valid)
    return _scale(values[known])


def usual_error(prediction: Tensor, truth: Tensor, valid: Tensor) -> float:
    """Returns the default error of the last colour, which almost no pixel exceeds."""
    error, known = _error(prediction, truth, valid)
    return _error_limit(error[known])


def panel(
    left: Tensor, truth: Tensor, prediction: Tensor, valid: Tensor, *, largest_error: float | None = None
) -> Image:
    """Draws the left view, ground truth, prediction (on the scale of the ground truth) and absolute error.

    Args:
        left: (3, H, W), RGB in 0..1; values outside are clipped.
        truth: ground truth (1, H, W), pixels.
        prediction: (1, H, W), pixels.
        valid: (1, H, W), bool, True where the ground truth is known.
        largest_error: error of the last colour in pixels, shared by images to be compared; default: ``usual_error``.

    Returns:
        An image of two by two tiles with scale bars, slightly larger than twice the height and width.

    Raises:
        ValueError: a shape is wrong.
    """
    true_values, true_known = _map(truth, valid)
    values, known = _map(prediction, None)
    error, error_known = _error(prediction, truth, valid)
    height, width = true_values.shape
    if left.shape != (3, height, width):
        raise ValueError(f"left is {tuple(left.shape)} and the ground truth {height} x {width}: left must be (3, H, W)")
    low, high = _scale(true_values[true_known] if true_known.any() else values[known])
    limit = _error_limit(error[error_known]) if largest_error is None else largest_error
    view = left.detach().to("cpu", torch.float32).nan_to_num(0.0).clamp(0, 1).permute(1, 2, 0).numpy()
    words = _error_words(error, error_known, int(valid.sum()))
    sheet = _Sheet(height, width)
    sheet.add(0, 0, "left view", (view * 255).round().astype(np.uint8))
    sheet.add(0, 1, "ground truth", *_with_scale(true_values, true_known, _DISPARITY_MAP, low, high))
    sheet.add(1, 0, "prediction", *_with_scale(values, known, _DISPARITY_MAP, low, high))
    sheet.add(1, 1, words, *_with_scale(error, error_known, _ERROR_MAP, 0.0, limit))
    return sheet.rendered()


class _Sheet:
    """Two by two tiles of equal size, with a title above each and a scale bar below."""

    def __init__(self, height: int, width: int) -> None:
        self.repeat = max(1, math.ceil(_TILE_WIDTH / width))
        self.tile = (height * self.repeat, width * self.repeat)
        self.unit = max(1, math.ceil(self.tile[1] / _UNIT_WIDTH))
        self.pitch = (self.tile[0] + self.unit * (_HEAD + _FOOT), self.tile[1] + self.unit * _GAP)
        self.size = (2 * self.pitch[0], 2 * self.pitch[1] + self.unit * _GAP)
        from matplotlib.figure import Figure  # takes a second to load

        # at 72 dots per inch a point is a pixel
        self.figure = Figure(figsize=((self.size[1] + 0.01) / 72, (self.size[0] + 0.01) / 72), dpi=72)

    def add(
        self, row: int, column: int, words: str, image: Image, scale: tuple[str, float, float] | None = None
    ) -> None:
        """Adds a tile; ``scale`` is a colour map and the values of its first and last colour."""
        top, left = row * self.pitch[0] + self.unit * _HEAD, self.unit * _GAP + column * self.pitch[1]
        bottom, right = top + self.tile[0], left + self.tile[1]
        self._write(left, top - 5 * self.unit, words, "left")
        self._put(image.repeat(self.repeat, 0).repeat(self.repeat, 1), left, bottom)
        if scale is not None:
            margin = _BAR_MARGIN * self.unit
            bar = _paint(np.linspace(0, 1, self.tile[1] - 2 * margin), scale[0])
            self._put(bar[None].repeat(9 * self.unit, 0), left + margin, bottom + 17 * self.unit)
            self._write(left, bottom + 17 * self.unit, f"{scale[1]:.1f} px", "left")
            self._write(right, bottom + 17 * self.unit, f"{scale[2]:.1f} px", "right")

    def rendered(self) -> Image:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas: Any = FigureCanvasAgg(self.figure)
        canvas.draw()
        pixels: Image = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        return pixels

    def _put(self, image: Image, left: int, bottom: int) -> None:
        self.figure.figimage(image, left, self.size[0] - bottom, origin="upper")

    def _write(self, x: float, baseline: float, words: str, side: str) -> None:
        look: dict[str, Any] = {"family": "DejaVu Sans", "size": 10 * self.unit, "color": _INK, "usetex": False}
        self.figure.text(x / self.size[1], 1 - baseline / self.size[0], words, ha=side, va="baseline", **look)


def _map(values: Tensor, valid: Tensor | None) -> tuple[Values, Mask]:
    if values.ndim not in (2, 3) or (values.ndim == 3 and len(values) != 1):
        raise ValueError(f"a disparity is (1, H, W) or (H, W), not {tuple(values.shape)}: pick one of the batch")
    if valid is not None and valid.shape != values.shape:
        raise ValueError(f"the disparity is {tuple(values.shape)} but the mask of valid pixels {tuple(valid.shape)}")
    array = values.detach().to("cpu", torch.float32).reshape(values.shape[-2:]).numpy()
    known = np.isfinite(array)
    if valid is not None:
        known = known & valid.detach().to("cpu", torch.bool).reshape(values.shape[-2:]).numpy()
    return array, known


def _error(prediction: Tensor, truth: Tensor, valid: Tensor) -> tuple[Values, Mask]:
    if prediction.shape != truth.shape:
        raise ValueError(f"the prediction is {tuple(prediction.shape)} but the ground truth {tuple(truth.shape)}")
    return _map((prediction.detach().to("cpu", torch.float32) - truth.detach().to("cpu", torch.float32)).abs(), valid)


def _scale(values: Values) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = (float(bound) for bound in np.percentile(values, (0.5, 99.5)))
    return low, max(high, low + 1.0, math.nextafter(low, math.inf))  # the last one beyond 2^53


def _error_limit(values: Values) -> float:
    return max(1.0, float(np.percentile(values, 98))) if values.size else 1.0


def _error_words(error: Values, known: Mask, valid: int) -> str:
    if not valid:
        return "absolute error: no valid pixel"
    lost = valid - int(known.sum())
    words = f"absolute error, mean {error[known].mean():.2f} px" if known.any() else "absolute error"
    return f"{words}, {lost} of {valid} not finite" if lost else words


def _with_scale(
    values: Values, known: Mask, name: str, low: float, high: float
) -> tuple[Image, tuple[str, float, float]]:
    return _colour(values, known, name, low, high), (name, low, high)


def _colour(values: Values, known: Mask, name: str, low: float, high: float) -> Image:
    if not low < high:
        raise ValueError(f"colours need a range, not {low} to {high}")
    share = (np.where(known, values, low).astype(np.float64) - low) / (high - low)
    image = _paint(share.clip(0, 1), name)
    image[~known] = 0
    return image


def _paint(share: npt.NDArray[np.float64], name: str) -> Image:
    from matplotlib import colormaps

    first = _FIRST[name]
    image: Image = colormaps[name](first + (1 - first) * share, bytes=True)[..., :3].copy()
    return image
