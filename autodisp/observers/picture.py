"""Writes the newest image of a run, such as a predicted disparity, into its folder."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from autodisp.atomic import replacing

Pictures = Callable[[], Mapping[str, npt.NDArray[np.uint8]]]
"""Returns (H, W, 3) images of a run by name."""


def keep_picture(folder: Path, name: str, picture: npt.NDArray[np.uint8]) -> None:
    """Writes an (H, W, 3) image of a run as NAME.png, replacing the previous one.

    Errors such as a full disk are ignored here and raised by the next record or state, since an image must not end a
    run.
    """
    with suppress(OSError), replacing(folder / f"{name}.png") as temporary:
        Image.fromarray(picture).save(temporary)
