"""Builds datasets from their config sections, for every program."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from autodisp.datasets.agreement import disagreement
from autodisp.datasets.cache import Cached, Stored
from autodisp.datasets.checking import HasFiles
from autodisp.datasets.exclusions import can_be_listed, read_entries, write_exclusions
from autodisp.datasets.images import read_size
from autodisp.datasets.samples import IGNORED, SegmentedImage, StereoSample
from autodisp.datasets.splits import Part
from autodisp.datasets.streams import MapDataset
from autodisp.datasets.windows import enlargement
from autodisp.errors import InputError, WrongSetting
from autodisp.tasks.kit import DatasetEntry

MOST_LOOKED_AT = 100
"""Number of samples read in search of ground truth."""
LOOKED_AT = 8
"""Number of samples read for `notes_on_samples`."""


def groups_of(dataset: Any) -> Sequence[str] | int:
    """The group of each sample, see ``datasets.splits.halves``; the number of samples if there are no groups."""
    groups: Sequence[str] | None = getattr(dataset, "groups", None)
    return len(dataset) if groups is None else groups


def need_truth(data: Any, entry: DatasetEntry, samples: MapDataset[Any]) -> None:
    """Checks that samples have ground truth; reads a few, evenly spread, and only the first one in most cases.

    Samples without a mask of valid pixels are not read, nor those of a dataset without ground truth, which the settings
    of a program permit or refuse.

    Raises:
        InputError: none of the samples read has a pixel with valid ground truth.
    """
    if not entry.ground_truth:
        return
    if not issubclass(entry.sample, SegmentedImage) and "valid" not in entry.sample._fields:  # type: ignore[attr-defined]
        return
    places = range(0, len(samples), max(1, math.ceil(len(samples) / MOST_LOOKED_AT)))
    if not any(bool(_known(samples[place]).any()) for place in places):
        raise InputError(
            f"dataset={data.name}: no pixel with valid ground truth in the {len(places)} sample(s) that were read: "
            "check dataset.root and its layout; autodisp-check with the same dataset settings finds the cause"
        )


def _known(sample: Any) -> Tensor:
    """Returns True for the pixels with ground truth."""
    known: Tensor = sample.classes != IGNORED if isinstance(sample, SegmentedImage) else sample.valid
    return known


def write_trained_on(path: Path, data: Any, names: Sequence[str], held_out: Sequence[str]) -> None:
    """Writes the training samples as a list for ``dataset.exclude``, to evaluate on all others.

    Samples that the dataset's section excludes stay excluded; a comment names those held out. Writes nothing if there
    are no training samples, or if a name cannot be written in a list.
    """
    if not names or not all(map(can_be_listed, names)):
        return
    excluded = [] if data.exclude is None else read_entries(data.exclude)
    title = f"the training samples, for dataset.exclude=; held out were {', '.join(held_out)}"
    write_exclusions(path, ((name, "") for name in [*names, *excluded]), title=title)


def require_one_size(data: Any, dataset: Any, indices: Iterable[int], *, key: str, batch_size: int) -> None:
    """Checks that uncropped images fit into one batch; does nothing for a reader without files.

    Args:
        data: the dataset's section.
        dataset: its samples, of which those at the indices are used.
        key: the setting of the batch size.

    Raises:
        WrongSetting: images are not cropped and have several sizes.
    """
    if getattr(data, "crop", None) is not None or batch_size == 1 or not isinstance(dataset, HasFiles):
        return
    sizes: dict[tuple[int, int], str] = {}
    for index, size in _sizes(dataset, indices):
        sizes.setdefault(size, dataset.names[index])  # type: ignore[attr-defined]
        if len(sizes) > 1:
            words = " but ".join(f"{name} is {height}x{width}" for (height, width), name in sizes.items())
            raise WrongSetting(
                f"dataset.crop=null: {words} (height x width), and the samples of a batch have one size; take "
                f"dataset.crop=[HEIGHT,WIDTH], or {key}=1"
            )


def sizes_of(data: Any, samples: Part[Any], inputs: Callable[[Any], Sequence[Tensor]]) -> set[tuple[int, int]]:
    """Returns every (height, width) of the samples in a run: that of the crop, or those of the files.

    Args:
        data: the dataset's section.
        samples: of the run.
        inputs: returns the images of a sample; if the reader has no files, the first sample represents all.
    """
    if crop := getattr(data, "crop", None):
        return {(crop[0], crop[1])}
    dataset = samples.dataset.dataset if isinstance(samples.dataset, Cached) else samples.dataset
    if not isinstance(dataset, HasFiles):
        height, width = inputs(samples[0])[0].shape[-2:]
        return {(height, width)}
    shrunk = 2 if getattr(data, "half_resolution", False) else 1
    return {(height // shrunk, width // shrunk) for _, (height, width) in _sizes(dataset, samples.indices)}


def _sizes(dataset: HasFiles, indices: Iterable[int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yields (height, width) of the files that can be read."""
    for index in indices:
        if (size := read_size(dataset.paths(index)[0])) is not None:
            yield index, size


