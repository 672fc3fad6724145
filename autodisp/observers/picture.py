"""Keeps the newest picture of a run, such as a predicted disparity, as a file in its folder."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from autodisp.atomic import replacing


def keep_picture(folder: Path, name: str, picture: npt.NDArray[np.uint8]) -> None:
    """Keeps an (H, W, 3) picture of a run as NAME.png, in the place of the one before.

    A disk that is full, or a folder that is gone, is left to what is written after it: a picture is not worth a run.
    """
    with suppress(OSError), replacing(folder / f"{name}.png") as temporary:
        Image.fromarray(picture).save(temporary)
