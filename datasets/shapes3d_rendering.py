"""Draws curved, slanted, textured layers into a rectified pair, with exact left disparity and visibility.

A layer is defined in left coordinates: its disparity d(x, y) is the smallest of a few planes (a plane, an edge or a
corner) plus a quadratic bend, and its outline and texture are looked up at (x, y). For each pixel of the right view,
the x with x - d(x, y) there is computed in closed form, so both views sample one continuous scene: no splatting, no
rounding of disparities. With a depth test per pixel, surfaces may intersect.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]

_TIE = 5e-3
"""Pixels of disparity by which a surface must be nearer to occlude another, or itself; errors of float32 are less than
a tenth of that."""


@dataclass(frozen=True)
class Surface:
    """d(u, v) = min over planes of (a + b u + c v) + qxx u² + qxy u v + qyy v², with (u, v) counted from a centre.

    The map x -> x - d(x, y) must rise wherever the surface is drawn: \\|dd/dx\\| < 1.
    """

    centre: tuple[float, float]
    planes: tuple[tuple[float, float, float], ...]
    bend: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def disparity(self, x: Float, y: Float) -> Float:
        """Pixels, of the broadcast shape of ``x`` and ``y`` (left coordinates)."""
        u, v = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        flat: Float = reduce(np.minimum, [a + b * u + c * v for a, b, c in self.planes])
        qxx, qxy, qyy = self.bend
        return np.asarray(flat + (qxx * u + qxy * v) * u + qyy * v * v) if any(self.bend) else flat

    def left_column(self, right_x: Float, y: Float) -> Float:
        """The x with x - d(x, y) = right_x: the inverse of a maximum of rising maps is the least of their inverses."""
        u, v = right_x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        nearest: Float = reduce(np.minimum, [self._inverse(plane, u, v) for plane in self.planes])
        return nearest + np.float32(self.centre[0])

    def _inverse(self, plane: tuple[float, float, float], u: Float, v: Float) -> Float:
        """The root of qxx x² - p x + r = 0 on the rising branch, in the form that also holds at qxx = 0."""
        a, b, c = plane
        qxx, qxy, qyy = self.bend
        p = 1 - b - qxy * v
        r = u + (a + (c + qyy * v) * v)
        if qxx == 0:
            return np.asarray(r / p)
        return np.asarray(2 * r / (p + np.sqrt(np.maximum(p * p - 4 * qxx * r, 1e-4))))


@dataclass(frozen=True)
class Gloss:
    """A reflection that is added to the colours of a surface and does not move with it.

    ``light`` is (K, K) float32 in 0..255 and is looked up like the texture; in the right view it is ``shift`` pixels
    away from a pattern painted on the surface.
    """

    light: Float
    shift: float


@dataclass(frozen=True)
class Layer:
    """One surface with its outline and colours.

    ``mask`` is the outline's coverage as (h, w) float32 in 0..1 with its first pixel at ``origin`` (x, y), in left
    coordinates; between pixels it is bilinear, and the layer is where it is at least one half. None: everywhere.
    ``texture`` is (K, K, 3) float32 in 0..255, whose texel at (u, v) is ``mapping`` @ (u, v, 1); ``depths`` bounds the
    disparity over the mask's rectangle; ``face_light`` is one brightness per plane.
    """

    surface: Surface
    mask: Float | None
    origin: tuple[int, int]
    texture: Float
    mapping: NDArray[np.float32]
    depths: tuple[float, float]
    face_light: tuple[float, ...] = (1.0,)
    gloss: Gloss | None = None
    kind: int = 0
    """Its class in the class map of the left view."""


@dataclass(frozen=True)
class Rendering:
    """(H, W, 3) float32 views in 0..255; (H, W) float32 disparity in pixels; (H, W) bool masks, never both true; (H, W)
    uint8 kinds of the surfaces in the left view."""

    left: Float
    right: Float
    disparity: Float
    occluded: NDArray[np.bool_]
    out_of_frame: NDArray[np.bool_]
    kinds: NDArray[np.uint8]


def render(layers: Sequence[Layer], height: int, width: int) -> Rendering:
    """Renders both views and the ground truth of the left one.

    Args:
        layers: the first must cover everything; the others best from far to near, so that outlines blend.
        height, width: size of both views.
    """
    left, right = _Canvas(height, width), _Canvas(height, width)
    for layer in layers:
        _draw(left, layer, shifted=False)
        _draw(right, layer, shifted=True)
    out_of_frame = np.arange(width, dtype=np.float32) - left.nearest < 0
    occluded = np.zeros((height, width), bool)
    for layer in layers:
        _mark_hidden(occluded, left, layer)
    return Rendering(left.colour, right.colour, left.nearest, occluded & ~out_of_frame, out_of_frame, left.kinds)


@dataclass(frozen=True)
class Motion:
    """Two moments of a scene: (H, W, 3) float32 images in 0..255; (2, H, W) float32 flow of the first image in pixels,
    x and y; (H, W) bool mask of its pixels that are occluded in the second image."""

    first: Float
    second: Float
    flow: Float
    occluded: NDArray[np.bool_]


def render_motion(layers: Sequence[Layer], moves: Sequence[NDArray[np.float64]], height: int, width: int) -> Motion:
    """Renders the left view before and after a move of each layer, with the flow.

    A layer moves within the image and keeps its disparities, so its flow is that of its move: exact, and a layer never
    occludes itself.

    Args:
        layers: see ``render``.
        moves: for each layer an affine map (2, 3) that takes (x, y, 1) of the first moment to (x, y) of the second.
        height, width: size of both images.
    """
    first, second = _Canvas(height, width), _Canvas(height, width)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    backward = [_moved_back(move, x, y) for move in moves]
    for number, (layer, (old_x, old_y)) in enumerate(zip(layers, backward, strict=True)):
        _draw(first, replace(layer, kind=number), shifted=False)
        disparity = layer.surface.disparity(old_x, old_y)
        coverage = np.where(disparity > second.nearest, _coverage(layer, old_x, old_y), np.float32(0))
        colours = _shaded_texture(layer, old_x, old_y, shifted=False)
        second.colour[...] = cv2.blendLinear(colours, second.colour, coverage, 1 - coverage)
        np.copyto(second.nearest, disparity, where=coverage >= 0.5)
    move = np.asarray(moves, np.float32)[first.kinds]  # (H, W, 2, 3): that of the visible layer
    match = move[..., 0] * x[..., None] + move[..., 1] * y[..., None] + move[..., 2]
    match_x, match_y = match[..., 0], match[..., 1]
    occluded = np.zeros((height, width), bool)
    for layer, whole in zip(layers, moves, strict=True):
        old_x, old_y = _moved_back(whole, match_x, match_y)
        nearer = layer.surface.disparity(old_x, old_y) > first.nearest + _TIE
        occluded |= nearer & (_coverage(layer, old_x, old_y) >= 0.5)
    return Motion(first.colour, second.colour, np.stack([match_x - x, match_y - y]), occluded)


def _moved_back(move: NDArray[np.float64], x: Float, y: Float) -> tuple[Float, Float]:
    """Returns the positions that a move takes to (x, y)."""
    (a, b, c), (d, e, f) = np.asarray(cv2.invertAffineTransform(move), np.float32)
    return a * x + (b * y + c), d * x + (e * y + f)


class _Canvas:
    """A view while it is drawn."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.colour = np.zeros((height, width, 3), np.float32)
        self.nearest = np.full((height, width), -np.inf, np.float32)
        self.kinds = np.zeros((height, width), np.uint8)

    def window(self, layer: Layer, *, grow_left: float, grow_right: float) -> tuple[slice, slice] | None:
        """Rows and columns of the layer's rectangle, widened and cut to the view; None if nothing is left."""
        if layer.mask is None:
            return slice(0, self.height), slice(0, self.width)
        (x, y), (h, w) = layer.origin, layer.mask.shape
        rows = slice(max(y, 0), min(y + h, self.height))
        columns = slice(max(int(np.floor(x - grow_left)), 0), min(int(np.ceil(x + w + grow_right)), self.width))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def _coordinates(rows: slice, columns: slice) -> tuple[Float, Float]:
    """x as (1, w), y as (h, 1)."""
    x = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    return x, np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]


