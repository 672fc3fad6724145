"""Style and rendering of all figures of a run: as pixels, as a file, and as an SVG inside a page.

Uses no pyplot and does not change rcParams permanently. A file depends on its content only: no date, no random ids.
"""

import base64
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Image = npt.NDArray[np.uint8]

INK = "#22303C"
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#6A51A3", "#C0392B", "#B5559A", "#8C6D31", "#7F7F7F", "#56A0C8", "#B8A100",
)  # fmt: skip
"""Distinguishable by colour-blind readers too (after Okabe and Ito)."""
_STYLE: dict[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8A949E",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6EAED",
    "legend.edgecolor": "none",
    "legend.fontsize": 8,
    "lines.markersize": 3.5,
    "text.usetex": False,
    "path.sketch": None,
    "svg.hashsalt": "autodisp",
    "svg.fonttype": "path",
}
_NO_METADATA = {"svg": ("Date", "Creator", "Format", "Type"), "pdf": ("CreationDate",)}


def plain(text: str) -> str:
    """Escapes a text of a run or a config, so that matplotlib parses no mathematics in it."""
    return text.replace("$", r"\$")


@contextmanager
def style(**settings: Any) -> Iterator[None]:
    """Sets the rcParams for creating and writing figures; ``settings`` with ``_`` for the dots."""
    more: dict[Any, Any] = {key.replace("_", "."): value for key, value in settings.items()}
    with mpl.rc_context({**_STYLE, **more}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as boxes
        yield


def settle(figure: Figure) -> None:
    """Computes the layout and freezes it, since computing it takes about as long as drawing the figure."""
    with style():
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


def rendered(figure: Figure, dpi: float | None = None) -> Image:
    """Renders the figure as (H, W, 3), at its own resolution if ``dpi`` is None."""
    if dpi is not None:
        figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    with style():
        canvas.draw()
    pixels: Image = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


def save(figure: Figure, path: Path, *, dpi: float = 160) -> None:
    """Writes the figure in the format of the path's suffix: svg, png or pdf."""
    kind = path.suffix.lower().removeprefix(".")
    with style():
        figure.savefig(path, format=kind, dpi=dpi, metadata=dict.fromkeys(_NO_METADATA.get(kind, ())))


def svg_uri(figure: Figure) -> str:
    """Returns the figure as an SVG in a data URI, with text as text and no background."""
    buffer = io.BytesIO()
    with style(svg_fonttype="none"):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(_NO_METADATA["svg"]), transparent=True)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
