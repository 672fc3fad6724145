"""Draws the layers of a procedural scene: shapes, positions, disparities and colours.

Follows the images of FlyingThings3D rather than its 3-D models: a far background, sometimes a floor, some large boxes
and cylinders standing behind, and flying objects from tiny to large in front, thin structures among them. Inclined
surfaces have the disparity slope of planes seen by a camera whose focal length is 1.1 image widths.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from autodisp.datasets import shapes3d_shapes as kinds
from autodisp.datasets.shapes3d_rendering import Gloss, Layer, Surface
from autodisp.datasets.shapes3d_shapes import Points, Shape, ShapeMaker
from autodisp.datasets.shapes3d_textures import make_texture

_FOCAL = 1.1
"""Focal length in image widths, that of the published frames."""
_STEEPEST = 0.35
"""Largest |dd/dx|: well below 1, where the right camera would view a surface edge-on."""
_NEAREST_TO_ZERO = 0.15
"""A surface's disparity never falls below this part of its central one."""
_STANDING: tuple[tuple[ShapeMaker, int], ...] = (
    (kinds.edge_box, 3), (kinds.corner_box, 2), (kinds.cylinder, 3), (kinds.polygon, 1), (kinds.blob, 1),
)  # fmt: skip
_FLYING: tuple[tuple[ShapeMaker, int], ...] = (
    (kinds.corner_box, 2), (kinds.edge_box, 2), (kinds.ball, 2), (kinds.blob, 3), (kinds.polygon, 3),
    (kinds.cylinder, 1), (kinds.ring, 2), (kinds.bars, 2), (kinds.wire, 2), (kinds.truss, 6),
)  # fmt: skip


def draw_scene(
    rng: np.random.Generator,
    bank: NDArray[np.uint8],
    *,
    height: int,
    width: int,
    max_disparity: float,
    objects: tuple[int, int],
    ground: float = 0.0,
    materials: float = 0.0,
    photographs: Sequence[NDArray[np.uint8]] = (),
) -> list[Layer]:
    """Draws the layers of one scene, background first, then from far to near.

    Args:
        rng: source of all random numbers.
        bank: patterns, see `draw_pattern_bank`.
        height, width: size of the views, pixels.
        max_disparity: no surface exceeds it, pixels.
        objects: least and largest number of layers in front of the background.
        ground: share of scenes with a ground plane below a far, often plain background.
        materials: share of surfaces that are plain or glossy beyond those that always are.
        photographs: images for textures, see `make_texture`.
    """
    stage = _Stage(rng, bank, height, width, max_disparity, materials, photographs)
    count = int(rng.integers(objects[0], objects[1] + 1))
    standing = round(count * rng.uniform(0.2, 0.45))
    outdoors = ground > 0 and rng.random() < ground
    if outdoors:
        layers = [stage.ground()]
        count += 1
    else:
        layers = [stage.floor()] if count and rng.random() < 0.25 else []
    while len(layers) < count:
        layers.append(stage.standing() if len(layers) < standing else stage.flying())
    background = stage.sky() if outdoors else stage.background()
    return [background, *sorted(layers, key=lambda layer: layer.surface.planes[0][0])]


