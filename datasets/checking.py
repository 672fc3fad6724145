"""Inspects samples for whatever would spoil a long run: damaged or contradictory files, and duplicates.

The readers mask impossible disparities and refuse damaged files one at a time, when a run reaches them; here they are
found beforehand. Masked pixels and enlarged images are notes. Of an image's content only a digest is kept.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
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
"""Kinds that the programs cope with; a sample of any other kind has to be left out."""
STEREO_KINDS = (MISSING, UNREADABLE, LOST, SIZES, SMALL, NO_TRUTH, MISMATCH, BOTH_HALVES)
IMAGE_KINDS = (UNREADABLE, BOTH_HALVES)

SMALLEST = (32, 32)
"""(height, width): the least crop, and so the least size of an image that is taken whole."""
LEAST_VALID = 0.001
"""Share of the pixels with valid ground truth below which a sample is of no use. Sparse laser points have more."""
_IN_DISPARITIES = frozenset({NO_TRUTH, MISMATCH, NON_FINITE, NEGATIVE, STRAY})


def kinds_of(sample: type) -> tuple[str, ...]:
    """Kinds of problem that samples of a type can have."""
    return STEREO_KINDS if issubclass(sample, StereoSample) else IMAGE_KINDS


class Problem(NamedTuple):
    """A problem of one sample, or a note on it."""

    kind: str
    sample: str
    """Its name; "" where a file of many samples cannot be read."""
    file: str
    """The file at fault, as far as there is one; otherwise the sample's name."""
    says: str

    @property
    def is_note(self) -> bool:
        """The programs cope with it."""
        return self.kind in NOTES


class Measures(NamedTuple):
    """Measures of a whole stereo sample."""

    height: int
    width: int
    largest: float
    """Disparity of the ground truth, pixels; 0 without any."""
    known: float
    """Share of the pixels with ground truth."""


class Inspection(NamedTuple):
    """Result for one sample."""

    name: str
    group: str
    """Samples of one group are always in the same split."""
    file: str
    """The first of its files, or its name."""
    found: tuple[Problem, ...] = ()
    """Problems and notes."""
    digest: bytes | None = None
    """Of the images, see `content`; None where they cannot be read."""
    measures: Measures | None = None
    """None where the sample cannot be read, and for labelled images."""


@runtime_checkable
class HasFiles(Protocol):
    """A dataset in which each sample has files of its own."""

    def paths(self, index: int) -> Sequence[Path]:
        """The files of one sample."""
        ...


@dataclass(frozen=True)
class Inspector:
    """Inspects single samples of a dataset, which yields `StereoSample` or `LabelledImage`.

    Args:
        dataset: at full resolution, since halving hides flaws.
        crop: (height, width) that a run takes out of an image; None for whole images.
        halved: whether the run halves the images.
    """

    dataset: Any
    crop: tuple[int, int] | None = None
    halved: bool = False

    def __call__(self, index: int) -> Inspection:
        """Inspects one sample; any exception that its files lead the readers to is a problem of that sample."""
        try:
            sample = self.dataset[index]
            flaws = self.dataset.flaws(index) if hasattr(self.dataset, "flaws") else DisparityFlaws(0, 0)
        except Exception as error:  # damaged bytes may lead a decoder to raise anything
            kind = SIZES if isinstance(error, DifferentSizes) else UNREADABLE
            says = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return self.inspection(index, (kind, says))
        if not isinstance(sample, StereoSample):
            return self.inspection(index, digest=content(sample.image))
        height, width = sample.left.shape[-2:]
        measures = Measures(height, width, float(sample.disparity.max()), float(sample.valid.float().mean()))
        found = sorted(
            (*self._on_size(height, width), *_on_disparities(sample, measures, flaws)), key=lambda one: one[0] in NOTES
        )
        return self.inspection(index, *found, digest=content(sample.left, sample.right), measures=measures)

    def inspection(self, index: int, *found: tuple[str, str], **more: Any) -> Inspection:
        """Result for a sample.

        Args:
            index: of the sample.
            found: kind and words of each problem or note.
            more: fields of the result.
        """
        name, groups = self.dataset.names[index], getattr(self.dataset, "groups", self.dataset.names)
        paths = self.dataset.paths(index) if isinstance(self.dataset, HasFiles) else []
        problems = []
        for kind, says in found:
            named = [path for path in paths if says.startswith(f"{path}:")]
            usual = paths[2:3] if kind in _IN_DISPARITIES else paths[:1]
            problems.append(Problem(kind, name, str(next(iter([*named, *usual]), name)), " ".join(says.split())))
        return Inspection(name, groups[index], str(next(iter(paths), name)), tuple(problems), **more)

    def _on_size(self, height: int, width: int) -> Iterator[tuple[str, str]]:
        words = " at half resolution" if self.halved else ""
        if self.halved:
            height, width = height // 2, width // 2
        needed = SMALLEST if self.crop is None else (1, 1)
        if height < needed[0] or width < needed[1]:
            least = f"{needed[1]}x{needed[0]} (width x height)"
            yield SMALL, f"is {width}x{height}{words} but a network needs {least}: leave it out"
        elif self.crop is not None and (factor := enlargement((height, width), self.crop)) > 1:
            to = f"dataset.crop=[{self.crop[0]},{self.crop[1]}]"
            how = f"a search or a training enlarges it {factor:.2f} times, its disparities too, to {to}"
            yield ENLARGED, f"is {width}x{height}{words}: {how}"


