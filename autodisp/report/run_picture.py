"""The newest picture of a predicted disparity in a run folder: the file, or what TensorBoard's events hold of it."""

import base64
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from autodisp.run_files import PREDICTION, TENSORBOARD

_TAG = "prediction"
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
    source: str
    """When it was taken, in words."""
    png: bytes
    """The file."""


def read_prediction(folder: Path, notes: list[str]) -> Prediction | None:
    """The newest picture of the run, None where it has none."""
    path = folder / PREDICTION
    if path.is_file():
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("too large")
            return _checked(path.read_bytes(), "the newest that the run kept")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            notes.append(f"{PREDICTION} cannot be read ({type(error).__name__})")
    return _from_events(folder / TENSORBOARD)


def _from_events(folder: Path) -> Prediction | None:
    """Runs of earlier versions have it there only."""
    try:
        if not folder.is_dir() or sum(path.stat().st_size for path in folder.iterdir()) > _MOST_BYTES:
            return None
        events = EventAccumulator(str(folder), size_guidance={IMAGES: 1})
        with _quiet():
            events.Reload()
        if _TAG not in events.Tags()[IMAGES]:
            return None
        newest = events.Images(_TAG)[-1]
        return _checked(newest.encoded_image_string, f"as TensorBoard has it at step {newest.step}")
    except Exception:  # the parser of the event files has errors of its own, and without a picture the page is whole
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """A run that was resumed makes the reader say that steps come twice."""
    logger = logging.getLogger("tensorboard")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _checked(content: bytes, source: str) -> Prediction:
    """Decodes and encodes it anew, so that what the page shows is a picture and nothing else."""
    with Image.open(io.BytesIO(content)) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError("too large")
        pixels = picture.convert("RGB")
    png = _encoded(pixels)
    shown = pixels
    if pixels.width > _WIDEST:
        shown = pixels.resize((_WIDEST, max(1, round(pixels.height * _WIDEST / pixels.width))))
    uri = "data:image/png;base64," + base64.b64encode(_encoded(shown)).decode()
    return Prediction(uri, shown.width, shown.height, source, png)


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
