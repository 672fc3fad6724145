import numpy as np
import pytest

from autodisp.datasets.shapes3d_rendering import Layer
from autodisp.datasets.shapes3d_scene import draw_scene
from autodisp.datasets.shapes3d_textures import draw_pattern_bank

BANK = draw_pattern_bank(np.random.default_rng(0), side=64, copies=1)


def scene(seed: int, *, height: int = 60, width: int = 120, reach: float = 30.0) -> list[Layer]:
    rng = np.random.default_rng(seed)
    return draw_scene(rng, BANK, height=height, width=width, max_disparity=reach, objects=(8, 21))


def covered(layer: Layer, height: int, width: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    if layer.mask is None:
        y, x = np.mgrid[:height, : int(width + reach)]
        return x.astype(np.float64), y.astype(np.float64)
    y, x = np.nonzero(layer.mask)
    return x + float(layer.origin[0]), y + float(layer.origin[1])


def disparity(layer: Layer, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The formula in float64."""
    u, v = x - layer.surface.centre[0], y - layer.surface.centre[1]
    qxx, qxy, qyy = layer.surface.bend
    faces = np.array([a + b * u + c * v for a, b, c in layer.surface.planes])
    return faces.min(axis=0) + qxx * u * u + qxy * u * v + qyy * v * v


@pytest.mark.parametrize(("height", "width", "reach"), [(60, 120, 30.0), (33, 47, 9.0), (16, 16, 2.0)])
def test_disparities_stay_in_bounds_and_surfaces_never_turn_edge_on(height: int, width: int, reach: float) -> None:
    for seed in range(25):
        for layer in scene(seed, height=height, width=width, reach=reach):
            x, y = covered(layer, height, width, reach)
            if x.size == 0:
                continue
            d = disparity(layer, x, y)
            assert d.min() > 0
            assert d.max() <= reach * (1 + 1e-6)
            assert layer.depths[0] - 1e-4 <= d.min()
            assert d.max() <= layer.depths[1] + 1e-4
            step = 1e-3
            slope = (disparity(layer, x + step, y) - disparity(layer, x - step, y)) / (2 * step)
            assert np.abs(slope).max() < 0.36


def test_scenes_hold_the_wanted_number_of_layers_from_far_to_near() -> None:
    counts = []
    for seed in range(60):
        layers = scene(seed)
        assert layers[0].mask is None
        assert all(layer.mask is not None for layer in layers[1:])
        near = [layer.surface.planes[0][0] for layer in layers[1:]]
        assert near == sorted(near)
        counts.append(len(near))
    assert min(counts) == 8
    assert max(counts) == 21


def test_scenes_show_slanted_bent_folded_thin_and_plain_things() -> None:
    layers = [layer for seed in range(40) for layer in scene(seed)[1:]]
    bent = [any(layer.surface.bend) for layer in layers]
    folded = [len(layer.surface.planes) > 1 for layer in layers]
    slanted = [abs(layer.surface.planes[0][1]) > 0.02 for layer in layers]
    plain = [float(np.abs(np.diff(layer.texture, 2, axis=1)).mean()) < 0.5 for layer in layers]
    thin = [layer.mask is not None and layer.mask.mean() < 0.15 for layer in layers]
    for share in map(np.mean, (bent, folded, slanted, plain, thin)):
        assert 0.04 < share < 0.6
