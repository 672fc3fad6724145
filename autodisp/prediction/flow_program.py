"""Flow of image pairs, as autodisp-predict runs it."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from autodisp.datasets.flow_files import write_flo, write_flow_png
from autodisp.errors import InputError
from autodisp.prediction.flow_images import colour_flow
from autodisp.prediction.outputs import Write, write_png
from autodisp.prediction.pairs import FoundPairs, StereoPair, find_images, find_pairs
from autodisp.prediction.programs import STEREO_ONLY, refuse


def find(config: Any) -> FoundPairs:
    """Finds the pairs: ``left`` and ``right`` are first and second images, ``left`` alone has sequences.

    The images of a folder are a sequence, in the order of the numbers in their names: frame_9, frame_10.

    Raises:
        InputError: there is none, or a setting is for stereo pairs.
    """
    refuse(config, STEREO_ONLY, "computes flow")
    if config.right is not None:
        return find_pairs(str(config.left), config.right, skip=config.out)
    images, problems = find_images(str(config.left), skip=config.out)
    images = sorted(images, key=lambda image: (str(image.path.parent), _numbered(image.path.stem)))
    following = [(one, other) for one, other in pairwise(images) if one.path.parent == other.path.parent]
    if not following:
        found = "is one image" if len(images) == 1 else "has no two images in one folder"
        raise InputError(f"left={config.left}: {found} and right is not set: name the second one as right=")
    return FoundPairs([StereoPair(one.name, one.path, other.path) for one, other in following], problems)


def _numbered(name: str) -> list[tuple[int, str]]:
    """Splits a name into numbers and texts, which sort by number."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(int(number) if number else -1, text or number) for number, text in parts]


def files_of(flow: Tensor, images: Sequence[Tensor], model: Any) -> tuple[Mapping[str, Write], str]:
    """Returns the files of a flow (2, H, W), see ``programs.predict``."""
    vectors = flow.permute(1, 2, 0).numpy()
    lengths = np.linalg.norm(vectors, axis=2)
    files: dict[str, Write] = {
        "flo": partial(write_flo, flow=vectors),
        "png16": partial(write_flow_png, flow=vectors),
        "colour": lambda file: write_png(file, colour_flow(flow[None])[0]),
    }
    return files, f"vectors of {lengths.mean():.1f} px, up to {lengths.max():.1f}"
