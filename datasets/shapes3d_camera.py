"""Differences between two real cameras, which a rendered pair does not have.

Separate exposure, white balance and gamma, blur, noise, JPEG, and a rectification that is off by up to a pixel in y.
The disparity stays exact, since only rows are moved.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from autodisp.datasets.noise import gaussian_noise

Float = NDArray[np.float32]


def photographed(rng: np.random.Generator, views: Sequence[Float], strength: float) -> list[NDArray[np.uint8]]:
    """Records a pair as two cameras do.

    Args:
        rng: source of all random numbers.
        views: (H, W, 3) in 0..255, the left and the right one.
        strength: strength of all differences; at 1 the second view is off by up to a pixel in y, brightness by a sixth.

    Returns:
        (H, W, 3) each.
    """
    left, right = views
    if rng.random() < 0.6:
        right = _misaligned(rng, right, strength)
    soft = rng.uniform(0, 1.0) if rng.random() < 0.25 else 0.0
    sigma = rng.uniform(0, 5) * strength if rng.random() < 0.6 else 0.0
    quality = int(rng.integers(45, 98)) if rng.random() < 0.4 else None
    taken = []
    for view in (left, right):
        own = rng.uniform(0, 0.8) * strength if rng.random() < 0.4 else 0.0
        blur = float(np.hypot(soft, own))
        seen = cv2.GaussianBlur(view, (0, 0), blur) if blur > 0.2 else view
        seen = _exposed(rng, np.asarray(seen, np.float32), strength)
        if sigma > 0:
            seen = seen + gaussian_noise(rng, (*seen.shape[:2], 3), sigma)
        taken.append(_compressed(to_bytes(seen), quality))
    return taken


def _misaligned(rng: np.random.Generator, view: Float, strength: float) -> Float:
    """Rows moved by an affine function of the place, up to ``strength`` pixels in the corners."""
    height, width = view.shape[:2]
    shift, shear, stretch = strength * rng.uniform(-1, 1, 3) * (0.5, 0.25, 0.25)
    across, down = 2 * shear / width, 2 * stretch / height
    mapping = np.array([[1, 0, 0], [across, 1 + down, shift - across * width / 2 - down * height / 2]])
    interpolation = cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
    moved = cv2.warpAffine(view, mapping, (width, height), flags=interpolation, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(moved, 0, 255), np.float32)


def _exposed(rng: np.random.Generator, view: Float, strength: float) -> Float:
    gain = 2 ** (strength * (rng.uniform(-0.2, 0.2) + rng.uniform(-0.06, 0.06, 3)))
    return graded(view, gain, 2 ** (strength * rng.uniform(-0.12, 0.12)), strength * rng.uniform(-6, 6))


def graded(view: Float, gain: NDArray[np.float64], gamma: float, offset: float) -> Float:
    """Returns gain * view^gamma + offset of a view in 0..255, with a gain for each channel."""
    bent = cv2.pow(np.maximum(view, 0) / np.float32(255), gamma)
    return np.asarray(bent * (255 * gain).astype(np.float32) + np.float32(offset), np.float32)


def to_bytes(view: Float) -> NDArray[np.uint8]:
    """Rounds a view to whole numbers in 0..255."""
    return np.asarray(cv2.convertScaleAbs(np.maximum(view, 0)), np.uint8)


def _compressed(view: NDArray[np.uint8], quality: int | None) -> NDArray[np.uint8]:
    """The view after JPEG of that quality; None for none."""
    if quality is None:
        return view
    _, data = cv2.imencode(".jpg", view[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])