def _on_disparities(sample: StereoSample, measures: Measures, flaws: DisparityFlaws) -> Iterator[tuple[str, str]]:
    if measures.known < LEAST_VALID:
        needed = f"at least {LEAST_VALID:.1%} must"
        yield NO_TRUTH, f"{measures.known:.2%} of the pixels have valid ground truth, {needed}: leave it out"
    elif (says := disagreement(sample)) is not None:
        yield MISMATCH, says
    counts = ((NON_FINITE, flaws.non_finite, "NaN or infinite"), (NEGATIVE, flaws.negative, "negative"))
    for kind, count, what in counts:
        if count:
            yield kind, f"{count} pixel(s), {count / sample.disparity.numel():.2%}, are {what}: masked"
    if 0 < (beyond := share_beyond(sample)) <= MOST_BEYOND:
        most = f"up to {measures.largest:.0f} px"
        yield STRAY, f"{beyond:.2%} of the disparities exceed the width of {measures.width} px, {most}"


def content(*images: Tensor) -> bytes:
    """Digest of sizes and values; equal for equal images."""
    digest = hashlib.blake2b(digest_size=16)
    for image in images:
        digest.update(repr(tuple(image.shape)).encode())
        digest.update(image.detach().contiguous().numpy().data)
    return digest.digest()


def find_twins(samples: Sequence[Inspection], halves: Mapping[int, str], flawed: Collection[str] = ()) -> list[Problem]:
    """Finds the samples with the content of another one of another group.

    In each set one sample goes unmentioned, so that the set is in order once the others are left out: a sound one
    before a flawed one, one that a search uses before one that it does not.

    Args:
        samples: of the training split.
        halves: weight or architecture, by the indices of the samples that a search uses.
        flawed: names of samples with another problem.

    Returns:
        BOTH_HALVES for a sample in the other half than the unmentioned one, otherwise TWINS.
    """
    same: defaultdict[bytes, list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        if sample.digest is not None:
            same[sample.digest].append(index)
    problems = []
    for indices in same.values():
        first = min(indices, key=lambda index: (samples[index].name in flawed, index not in halves, index))
        for index in indices:
            sample, other = samples[index], samples[first]
            if sample.group == other.group:
                continue
            here, there = halves.get(index, ""), halves.get(first, "")
            parted = bool(here and there and here != there)
            where = f", which is in the {there} half while this is in the {here} half" if parted else ""
            kind = BOTH_HALVES if parted else TWINS
            problems.append(Problem(kind, sample.name, sample.file, f"shows what {other.name} shows{where}"))
    return sorted(problems, key=lambda problem: problem.sample)


def find_shared(train: Sequence[Inspection], test: Sequence[Inspection]) -> list[Problem]:
    """Finds the samples of the test split with the content of one of the training split."""
    known = {sample.digest: sample.name for sample in train if sample.digest is not None}
    return [
        Problem(BOTH_SPLITS, sample.name, sample.file, f"shows what {known[sample.digest]} shows")
        for sample in test
        if sample.digest in known
    ]
