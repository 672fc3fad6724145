import numpy as np
import pytest

from autodisp.datasets.shapes3d_camera import photographed


def view() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.repeat(np.repeat(rng.uniform(40, 200, (12, 20, 3)), 4, axis=0), 4, axis=1).astype(np.float32)


def test_the_same_generator_draws_the_same_cameras() -> None:
    one, two = (photographed(np.random.default_rng(5), (view(), view()), 1.0) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert a.dtype == np.uint8
        assert a.shape == (48, 80, 3)
        assert np.array_equal(a, b)


def test_the_views_differ_but_show_the_same() -> None:
    for seed in range(20):
        left, right = (
            taken.astype(float) for taken in photographed(np.random.default_rng(seed), (view(), view()), 1.0)
        )
        assert not np.array_equal(left, right)
        assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.85


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_rows_move_by_at_most_the_strength(strength: float) -> None:
    ramp = np.broadcast_to(np.linspace(50, 200, 151, dtype=np.float32)[:, None, None], (151, 60, 3)).copy()
    from autodisp.datasets.shapes3d_camera import _misaligned

    moved = [_misaligned(np.random.default_rng(seed), ramp, strength) - ramp for seed in range(30)]
    inner = np.array([change[3:-3] for change in moved])
    assert 0.3 * strength < np.abs(inner).max() <= strength + 1e-3
