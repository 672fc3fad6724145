"""Flow of image pairs, as autodisp-predict runs it."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from autodisp.datasets.flow_files import write_flo, write_flow_png
from autodisp.errors import InputError
from autodisp.prediction.flow_images import colour_flow
from autodisp.prediction.outputs import Write, write_png
from autodisp.prediction.pairs import FoundPairs, SingleImage, StereoPair, find_images, find_pairs
from autodisp.prediction.programs import STEREO_ONLY, refuse

_NUMBER = re.compile("[0-9]+")


def find(config: Any) -> FoundPairs:
    """Finds the pairs: ``left`` and ``right`` are first and second images, ``left`` alone has sequences.

    Images of a folder whose names differ by numbers alone are a sequence, in the order of these: frame_9, frame_10.

    Raises:
        InputError: there is none, or a setting is for stereo pairs.
    """
    refuse(config, STEREO_ONLY, "computes flow")
    if config.right is not None:
        return find_pairs(str(config.left), config.right, skip=config.out)
    images, problems = find_images(str(config.left), skip=config.out)
    sequences = defaultdict[tuple[Path, str], list[SingleImage]](list)
    for image in images:
        sequences[image.path.parent, _NUMBER.sub("0", image.path.stem)].append(image)
    following = [
        StereoPair(one.name, one.path, other.path)
        for sequence in sequences.values()
        for one, other in pairwise(sorted(sequence, key=lambda image: _numbers(image.path.stem)))
    ]
    if not following:
        found = "is one image" if len(images) == 1 else "has no two images whose names differ by their numbers alone"
        raise InputError(f"left={config.left}: {found} and right is not set: name the second one as right=")
    return FoundPairs(following, problems)


def _numbers(name: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(name)]


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
