import numpy as np
import pytest

from autodisp.datasets.noise import gaussian_noise


@pytest.mark.parametrize("sigma", [0.0, 0.02, 3.0])
def test_moments_and_quantiles_are_those_of_the_normal_distribution(sigma: float) -> None:
    noise = gaussian_noise(np.random.default_rng(0), (200, 300, 3), sigma)
    assert noise.shape == (200, 300, 3)
    assert noise.dtype == np.float32
    drawn = np.random.default_rng(1).normal(0, sigma, 2_000_000)
    assert noise.mean() == pytest.approx(0, abs=6 * sigma / np.sqrt(noise.size) + 1e-9)
    assert noise.std() == pytest.approx(sigma, rel=0.01)
    for share in (0.02, 0.16, 0.5, 0.84, 0.98):
        assert np.quantile(noise, share) == pytest.approx(np.quantile(drawn, share), abs=0.04 * sigma + 1e-9)


def test_is_a_function_of_the_generator() -> None:
    one, two, other = (gaussian_noise(np.random.default_rng(seed), (7, 5, 3), 1.0) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
