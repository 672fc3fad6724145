"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), in the Python-pickle layout or in the binary layout.

Pickles can run code, so they are only read by torchvision, which first compares their md5 with the official one.
torchvision does not read the binary layout; this module does, for files with any number of records.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from autodisp.datasets.in_memory import ImagesInMemory
from autodisp.datasets.layout import AnyPath, DamagedFiles, find_root, require_choice
from autodisp.errors import InputError

Split = Literal["train", "test"]
Images = tuple[torch.Tensor, torch.Tensor, Sequence[str]]
"""Images (N, 3, 32, 32) uint8, labels (N,) int64 and class names."""

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


class _Variant(NamedTuple):
    title: str
    pickles: Literal["CIFAR10", "CIFAR100"]
    """The torchvision class that reads the pickles."""
    pickle_folder: str
    binary_folder: str
    binary_files: dict[str, tuple[str, ...]]
    label_limits: tuple[int, ...]
    """Number of classes of each label byte; the last label is used."""
    names_file: str
    names: tuple[str, ...]
    """Class names if the names file is absent."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Mean and standard deviation over the 50,000 training images, as published by DARTS and RobustDARTS.
_CIFAR10 = _Variant(
    title="CIFAR-10",
    pickles="CIFAR10",
    pickle_folder="cifar-10-batches-py",
    binary_folder="cifar-10-batches-bin",
    binary_files={"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    label_limits=(10,),
    names_file="batches.meta.txt",
    names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    mean=(0.49139968, 0.48215827, 0.44653124),
    std=(0.24703233, 0.24348505, 0.26158768),
)
_CIFAR100 = _Variant(
    title="CIFAR-100",
    pickles="CIFAR100",
    pickle_folder="cifar-100-python",
    binary_folder="cifar-100-binary",
    binary_files={"train": ("train.bin",), "test": ("test.bin",)},
    label_limits=(20, 100),
    names_file="fine_label_names.txt",
    names=tuple(f"fine label {i}" for i in range(100)),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)


class _Cifar(ImagesInMemory):
    """Reader of both variants.

    Args:
        root: the folder with the unpacked Python or binary version, or the folder of that version itself; if both
            exist, the pickles are read.
        split: train or test.
        exclude: list of names to leave out, see `in_memory.ImagesInMemory`.

    Raises:
        InputError: the data is not found, a file is missing or damaged, a label is out of range, or the list does not
            match the data.
    """

    _variant: ClassVar[_Variant]

    def __init__(self, root: AnyPath | None, *, split: Split = "train", exclude: AnyPath | None = None) -> None:
        images, labels, classes = _read(self._variant, root, split)
        mean, std = self._variant.mean, self._variant.std
        super().__init__(images, labels, classes=classes, mean=mean, std=std, split=split, exclude=exclude)


class CIFAR10(_Cifar):
    """CIFAR-10: ten classes of 32x32 images, from cifar-10-batches-py or cifar-10-batches-bin."""

    _variant = _CIFAR10


class CIFAR100(_Cifar):
    """CIFAR-100: the hundred fine classes, from cifar-100-python or cifar-100-binary."""

    _variant = _CIFAR100


def _read(variant: _Variant, root: AnyPath | None, split: Split) -> Images:
    require_choice("split", split, variant.binary_files)
    pickles, first = variant.pickle_folder, variant.binary_files[split][0]
    if root is not None and os.path.basename(os.path.abspath(root)) == pickles:
        root = Path(root).expanduser().absolute().parent
    folder = find_root(
        root,
        looked_for=[pickles, variant.binary_folder, first],
        origin=f"{variant.title} comes from https://www.cs.toronto.edu/~kriz/cifar.html, as {pickles} or as "
        f"{variant.binary_folder} (the Python or the binary version, unpacked)",
    )
    if (folder / pickles).is_dir():
        return _read_pickles(variant, folder, split)
    below = folder / variant.binary_folder
    return _read_binary(variant, below if below.is_dir() else folder, split)


def _read_pickles(variant: _Variant, folder: Path, split: Split) -> Images:
    import torchvision  # takes seconds to load, and only pickles need it
    from torchvision.datasets.utils import check_integrity

    source: type[torchvision.datasets.CIFAR10] = getattr(torchvision.datasets, variant.pickles)
    digests = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    for name, digest in digests:
        path = folder / source.base_folder / name
        if not path.is_file():
            raise InputError(f"{path}: is missing: unpack the Python version of {variant.title} again")
        if not check_integrity(str(path), digest):
            raise InputError(
                f"{path}: is not the official file (its md5 is not {digest}), and a pickle of another origin is not "
                f"opened: unpack the Python version of {variant.title} again, or give own images in the binary layout"
            )
    data = source(str(folder), train=split == "train", download=False)
    images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
    return images, torch.tensor(data.targets, dtype=torch.int64), data.classes


def _read_binary(variant: _Variant, folder: Path, split: Split) -> Images:
    files = [folder / name for name in variant.binary_files[split]]
    found, damaged = [], []
    for path in files:
        try:
            found.append(_read_records(path, variant.label_limits))
        except InputError as error:
            damaged.append(str(error))
    if damaged:
        raise DamagedFiles(damaged)
    records = np.concatenate(found)
    label_bytes = len(variant.label_limits)
    images = torch.from_numpy(records[:, label_bytes:].reshape(-1, 3, _SIDE, _SIDE))
    labels = torch.from_numpy(records[:, label_bytes - 1].astype(np.int64))
    return images, labels, _read_names(folder / variant.names_file, variant.names)


def _read_records(path: Path, label_limits: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Reads (records, label bytes + 3072) uint8."""
    length = len(label_limits) + _PIXELS
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): complete the download") from error
    if data.size == 0 or data.size % length:
        raise InputError(
            f"{path}: has {data.size} bytes, which is no multiple (1, 2, ...) of the {length} of a record: "
            "the file is truncated or of another dataset"
        )
    records = data.reshape(-1, length)
    for byte, limit in enumerate(label_limits):
        worst = int(records[:, byte].argmax())
        if records[worst, byte] >= limit:
            raise InputError(
                f"{path}: record {worst} has the label {records[worst, byte]}, but there are {limit} classes (0 to "
                f"{limit - 1}): the file is damaged or of another dataset"
            )
    return records


def _read_names(path: Path, default: tuple[str, ...]) -> tuple[str, ...]:
    if not path.is_file():
        return default
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): it must be a list of class names") from error
    if len(names) != len(default):
        raise InputError(f"{path}: has {len(names)} class names, but there are {len(default)} classes")
    return names
