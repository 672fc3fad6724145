"""Converts disparity to metric depth by the camera geometry, and to a coloured point cloud as a PLY file.

Points are in the frame of the left camera as in OpenCV: x to the right, y down, z forward, in metres. Viewers with y up
show the scene upside down; rotate it by 180 degrees about x.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from autodisp.errors import InputError

Floats = npt.NDArray[np.floating]

_VERTEX = np.dtype([(axis, "<f4") for axis in "xyz"] + [(colour, "u1") for colour in ("red", "green", "blue")])
_TYPES = {"<f4": "float", "|u1": "uchar"}


@dataclass(frozen=True)
class Calibration:
    """Calibration of two rectified cameras.

    Raises:
        InputError: focal or baseline is not positive, or a value is not finite.
    """

    focal: float
    """Focal length in pixels of the input images."""
    baseline: float
    """Distance between the cameras in metres."""
    doffs: float = 0.0
    """x offset of the right view's principal point relative to the left one's, pixels (Middlebury's name); a disparity
    of -doffs is infinitely far."""
    centre: tuple[float, float] | None = None
    """Principal point (x, y) of the left view in pixels, (0, 0) being the centre of the first pixel; None: the image
    centre."""

    def __post_init__(self) -> None:
        for name, value, unit in (("focal", self.focal, "pixels"), ("baseline", self.baseline, "metres")):
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name}={value}: must be a positive number of {unit}, as the calibration has it")
        for name, value in (("doffs", self.doffs), *(("centre", value) for value in self.centre or ())):
            if not math.isfinite(value):
                raise InputError(f"{name}={value}: must be a finite number of pixels, as the calibration has it")


class PointCloud(NamedTuple):
    """Coloured points."""

    positions: npt.NDArray[np.float32]
    """(N, 3): x to the right, y down, z forward, metres."""
    colours: npt.NDArray[np.uint8]
    """(N, 3) RGB."""


def depth_of(disparity: Floats, calibration: Calibration) -> npt.NDArray[np.float32]:
    """Computes the depth along z: focal * baseline / (disparity + doffs).

    Args:
        disparity: (H, W), pixels.

    Returns:
        (H, W), metres; infinite (unknown) where disparity + doffs is not positive or not finite.
    """
    shift = np.asarray(disparity, dtype=np.float64) + calibration.doffs
    known = np.isfinite(shift) & (shift > 0)
    with np.errstate(over="ignore"):
        depth = np.divide(calibration.focal * calibration.baseline, shift, where=known, out=np.full_like(shift, np.inf))
        return depth.astype(np.float32)


def point_cloud(
    disparity: Floats, view: Tensor, calibration: Calibration, *, max_depth: float | None = None
) -> PointCloud:
    """Projects the pixels of the left view into space, row by row; those of unknown depth are omitted.

    In metres from the left camera: x to the right, y down, z ahead along its optical axis.

    Args:
        disparity: (H, W), pixels.
        view: left view (3, H, W), RGB in 0..1.
        max_depth: metres; farther points are omitted.

    Raises:
        ValueError: the view is not of the disparity's size.
    """
    height, width = disparity.shape
    if view.shape != (3, height, width):
        raise ValueError(f"the disparity is {height} x {width} and the view {tuple(view.shape)}: it must be (3, H, W)")
    depth = depth_of(disparity, calibration)
    rows, columns = np.nonzero(np.isfinite(depth) & (depth <= (math.inf if max_depth is None else max_depth)))
    z = depth[rows, columns].astype(np.float64)
    centre = calibration.centre or ((width - 1) / 2, (height - 1) / 2)
    x, y = (columns - centre[0]) * z / calibration.focal, (rows - centre[1]) * z / calibration.focal
    levels = (view.detach().cpu().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return PointCloud(np.stack([x, y, z], axis=1).astype(np.float32), levels[rows, columns])


def write_ply(path: Path, cloud: PointCloud) -> None:
    """Writes a binary little-endian PLY file."""
    vertices = np.empty(len(cloud.positions), dtype=_VERTEX)
    for index, name in enumerate(_VERTEX.names or ()):
        source = cloud.positions if index < 3 else cloud.colours
        vertices[name] = source[:, index % 3]
    properties = [f"property {_TYPES[str(_VERTEX[name].str)]} {name}" for name in _VERTEX.names or ()]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment metres; x to the right, y down, z forward, from the left camera",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
    ]
    with path.open("wb") as file:
        file.write("".join(f"{line}\n" for line in header).encode("ascii"))
        file.write(vertices.tobytes())