def _draw(canvas: _Canvas, layer: Layer, *, shifted: bool) -> None:
    far, near = layer.depths
    window = canvas.window(layer, grow_left=near if shifted else 0.0, grow_right=-far if shifted else 0.0)
    if window is None:
        return
    seen_x, y = _coordinates(*window)
    x = layer.surface.left_column(seen_x, y) if shifted else seen_x
    disparity = x - seen_x if shifted else layer.surface.disparity(x, y)
    nearest = canvas.nearest[window]
    front = disparity > nearest
    coverage = np.where(front, _coverage(layer, x, y), np.float32(0))
    colour = canvas.colour[window]
    colour[...] = cv2.blendLinear(_shaded_texture(layer, x, y, shifted=shifted), colour, coverage, 1 - coverage)
    drawn = coverage >= 0.5
    np.copyto(nearest, disparity, where=drawn)
    np.copyto(canvas.kinds[window], np.uint8(layer.kind), where=drawn)


def _coverage(layer: Layer, x: Float, y: Float) -> Float:
    """(h, w) in 0..1 at left coordinates; bilinear, zero outside the mask's raster."""
    if layer.mask is None:
        return np.ones(np.broadcast_shapes(x.shape, y.shape), np.float32)
    at_x, at_y = np.broadcast_arrays(x - layer.origin[0], y - layer.origin[1])
    sampled = cv2.remap(
        layer.mask,
        np.ascontiguousarray(at_x),
        np.ascontiguousarray(at_y),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(sampled, np.float32)


def _shaded_texture(layer: Layer, x: Float, y: Float, *, shifted: bool) -> Float:
    """(h, w, 3) colours at left coordinates, for the left or the right (``shifted``) camera."""
    u, v = x - np.float32(layer.surface.centre[0]), y - np.float32(layer.surface.centre[1])
    m = layer.mapping
    at_x, at_y = m[0, 0] * u + (m[0, 1] * v + m[0, 2]), m[1, 0] * u + (m[1, 1] * v + m[1, 2])
    colours = cv2.remap(layer.texture, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if len(layer.face_light) > 1:
        heights = [a + b * u + c * v for a, b, c in layer.surface.planes]
        light = np.full_like(heights[0], layer.face_light[0])
        lowest = heights[0]
        for height, brightness in zip(heights[1:], layer.face_light[1:], strict=True):
            light = np.where(height < lowest, np.float32(brightness), light)
            lowest = np.minimum(lowest, height)
        colours = colours * light[..., None]
    if layer.gloss is not None:
        moved = np.float32(layer.gloss.shift if shifted else 0.0)
        at_x, at_y = at_x + m[0, 0] * moved, at_y + m[1, 0] * moved
        light = cv2.remap(layer.gloss.light, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        colours = np.minimum(colours + light[..., None], np.float32(255))
    return np.asarray(colours, np.float32)


def _mark_hidden(occluded: NDArray[np.bool_], left: _Canvas, layer: Layer) -> None:
    """Adds the left pixels whose place in the right view this layer covers with a larger disparity."""
    # A point of the layer at x occludes x - d + d' with 0 < d' < d: less than d to the left, never to the right.
    window = left.window(layer, grow_left=layer.depths[1], grow_right=0.0)
    if window is None or layer.mask is None:
        return
    seen_x, y = _coordinates(*window)
    behind = left.nearest[window]
    right_x = seen_x - behind
    x = layer.surface.left_column(right_x, y)
    occluded[window] |= (x - right_x > behind + _TIE) & (_coverage(layer, x, y) >= 0.5)
