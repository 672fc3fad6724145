"""Looks at samples for whatever would spoil a long run: files that are not as they should be, and twins.

The readers mask impossible disparities and refuse damaged files one at a time, when a run reaches them; here all of it
is found beforehand. A picture's content is kept as a digest only.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.layout import DifferentSizes
from autodisp.datasets.samples import StereoSample
from autodisp.errors import InputError

MISSING = "missing partner"
UNREADABLE = "unreadable file"
LOST = "reader died or hung"
SIZES = "sizes differ"
SMALL = "smaller than needed"
NON_FINITE = "non-finite disparity"
NEGATIVE = "negative disparity"
NO_TRUTH = "no valid disparity"
BOTH_HALVES = "same picture in both halves"
TWINS = "same picture twice"
BOTH_SPLITS = "same picture in train and test"

STEREO_KINDS = (MISSING, UNREADABLE, LOST, SIZES, SMALL, NON_FINITE, NEGATIVE, NO_TRUTH, BOTH_HALVES)
IMAGE_KINDS = (UNREADABLE, LOST, BOTH_HALVES)

SMALLEST = (32, 32)
"""(height, width): no crop may be smaller, so no picture may."""
_DIGEST_BYTES = 16


class Problem(NamedTuple):
    """Something that is wrong with one sample."""

    kind: str
    sample: str
    """Its name; "" where a file that holds many samples cannot be read."""
    file: str
    """The file at fault, as far as there is one; otherwise the sample's name."""
    says: str


class Measures(NamedTuple):
    """What a stereo sample is, whole."""

    height: int
    width: int
    largest: float
    """True disparity, pixels; 0 without any."""
    known: float
    """The part of the pixels that have a truth."""


class Inspection(NamedTuple):
    """What a look at one sample gives."""

    problems: tuple[Problem, ...]
    digest: bytes | None
    """Of the pictures, not of the truth; None where they cannot be read."""
    measures: Measures | None = None
    """None where it cannot be read, and of labelled images."""


@runtime_checkable
class HasFiles(Protocol):
    """A dataset of which each sample has files of its own."""

    def paths(self, index: int) -> Sequence[Path]:
        """The files of one sample."""
        ...


@runtime_checkable
class HasFlaws(Protocol):
    """A dataset whose files can hold what is no disparity."""

    def flaws(self, index: int) -> DisparityFlaws:
        """Counts it."""
        ...


