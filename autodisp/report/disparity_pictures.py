"""Colours disparities and their errors, with scale bars and beside the ground truth, for TensorBoard and PNG files.

Pixels are exact: a tile shows each pixel of the image once, or as a square of equal ones where the image is small.
Black means unknown, in every picture here: no colour of either map is black.
"""

import math
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from autodisp.report.pictures import rendered

Picture = npt.NDArray[np.uint8]

_DISPARITY_MAP = "turbo"
_ERROR_MAP = "YlOrRd"
_FIRST = {_DISPARITY_MAP: 0.08, _ERROR_MAP: 0.0}  # the first colours of turbo are too near to black
_TILE_WIDTH = 300  # at least, in pixels, so that the words above and below a tile fit
_UNIT_WIDTH = 1000  # words, bars and gaps double beyond each multiple: large pictures are looked at from afar
_GAP = 8
_HEAD = 20
_FOOT = 24
_FONT_SIZE = 10
_RC: dict[Any, Any] = {"font.family": ["DejaVu Sans"], "text.usetex": False}

_Tile = tuple[str, Picture, tuple[str, float, float] | None]


def colour_disparity(
    disparity: Tensor, valid: Tensor | None = None, *, low: float | None = None, high: float | None = None
) -> Picture:
    """A disparity in colours from blue (far) to red (near).

    Args:
        disparity: (1, H, W) or (H, W), pixels, on any device.
        valid: the same shape, bool; None: everywhere.
        low: disparity of the first colour; by default one that nearly all valid pixels exceed.
        high: disparity of the last colour; by default one that nearly no valid pixel exceeds.

    Returns:
        (H, W, 3); black where the disparity is not valid or not finite.

    Raises:
        ValueError: a shape is something else.
    """
    values, known = _map(disparity, valid)
    usual = _scale(values[known])
    return _colour(values, known, _DISPARITY_MAP, usual[0] if low is None else low, usual[1] if high is None else high)


def colour_error(
    prediction: Tensor, truth: Tensor, valid: Tensor | None = None, *, high: float | None = None
) -> Picture:
    """The absolute error in colours from pale yellow (none) to dark red (``high`` pixels or more).

    Args:
        prediction: (1, H, W) or (H, W), pixels.
        truth: the same.
        valid: the same shape, bool; None: everywhere.
        high: the error of the last colour; by default one that nearly no pixel exceeds.

    Returns:
        (H, W, 3); black where the truth is not valid, or either is not finite.
    """
    error, known = _error(prediction, truth, valid)
    return _colour(error, known, _ERROR_MAP, 0.0, _error_limit(error[known]) if high is None else high)


def usual_range(disparity: Tensor, valid: Tensor | None = None) -> tuple[float, float]:
    """The disparities of the first and last colour, where none are given: nearly all valid pixels lie between them."""
    values, known = _map(disparity, valid)
    return _scale(values[known])


def usual_error(prediction: Tensor, truth: Tensor, valid: Tensor | None = None) -> float:
    """The error of the last colour, where none is given: nearly no pixel exceeds it."""
    error, known = _error(prediction, truth, valid)
    return _error_limit(error[known])


def panel(
    left: Tensor, truth: Tensor, prediction: Tensor, valid: Tensor, *, largest_error: float | None = None
) -> Picture:
    """Left view, truth, prediction (coloured on the truth's scale) and absolute error, with scale bars below.

    Args:
        left: (3, H, W), RGB in 0..1; what lies outside is clipped.
        truth: (1, H, W), pixels.
        prediction: (1, H, W), pixels.
        valid: (1, H, W), bool, where the truth is known.
        largest_error: of the last colour, pixels, for pictures that are compared; by default see ``usual_error``.

    Returns:
        A picture of two by two tiles, a little larger than twice the height and width.

    Raises:
        ValueError: a shape is something else.
    """
    true_values, true_known = _map(truth, valid)
    values, known = _map(prediction, None)
    error, error_known = _error(prediction, truth, valid)
    height, width = true_values.shape
    if left.shape != (3, height, width):
        raise ValueError(f"left is {tuple(left.shape)} and the truth {height} x {width}: left must be (3, H, W)")
    low, high = _scale(true_values[true_known] if true_known.any() else values[known])
    limit = _error_limit(error[error_known]) if largest_error is None else largest_error
    view = left.detach().to("cpu", torch.float32).nan_to_num(0.0).clamp(0, 1).permute(1, 2, 0).numpy()
    return _Sheet(height, width, across=2).with_tiles(
        [
            ("left view", (view * 255).round().astype(np.uint8), None),
            ("truth", _colour(true_values, true_known, _DISPARITY_MAP, low, high), (_DISPARITY_MAP, low, high)),
            ("prediction", _colour(values, known, _DISPARITY_MAP, low, high), (_DISPARITY_MAP, low, high)),
            (
                _error_words(error, error_known, int(valid.sum())),
                _colour(error, error_known, _ERROR_MAP, 0.0, limit),
                (_ERROR_MAP, 0.0, limit),
            ),
        ]
    )


