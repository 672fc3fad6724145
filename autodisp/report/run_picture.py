"""The newest picture of a predicted disparity in a run folder."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from autodisp.run_files import PREDICTION

_MOST_PIXELS = 40_000_000
_MOST_BYTES = 1 << 28
_WIDEST = 1600
"""In the page, pixels; the file beside it stays as it is."""


@dataclass(frozen=True)
class Prediction:
    """A picture for the page."""

    uri: str
    width: int
    height: int
    png: bytes
    """The file."""


def read_prediction(folder: Path, notes: list[str]) -> Prediction | None:
    """The newest picture of the run, None where it has none.

    It is decoded and encoded anew, so that what the page shows is a picture and nothing else.
    """
    path = folder / PREDICTION
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise ValueError("too large")
            pixels = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        notes.append(f"{PREDICTION} cannot be read ({type(error).__name__})")
        return None
    shown = pixels
    if pixels.width > _WIDEST:
        shown = pixels.resize((_WIDEST, max(1, round(pixels.height * _WIDEST / pixels.width))))
    uri = "data:image/png;base64," + base64.b64encode(_encoded(shown)).decode()
    return Prediction(uri, shown.width, shown.height, _encoded(pixels))


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
