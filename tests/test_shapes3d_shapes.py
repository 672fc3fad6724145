from itertools import pairwise

import numpy as np
import pytest

from autodisp.datasets import shapes3d_shapes as kinds

MAKERS = [
    kinds.polygon, kinds.blob, kinds.ball, kinds.cylinder, kinds.corner_box,
    kinds.edge_box, kinds.ring, kinds.bars, kinds.wire, kinds.truss,
]  # fmt: skip


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("size", [1.0, 13.0, 400.0])
def test_every_kind_is_finite_and_grows_with_its_size(maker: kinds.ShapeMaker, size: float) -> None:
    for seed in range(30):
        shape = maker(np.random.default_rng(seed), size)
        twice = maker(np.random.default_rng(seed), 2 * size)
        outlines = np.concatenate([*shape.filled, *shape.strokes])
        assert outlines.shape[1] == 2
        assert np.isfinite([*outlines.ravel(), *np.ravel(shape.slopes), *shape.bend]).all()
        assert shape.thickness >= 1
        assert np.abs(outlines).max() < 4 * size
        np.testing.assert_allclose(np.concatenate([*twice.filled, *twice.strokes]), 2 * outlines, atol=1e-9 * size)
        # Inclination is an angle and does not change; the curvature of a shape twice as big is half.
        np.testing.assert_allclose(twice.slopes, shape.slopes)
        np.testing.assert_allclose(twice.bend, np.array(shape.bend) / 2)


@pytest.mark.parametrize(("maker", "faces"), [(kinds.corner_box, 3), (kinds.edge_box, 2)])
def test_a_box_is_convex_with_its_nearest_point_in_the_middle(maker: kinds.ShapeMaker, faces: int) -> None:
    for seed in range(50):
        shape = maker(np.random.default_rng(seed), 20.0)
        assert len(shape.slopes) == faces
        nearness = [min(b * x + c * y for b, c in shape.slopes) for x, y in shape.filled[0]]
        if faces == 3:
            assert max(nearness) < 0
        for one, other in pairwise(shape.slopes):
            assert np.abs(np.subtract(one, other)).max() > 1e-6


def test_cylinders_bend_across_their_axis_only() -> None:
    for seed in range(50):
        qxx, qxy, qyy = kinds.cylinder(np.random.default_rng(seed), 30.0).bend
        low, high = np.linalg.eigvalsh([[qxx, qxy / 2], [qxy / 2, qyy]])
        assert low < -1e-3
        assert high == pytest.approx(0, abs=1e-12)
