"""Writes a prediction in the requested formats; each file is written atomically.

Unknown pixels follow the convention of each format: infinity in PFM (Middlebury), zero in 16-bit PNG (KITTI), black in
the colour image; they are omitted from a point cloud. Besides disparities that are not finite, those of a low
confidence are unknown: in the point cloud unless disabled, elsewhere only at a threshold that was set.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autodisp.atomic import replacing
from autodisp.datasets.disparity_png import write_disparity_png
from autodisp.datasets.pfm import write_pfm
from autodisp.errors import InputError, RunFault, is_full_disk
from autodisp.networks.confidence import UNKNOWN
from autodisp.prediction.disparity_images import colour_disparity, usual_range
from autodisp.prediction.point_cloud import Calibration, depth_of, point_cloud, write_ply

_DEPTH_PNG = "-depth.png"
CONFIDENCE = "confidence"
OUTPUTS = {
    "pfm": ("-disparity.pfm",),
    "png16": ("-disparity.png",),
    "colour": ("-colour.png",),
    "depth": ("-depth.pfm", _DEPTH_PNG),
    "ply": ("-points.ply",),
    CONFIDENCE: ("-confidence.png",),
}
"""Formats with the endings of their file names."""
CLASS_OUTPUTS = {"colour": ("-colour.png",), "index": ("-index.png",), "overlay": ("-overlay.png",)}
"""The same for class maps."""
_FLOW_PNG = "-flow.png"
FLOW_OUTPUTS = {"flo": ("-flow.flo",), "png16": (_FLOW_PNG,), "colour": ("-colour.png",)}
"""The same for flow."""

Plane = npt.NDArray[np.float32]
Write = Callable[[Path], int | None]
"""Writes a file; may return the number of values that its format cannot represent."""
_MILLIMETRES = 1000
_LARGEST = np.iinfo(np.uint16).max


class Written(NamedTuple):
    """The files written for one pair."""

    files: list[Path]
    notes: list[str]
    """One line for each file that cannot represent all values, and for implausible depths."""
    colours: tuple[float, float] | None = None
    """Disparities of the first and last colour of the colour image, pixels; None without one."""
    unknown: float | None = None
    """Share of the pixels that are unknown due to their confidence; None if it is not used."""


class OutputFolder:
    """Files of predictions in one folder.

    Args:
        folder: output folder, created with the first prediction.
        wanted: keys of the endings.
        endings: formats with the endings of their file names.
        inputs: files that are never replaced, such as all views.

    Raises:
        InputError: nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[str],
        *,
        endings: Mapping[str, Sequence[str]],
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        nearest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not nearest.is_dir():
            raise InputError(f"out={folder}: {nearest} is no folder; take another folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(f"out={folder}: {nearest} is not writable; take another folder")
        self.folder = folder
        self.wanted = tuple(dict.fromkeys(wanted))
        self.overwrite = overwrite
        self._endings = endings
        self._inputs = frozenset(file.resolve() for file in inputs)

    def files(self, name: str) -> list[Path]:
        """Returns the paths of the files of a prediction with that name.

        Raises:
            InputError: the name refers to a path outside of the folder.
        """
        path = self.folder / name
        if not Path(name).name or Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise InputError(
                f"{name!r} is no name for a prediction in {self.folder}: it must be a path below the folder"
            )
        return [path.with_name(path.name + ending) for output in self.wanted for ending in self._endings[output]]

    def check(self, name: str) -> None:
        """Checks that a prediction with that name may be written; to be called before computing it.

        Raises:
            InputError: a file is an input, is behind a link that leaves the folder, or exists and may not be replaced.
        """
        for file in self.files(name):
            try:
                exists = file.exists()
                inside = file.parent.resolve().is_relative_to(self.folder.resolve())
            except OSError as error:
                raise _unwritable(file, error) from error
            if not inside:
                raise InputError(f"{file}: a link leads out of {self.folder}; write into another folder")
            if exists and file.resolve() in self._inputs:
                raise InputError(f"{file}: is one of the views and will not be replaced; write into another folder")
            if exists and not self.overwrite:
                raise InputError(f"{file}: is there already; set overwrite=true, or write into another folder")

    def save_all(self, name: str, writers: Mapping[str, Sequence[Write]], *, pixels: int) -> list[str]:
        """Writes the wanted files of a prediction atomically; returns a line for each that cannot hold all values.

        Args:
            writers: by output, a function for each ending.

        Raises:
            InputError: a file cannot be written.
            RunFault: likewise, for lack of room.
        """
        writes = [write for output in self.wanted for write in writers[output]]
        lost = {file: self._save(file, write) for file, write in zip(self.files(name), writes, strict=True)}
        return [
            f"{file}: {_beyond(file)}, stored as unknown: {count} of {pixels} pixels"
            for file, count in lost.items()
            if count
        ]

    def _save(self, file: Path, write: Write) -> int | None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                return write(temporary)
        except OSError as error:
            raise _unwritable(file, error) from error


class PredictionWriter(OutputFolder):
    """Writes predictions into one folder, always in the same formats; see ``OutputFolder``.

    Args:
        wanted: keys of OUTPUTS.
        calibration: required for "depth" and "ply".
        max_depth: largest depth in the point cloud, metres; None: no limit.
        colour_range: disparities of the first and last colour; None: computed for each image.
        unknown: confidence below which a pixel is unknown; None: UNKNOWN in the point cloud, none elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[str],
        *,
        calibration: Calibration | None = None,
        max_depth: float | None = None,
        colour_range: tuple[float, float] | None = None,
        unknown: float | None = None,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        super().__init__(folder, wanted, endings=OUTPUTS, overwrite=overwrite, inputs=inputs)
        self.calibration = calibration
        self.max_depth = max_depth
        self.colour_range = colour_range
        self.unknown = unknown

    @property
    def reads_confidence(self) -> bool:
        """True if a file depends on the confidence."""
        return self.unknown is not None or "ply" in self.wanted or CONFIDENCE in self.wanted

    def write(self, name: str, disparity: Plane, view: Tensor, confidence: Plane | None = None) -> Written:
        """Writes all requested files of one prediction.

        Args:
            name: path below the folder, without suffix; its folders are created.
            disparity: (H, W), pixels.
            view: left view (3, H, W), RGB in 0..1.
            confidence: (H, W), 0..1; None if there is none, as for an exported network.

        Raises:
            InputError: see ``check``, or a file cannot be written.
            ValueError: the disparity is not (H, W), the view has another size, or there is no confidence to write.
        """
        if disparity.ndim != 2 or view.shape != (3, *disparity.shape):
            raise ValueError(
                f"the disparity is {disparity.shape} and the view {tuple(view.shape)}: "
                "they must be (H, W) and (3, H, W)"
            )
        if confidence is None and (CONFIDENCE in self.wanted or self.unknown is not None):
            raise ValueError("confidence is None, must be (H, W) for unknown pixels and a confidence image")
        self.check(name)
        cloud, share = disparity, None
        if confidence is not None and (self.unknown is not None or "ply" in self.wanted):
            doubtful = confidence < (UNKNOWN if self.unknown is None else self.unknown)
            cloud, share = np.where(doubtful, np.float32(np.inf), disparity), float(doubtful.mean())
            if self.unknown is not None:
                disparity = cloud
        colours = None
        if "colour" in self.wanted:
            colours = self.colour_range or usual_range(torch.from_numpy(disparity))
        writers = self._writers(disparity, cloud, view, confidence, colours or (0.0, 1.0))
        notes = self.save_all(name, writers, pixels=disparity.size)
        if self.calibration is not None:
            notes += _implausible_depth(disparity, self.calibration, self.max_depth)
        return Written(self.files(name), notes, colours, share)

    def _writers(
        self, disparity: Plane, cloud: Plane, view: Tensor, confidence: Plane | None, colours: tuple[float, float]
    ) -> Mapping[str, Sequence[Write]]:
        """Returns the writers of each output that can be written."""
        plane = torch.from_numpy(disparity)
        writers: dict[str, list[Write]] = {
            "pfm": [lambda file: write_pfm(file, disparity)],
            "png16": [lambda file: write_disparity_png(file, plane)],
            "colour": [lambda file: write_png(file, colour_disparity(plane, low=colours[0], high=colours[1]))],
        }
        if confidence is not None:
            writers[CONFIDENCE] = [lambda file: write_png(file, np.rint(255 * confidence).astype(np.uint8))]
        if (calibration := self.calibration) is not None:
            depth = depth_of(disparity, calibration)
            writers["depth"] = [lambda file: write_pfm(file, depth), lambda file: write_depth_png(file, depth)]
            writers["ply"] = [
                lambda file: write_ply(file, point_cloud(cloud, view, calibration, max_depth=self.max_depth))
            ]
        return writers


def _beyond(file: Path) -> str:
    """Describes the values that 16 bits cannot represent, in the unit of the file."""
    if file.name.endswith(_DEPTH_PNG):
        return f"farther than {_LARGEST / _MILLIMETRES:.1f} m"
    if file.name.endswith(_FLOW_PNG):
        return "vectors beyond 512 px"
    return "disparities of 256 px and more"


def _implausible_depth(disparity: Plane, calibration: Calibration, max_depth: float | None) -> list[str]:
    """Returns a warning if no pixel has a depth, or nearly all exceed 65.5 m, as with a baseline in millimetres.

    Likewise if the largest depth of the point cloud leaves no point.
    """
    depth = depth_of(disparity, calibration)
    known = depth[np.isfinite(depth)]
    if not known.size and np.isfinite(disparity).any():
        return [f"no pixel has a depth: is doffs={calibration.doffs:g} that of these images?"]
    if known.size and max_depth is not None and known.min() > max_depth:
        return [
            f"the point cloud is empty: the nearest pixel is at {known.min():.3g} m, beyond max_depth={max_depth:g}"
        ]
    if not known.size or (nearest := float(np.percentile(known, 5))) <= _LARGEST / _MILLIMETRES:
        return []
    return [
        f"95 % of the pixels are farther than {nearest:.0f} m: is baseline={calibration.baseline:g} in metres, and "
        f"focal={calibration.focal:g} in pixels of these images?"
    ]


def write_depth_png(path: Path, depth: Plane) -> int:
    """Writes a depth map as 16-bit PNG in whole millimetres.

    Args:
        path: a file in a folder that exists.
        depth: (H, W), metres; unknown where it is not finite or not positive.

    Returns:
        Number of known depths beyond 65.535 m; they are stored as 0 (unknown), since a saturated value would look like
        a measurement.
    """
    known = np.isfinite(depth) & (depth > 0)
    levels = np.rint(np.where(known, depth, 0).astype(np.float64) * _MILLIMETRES)
    beyond = levels > _LARGEST
    levels = np.where(known & ~beyond, np.maximum(levels, 1), 0)
    _, encoded = cv2.imencode(".png", levels.astype(np.uint16))
    path.write_bytes(encoded.tobytes())
    return int(beyond.sum())


def write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Writes an image (H, W, 3) or (H, W), RGB or grey; the path may have any suffix."""
    path.write_bytes(iio.imwrite("<bytes>", image, plugin="pillow", extension=".png"))


def _unwritable(file: Path, error: OSError) -> InputError | RunFault:
    kind = RunFault if is_full_disk(error) else InputError
    return kind(f"{file}: cannot be written ({error.strerror or error}); is there room, and may you write there?")
