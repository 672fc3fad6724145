"""A search as a moving picture: the eigenvalue's curve grows beside the cell of that epoch. GIF, and MP4 where it can.

MP4 needs ffmpeg, which the extra ``video`` (imageio-ffmpeg) brings.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autodisp.errors import in_one_line
from autodisp.report.curves import RC
from autodisp.report.drawing import CellDrawing, cell_figure
from autodisp.report.pictures import rendered
from autodisp.report.reading import Moment, Run
from autodisp.report.viewer import drawings_of, frames_of, label

Image = npt.NDArray[np.uint8]

NAME = "search"
_DPI = 110
_LARGEST = 1200, 640
"""Width and height of a cell, pixels; a larger one is made smaller."""
_MULTIPLE = 16
"""Of width and height, as video codecs want them."""
_SECONDS = 12.0
_CURVE, _UNDONE, _NOW = "#0072B2", "#56A0C8", "#C0392B"


def write_animation(run: Run, folder: Path, notes: list[str]) -> list[str]:
    """Writes search.gif and search.mp4 into a folder.

    Args:
        run: a search.
        folder: exists.
        notes: gets a line where something could not be written.

    Returns:
        The names of the files written; none where there are not two epochs to move between.
    """
    moments = frames_of(run)
    if len(moments) < 2:
        return []
    frames = _frames(run, moments)
    seconds = min(0.5, _SECONDS / len(frames))
    durations = [1000 * seconds] * (len(frames) - 1) + [2500.0]
    imageio.mimsave(folder / f"{NAME}.gif", frames, duration=durations, loop=0)
    written = [f"{NAME}.gif"]
    if find_spec("imageio_ffmpeg") is None:
        notes.append(f"no {NAME}.mp4: it needs ffmpeg, which `pip install imageio-ffmpeg` (the extra video) brings")
        return written
    still = [frames[-1]] * round(2.0 / seconds)
    try:
        imageio.mimsave(
            folder / f"{NAME}.mp4", [*frames, *still], fps=1 / seconds, codec="libx264", macro_block_size=_MULTIPLE
        )
        written.append(f"{NAME}.mp4")
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        (folder / f"{NAME}.mp4").unlink(missing_ok=True)
        notes.append(f"no {NAME}.mp4: ffmpeg failed ({in_one_line(error)}); animation=false leaves it out")
    return written


def _frames(run: Run, moments: Sequence[Moment]) -> list[Any]:
    kind = next(iter(drawings_of(moments[-1].cells)))
    drawings = [drawings_of(moment.cells).get(kind) for moment in moments]
    pictures: dict[CellDrawing, Image] = {}
    for drawing in drawings:
        if drawing is not None and drawing not in pictures:
            pictures[drawing] = _fitted(rendered(cell_figure(drawing), _DPI))
    width = max(picture.shape[1] for picture in pictures.values())
    height = max(picture.shape[0] for picture in pictures.values())
    curve = _Curve(run)
    frames: list[Any] = []
    for moment, drawing in zip(moments, drawings, strict=True):
        left = curve.at(moment)
        size = (_rounded(max(height, left.shape[0])), _rounded(left.shape[1] + width + 24))
        frame = np.full((*size, 3), 255, dtype=np.uint8)
        _put(frame, left, 0, left.shape[1])
        if drawing is not None:
            _put(frame, pictures[drawing], left.shape[1], size[1])
        frames.append(frame)
    return frames


class _Curve:
    """The chart at the left, drawn anew at each epoch as far as the search had come."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.key = "eigenvalue" if any("eigenvalue" in m.values for m in run.moments) else f"valid/{run.figure.name}"
        values = [m.values[self.key] for m in run.moments if np.isfinite(m.values.get(self.key, np.nan))]
        self.limits = (min(values), max(values)) if values else (0.0, 1.0)
        self.last = max(moment.epoch for moment in run.moments)

    def at(self, now: Moment) -> Image:
        """The chart when that moment had come."""
        place = next(i for i, moment in enumerate(self.run.moments) if moment is now)
        so_far = self.run.moments[: place + 1]
        with mpl.rc_context(RC):
            figure = Figure(figsize=(4.4, 3.0), facecolor="white")
            axes = figure.add_axes((0.14, 0.15, 0.82, 0.7))
            self._draw(axes, so_far)
            axes.set_title(self._title(now), fontsize=9.5)
            return rendered(figure, _DPI)

    def _draw(self, axes: Axes, so_far: Sequence[Moment]) -> None:
        paths: list[list[tuple[int, float]]] = [[]]
        for moment in so_far:
            value = moment.values.get(self.key)
            if paths[-1] and moment.epoch <= paths[-1][-1][0]:
                paths.append([point for point in paths[-1] if point[0] < moment.epoch])
            if value is not None and np.isfinite(value):
                paths[-1].append((moment.epoch, value))
        for path in paths[:-1]:
            axes.plot(*_columns(path), color=_UNDONE, linestyle=(0, (3, 2)), linewidth=1.0)
        axes.plot(*_columns(paths[-1]), color=_CURVE, marker="o" if len(paths[-1]) <= 60 else "")
        axes.axvline(so_far[-1].epoch, color=_NOW, linewidth=0.8, linestyle=":")
        if paths[-1]:
            axes.plot(*_columns(paths[-1][-1:]), color=_NOW, marker="o", markersize=6)
        low, high = self.limits
        if low > 0 and high / low > 50:
            axes.set_yscale("log")
            axes.set_ylim(low / 1.3, high * 1.3)
        else:
            margin = 0.06 * (high - low) or 0.5
            axes.set_ylim(low - margin, high + margin)
        axes.set_xlim(-0.03 * self.last - 0.5, 1.03 * self.last + 0.5)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))

    def _title(self, now: Moment) -> str:
        words = "dominant eigenvalue" if self.key == "eigenvalue" else self.run.figure.name
        return f"{words} · {label(self.run, now).split(' · ')[0]}".replace("$", r"\$")


def _columns(path: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in path], [y for _, y in path]


def _fitted(picture: Image) -> Image:
    """The picture, halved until it fits."""
    while picture.shape[1] > _LARGEST[0] or picture.shape[0] > _LARGEST[1]:
        even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2].astype(np.uint16)
        picture = ((even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) // 4).astype(np.uint8)
    return picture


def _put(frame: Image, picture: Image, left: int, right: int) -> None:
    """Into the middle of the columns from left to right."""
    top = (frame.shape[0] - picture.shape[0]) // 2
    start = left + (right - left - picture.shape[1]) // 2
    frame[top : top + picture.shape[0], start : start + picture.shape[1]] = picture


def _rounded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE
