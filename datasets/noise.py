"""Gaussian noise for whole images, several times faster than drawing normal floats.

Random bytes are mapped to the 256 mid-quantiles of the normal distribution, scaled to variance 1: mean and variance are
exact, values end near 2.9 standard deviations, which in 8-bit images is indistinguishable from the true tail.
"""

from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray


@cache
def _quantiles() -> NDArray[np.float32]:
    values = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)])
    return np.asarray(values / values.std(), np.float32)


def gaussian_noise(rng: np.random.Generator, shape: tuple[int, int, int], sigma: float) -> NDArray[np.float32]:
    """Draws noise with mean 0 and standard deviation ``sigma``, of shape (H, W, C)."""
    levels = np.frombuffer(rng.bytes(int(np.prod(shape))), np.uint8).reshape(shape)
    return np.asarray(cv2.LUT(levels, _quantiles() * np.float32(sigma)), np.float32)
