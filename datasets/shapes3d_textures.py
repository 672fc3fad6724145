"""Textures of the procedural stereo set: a bank of grey patterns, coloured and combined anew for every surface.

The bank is drawn once for a seed (pink noise, dead leaves, stripes, bricks, cells, spots, scratches, lettering); each
surface mixes crops of it through random palettes, which costs a fraction of drawing a pattern. All patterns are
slightly blurred, so that bilinear sampling at magnification agrees in both views.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from autodisp.datasets.noise import gaussian_noise
from autodisp.errors import WrongSetting

Grey = NDArray[np.uint8]
Texture = NDArray[np.float32]

_FLAT = 12.0
"""Standard deviation in grey levels below which a texture is too uniform."""
_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_SMALLEST_PHOTOGRAPH, _LARGEST_PHOTOGRAPH = 64, 1024
_LARGEST_CUT = 512
_PHOTOGRAPHED = 0.65
"""Share of the surfaces with a photograph, if there are any; except for plain ones."""


def draw_pattern_bank(rng: np.random.Generator, *, side: int, copies: int) -> NDArray[np.uint8]:
    """All pattern kinds, ``copies`` times each, pink noise and dead leaves three times as often.

    Returns:
        (N, side, side), every pattern stretched over 0..255.
    """
    kinds: list[Callable[[np.random.Generator, int], NDArray[np.float32]]] = [
        *(3 * [_pink_noise]), *(3 * [_dead_leaves]), _stripes, _bricks, _cells, _spots, _scratches, _lettering,
    ]  # fmt: skip
    return np.stack([_grained(rng, _stretched(kind(rng, side))) for _ in range(copies) for kind in kinds])


def read_photographs(folder: Path) -> list[NDArray[np.uint8]]:
    """The images of a folder as RGB, each reduced to at most 1024 pixels a side.

    Args:
        folder: with JPEG, PNG or WebP files of at least 64 pixels a side.

    Raises:
        WrongSetting: it is no folder, holds no image, or one that cannot be read or is too small.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in found if path.suffix.lower() in _IMAGES and not path.name.startswith(".")]
    if not paths:
        wanted = ", ".join(_IMAGES)
        raise WrongSetting(f"dataset.textures={folder}: no folder with images ({wanted}); take null for none")
    return [_read_photograph(path) for path in paths]


def _read_photograph(path: Path) -> NDArray[np.uint8]:
    data = b""
    with suppress(OSError):
        data = path.read_bytes()  # imread crashes on names that are not UTF-8
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None or min(image.shape[:2]) < _SMALLEST_PHOTOGRAPH:
        raise WrongSetting(
            f"dataset.textures: {path} cannot be read, or has fewer than {_SMALLEST_PHOTOGRAPH} pixels a side; "
            "take it out of the folder"
        )
    height, width = image.shape[:2]
    factor = min(1.0, _LARGEST_PHOTOGRAPH / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(reduced, cv2.COLOR_BGR2RGB), np.uint8)


def make_texture(
    rng: np.random.Generator,
    bank: NDArray[np.uint8],
    *,
    extent: int,
    plain: bool,
    photographs: Sequence[NDArray[np.uint8]] = (),
) -> Texture:
    """Draws the colours of one surface.

    Args:
        rng: source of all random numbers.
        bank: (N, S, S) from `draw_pattern_bank`.
        extent: how many texels the surface spans; the texture is no larger than this or S.
        plain: almost no contrast (an untextured surface, shading aside).
        photographs: (H, W, 3) RGB images, from which most surfaces that are not plain then take their colours.

    Returns:
        (K, K, 3) float32 in 0..255, to be continued by reflection.
    """
    if photographs and not plain and rng.random() < _PHOTOGRAPHED:
        return _lively(lambda: _cut_from_photograph(rng, photographs, extent))
    side = min(bank.shape[1], max(8, extent))
    texture = _painted(rng, bank, side, contrast=0.04) if plain else _lively(lambda: _varied(rng, bank, side))
    if rng.random() < 0.5:
        texture *= _shading(rng, side)[..., None]
    if rng.random() < 0.08:
        length = int(rng.integers(3, 12))
        texture = np.asarray(cv2.blur(texture, (length, 1) if rng.random() < 0.5 else (1, length)), np.float32)
    return np.clip(texture, 0, 255, out=texture)


def _lively(draw: Callable[[], Texture]) -> Texture:
    """Draws a texture, and again if it is uniform, such as sky, an even part of a pattern, or clipped to black."""
    for _ in range(4):
        texture = draw()
        if cv2.meanStdDev(texture)[1].max() > _FLAT:
            break
    return texture