def kept(data: Any, dataset: Any) -> MapDataset[Any]:
    """Returns the dataset, with its samples stored on disk or cached in memory if the section enables that."""
    store = getattr(data, "store", None)
    if store is not None:
        dataset = Stored(dataset, Path(store).expanduser() / dataset.key, StereoSample)
    return Cached(dataset) if getattr(data, "cache", False) else dataset


def fingerprint_of(*parts: Part[Any]) -> Mapping[str, Any]:
    """Returns the number of samples in the parts of a run's data, and a digest of their names in any order."""
    names = [_names_of(part) for part in parts]
    return {"count": sum(map(len, names)), "digest": digest_of(names)}


def digest_of(data: Any) -> str:
    """Returns a digest of plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def _names_of(part: Part[Any]) -> list[str]:
    dataset = part.dataset.dataset if isinstance(part.dataset, Cached | Stored) else part.dataset
    names = getattr(dataset, "names", range(len(dataset)))
    return sorted(str(names[index]) for index in part.indices)


def notes_on_samples(data: Any, entry: DatasetEntry, samples: MapDataset[Any], *, enlarges: bool) -> list[str]:
    """Notes on a few samples: enlarged images, ground truth that contradicts the views, class maps of one class.

    Returns none for generated samples, whose crop may not exceed the images, and for labelled images. Samples that
    cannot be read are skipped here: the run reports them.

    Args:
        data: the dataset's section.
        entry: of the dataset.
        samples: as they are before any crop.
        enlarges: True if images smaller than the crop are enlarged to it, as in a search and a training.
    """
    if entry.generated:
        return []
    if issubclass(entry.sample, SegmentedImage):
        return _notes_on_classes(samples)
    if not issubclass(entry.sample, StereoSample):
        return []
    crop = (data.crop[0], data.crop[1]) if enlarges and data.crop else None
    sizes, contradictions, looked_at = [], [], 0
    for index in range(0, len(samples), -(-len(samples) // LOOKED_AT)):
        with suppress(InputError):
            sample = samples[index]
            looked_at += 1
            height, width = sample.left.shape[-2:]
            sizes += [(enlargement((height, width), crop), f"{width}x{height}")]
            contradictions += [says for says in [disagreement(sample)] if says is not None]
    notes = []
    if small := [size for size in sizes if size[0] > 1]:
        factor, picture = max(small)
        notes.append(
            f"{len(small)} of {looked_at} checked images are smaller than dataset.crop={list(data.crop)}, such as "
            f"{picture} (width x height), and are enlarged up to {factor:.2f} times, their disparities too; lower "
            "dataset.crop to keep their size"
        )
    if contradictions:
        notes.append(
            f"ground truth and views disagree in {len(contradictions)} of {looked_at} checked samples: "
            f"{contradictions[0]} autodisp-check checks all of them"
        )
    return notes


def _notes_on_classes(samples: MapDataset[SegmentedImage]) -> list[str]:
    found: set[int] = set()
    looked_at = 0
    for index in range(0, len(samples), -(-len(samples) // LOOKED_AT)):
        with suppress(InputError):
            found.update(samples[index].classes.unique().tolist())
            looked_at += 1
            if len(found - {IGNORED}) > 1:
                return []
    if IGNORED not in found:
        return []
    held = f"only class {min(found - {IGNORED})}" if found - {IGNORED} else "no class"
    return [
        f"the {looked_at} checked class maps have {held} besides {IGNORED}, which is ignored; in a binary mask, the "
        "foreground must be 1"
    ]