class _Sheet:
    """Tiles of one size in rows, with words above and a scale bar below each."""

    def __init__(self, height: int, width: int, *, across: int) -> None:
        self.across = across
        self.repeat = max(1, math.ceil(_TILE_WIDTH / width))
        self.tile = (height * self.repeat, width * self.repeat)
        self.unit = max(1, math.ceil(self.tile[1] / _UNIT_WIDTH))
        self.pitch = (self.tile[0] + self.unit * (_HEAD + _FOOT), self.tile[1] + self.unit * _GAP)

    def with_tiles(self, tiles: list[_Tile]) -> Picture:
        """The finished picture."""
        unit = self.unit
        size = (math.ceil(len(tiles) / self.across) * self.pitch[0], self.across * self.pitch[1] + unit * _GAP)
        corners = [divmod(index, self.across) for index in range(len(tiles))]
        corners = [(row * self.pitch[0] + unit * _HEAD, unit * _GAP + col * self.pitch[1]) for row, col in corners]
        sheet = self._words(size, tiles, corners)
        for (_, picture, scale), (top, left) in zip(tiles, corners, strict=True):
            bottom, right = top + self.tile[0], left + self.tile[1]
            sheet[top:bottom, left:right] = picture.repeat(self.repeat, 0).repeat(self.repeat, 1)
            if scale is not None:
                margin = 70 * unit
                bar = _paint(np.linspace(0, 1, self.tile[1] - 2 * margin), scale[0])
                sheet[bottom + 8 * unit : bottom + 17 * unit, left + margin : right - margin] = bar
        return sheet

    def _words(self, size: tuple[int, int], tiles: list[_Tile], corners: list[tuple[int, int]]) -> Picture:
        """A white sheet with nothing but the words."""
        with mpl.rc_context({**_RC, "font.size": _FONT_SIZE * self.unit}):
            # at 72 dots per inch a point is a pixel
            figure = Figure(figsize=((size[1] + 0.01) / 72, (size[0] + 0.01) / 72), dpi=72, facecolor="white")

            def write(x: float, baseline: float, words: str, side: str) -> None:
                x, y = x / size[1], 1 - baseline / size[0]
                figure.text(x, y, words, ha=side, va="baseline", color="#22303C", parse_math=False)

            for (words, _, scale), (top, left) in zip(tiles, corners, strict=True):
                write(left, top - 5 * self.unit, words, "left")
                if scale is not None:
                    foot = top + self.tile[0] + 17 * self.unit
                    write(left, foot, f"{scale[1]:.1f} px", "left")
                    write(left + self.tile[1], foot, f"{scale[2]:.1f} px", "right")
            return rendered(figure)


def _map(values: Tensor, valid: Tensor | None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    if values.ndim not in (2, 3) or (values.ndim == 3 and len(values) != 1):
        raise ValueError(f"a disparity is (1, H, W) or (H, W), not {tuple(values.shape)}: pick one of the batch")
    if valid is not None and valid.shape != values.shape:
        raise ValueError(f"the disparity is {tuple(values.shape)} but the mask of valid pixels {tuple(valid.shape)}")
    array = values.detach().to("cpu", torch.float32).reshape(values.shape[-2:]).numpy()
    known = np.isfinite(array)
    if valid is not None:
        known = known & valid.detach().to("cpu", torch.bool).reshape(values.shape[-2:]).numpy()
    return array, known


def _error(
    prediction: Tensor, truth: Tensor, valid: Tensor | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    if prediction.shape != truth.shape:
        raise ValueError(f"the prediction is {tuple(prediction.shape)} but the truth {tuple(truth.shape)}")
    return _map((prediction.detach().to("cpu", torch.float32) - truth.detach().to("cpu", torch.float32)).abs(), valid)


def _scale(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = (float(bound) for bound in np.percentile(values, (0.5, 99.5)))
    return low, max(high, low + 1.0)


def _error_limit(values: npt.NDArray[np.float32]) -> float:
    return max(1.0, float(np.percentile(values, 98))) if values.size else 1.0


def _error_words(error: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], valid: int) -> str:
    if not valid:
        return "absolute error: no valid pixel"
    lost = valid - int(known.sum())
    words = f"absolute error, mean {error[known].mean():.2f} px" if known.any() else "absolute error"
    return f"{words}, {lost} of {valid} not finite" if lost else words


def _colour(
    values: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], name: str, low: float, high: float
) -> Picture:
    if not low < high:
        raise ValueError(f"colours need a range, not {low} to {high}")
    share = (np.where(known, values, low).astype(np.float64) - low) / (high - low)
    picture = _paint(share.clip(0, 1), name)
    picture[~known] = 0
    return picture


def _paint(share: npt.NDArray[np.float64], name: str) -> Picture:
    first = _FIRST[name]
    picture: Picture = mpl.colormaps[name](first + (1 - first) * share, bytes=True)[..., :3].copy()
    return picture
