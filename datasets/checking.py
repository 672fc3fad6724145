"""Looks at samples for whatever would spoil a long run: files that are not as they should be, and twins.

The readers mask impossible disparities and refuse damaged files one at a time, when a run reaches them; here all of it
is found beforehand. Single pixels that are masked and pictures that are enlarged are notes. A picture's content is
kept as a digest only.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from autodisp.datasets.agreement import MOST_BEYOND, disagreement, share_beyond
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.layout import DifferentSizes
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_transforms import enlargement
from autodisp.errors import InputError

MISSING = "missing partner"
UNREADABLE = "unreadable file"
LOST = "reader died or hung"
SIZES = "sizes differ"
SMALL = "smaller than needed"
NO_TRUTH = "hardly any valid disparity"
MISMATCH = "views and disparities disagree"
BOTH_HALVES = "same picture in both halves"
TWINS = "same picture twice"
BOTH_SPLITS = "same picture in train and test"
ENLARGED = "smaller than the crop"
NON_FINITE = "non-finite disparity"
NEGATIVE = "negative disparity"
STRAY = "single disparities beyond the width"

NOTES = frozenset((TWINS, BOTH_SPLITS, ENLARGED, NON_FINITE, NEGATIVE, STRAY))
"""What the programs cope with; the other kinds spoil a sample."""
STEREO_KINDS = (MISSING, UNREADABLE, LOST, SIZES, SMALL, NO_TRUTH, MISMATCH, BOTH_HALVES)
IMAGE_KINDS = (UNREADABLE, BOTH_HALVES)

SMALLEST = (32, 32)
"""(height, width): no crop may be smaller, so no picture may that is taken whole."""
LEAST_VALID = 0.001
"""Share of the pixels with valid ground truth below which a sample is of no use. Sparse points have more."""
_DIGEST_BYTES = 16
_OF_DISPARITIES = frozenset({NO_TRUTH, MISMATCH, NON_FINITE, NEGATIVE, STRAY})


def kinds_of(sample: type) -> tuple[str, ...]:
    """The kinds of problem that samples of a type can have; those of any sample where nothing more is looked at."""
    return STEREO_KINDS if issubclass(sample, StereoSample) else IMAGE_KINDS


class Problem(NamedTuple):
    """Something that is wrong with one sample."""

    kind: str
    sample: str
    """Its name; "" where a file that holds many samples cannot be read."""
    file: str
    """The file at fault, as far as there is one; otherwise the sample's name."""
    says: str

    @property
    def is_note(self) -> bool:
        """The programs cope with it."""
        return self.kind in NOTES


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

    found: tuple[Problem, ...]
    """Problems and notes."""
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
        try:
            sample = self.dataset[index]
            flaws = self.dataset.flaws(index) if isinstance(self.dataset, HasFlaws) else DisparityFlaws(0, 0)
        except Exception as error:  # damaged bytes may lead a decoder to raise anything
            kind = SIZES if isinstance(error, DifferentSizes) else UNREADABLE
            says = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return Inspection((self.problem(kind, index, says),), None)
        if not isinstance(sample, StereoSample):
            return Inspection((), content(sample.image))
        says_by_kind = (*self._problems(sample), *self._notes(sample, flaws))
        found = tuple(self.problem(kind, index, says) for kind, says in says_by_kind)
        height, width = sample.left.shape[-2:]
        measures = Measures(height, width, float(sample.disparity.max()), float(sample.valid.float().mean()))
        return Inspection(found, content(sample.left, sample.right), measures)

    def problem(self, kind: str, index: int, says: str) -> Problem:
        """A problem of one sample, with that of its files which the words name, or else the truth, or the first."""
        name = self.dataset.names[index]
        paths = self.dataset.paths(index) if isinstance(self.dataset, HasFiles) else []
        named = [path for path in paths if says.startswith(f"{path}:")]
        usual = paths[2:3] if kind in _OF_DISPARITIES else paths[:1]
        return Problem(kind, name, str(next(iter([*named, *usual]), name)), " ".join(says.split()))

    def _problems(self, sample: StereoSample) -> Iterator[tuple[str, str]]:
        height, width = self._size(sample)
        least = SMALLEST if self.crop is None else (1, 1)
        if height < least[0] or width < least[1]:
            needed = f"{least[1]}x{least[0]} (width x height)"
            yield SMALL, f"is {width}x{height}{self._halved} but a network needs {needed}: leave it out"
        known = float(sample.valid.float().mean())
        if known < LEAST_VALID:
            needed = f"at least {LEAST_VALID:.1%} must"
            yield NO_TRUTH, f"{known:.2%} of the pixels have valid ground truth, {needed}: leave it out"
        elif (says := disagreement(sample)) is not None:
            yield MISMATCH, says

    def _notes(self, sample: StereoSample, flaws: DisparityFlaws) -> Iterator[tuple[str, str]]:
        height, width = self._size(sample)
        if self.crop is not None and min(height, width) > 0 and (factor := enlargement((height, width), self.crop)) > 1:
            to = f"dataset.crop=[{self.crop[0]},{self.crop[1]}]"
            how = f"a search or a training enlarges it {factor:.2f} times, its disparities too, to {to}"
            yield ENLARGED, f"is {width}x{height}{self._halved}: {how}"
        counts = ((NON_FINITE, flaws.non_finite, "NaN or infinite"), (NEGATIVE, flaws.negative, "negative"))
        for kind, count, what in counts:
            if count:
                yield kind, f"{count} pixel(s), {count / sample.disparity.numel():.2%}, are {what}: masked"
        if 0 < (beyond := share_beyond(sample)) <= MOST_BEYOND:
            most, width = float(sample.disparity.max()), sample.left.shape[-1]
            yield STRAY, f"{beyond:.2%} of the disparities exceed the width of {width} px, up to {most:.0f} px"

    def _size(self, sample: StereoSample) -> tuple[int, int]:
        """(height, width) as a run has it."""
        height, width = (side // 2 if self.halved else side for side in sample.left.shape[-2:])
        return height, width

    @property
    def _halved(self) -> str:
        return " at half resolution" if self.halved else ""


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
