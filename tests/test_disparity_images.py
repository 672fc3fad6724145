import math

import cv2
import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.prediction.disparity_images import colour_disparity, panel, usual_error, usual_range


def planes(height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns left view, ground truth, prediction, valid."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.rand(3, height, width, generator=generator)
    truth = 60 * torch.rand(1, height, width, generator=generator)
    prediction = truth + torch.randn(1, height, width, generator=generator)
    valid = torch.rand(1, height, width, generator=generator) > 0.2
    valid[0, 0, 0] = True
    return left, truth, prediction, valid


def error_colours(prediction: Tensor, truth: Tensor, valid: Tensor, high: float | None = None) -> np.ndarray:
    error = (prediction - truth).abs()[0].double().numpy()
    high = max(1.0, float(np.percentile(error[valid[0].numpy()], 98))) if high is None else high
    colours = mpl.colormaps["YlOrRd"]((error / high).clip(0, 1), bytes=True)[..., :3]
    return np.where(valid[0, :, :, None].numpy(), colours, 0)


def contains(sheet: np.ndarray, tile: np.ndarray) -> bool:
    """Whether the tile stands somewhere in the sheet, pixel by pixel, enlarged by a whole number or not at all."""
    for times in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 25, 43, 60, 100, 300):
        large = np.kron(tile, np.ones((times, times, 1), np.uint8))
        if large.shape[0] <= sheet.shape[0] and large.shape[1] <= sheet.shape[1]:
            distances = cv2.matchTemplate(sheet.astype(np.float32), large.astype(np.float32), cv2.TM_SQDIFF)
            y, x = np.unravel_index(distances.argmin(), distances.shape)
            if (sheet[y : y + large.shape[0], x : x + large.shape[1]] == large).all():
                return True
    return False


