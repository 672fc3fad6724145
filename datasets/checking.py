"""Inspects samples for problems that would spoil a long run: damaged or contradictory files, and duplicates.

The readers mask impossible disparities and reject damaged files one at a time, when a run reaches them; this module
finds them beforehand. Masked pixels and enlarged images are notes. Only a digest of the image content is stored.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from autodisp.datasets.agreement import MOST_BEYOND, disagreement, share_beyond
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.layout import DifferentSizes
from autodisp.datasets.samples import IGNORED, FlowSample, LabelledImage, SegmentedImage, StereoSample
from autodisp.datasets.windows import enlargement
from autodisp.errors import InputError

MISSING = "missing partner"
UNREADABLE = "unreadable file"
LOST = "reader died or hung"
SIZES = "sizes differ"
SMALL = "smaller than needed"
NO_TRUTH = "hardly any valid disparity"
NO_CLASS = "hardly any pixel with a class"
NO_VECTOR = "hardly any valid vector"
MISMATCH = "views and disparities disagree"
BOTH_HALVES = "same picture in both halves"
TWINS = "same picture twice"
BOTH_SPLITS = "same picture in train and test"
ENLARGED = "smaller than the crop"
NON_FINITE = "non-finite disparity"
NEGATIVE = "negative disparity"
STRAY = "single disparities beyond the width"

NOTES = frozenset((TWINS, BOTH_SPLITS, ENLARGED, NON_FINITE, NEGATIVE, STRAY))
"""Kinds that the programs can handle; a sample with any other kind must be left out."""
STEREO_KINDS = (MISSING, UNREADABLE, LOST, SIZES, SMALL, NO_TRUTH, MISMATCH, BOTH_HALVES)
IMAGE_KINDS = (UNREADABLE, BOTH_HALVES)
FRAME_KINDS = (MISSING, UNREADABLE, LOST, SIZES, BOTH_HALVES)
FLOW_KINDS = (MISSING, UNREADABLE, LOST, SIZES, NO_VECTOR, BOTH_HALVES)
SEGMENTED_KINDS = (MISSING, UNREADABLE, LOST, SIZES, NO_CLASS, BOTH_HALVES)

SMALLEST = (32, 32)
"""Smallest crop (height, width), and thus the smallest size of a whole image."""
LEAST_VALID = 0.001
"""Share of pixels with valid ground truth below which a sample is useless. Sparse laser scans have more."""
OF_GROUND_TRUTH = frozenset({NO_TRUTH, NO_VECTOR, MISMATCH, NON_FINITE, NEGATIVE, STRAY})
"""Kinds of stereo pairs and flow samples that are found in the file of the ground truth."""


def kinds_of(sample: type) -> tuple[str, ...]:
    """Returns the kinds of problem that samples of a type can have."""
    if issubclass(sample, StereoSample):
        return STEREO_KINDS
    if issubclass(sample, SegmentedImage):
        return SEGMENTED_KINDS
    if issubclass(sample, FlowSample):
        return FLOW_KINDS
    return IMAGE_KINDS if issubclass(sample, LabelledImage) else FRAME_KINDS


class Problem(NamedTuple):
    """A problem of one sample, or a note on it."""

    kind: str
    sample: str
    """Name of the sample; "" if a file with many samples cannot be read."""
    file: str
    """File with the problem, if there is one; otherwise the name of the sample."""
    says: str

    @property
    def is_note(self) -> bool:
        """True if the programs can handle the problem."""
        return self.kind in NOTES


class Measures(NamedTuple):
    """Measures of a sample with ground truth by pixel."""

    height: int
    width: int
    largest: float
    """Largest ground-truth disparity, or length of a vector, pixels; 0 if there is none."""
    known: float
    """Share of pixels with ground truth."""
    classes: frozenset[int] = frozenset()
    """Classes that occur."""


class Inspection(NamedTuple):
    """Result of the inspection of one sample."""

    name: str
    group: str
    """Group of the sample; samples of one group are always in the same split."""
    file: str
    """The first file of the sample, or its name."""
    found: tuple[Problem, ...] = ()
    """Problems and notes."""
    digest: bytes | None = None
    """Digest of the images, see `content`; None if they cannot be read."""
    measures: Measures | None = None
    """Measures; None if the sample cannot be read, and for labelled images."""


@runtime_checkable
class HasFiles(Protocol):
    """A dataset with separate files for each sample."""

    def paths(self, index: int) -> Sequence[Path]:
        """Returns the files of one sample."""


@dataclass(frozen=True)
class Inspector:
    """Inspects single samples of a dataset of any task.

    Args:
        dataset: dataset at full resolution, since halving hides flaws.
        crop: (height, width) of the crops in a run; None for whole images.
        halved: True if the run halves the images.
        images: returns the images of a sample that is not of a stereo dataset.
        ground_truth: False if the dataset has none by design.
    """

    dataset: Any
    crop: tuple[int, int] | None = None
    halved: bool = False
    images: Callable[[Any], Sequence[Tensor]] = lambda sample: (sample.image,)
    ground_truth: bool = True

    def __call__(self, index: int) -> Inspection:
        """Inspects one sample; any exception raised while reading it is reported as a problem of that sample."""
        try:
            sample = self.dataset[index]
            flaws = self.dataset.flaws(index) if hasattr(self.dataset, "flaws") else DisparityFlaws(0, 0)
        except Exception as error:  # a decoder may raise any exception on damaged bytes
            kind = SIZES if isinstance(error, DifferentSizes) else UNREADABLE
            says = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return self.inspection(index, (kind, says))
        if isinstance(sample, SegmentedImage):
            return self._segmented(index, sample)
        if isinstance(sample, FlowSample):
            return self._flow(index, sample)
        if not isinstance(sample, StereoSample):
            return self.inspection(index, digest=content(*self.images(sample)))
        height, width = sample.left.shape[-2:]
        measures = Measures(height, width, float(sample.disparity.max()), float(sample.valid.float().mean()))
        on_disparities = _on_disparities(sample, measures, flaws) if self.ground_truth else ()
        found = sorted((*self._on_size(height, width), *on_disparities), key=lambda one: one[0] in NOTES)
        return self.inspection(index, *found, digest=content(sample.left, sample.right), measures=measures)

    def _segmented(self, index: int, sample: SegmentedImage) -> Inspection:
        height, width = sample.classes.shape
        known = sample.classes != IGNORED
        share = float(known.float().mean())
        measures = Measures(height, width, 0.0, share, frozenset(sample.classes[known].unique().tolist()))
        needed = f"at least {LEAST_VALID:.1%} must; {IGNORED} is ignored: leave it out"
        found = [(NO_CLASS, f"{share:.2%} of the pixels have a class, {needed}")] if share < LEAST_VALID else []
        return self.inspection(index, *found, digest=content(sample.image), measures=measures)

    def _flow(self, index: int, sample: FlowSample) -> Inspection:
        height, width = sample.flow.shape[-2:]
        share = float(sample.valid.float().mean())
        measures = Measures(height, width, float(sample.flow.norm(dim=0).max()), share)
        needed = f"at least {LEAST_VALID:.1%} must: leave it out"
        found = [(NO_VECTOR, f"{share:.2%} of the pixels have a known vector, {needed}")] if share < LEAST_VALID else []
        return self.inspection(index, *found, digest=content(sample.first, sample.second), measures=measures)

    def inspection(self, index: int, *found: tuple[str, str], **more: Any) -> Inspection:
        """Creates the result for a sample from the kind and description of each problem, and further fields."""
        name, groups = self.dataset.names[index], getattr(self.dataset, "groups", self.dataset.names)
        paths = self.dataset.paths(index) if isinstance(self.dataset, HasFiles) else []
        problems = []
        for kind, says in found:
            named = [path for path in paths if says.startswith(f"{path}:")]
            usual = paths[2:3] if kind in OF_GROUND_TRUTH else paths[1:2] if kind == NO_CLASS else paths[:1]
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
    """Computes a digest of sizes and values, equal for equal images."""
    digest = hashlib.blake2b(digest_size=16)
    for image in images:
        digest.update(repr(tuple(image.shape)).encode())
        digest.update(image.detach().contiguous().numpy().data)
    return digest.digest()


def find_twins(samples: Sequence[Inspection], halves: Mapping[int, str], flawed: Collection[str] = ()) -> list[Problem]:
    """Finds samples with the same content as a sample of another group.

    One sample of each set of duplicates is not reported, so that leaving out the others resolves the set: a sample
    without problems is preferred to one with problems, and one used by the search to one that is not.

    Args:
        samples: samples of the training split.
        halves: "weight" or "architecture", by index of the samples used in a search.
        flawed: names of samples with another problem.

    Returns:
        BOTH_HALVES for a sample that is not in the same split of a search as the unreported one, otherwise TWINS.
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
            where = f", which is in the {there} split while this is in the {here} split" if parted else ""
            kind = BOTH_HALVES if parted else TWINS
            problems.append(Problem(kind, sample.name, sample.file, f"shows what {other.name} shows{where}"))
    return sorted(problems, key=lambda problem: problem.sample)


def find_shared(train: Sequence[Inspection], test: Sequence[Inspection]) -> list[Problem]:
    """Finds the samples of the test split with the same content as a sample of the training split."""
    known = {sample.digest: sample.name for sample in train if sample.digest is not None}
    return [
        Problem(BOTH_SPLITS, sample.name, sample.file, f"shows what {known[sample.digest]} shows")
        for sample in test
        if sample.digest in known
    ]