@dataclass(frozen=True)
class _Stage:
    """Places shapes in one image."""

    rng: np.random.Generator
    bank: NDArray[np.uint8]
    height: int
    width: int
    max_disparity: float
    materials: float
    photographs: Sequence[NDArray[np.uint8]]

    def background(self) -> Layer:
        """A background that covers every column of both views."""
        farthest = min(max(0.005, 1 / self.max_disparity), 0.1)  # a pixel, as in the published frames
        depth = self._log_uniform(farthest, 0.12) * self.max_disparity
        half = (self.width / 2 + self.max_disparity, self.height / 2)
        shape = Shape(slopes=(kinds.tilt(self.rng) if self.rng.random() < 0.6 else (0.0, 0.0),))
        return self._layer(shape, (self.width / 2, self.height / 2), depth, None, (0, 0), half, plain_share=0.0)

    def sky(self) -> Layer:
        """A background at about one pixel of disparity, mostly without texture."""
        depth = max(1.0, self._log_uniform(0.004, 0.03) * self.max_disparity)
        half = (self.width / 2 + self.max_disparity, self.height / 2)
        return self._layer(Shape(), (self.width / 2, self.height / 2), depth, None, (0, 0), half, plain_share=0.6)

    def ground(self) -> Layer:
        """A street: a plane from the middle of the image down to near the viewer."""
        horizon = self.height * self.rng.uniform(0.3, 0.65)
        return self._plane(horizon, self.max_disparity * self._log_uniform(0.06, 0.45))

    def floor(self) -> Layer:
        """A plane from a horizon down, nearer towards the viewer."""
        horizon = self.height * self.rng.uniform(0.35, 0.85)
        return self._plane(horizon, self.max_disparity * self.rng.uniform(0.04, 0.22))

    def _plane(self, horizon: float, depth: float) -> Layer:
        skew = self.height * self.rng.normal(0, 0.05)
        right = self.width + self.max_disparity + 8
        corners = [(-8, horizon - skew), (right, horizon + skew), (right, self.height + 8), (-8, self.height + 8)]
        centre = (right / 2, (horizon + self.height) / 2)
        steepest = np.inf  # down to the horizon: as steep as the bounds on disparity allow
        return self._placed(
            Shape(filled=(np.array(corners) - centre,), slopes=((0.0, steepest),), kind="plane"), centre, depth
        )

    def standing(self) -> Layer:
        """A large object in the back, mostly in the lower part."""
        size = self._log_uniform(0.15, 0.6) * self.width
        depth = self._log_uniform(0.04, 0.28) * self.max_disparity
        centre = (self.rng.uniform(0, self.width + depth), self.height * self.rng.uniform(0.15, 1.0))
        return self._placed(self._pick(_STANDING)(self.rng, size), centre, depth)

    def flying(self) -> Layer:
        """A nearer object of any kind and place; the nearest are rare."""
        size = self._log_uniform(0.03, 0.5) * self.width
        depth = float(np.exp(self.rng.triangular(np.log(0.06), np.log(0.3), np.log(0.95)))) * self.max_disparity
        centre = (self.rng.uniform(0, self.width + depth), self.rng.uniform(0, self.height))
        return self._placed(self._pick(_FLYING)(self.rng, size), centre, depth)

    def _log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def _pick(self, weighted: tuple[tuple[ShapeMaker, int], ...]) -> ShapeMaker:
        weights = np.array([weight for _, weight in weighted], float)
        return weighted[int(self.rng.choice(len(weighted), p=weights / weights.sum()))][0]

    def _placed(self, shape: Shape, centre: tuple[float, float], depth: float) -> Layer:
        mask, origin = self._raster(shape, centre)
        h, w = mask.shape
        half = (
            max(abs(origin[0] - centre[0]), abs(origin[0] + w - centre[0])),
            max(abs(origin[1] - centre[1]), abs(origin[1] + h - centre[1])),
        )
        return self._layer(shape, centre, depth, mask, origin, half, plain_share=0.14)

    def _raster(self, shape: Shape, centre: tuple[float, float]) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """Anti-aliased coverage of the shape at its place, cut to the extent of both views, and its first pixel."""
        outlines = np.concatenate([*shape.filled, *shape.strokes]) + centre
        pad = 2 + (shape.thickness if shape.strokes else 0)
        low = np.maximum(np.floor(outlines.min(axis=0)) - pad, -2).astype(int)
        limit = (self.width + self.max_disparity + 2, self.height + 2)
        high = np.minimum(np.ceil(outlines.max(axis=0)) + pad + 1, limit).astype(int)
        w, h = np.maximum(high - low, 1)
        mask = np.zeros((h, w), np.uint8)
        for outline in shape.filled:
            cv2.fillPoly(mask, [_fixed_point(outline + centre - low)], (255,), cv2.LINE_AA, 4)
        for stroke in shape.strokes:
            points = _fixed_point(stroke + centre - low)
            cv2.polylines(mask, [points], False, (255,), shape.thickness, cv2.LINE_AA, 4)
        return np.asarray(mask / np.float32(255), np.float32), (int(low[0]), int(low[1]))

    def _layer(
        self,
        shape: Shape,
        centre: tuple[float, float],
        depth: float,
        mask: NDArray[np.float32] | None,
        origin: tuple[int, int],
        half: tuple[float, float],
        *,
        plain_share: float,
    ) -> Layer:
        """Builds the layer of a shape, which lies within ``half`` pixels of its centre."""
        surface, swing = _within_bounds(shape, centre, depth, half, self.max_disparity, _FOCAL * self.width)
        scale, angle = self._log_uniform(0.5, 1.0), self.rng.uniform(0, 2 * np.pi)
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        extent = int(2 * scale * np.hypot(*half))
        plain, gloss = self.rng.random() < plain_share, None
        if self.materials > 0 and self.rng.random() < self.materials:
            if self.rng.random() < 0.5:
                plain = True
            else:
                gloss = self._gloss(depth)
        texture = make_texture(self.rng, self.bank, extent=extent, plain=plain, photographs=self.photographs)
        middle = texture.shape[0] / 2 + self.rng.uniform(-0.5, 0.5, 2)
        return Layer(
            surface=surface,
            mask=mask,
            origin=origin,
            texture=texture,
            mapping=np.array([[c, -s, middle[0]], [s, c, middle[1]]], np.float32),
            depths=(depth - swing, depth + swing),
            face_light=tuple(float(k) for k in self.rng.uniform(0.55, 1.1, len(shape.slopes))),
            gloss=gloss,
            kind=kinds.CLASSES.index(shape.kind),
        )

    def _gloss(self, depth: float) -> Gloss:
        """A soft reflection of lamps and windows, which appears to lie behind the surface."""
        spots = cv2.GaussianBlur(self.rng.random((16, 16), dtype=np.float32), (0, 0), self.rng.uniform(0.7, 2))
        bright = np.maximum(cv2.resize(spots, (128, 128), interpolation=cv2.INTER_CUBIC) - np.median(spots), 0)
        light = bright * np.float32(self.rng.uniform(40, 220) / max(float(bright.max()), 1e-6))
        return Gloss(np.asarray(light, np.float32), float(self.rng.uniform(0.1, 0.8) * depth))


