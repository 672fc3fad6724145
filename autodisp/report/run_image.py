"""The newest image that a run kept of a prediction."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from autodisp.run_files import PREDICTION

_WIDEST = 1600
"""Pixels in the page; the file next to it keeps its size."""


@dataclass(frozen=True)
class RunImage:
    """An image for the page."""

    uri: str
    width: int
    height: int
    png: bytes
    """The file."""


def read_image(folder: Path, notes: list[str]) -> RunImage | None:
    """Reads the image of a run, None where it has none.

    It is decoded and encoded anew, so that the page shows an image and nothing else.
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
