"""A report's pictures: each as an SVG and a PNG file, and as SVG inside the page.

In the page a picture is an image of its own, in which nothing can run and no name meets one of the page. It has no
ground, and a page that is shown dark inverts it (style.css). Its words are text: their outlines, which the files have
instead, would be most of the page.
"""

import base64
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

PIXELS_PER_INCH = 160
_RC: dict[Any, Any] = {"svg.hashsalt": "autodisp", "text.usetex": False, "path.sketch": None}


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    name: str
    """Of its files, without suffix."""
    title: str
    uri: str
    """Its SVG as a data URI."""
    width: float
    """Of its natural size, CSS pixels."""
    height: float
    note: str = ""
    """What is to be known about it."""

    @property
    def files(self) -> tuple[str, str]:
        """The names of its files."""
        return f"{self.name}.svg", f"{self.name}.png"


class Gallery:
    """Writes pictures into a folder.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[str] = []

    def add(self, name: str, title: str, figure: Figure, *, note: str = "") -> Picture:
        """Writes the figure as NAME.svg and NAME.png, with a number behind the name where there is one already."""
        taken = sum(re.fullmatch(rf"{re.escape(name)}(_\d+)?\.svg", file) is not None for file in self.files)
        picture = page_picture(f"{name}_{taken + 1}" if taken else name, title, figure, note=note)
        with _rendering():
            for file in picture.files:
                metadata = {"Date": None} if file.endswith(".svg") else {}
                figure.savefig(self.folder / file, dpi=PIXELS_PER_INCH, metadata=metadata)
        self.files += picture.files
        return picture


def page_picture(name: str, title: str, figure: Figure, *, note: str = "") -> Picture:
    """The figure as the page has it, without files."""
    buffer = io.StringIO()
    with _rendering("none"):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg).replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif")
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    width, height = (96 * float(length) for length in figure.get_size_inches())
    return Picture(name, title, uri, width, height, note)


def rendered(figure: Figure, dpi: float | None = None) -> npt.NDArray[np.uint8]:
    """The figure as an (H, W, 3) picture, at its own resolution if none is given."""
    if dpi is not None:
        figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels: npt.NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return pixels


@contextmanager
def _rendering(words: str = "path") -> Iterator[None]:
    with mpl.rc_context({**_RC, "svg.fonttype": words}), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, which is all there is to say about it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
