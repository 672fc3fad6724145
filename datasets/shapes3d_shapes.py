"""Shapes of the objects in a procedural scene: random outline and relief around (0, 0)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Slope = tuple[float, float]
CLASSES = ("background", "plane", "polygon", "blob", "ball", "cylinder", "box", "ring", "bars", "wire", "truss")
"""Names of the kinds in a class map, by index; planes are floors and streets."""


@dataclass(frozen=True)
class Shape:
    """Filled polygons and open strokes in pixels, and their relief.

    ``slopes`` has the (x, y) inclination of each visible face, one for flat shapes; all faces meet at (0, 0), the
    nearest point. ``bend`` = (qxx, qxy, qyy) adds qxx x² + qxy x y + qyy y². Both count nearness in pixels a
    pixel: 1 is a surface turned by 45 degrees, whatever its distance.
    """

    filled: tuple[Points, ...] = ()
    strokes: tuple[Points, ...] = ()
    thickness: int = 1
    slopes: tuple[Slope, ...] = ((0.0, 0.0),)
    bend: tuple[float, float, float] = (0.0, 0.0, 0.0)
    kind: str = "background"


ShapeMaker = Callable[[np.random.Generator, float], Shape]
"""Draws one shape of about the given size in pixels."""


def tilt(rng: np.random.Generator) -> Slope:
    """A plane turned by up to 70 degrees about both axes."""
    across, down = np.tan(np.radians(rng.uniform(-70, 70, 2)))
    return float(across), float(down)


def polygon(rng: np.random.Generator, size: float) -> Shape:
    """Three to eight corners, often not convex."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    return Shape(
        filled=(_polar(angles, size / 2 * rng.uniform(0.5, 1, len(angles))),), slopes=(tilt(rng),), kind="polygon"
    )


