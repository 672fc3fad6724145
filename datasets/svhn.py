"""SVHN format 2 (Netzer et al. 2011): house-number digits cropped to 32x32, in MATLAB files.

Unlike torchvision, which only accepts the official files, this reads files with any number of images. Label 10 in the
files is the digit 0 and becomes class 0.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from autodisp.datasets.in_memory import ImagesInMemory
from autodisp.datasets.layout import AnyPath, find_root, require_choice
from autodisp.errors import InputError, in_one_line

Split = Literal["train", "test", "extra"]

_SHAPE = (32, 32, 3)


class SVHN(ImagesInMemory):
    """SVHN: ten classes, the digits.

    `mean` and `std` are those of the training images, as published by RobustDARTS.

    Args:
        root: the folder that contains train_32x32.mat, test_32x32.mat or extra_32x32.mat.
        split: train, test or extra.
        exclude: a list of names to leave out, see `in_memory.ImagesInMemory`.

    Raises:
        InputError: the file is missing or damaged, a label is out of range, or the list does not match the data.
    """

    def __init__(self, root: AnyPath | None, *, split: Split = "train", exclude: AnyPath | None = None) -> None:
        require_choice("split", split, ("train", "test", "extra"))
        name = f"{split}_32x32.mat"
        origin = "SVHN comes from http://ufldl.stanford.edu/housenumbers (format 2, cropped digits), as train_32x32.mat"
        path = find_root(root, looked_for=[name], origin=origin) / name
        content = _read(path)
        images = _images(content.get("X"), path)
        labels = _labels(content.get("y"), len(images), path)
        super().__init__(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            classes=[str(digit) for digit in range(10)],
            mean=(0.4377, 0.4438, 0.4728),
            std=(0.1980, 0.2010, 0.1970),
            split=split,
            exclude=exclude,
        )


def _read(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat  # takes a third of a second to import, which other datasets do not need

    try:
        return dict(loadmat(path, variable_names=("X", "y")))
    except Exception as error:  # scipy may raise any exception on damaged bytes
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        raise InputError(f"{path}: is no readable MATLAB file ({reason}); was the download interrupted?") from None


def _images(stored: Any, path: Path) -> npt.NDArray[np.uint8]:
    """Converts (32, 32, 3, N) to (N, 3, 32, 32); MATLAB drops the last axis of a single image."""
    if isinstance(stored, np.ndarray) and stored.shape == _SHAPE:
        stored = stored[..., None]
    if not isinstance(stored, np.ndarray) or stored.dtype != np.uint8 or stored.ndim != 4 or stored.shape[:3] != _SHAPE:
        found = f"{stored.dtype} {stored.shape}" if isinstance(stored, np.ndarray) else "none"
        raise InputError(f"{path}: the images X must be uint8 of 32x32x3xN, found {found}: is it SVHN format 2?")
    return np.ascontiguousarray(stored.transpose(3, 2, 0, 1))


def _labels(stored: Any, count: int, path: Path) -> npt.NDArray[np.int64]:
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "iuf" or stored.size != count or count == 0:
        found = stored.size if isinstance(stored, np.ndarray) else "none"
        raise InputError(f"{path}: needs one label in y for each of the {count} images in X, found {found}")
    wrong = [label for label in stored.ravel() if label not in range(1, 11)]
    if wrong:
        raise InputError(f"{path}: has the label {wrong[0]}, it must be 1 to 10 (10 is the digit 0)")
    return stored.ravel().astype(np.int64) % 10
