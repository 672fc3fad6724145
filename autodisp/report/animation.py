"""Animation of a search as GIF and MP4: a marker on the curve of the eigenvalue, next to the cell of that epoch.

MP4 needs ffmpeg, which the extra ``video`` (imageio-ffmpeg) installs.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from autodisp.cells.genotype import Genotype
from autodisp.errors import in_one_line
from autodisp.report.cells import cells_figure
from autodisp.report.curves import RED, Panel, marked_chart
from autodisp.report.figures import plain, rendered
from autodisp.report.reading import Run
from autodisp.report.viewer import frames_of, label, panel_named

NAME = "search"
_DPI = 110
_LARGEST = 1200, 640
"""Width and height of a cell, pixels; a larger one is scaled down."""
_MULTIPLE = 16
"""Divides width and height, as video codecs require."""
_SECONDS = 12.0
_GAP = 24


def write_animation(run: Run, folder: Path, notes: list[str]) -> list[str]:
    """Writes search.gif and search.mp4 into a folder.

    Args:
        notes: receives a line for each file that could not be written.

    Returns:
        The names of the files written; none for fewer than two epochs.
    """
    if len(frames_of(run)) < 2:
        return []
    frames = _frames(run)
    seconds = min(0.5, _SECONDS / len(frames))
    durations = [1000 * seconds] * (len(frames) - 1) + [2500.0]
    imageio.mimsave(folder / f"{NAME}.gif", frames, duration=durations, loop=0)
    if find_spec("imageio_ffmpeg") is None:
        notes.append(f"no {NAME}.mp4: it needs ffmpeg, which `pip install imageio-ffmpeg` (the extra video) brings")
        return [f"{NAME}.gif"]
    still = [frames[-1]] * round(2.0 / seconds)
    try:
        imageio.mimsave(
            folder / f"{NAME}.mp4", [*frames, *still], fps=1 / seconds, codec="libx264", macro_block_size=_MULTIPLE
        )
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        (folder / f"{NAME}.mp4").unlink(missing_ok=True)
        notes.append(f"no {NAME}.mp4: ffmpeg failed ({in_one_line(error)}); animation=false leaves it out")
        return [f"{NAME}.gif"]
    return [f"{NAME}.gif", f"{NAME}.mp4"]


def _frames(run: Run) -> list[Any]:
    """Renders the frames: the whole curve with a mark at the epoch, and the first kind of cell."""
    epochs = frames_of(run)
    kind = Genotype("", epochs[-1].cells).kinds[0]
    cells: dict[Any, Image.Image] = {}
    for epoch in epochs:
        if kind in epoch.cells and epoch.cells[kind] not in cells:
            image = Image.fromarray(rendered(cells_figure(Genotype("", epoch.cells), [kind]), _DPI))
            image.thumbnail(_LARGEST)
            cells[epoch.cells[kind]] = image
    panel = panel_named(run, "eigenvalue") or panel_named(run, "metric") or Panel("", "", ())
    key = "eigenvalue" if panel.name == "eigenvalue" else f"valid/{run.figure.name}"
    figure, axes = marked_chart(run, panel)
    line = axes.axvline(epochs[0].epoch, color=RED, linewidth=0.8, linestyle=":")
    (point,) = axes.plot([], [], color=RED, marker="o", markersize=6)
    frames = []
    for epoch in epochs:
        axes.set_title(plain(f"{panel.title} · {label(run, epoch).split(' · ')[0]}"), fontsize=9.5)
        line.set_xdata([epoch.epoch, epoch.epoch])
        point.set_data([epoch.epoch], [epoch.values.get(key, np.nan)])
        curve = Image.fromarray(rendered(figure, _DPI))
        width = curve.width + max(image.width for image in cells.values()) + _GAP
        height = max(curve.height, *(image.height for image in cells.values()))
        frame = Image.new("RGB", (-(-width // _MULTIPLE) * _MULTIPLE, -(-height // _MULTIPLE) * _MULTIPLE), "white")
        frame.paste(curve, (0, (frame.height - curve.height) // 2))
        if kind in epoch.cells:
            cell = cells[epoch.cells[kind]]
            left = curve.width + (frame.width - curve.width - cell.width) // 2
            frame.paste(cell, (left, (frame.height - cell.height) // 2))
        frames.append(np.asarray(frame))
    return frames