@dataclass(frozen=True)
class Inspector:
    """Looks at single samples of a dataset, which yields `StereoSample` or `LabelledImage`.

    Args:
        dataset: is not halved in resolution, since a halved truth hides flaws.
        crop: (height, width) that a run takes out of a picture; None for whole pictures.
        halved: whether the run halves the pictures.
    """

    dataset: Any
    crop: tuple[int, int] | None = None
    halved: bool = False

    def __call__(self, index: int) -> Inspection:
        """Looks at one sample; whatever its files lead the readers to is a problem of that sample."""
        problems: list[Problem] = []
        digest, measures = None, None
        try:
            sample = self.dataset[index]
        except Exception as error:  # damaged bytes may lead a decoder to raise anything
            kind = SIZES if isinstance(error, DifferentSizes) else UNREADABLE
            says = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            problems.append(self.problem(kind, index, says))
        else:
            if isinstance(sample, StereoSample):
                digest = content(sample.left, sample.right)
                known = float(sample.valid.float().mean())
                height, width = sample.left.shape[-2:]
                measures = Measures(height, width, float(sample.disparity.max()), known)
                problems += self._size(index, sample)
                if not sample.valid.any():
                    problems.append(self.problem(NO_TRUTH, index, "not one pixel has a truth", truth=True))
            else:
                digest = content(sample.image)
        return Inspection((*problems, *self._flaws(index)), digest, measures)

    def problem(self, kind: str, index: int, says: str, *, truth: bool = False) -> Problem:
        """A problem of one sample, with that of its files which the words name, or else the truth, or the first."""
        name = self.dataset.names[index]
        paths = self.dataset.paths(index) if isinstance(self.dataset, HasFiles) else []
        named = [path for path in paths if says.startswith(f"{path}:")]
        usual = paths[2:3] if truth else paths[:1]
        return Problem(kind, name, str(next(iter([*named, *usual]), name)), " ".join(says.split()))

    def _size(self, index: int, sample: StereoSample) -> list[Problem]:
        height, width = (side // 2 if self.halved else side for side in sample.left.shape[-2:])
        needed, setting = (self.crop, "dataset.crop") if self.crop else (SMALLEST, "a network")
        if height >= needed[0] and width >= needed[1]:
            return []
        halved = " at half resolution" if self.halved else ""
        remedy = "lower dataset.crop or leave it out" if self.crop else "leave it out"
        says = f"is {width}x{height}{halved} but {setting} needs {needed[1]}x{needed[0]} (width x height): {remedy}"
        return [self.problem(SMALL, index, says)]

    def _flaws(self, index: int) -> list[Problem]:
        found = DisparityFlaws(0, 0)
        if isinstance(self.dataset, HasFlaws):
            with suppress(Exception):  # reported already, since the sample could not be read either
                found = self.dataset.flaws(index)
        counts = ((NON_FINITE, found.non_finite, "NaN or infinite"), (NEGATIVE, found.negative, "negative"))
        return [
            self.problem(kind, index, f"{count} pixel(s) are {what}", truth=True)
            for kind, count, what in counts
            if count
        ]


def content(*pictures: Tensor) -> bytes:
    """A digest of sizes and values: pictures with the same one are the same."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for picture in pictures:
        digest.update(repr(tuple(picture.shape)).encode())
        digest.update(picture.detach().contiguous().numpy().data)
    return digest.digest()


def find_twins(
    names: Sequence[str],
    groups: Sequence[str],
    digests: Sequence[bytes | None],
    halves: Mapping[int, str],
    *,
    flawed: Iterable[str] = (),
) -> list[Problem]:
    """Finds the samples that show what another one of another group shows.

    Those of one group are left alone: they are never parted. Of each set one sample goes unmentioned, so that the set
    is in order once the others are left out: a sound one before a flawed one, one of a half before one of none.

    Args:
        names: of the samples.
        groups: their groups, none of which is ever parted.
        digests: what the samples show, see `content`; None where it is not known.
        halves: the name of the half that a sample is in, by its index.
        flawed: names of samples that have another problem.

    Returns:
        BOTH_HALVES for a sample in the other half than the one that goes unmentioned, otherwise TWINS.
    """
    ill = frozenset(flawed)
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        if digest is not None:
            same[digest].append(index)
    problems = []
    for indices in same.values():
        first = min(indices, key=lambda index: (names[index] in ill, index not in halves, index))
        for index in indices:
            if groups[index] == groups[first]:
                continue
            here, there = halves.get(index), halves.get(first)
            kind = TWINS if here is None or there is None or here == there else BOTH_HALVES
            where = f", which is in the {there} half while this is in the {here} half" if kind == BOTH_HALVES else ""
            problems.append(Problem(kind, names[index], names[index], f"shows what {names[first]} shows{where}"))
    return sorted(problems, key=lambda problem: problem.sample)


def find_shared(
    train: Mapping[bytes, str],
    names: Sequence[str],
    digests: Sequence[bytes | None],
) -> list[Problem]:
    """Finds the samples of a test split that show what one of the training split shows.

    Args:
        train: a sample of the training split, by what it shows.
        names: of the samples in the test split.
        digests: what they show, None where it is not known.
    """
    return [
        Problem(BOTH_SPLITS, name, name, f"shows what {train[digest]} shows")
        for name, digest in zip(names, digests, strict=True)
        if digest is not None and digest in train
    ]
