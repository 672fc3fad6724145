"""The renderer against a scalar one in float64 that inverts x -> x - d by bisection and draws no view at all."""

import numpy as np
import pytest

from autodisp.datasets.shapes3d_rendering import Layer, Surface, render
from autodisp.datasets.shapes3d_scene import draw_scene
from autodisp.datasets.shapes3d_textures import draw_pattern_bank

UNSURE = 0.01
"""Coverages this close to one half, or disparities this close to one another, may fall on either side."""


def disparity_at(layer: Layer, x: float, y: float) -> float:
    u, v = x - layer.surface.centre[0], y - layer.surface.centre[1]
    qxx, qxy, qyy = layer.surface.bend
    return min(a + b * u + c * v for a, b, c in layer.surface.planes) + qxx * u * u + qxy * u * v + qyy * v * v


def coverage_at(layer: Layer, x: float, y: int) -> float:
    if layer.mask is None:
        return 1.0
    h, w = layer.mask.shape
    column, row = x - layer.origin[0], y - layer.origin[1]
    if not 0 <= row < h:
        return 0.0
    first = int(np.floor(column))
    at = [float(layer.mask[row, k]) if 0 <= k < w else 0.0 for k in (first, first + 1)]
    return at[0] + (column - first) * (at[1] - at[0])


def place_in_left(layer: Layer, right_x: float, y: int, width: int) -> float | None:
    """Bisection over the columns on which the layer is drawn; None where it does not reach right_x."""
    low, high = (-1.0, 3.0 * width)
    if layer.mask is not None:
        low, high = layer.origin[0] - 1.0, layer.origin[0] + float(layer.mask.shape[1])
    if low - disparity_at(layer, low, y) > right_x or high - disparity_at(layer, high, y) < right_x:
        return None
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if middle - disparity_at(layer, middle, y) < right_x else (low, middle)
    return (low + high) / 2


def truth_at(layers: list[Layer], x: int, y: int, width: int) -> tuple[float, bool] | None:
    """Disparity and occlusion of one left pixel; None where it is too close to call."""
    seen = []
    for number, layer in enumerate(layers):
        covering = coverage_at(layer, x, y)
        if abs(covering - 0.5) < UNSURE:
            return None
        if covering > 0.5:
            seen.append((disparity_at(layer, x, y), number))
    nearest, owner = max(seen)
    if any(nearest - d < UNSURE for d, number in seen if number != owner):
        return None
    hidden = False
    for number, layer in enumerate(layers):
        place = None if number == owner else place_in_left(layer, x - nearest, y, width)
        if place is None:
            continue
        covering, d = coverage_at(layer, place, y), disparity_at(layer, place, y)
        if covering > 0.5 - UNSURE and abs(d - nearest) < UNSURE:
            return None
        if d > nearest:
            if abs(covering - 0.5) < 4 * UNSURE:
                return None
            hidden |= covering > 0.5
    return nearest, hidden


@pytest.mark.parametrize("seed", range(4))
def test_truth_equals_that_of_a_scalar_renderer(seed: int) -> None:
    height, width = 24, 40
    rng = np.random.default_rng(seed)
    bank = draw_pattern_bank(rng, side=16, copies=1)
    layers = draw_scene(rng, bank, height=height, width=width, max_disparity=14.0, objects=(5, 9))
    scene = render(layers, height, width)
    sure = 0
    for y in range(height):
        for x in range(width):
            truth = truth_at(layers, x, y, width)
            if truth is None:
                continue
            sure += 1
            assert scene.disparity[y, x] == pytest.approx(truth[0], abs=1e-4)
            gone = x - truth[0] < 0
            assert scene.out_of_frame[y, x] == gone
            assert scene.occluded[y, x] == (truth[1] and not gone)
    assert sure > 0.8 * height * width
    assert scene.occluded.any()


SURFACES = [
    Surface((3.0, -2.0), ((7.5, 0.0, 0.0),)),
    Surface((30.25, 11.0), ((20.0, 0.3, -0.2),)),
    Surface((30.25, 11.0), ((20.0, -0.3, 0.2),), (-2e-3, 1e-3, -3e-3)),
    Surface((10.0, 20.0), ((9.0, 0.05, 0.0),), (2e-3, 0.0, 0.0)),
    Surface((20.0, 20.0), ((15.0, 0.2, 0.1), (15.0, -0.25, 0.0), (15.0, 0.0, -0.2))),
    Surface((20.0, 20.0), ((15.0, 0.1, 0.1), (15.0, -0.15, 0.0)), (-1e-3, 2e-4, 1e-3)),
]


@pytest.mark.parametrize("surface", SURFACES)
def test_left_column_inverts_the_shift(surface: Surface) -> None:
    x, y = np.arange(0, 60, 0.37, dtype=np.float32)[None], np.arange(0, 40, dtype=np.float32)[:, None]
    right_x = x - surface.disparity(x, y)
    np.testing.assert_allclose(surface.left_column(right_x, y), np.broadcast_to(x, right_x.shape), atol=1e-3)


def test_surfaces_pass_through_one_another() -> None:
    """Two ramps of opposite slope cross in the middle; each is in front on its own half."""
    height, width = 8, 64
    texture = np.zeros((8, 8, 3), np.float32)
    mapping = np.array([[1, 0, 4], [0, 1, 4]], np.float32)
    everything = np.ones((height, 2 * width), np.float32)
    flat = Layer(Surface((32, 4), ((1.0, 0, 0),)), None, (0, 0), texture, mapping, (1.0, 1.0))
    ramps = [
        Layer(Surface((32.0, 4.0), ((10.0, slope, 0.0),)), everything, (-20, 0), texture, mapping, (-20.0, 40.0))
        for slope in (0.2, -0.2)
    ]
    expected = 10 + 0.2 * np.abs(np.arange(width) - 32.0)
    for order in (ramps, ramps[::-1]):
        scene = render([flat, *order], height, width)
        np.testing.assert_allclose(scene.disparity, np.broadcast_to(expected, (height, width)), rtol=1e-5)


def test_views_show_the_texture_at_its_sub_pixel_place() -> None:
    """A linear texture is reproduced exactly by bilinear sampling, so each view has a closed form."""
    height, width, d = 6, 40, 3.37
    ramp = np.repeat(np.tile(np.arange(100, dtype=np.float32), (100, 1))[..., None], 3, axis=2)
    mapping = np.array([[1, 0, 30], [0, 1, 50]], np.float32)
    plane = Layer(Surface((0.0, 0.0), ((d, 0.05, 0.1),)), None, (0, 0), ramp, mapping, (0.0, 10.0))
    scene = render([plane], height, width)
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    step = 1 / 32 + 1e-3  # OpenCV may look texture up in steps of 1/32
    np.testing.assert_allclose(scene.left[..., 0], np.broadcast_to(x + 30.0, (height, width)), atol=step)
    np.testing.assert_allclose(scene.right[..., 0], (x + d + 0.1 * y) / 0.95 + 30, atol=step)
    assert not scene.occluded.any()
