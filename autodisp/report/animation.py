"""A search as a moving picture: where it is on the eigenvalue's curve, beside the cell of that epoch. GIF and MP4.

MP4 needs ffmpeg, which the extra ``video`` (imageio-ffmpeg) brings.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import numpy.typing as npt

from autodisp.errors import in_one_line
from autodisp.report.cell_layout import CellDrawing
from autodisp.report.charts import course_figure, course_panel
from autodisp.report.curves import Panel
from autodisp.report.drawing import cell_figure
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
_NOW = "#C0392B"


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
    course = _Course(run)
    frames: list[Any] = []
    for moment, drawing in zip(moments, drawings, strict=True):
        left = course.at(moment)
        size = (_rounded(max(height, left.shape[0])), _rounded(left.shape[1] + width + 24))
        frame = np.full((*size, 3), 255, dtype=np.uint8)
        _put(frame, left, 0, left.shape[1])
        if drawing is not None:
            _put(frame, pictures[drawing], left.shape[1], size[1])
        frames.append(frame)
    return frames


class _Course:
    """The chart at the left: the whole course, and a mark where the search was."""

    def __init__(self, run: Run) -> None:
        self.run = run
        panel = course_panel(run, "eigenvalue") or course_panel(run, "figure") or Panel("", "", ())
        self.key = "eigenvalue" if panel.name == "eigenvalue" else f"valid/{run.figure.name}"
        self.words = panel.title
        self.figure, axes = course_figure(run, panel)
        self.title = axes.set_title(self.words, loc="left", fontsize=9.5)
        self.line = axes.axvline(run.moments[0].epoch, color=_NOW, linewidth=0.8, linestyle=":")
        (self.point,) = axes.plot([], [], color=_NOW, marker="o", markersize=6)

    def at(self, now: Moment) -> Image:
        """The chart with the mark at that moment."""
        self.title.set_text(f"{self.words} · {label(self.run, now).split(' · ')[0]}".replace("$", r"\$"))
        self.line.set_xdata([now.epoch, now.epoch])
        self.point.set_data([now.epoch], [now.values.get(self.key, np.nan)])
        return rendered(self.figure, _DPI)


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