def _fixed_point(points: Points) -> NDArray[np.int32]:
    """OpenCV's coordinates with four fractional bits."""
    return (points * 16).round().astype(np.int32)


def _within_bounds(
    shape: Shape,
    centre: tuple[float, float],
    depth: float,
    half: tuple[float, float],
    max_disparity: float,
    focal: float,
) -> tuple[Surface, float]:
    """The shape's relief at a central disparity, flattened where it would leave the allowed range.

    Returns:
        The surface, and a bound of its deviation from ``depth`` within ``half`` pixels of the centre.
    """
    (w, h), unit = half, depth / focal
    slopes = [(np.clip(b, -1e3, 1e3) * unit, np.clip(c, -1e3, 1e3) * unit) for b, c in shape.slopes]
    qxx, qxy, qyy = (q * unit for q in shape.bend)
    bent = abs(qxx) * w * w + abs(qxy) * w * h + abs(qyy) * h * h
    swing = max(abs(b) * w + abs(c) * h for b, c in slopes) + bent
    steepest = max(abs(b) for b, _ in slopes) + 2 * abs(qxx) * w + abs(qxy) * h
    room = min((1 - _NEAREST_TO_ZERO) * depth, max_disparity - depth)
    factor = float(min(1.0, room / max(swing, 1e-9), _STEEPEST / max(steepest, 1e-9)))
    planes = tuple((depth, float(b * factor), float(c * factor)) for b, c in slopes)
    return Surface(centre, planes, (qxx * factor, qxy * factor, qyy * factor)), float(swing * factor)
