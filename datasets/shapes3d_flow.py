"""Optical flow without files: scenes of shapes3d at two moments, between which every object moves."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from autodisp.datasets.flow_files import outside
from autodisp.datasets.samples import FlowSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.shapes3d_rendering import Layer, render_motion
from autodisp.errors import InputError

_CAMERA = 0.5
"""Largest share of the largest flow that all layers have in common."""


class Shapes3DFlow:
    """Left views of procedural scenes at two moments with their flow; the same (seed, index) gives the same bits.

    Every layer, the background too, is shifted, turned and scaled within the image. The flow is exact and valid
    everywhere; ``unmatched`` marks the pixels that are occluded or outside at the second moment. Scenes are drawn with
    a margin, so that what moves into the image was part of the scene before.

    Args:
        length, seed, objects: see `Shapes3D`.
        height, width: size of the images, pixels.
        max_flow: no flow vector is longer, pixels, at least 1.

    Raises:
        InputError: a value out of its range.
    """

    has_occlusion = True

    def __init__(
        self, *, length: int, seed: int, height: int, width: int, max_flow: float, objects: tuple[int, int] = (8, 21)
    ) -> None:
        if not 1 <= max_flow <= width:
            raise InputError(f"shapes3d: max_flow is {max_flow} pixels, it must be in 1 .. width ({width})")
        self.max_flow = max_flow
        self.margin = int(np.ceil(max_flow))
        self.scenes = Shapes3D(
            length=length, seed=seed, height=height + 2 * self.margin, width=width + 2 * self.margin, objects=objects
        )
        self.names: Sequence[str] = self.scenes.names
        self.groups: Sequence[str] = self.scenes.groups

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> FlowSample:
        """Draws one scene; see `Shapes3D` for its errors."""
        layers, rng = self.scenes.scene(index)
        camera = self.max_flow * _CAMERA * rng.uniform() * _direction(rng)
        moves = [self._move(rng, layer, camera) for layer in layers]
        motion = render_motion(layers, moves, self.scenes.height, self.scenes.width)
        inner = (slice(self.margin, -self.margin),) * 2
        first, second = self.scenes.exposed(rng, motion.first[inner], motion.second[inner])
        flow = torch.from_numpy(motion.flow[:, *inner].copy())
        occluded = torch.from_numpy(motion.occluded[inner].copy())[None]
        return FlowSample(first, second, flow, torch.ones_like(occluded), occluded | outside(flow))

    def _move(self, rng: np.random.Generator, layer: Layer, camera: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draws a map (2, 3): a rotation by about 5 degrees, a scaling by 5 % and a shift, up to the largest flow."""
        height, width = layer.mask.shape if layer.mask is not None else (self.scenes.height, self.scenes.width)
        corner = np.array(layer.origin, float)
        middle = corner + np.array([width, height]) / 2
        own = 0.0 if layer.mask is None else self.max_flow * rng.uniform() ** 2
        angle, scale = rng.normal(0, np.radians(5)), np.exp(rng.normal(0, 0.05))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) - np.eye(2)
        shift = camera + own * _direction(rng)
        corners = corner + np.array([[0, 0], [width, 0], [0, height], [width, height]])
        longest = np.linalg.norm((corners - middle) @ turn.T + shift, axis=1).max()  # of an affine field: at a corner
        share = min(1.0, self.max_flow / max(longest, 1e-9))
        return np.column_stack([np.eye(2) + share * turn, share * (shift - turn @ middle)])


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