def _cut_from_photograph(rng: np.random.Generator, photographs: Sequence[NDArray[np.uint8]], extent: int) -> Texture:
    """A square of one photograph at a random scale, mirrored, turned and recoloured at random."""
    image = photographs[int(rng.integers(len(photographs)))]
    shorter = min(image.shape[:2])
    window = int(np.clip(extent * 2 ** rng.uniform(-0.5, 1.5), 32, shorter))
    y, x = (int(rng.integers(0, whole - window + 1)) for whole in image.shape[:2])
    side = min(window, max(8, extent), _LARGEST_CUT)
    cut = cv2.resize(image[y : y + window, x : x + window], (side, side), interpolation=cv2.INTER_AREA)
    cut = cut[:: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
    turned = cut.transpose(1, 0, 2) if rng.random() < 0.5 else cut
    smooth = cv2.GaussianBlur(np.ascontiguousarray(turned), (0, 0), 0.55).astype(np.float32)
    contrast, tint = rng.uniform(0.6, 1.3), rng.normal(1, 0.1, 3)
    middle = smooth.mean(axis=(0, 1)) + rng.normal(0, 25)
    recoloured = (smooth - smooth.mean(axis=(0, 1))) * (contrast * tint) + middle
    return np.asarray(np.clip(recoloured, 0, 255), np.float32)


def _varied(rng: np.random.Generator, bank: NDArray[np.uint8], side: int) -> Texture:
    """A photograph or a painting, by patterns of the bank."""
    texture = _photograph(rng, bank, side) if rng.random() < 0.45 else _painted(rng, bank, side, contrast=1.0)
    return np.clip(texture, 0, 255, out=texture)


def _crop(rng: np.random.Generator, bank: NDArray[np.uint8], side: int) -> Grey:
    pattern: Grey = bank[rng.integers(len(bank))]
    y, x = rng.integers(0, bank.shape[1] - side + 1, 2)
    return pattern[y : y + side, x : x + side]


def _mixed_crop(rng: np.random.Generator, bank: NDArray[np.uint8], side: int) -> Grey:
    first = _crop(rng, bank, side)
    if rng.random() < 0.4:
        return first
    share = float(rng.uniform(0.1, 0.5))
    return np.asarray(cv2.addWeighted(first, 1 - share, _crop(rng, bank, side), share, 0), np.uint8)


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    """One RGB colour in 0..1: mostly muted, sometimes vivid, as in the published frames."""
    brightness = 0.1 + 0.85 * rng.beta(1.6, 2.2)
    saturation = rng.beta(1.2, 4.0) if rng.random() < 0.8 else rng.uniform(0.4, 1)
    hue = rng.random() + np.array([0, 1 / 3, 2 / 3])
    return np.asarray(brightness * (1 - saturation * (0.5 + 0.5 * np.cos(2 * np.pi * hue))))


def _painted(rng: np.random.Generator, bank: NDArray[np.uint8], side: int, *, contrast: float) -> Texture:
    """A grey pattern through a random palette of two to six colours."""
    knots = int(rng.integers(2, 7))
    base = _colour(rng)
    changes = rng.uniform(0.25, 1.0) * (np.stack([_colour(rng) for _ in range(knots)]) - base)
    # Random colours that are nearly equal would make the surface plain.
    changes *= contrast * max(1.0, 0.1 / (changes.std(axis=0).mean() + 1e-6))
    at = np.linspace(0, 255, knots)
    palette = np.stack([np.interp(np.arange(256), at, 255 * channel) for channel in (base + changes).T], axis=1)
    levels = palette.round().clip(0, 255).astype(np.uint8)[:, None]
    painted = cv2.applyColorMap(_mixed_crop(rng, bank, side), levels)
    return painted.astype(np.float32)


def _photograph(rng: np.random.Generator, bank: NDArray[np.uint8], side: int) -> Texture:
    """Brightness from one mixture, weak independent colour changes from two others."""
    planes = np.dstack([_mixed_crop(rng, bank, side), _crop(rng, bank, side), _crop(rng, bank, side)])
    chroma = rng.normal(size=(3, 2))
    chroma -= chroma.mean(axis=0)
    light = rng.uniform(0.3, 0.9) * (1 + rng.normal(0, 0.15, (3, 1)))
    mixing = np.concatenate([light, rng.uniform(0, 0.25) * chroma], axis=1)
    offset = 255 * _colour(rng) - mixing @ np.full(3, 127.5)
    coloured = cv2.transform(planes.astype(np.float32), np.column_stack([mixing, offset]).astype(np.float32))
    return np.asarray(coloured, np.float32)


def _shading(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """A brightness ramp across the texture, 1 in the middle."""
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    down, across = rng.uniform(-0.35, 0.35, 2).astype(np.float32)
    return np.asarray(1 + down * ramp[:, None] + across * ramp)


def _stretched(pattern: NDArray[np.float32]) -> Grey:
    low, high = np.percentile(pattern, [0.5, 99.5])
    return np.asarray(np.clip((pattern - low) * (255 / max(high - low, 1e-6)), 0, 255), np.uint8)


def _grained(rng: np.random.Generator, pattern: Grey) -> Grey:
    """Adds the fine grain of a photographed surface, and blurs steps that sampling between texels would show."""
    grain = gaussian_noise(rng, (*pattern.shape, 1), rng.uniform(0, 70)).reshape(pattern.shape)
    return np.clip(cv2.GaussianBlur(pattern + grain, (0, 0), 0.55), 0, 255).astype(np.uint8)


def _pink_noise(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Noise whose amplitude falls with a random power of the frequency, more along one axis than the other."""
    stretch = np.exp(rng.normal(0, 0.5))
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    radius = np.hypot(fy * stretch, fx / stretch)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * radius ** -rng.uniform(0.8, 1.8)
    return np.fft.irfft2(spectrum, s=(side, side)).astype(np.float32)


def _dead_leaves(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Opaque discs and polygons of power-law sizes over one another, the simplest model of a photograph."""
    canvas = np.full((side, side), 0.5, np.float32)
    smallest = rng.uniform(0.01, 0.04)
    for size in np.sort(side * smallest * (1 - rng.random(350)) ** -0.7)[::-1]:
        radius = min(float(size), side / 2)
        centre = rng.uniform(0, side, 2)
        grey = float(rng.random())
        if rng.random() < 0.5:
            cv2.circle(canvas, (int(centre[0]), int(centre[1])), max(1, round(radius)), grey, -1)
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
            corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            cv2.fillPoly(canvas, [corners.round().astype(np.int32)], (grey,))
    return canvas + rng.uniform(0, 0.3) * _unit(_pink_noise(rng, side))


def _unit(pattern: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((pattern - pattern.mean()) / (pattern.std() + 1e-6), np.float32)


def _grid(rng: np.random.Generator, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel coordinates, sometimes bent smoothly."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = side * rng.choice([0.0, 0.01, 0.03])
    coarse = (bend * rng.standard_normal((2, 5, 5))).astype(np.float32)
    dx, dy = (np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_CUBIC)) for field in coarse)
    return x + dx, y + dy


def _stripes(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    x, _ = _grid(rng, side)
    wave = np.sin(2 * np.pi * x / (rng.uniform(0.02, 0.15) * side)) + 0.5 * np.sin(2 * np.pi * x / (0.37 * side))
    return np.asarray(np.tanh(rng.uniform(0.3, 4) * wave) + 0.15 * _unit(_pink_noise(rng, side)), np.float32)


def _bricks(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Bricks or a checker of random greys with a joint between them."""
    x, y = _grid(rng, side)
    height = rng.uniform(0.04, 0.15) * side
    width = height * rng.uniform(1, 3)
    row = np.floor(y / height)
    column = x / width + 0.5 * (row % 2)
    greys = rng.random(997)
    body = greys[(row * 31 + np.floor(column) * 17).astype(np.int64) % 997]
    joint = np.minimum((y / height) % 1, (column % 1) * width / height) < rng.uniform(0.02, 0.15)
    return np.where(joint, rng.random(), body).astype(np.float32) + 0.1 * _unit(_pink_noise(rng, side))


def _cells(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Voronoi cells of random greys, darker towards their borders."""
    seeds = np.full((side, side), 255, np.uint8)
    at = rng.integers(0, side, (int(rng.integers(30, 300)), 2))
    seeds[at[:, 0], at[:, 1]] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    greys = rng.random(int(labels.max()) + 1)[labels]
    return np.asarray(greys - rng.uniform(0, 2) * distance / distance.max(), np.float32)


def _spots(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Pebbles: band-passed noise pushed towards two levels."""
    noise = rng.standard_normal((side, side)).astype(np.float32)
    size = rng.uniform(1.2, 6)
    band = cv2.GaussianBlur(noise, (0, 0), size) - cv2.GaussianBlur(noise, (0, 0), 2 * size)
    return np.asarray(np.tanh(rng.uniform(0.5, 4) * _unit(np.asarray(band, np.float32))))


def _scratches(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    canvas = _stretched(_pink_noise(rng, side)) // 3
    for _ in range(int(rng.integers(30, 150))):
        (x, y), (dx, dy) = rng.uniform(0, side, 2), rng.normal(0, 0.25 * side, 2)
        ends = (int(x), int(y)), (int(x + dx), int(y + dy))
        cv2.line(canvas, *ends, int(rng.integers(256)), int(rng.integers(1, 4)), cv2.LINE_AA)
    return canvas.astype(np.float32)


def _lettering(rng: np.random.Generator, side: int) -> NDArray[np.float32]:
    canvas = _stretched(_pink_noise(rng, side)) // 4
    for _ in range(60):
        text = "".join(chr(c) for c in rng.integers(33, 123, int(rng.integers(1, 9))))
        origin = (int(rng.integers(-side // 4, side)), int(rng.integers(0, side)))
        size = float(rng.uniform(0.3, 1.2) * side / 256)
        cv2.putText(
            canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, int(rng.integers(256)), max(1, round(3 * size))
        )
    return canvas.astype(np.float32)