def blob(rng: np.random.Generator, size: float) -> Shape:
    """A smooth closed outline, flat or bulging."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = [rng.normal(0, 0.22 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(2, 6)]
    radius = size / 2 * np.clip(1 + sum(waves), 0.2, 1.8)
    return Shape(
        filled=(_polar(angles, radius) * _squeeze(rng),), slopes=(tilt(rng),), bend=_bulge(rng, size), kind="blob"
    )


def ball(rng: np.random.Generator, size: float) -> Shape:
    """An ellipse that bulges towards the viewer."""
    outline = _polar(np.linspace(0, 2 * np.pi, 48, endpoint=False), size / 2) * _squeeze(rng)
    q = -float(rng.uniform(0.7, 1.5)) / size
    return Shape(filled=(_turn(outline, rng.uniform(0, np.pi)),), bend=(q, 0.0, q), kind="ball")


def cylinder(rng: np.random.Generator, size: float) -> Shape:
    """A bar with rounded ends that bends away on both sides of its axis; upright more often than not."""
    direction = np.pi / 2 + rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    radius, half = size * rng.uniform(0.15, 0.4), size * rng.uniform(0.4, 0.8)
    arc = np.linspace(-np.pi / 2, np.pi / 2, 16)
    cap = np.stack([half + radius * rng.uniform(0.0, 0.6) * np.cos(arc), radius * np.sin(arc)], axis=1)
    outline = _turn(np.concatenate([cap, -cap]), direction)
    along = float(np.tan(np.radians(rng.uniform(-55, 55))))
    c, s = float(np.cos(direction)), float(np.sin(direction))
    q = -float(rng.uniform(0.4, 1.2)) / radius
    return Shape(
        filled=(outline,),
        slopes=((along * c, along * s),),
        bend=(q * s * s, -2 * q * c * s, q * c * c),
        kind="cylinder",
    )


def corner_box(rng: np.random.Generator, size: float) -> Shape:
    """A box with a corner in front: three faces."""
    angles = rng.uniform(0, 2 * np.pi) + np.radians(np.array([0, 120, 240]) + rng.uniform(-25, 25, 3))
    e = _polar(angles, size * rng.uniform(0.25, 0.6, 3))
    drops = np.tan(np.radians(rng.uniform(15, 60, 3))) * np.hypot(*e.T)
    outline = np.stack([e[0], e[0] + e[1], e[1], e[1] + e[2], e[2], e[2] + e[0]])
    return Shape(
        filled=(outline,),
        slopes=tuple(_face(e[[i, j]], drops[[i, j]]) for i, j in ((0, 1), (1, 2), (2, 0))),
        kind="box",
    )


def edge_box(rng: np.random.Generator, size: float) -> Shape:
    """A box with an edge in front: two faces, the edge upright more often than not."""
    direction = np.pi / 2 + rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    ridge = _polar(np.array([direction]), size * rng.uniform(0.3, 1.0))[0]
    sides = _polar(
        direction + np.radians(np.array([90, -90]) + rng.uniform(-25, 25, 2)), size * rng.uniform(0.15, 0.6, 2)
    )
    drops = np.tan(np.radians(rng.uniform(10, 65, 2))) * np.hypot(*sides.T)
    along = float(np.tan(np.radians(rng.uniform(-50, 50)))) * float(np.hypot(*ridge))
    half = ridge / 2
    outline = np.stack([half + sides[0], half, half + sides[1], sides[1] - half, -half, sides[0] - half])
    faces = (_face(np.stack([side, ridge]), np.array([drop, along])) for side, drop in zip(sides, drops, strict=True))
    return Shape(filled=(outline,), slopes=tuple(faces), kind="box")


def ring(rng: np.random.Generator, size: float) -> Shape:
    """A tilted hoop, with spokes now and then."""
    angles = np.linspace(0, 2 * np.pi, 49)
    squeeze, turn = _squeeze(rng), rng.uniform(0, np.pi)
    strokes = [_turn(_polar(angles, size / 2) * squeeze, turn)]
    if rng.random() < 0.5:
        spokes = rng.uniform(0, np.pi) + np.arange(int(rng.integers(2, 7))) * np.pi / rng.integers(2, 7)
        tips = _polar(spokes, size / 2) * squeeze
        strokes += [_turn(np.stack([tip, -tip]), turn) for tip in tips]
    return Shape(strokes=tuple(strokes), thickness=_thickness(rng, size, 0.15), slopes=(tilt(rng),), kind="ring")


def bars(rng: np.random.Generator, size: float) -> Shape:
    """One to seven parallel bars: a pole, a fence, a grating."""
    count = int(rng.integers(1, 8))
    offsets = (np.arange(count) - (count - 1) / 2) * size * rng.uniform(0.08, 0.25)
    half = size * rng.uniform(0.5, 1.0)
    turn = rng.uniform(0, np.pi)
    strokes = [_turn(np.array([[-half, offset], [half, offset]]), turn) for offset in offsets]
    return Shape(strokes=tuple(strokes), thickness=_thickness(rng, size, 0.1), slopes=(tilt(rng),), kind="bars")


def wire(rng: np.random.Generator, size: float) -> Shape:
    """A thin curve."""
    t = np.linspace(-1, 1, 40)[:, None]
    curve = size * (rng.normal(0, 0.6, 2) * t + rng.normal(0, 0.4, 2) * t**2 + rng.normal(0, 0.4, 2) * t**3)
    return Shape(strokes=(curve,), thickness=_thickness(rng, size, 0.03), slopes=(tilt(rng),), kind="wire")


def truss(rng: np.random.Generator, size: float) -> Shape:
    """Struts between a few corners with a plate or two: chairs, scaffolds, frames of bicycles."""
    corners = rng.uniform(-0.6, 0.6, (int(rng.integers(4, 8)), 2)) * size
    pairs = rng.integers(0, len(corners), (int(rng.integers(4, 11)), 2))
    strokes = tuple(corners[pair] for pair in pairs if pair[0] != pair[1]) or (corners[:2],)
    plates = tuple(corners[rng.permutation(len(corners))[:3]] for _ in range(int(rng.integers(0, 3))))
    return Shape(
        filled=plates, strokes=strokes, thickness=_thickness(rng, size, 0.07), slopes=(tilt(rng),), kind="truss"
    )


def _polar(angles: Points, radius: Points | float) -> Points:
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _turn(points: Points, angle: float) -> Points:
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[c, s], [-s, c]]))


def _squeeze(rng: np.random.Generator) -> Points:
    return np.array([1.0, rng.uniform(0.4, 1.0)])


def _bulge(rng: np.random.Generator, size: float) -> tuple[float, float, float]:
    """A dome, a bowl or a saddle; flat in half of the cases."""
    if rng.random() < 0.5:
        return 0.0, 0.0, 0.0
    qxx, qxy, qyy = rng.uniform(-1, 1, 3) / size
    return float(qxx), float(qxy), float(qyy)


def _face(edges: Points, drops: Points) -> Slope:
    """The slope of the plane that falls by ``drops`` along the two ``edges``."""
    b, c = np.linalg.solve(edges, -drops)
    return float(b), float(c)


def _thickness(rng: np.random.Generator, size: float, largest: float) -> int:
    return max(1, round(size * largest * float(rng.uniform(0.15, 1.0))))