def test_colours_rise_with_the_disparity() -> None:
    image = colour_disparity(torch.tensor([[[-5.0, 0.0, 25.0, 50.0, 100.0, 999.0]]]), low=0.0, high=100.0)
    colours = mpl.colormaps["turbo"](np.linspace(0, 1, 256), bytes=True)[:, :3].astype(int)
    places = [int(np.abs(colours - pixel.astype(int)).sum(axis=1).argmin()) for pixel in image[0]]
    assert places == sorted(places)
    assert places[0] == places[1] < places[2] < places[3] < places[4] == places[5] == 255
    assert places[3] - places[1] == pytest.approx((places[4] - places[1]) / 2, abs=1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_unknown_pixels_are_black_and_no_others(bad: float) -> None:
    disparity = torch.linspace(0, 90, 20).reshape(1, 4, 5).clone()
    disparity[0, 1, 2] = bad
    valid = torch.ones(1, 4, 5, dtype=torch.bool)
    valid[0, 3, 0] = False
    image = colour_disparity(disparity, valid)
    black = (image == 0).all(axis=-1)
    assert set(zip(*np.nonzero(black), strict=True)) == {(1, 2), (3, 0)}
    assert image[~black].max(axis=-1).min() > 60


def test_shape_type_and_range_by_default() -> None:
    _, truth, _, valid = planes(5, 7)
    image = colour_disparity(truth)
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8
    assert (image == colour_disparity(truth[0])).all()
    low, high = np.percentile(truth.numpy(), (0.5, 99.5))
    assert (image == colour_disparity(truth, low=float(low), high=float(high))).all()
    spoilt = truth.masked_fill(~valid, 1e6)
    assert (colour_disparity(spoilt, valid) == colour_disparity(truth, valid)).all(), "invalid pixels set the scale"


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (5, 50), (37, 61), (1, 400), (120, 301)])
def test_a_panel_holds_its_four_tiles_pixel_by_pixel(size: tuple[int, int]) -> None:
    left, truth, prediction, valid = planes(*size)
    sheet = panel(left, truth, prediction, valid)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 2 * size[0]
    assert sheet.shape[1] > max(600, 2 * size[1])
    low, high = (float(bound) for bound in np.percentile(truth[valid].numpy(), (0.5, 99.5)))
    high = max(high, low + 1)
    assert contains(sheet, (left.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    assert contains(sheet, colour_disparity(truth, valid, low=low, high=high))
    assert contains(sheet, colour_disparity(prediction, low=low, high=high)), "on the scale of the ground truth"
    assert contains(sheet, error_colours(prediction, truth, valid))


def test_a_panel_of_disparities_beyond_all_images() -> None:
    left, truth, prediction, valid = planes(5, 7)
    assert panel(left, torch.full_like(truth, 1e30), prediction, valid).size


def test_a_panel_says_the_mean_error_of_valid_pixels() -> None:
    left, truth, _, valid = planes(20, 30)
    small, large = (panel(left, truth, truth + error, valid) for error in (0.25, 0.75))
    spoilt = panel(left, truth, torch.where(valid, truth + 0.25, 1e4), valid)
    middle = small.shape[0] // 2
    words = (slice(middle, middle + 20), slice(small.shape[1] // 2, None))
    assert (small[words] != large[words]).any()
    assert (small[words] == spoilt[words]).all()


def bar_of(sheet: np.ndarray, columns: slice) -> np.ndarray:
    """The colours of the bar at the foot of a panel."""
    foot = sheet[-24:, columns]
    colours = next(row for row in foot if (row.max(axis=1) != row.min(axis=1)).sum() > 100)
    (inside,) = np.nonzero((colours != 255).any(axis=1))
    return colours[inside[0] : inside[-1] + 1]


def test_the_bars_say_which_colour_is_how_much() -> None:
    left, truth, prediction, valid = planes(30, 320)
    sheet = panel(left, truth, prediction, valid, largest_error=50.0)
    half = sheet.shape[1] // 2
    low, high = usual_range(truth, valid)
    bars = (bar_of(sheet, slice(None, half)), bar_of(sheet, slice(half, None)))
    ends = torch.linspace(low, high, len(bars[0])).reshape(1, -1)
    errors = torch.linspace(0.0, 50.0, len(bars[1])).reshape(1, 1, -1)
    known = torch.ones_like(errors, dtype=torch.bool)
    expected = (
        colour_disparity(ends, low=low, high=high),
        error_colours(errors, torch.zeros_like(errors), known, 50.0),
    )
    for bar, colours in zip(bars, expected, strict=True):
        assert np.abs(bar.astype(int) - colours[0].astype(int)).max() <= 6
        assert len(bar) > 0.4 * 320


def test_a_panel_names_the_end_of_its_error_scale() -> None:
    left, truth, prediction, valid = planes(20, 400)
    usual = usual_error(prediction, truth, valid)
    own, same, other = (
        panel(left, truth, prediction, valid, largest_error=limit) for limit in (None, usual, usual + 1)
    )
    assert (own == same).all()
    assert contains(other, error_colours(prediction, truth, valid, usual + 1))
    assert (other[-24:, -78:] != own[-24:, -78:]).any()
    assert (other[:, : own.shape[1] // 2] == own[:, : own.shape[1] // 2]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_panel_takes_values_that_are_no_number(bad: float) -> None:
    left, truth, prediction, valid = planes(12, 40)
    clean = panel(left, truth, prediction, valid)
    prediction[0, 3] = bad
    truth[0, 4] = bad
    left[0, 5] = bad
    sheet = panel(left, truth, prediction, valid)
    assert sheet.shape == clean.shape
    assert (sheet != clean).any()


@pytest.mark.parametrize("nothing", ["valid", "finite"])
def test_a_panel_without_anything_known(nothing: str) -> None:
    left, truth, prediction, valid = planes(12, 40)
    if nothing == "valid":
        valid[:] = False
    else:
        prediction[:] = math.nan
        truth[:] = math.nan
    assert contains(panel(left, truth, prediction, valid), np.zeros((12, 40, 3), np.uint8))


def test_a_panel_takes_the_output_of_a_network_and_clips_the_view() -> None:
    left, truth, prediction, valid = planes(12, 40)
    prediction = prediction.half()
    expected = panel(left, truth, prediction.float(), valid)
    assert (panel(left, truth, prediction.requires_grad_(), valid) == expected).all()
    strided = left.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert (panel(strided, truth, prediction, valid) == expected).all()
    left = left * 3 - 1
    assert (panel(left, truth, prediction, valid) == panel(left.clamp(0, 1), truth, prediction, valid)).all()


def test_wrong_shapes_are_refused() -> None:
    left, truth, prediction, valid = planes(4, 6)
    with pytest.raises(ValueError, match="one of the batch"):
        colour_disparity(torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match=r"mask .*\(1, 4, 5\)"):
        colour_disparity(truth, valid[..., :5])
    with pytest.raises(ValueError, match="left must be"):
        panel(left[..., :5], truth, prediction, valid)
    with pytest.raises(ValueError, match="prediction is"):
        panel(left, truth, prediction[..., :5], valid)
    with pytest.raises(ValueError, match="range"):
        colour_disparity(truth, low=3.0, high=3.0)
