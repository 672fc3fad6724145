"""The newest image of a prediction in a run folder."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from autodisp.run_files import PREDICTION

_WIDEST = 1600
"""Largest width in the page, in pixels; the file next to the page keeps its size."""


@dataclass(frozen=True)
class RunImage:
    """An image for the page."""

    uri: str
    width: int
    height: int
    png: bytes
    """The file."""


def read_image(folder: Path, notes: list[str]) -> RunImage | None:
    """Reads the image of a run; None if there is none.

    The image is decoded and encoded again, so that the page contains nothing but an image.
    """
    path = folder / PREDICTION
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        notes.append(f"{PREDICTION} cannot be read ({type(error).__name__})")
        return None
    shown = pixels
    if pixels.width > _WIDEST:
        shown = pixels.resize((_WIDEST, max(1, round(pixels.height * _WIDEST / pixels.width))))
    uri = "data:image/png;base64," + base64.b64encode(_png(shown)).decode()
    return RunImage(uri, shown.width, shown.height, _png(pixels))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
