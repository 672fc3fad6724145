"""A check of a dataset from its typed config: looks at every sample, deals the halves, says what to leave out."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autodisp.assembly.data import groups_of
from autodisp.commands import setting
from autodisp.config.check import CheckConfig
from autodisp.datasets.checking import (
    BOTH_HALVES,
    LOST,
    MISSING,
    SMALLEST,
    TWINS,
    UNREADABLE,
    HasFiles,
    Inspection,
    Inspector,
    Measures,
    Problem,
    find_shared,
    find_twins,
    kinds_of,
)
from autodisp.datasets.exclusions import can_be_listed, read_entries, write_exclusions
from autodisp.datasets.layout import DamagedFiles, NotThere
from autodisp.datasets.processes import Lost, apply_to_all, cores
from autodisp.datasets.splits import deal
from autodisp.errors import InputError, WrongSetting

Progress = Callable[[int, int, int], None]
"""Takes how many samples are done, of how many, and how many problems there are so far."""
USUAL_CROP = (192, 384)
"""(height, width) that the datasets of files are cropped to by default."""


@dataclass
class CheckReport:
    """What a check found."""

    config: CheckConfig
    samples: dict[str, int] = field(default_factory=dict)
    """How many there are, by split, incomplete ones among them."""
    found: list[Problem] = field(default_factory=list)
    """Problems, and notes on what is worth knowing but spoils no search."""
    data: list[str] = field(default_factory=list)
    """What the stereo samples of each split are: sizes, disparities."""
    remarks: list[str] = field(default_factory=list)
    """What is to be minded about the dataset as a whole."""
    excluded: dict[str, str] = field(default_factory=dict)
    """The samples to leave out, each with the reason."""
    unlisted: list[Problem] = field(default_factory=list)
    """Problems that no list of samples can mend."""
    crop: list[int] | None = None
    """The crop that a search needs and the config lacks: its pictures have several sizes."""
    obstacle: str = ""
    """Why no run is possible without the excluded samples; "" if one is."""

    @property
    def problems(self) -> list[Problem]:
        """What spoils a run."""
        return [found for found in self.found if not found.is_note]

    @property
    def notes(self) -> list[Problem]:
        """What the programs cope with."""
        return [found for found in self.found if found.is_note]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of problems that this dataset can have."""
        return kinds_of(self.config.entry.sample)

    @property
    def total(self) -> int:
        """Number of samples."""
        return sum(self.samples.values())

    def by_kind(self) -> dict[str, list[Problem]]:
        """Problems and notes; a kind of problem that the dataset can have is there even if it has none."""
        everything = (*self.problems, *self.notes)
        kinds = dict.fromkeys([*self.kinds, *(found.kind for found in everything)])
        return {kind: [found for found in everything if found.kind == kind] for kind in kinds}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "clean": not self.problems,
            "config": asdict(self.config),
            "samples": self.samples,
            "counts": {kind: sum(problem.kind == kind for problem in self.problems) for kind in self.kinds},
            "problems": [problem._asdict() for problem in self.problems],
            "notes": [note._asdict() for note in self.notes],
            "data": self.data,
            "remarks": self.remarks,
            "excluded": list(self.excluded),
        }

    def write_list(self, path: Path) -> None:
        """Writes the samples to leave out, as `dataset.exclude` takes them."""
        title = f"{self.config.dataset.name}: samples that dataset.exclude leaves out, as autodisp-check found them"
        write_exclusions(path, self.excluded.items(), title=title)


@dataclass
class _Part:
    """One split, and what was found in it."""

    dataset: Any
    found: list[Problem] = field(default_factory=list)
    digests: list[bytes | None] = field(default_factory=list)
    measures: dict[int, Measures] = field(default_factory=dict)

    @property
    def groups(self) -> Sequence[str]:
        """Labelled images stand alone."""
        groups: Sequence[str] = getattr(self.dataset, "groups", self.dataset.names)
        return groups

    def with_files(self, problems: Iterable[Problem]) -> list[Problem]:
        """Names the picture where the samples have files of their own."""
        place = {name: index for index, name in enumerate(self.dataset.names)}
        if not isinstance(self.dataset, HasFiles):
            return list(problems)
        return [problem._replace(file=str(self.dataset.paths(place[problem.sample])[0])) for problem in problems]


@dataclass(frozen=True)
class Check:
    """A check that is ready to look at every sample of its splits.

    Samples that `dataset.exclude` names already are not looked at and stay excluded. `dataset.limit` counts only where
    the halves are dealt: which samples it leaves to a run depends on which others are excluded.
    """

    config: CheckConfig
    report: CheckReport
    parts: Mapping[str, _Part]

    def run(self, progress: Progress) -> CheckReport:
        """Does it; to be called once."""
        config, report, parts = self.config, self.report, self.parts
        total = sum(len(part.dataset) for part in parts.values())
        done = 0
        for split, part in parts.items():
            done = _look(part, config, done, total, len(report.problems), progress)
            report.samples[split] = len(part.dataset) + len(getattr(part.dataset, "incomplete", ()))
            report.found += part.found
            if part.measures:
                report.data.append(f"{split}: {_measured(list(part.measures.values()))}")
                report.remarks += _beyond_range(part, split, config)
        if "train" in parts:
            _compare(parts["train"], parts.get("test"), config, report)
        _exclude(parts, config, report)
        if "train" in parts:
            _require_crop(parts["train"], config, report)
        return report


def build_check(config: CheckConfig) -> Check:
    """Lists the samples of the splits; reads them only where they stand in few files.

    Raises:
        InputError: a setting is wrong, or there is nothing to look at.
    """
    report = CheckReport(config)
    return Check(config, report, _open(config, report))


def _open(config: CheckConfig, report: CheckReport) -> dict[str, _Part]:
    """The datasets by split; one of which nothing can be read becomes a problem, and an absent test split a remark."""
    # Halving hides what is wrong with single pixels.
    data: Any = config.dataset
    if _is_halved(config):
        data = replace(data, half_resolution=False)
    parts: dict[str, _Part] = {}
    for split in config.splits:
        try:
            parts[split] = _Part(config.entry.build(data, seed=config.seed, split=split, strict=False))
        except InputError as error:
            if isinstance(error, NotThere) and split == "test" and config.split is None:
                report.remarks.append(f"no test split was looked at: {error}")
            elif isinstance(error, WrongSetting) or not config.entry.in_few_files:
                raise
            else:
                report.samples[split] = 0
                says = error.messages if isinstance(error, DamagedFiles) else [str(error)]
                damaged = [Problem(UNREADABLE, "", message.split(": ")[0], message) for message in says]
                # A file that serves both splits is one problem.
                report.found += [problem for problem in damaged if problem not in report.found]
    return parts


def _is_halved(config: CheckConfig) -> bool:
    return bool(getattr(config.dataset, "half_resolution", False))


def _look(part: _Part, config: CheckConfig, done: int, total: int, problems: int, progress: Progress) -> int:
    """Looks at every sample of one split; how many samples are done then."""
    crop = getattr(config.dataset, "crop", None)
    inspector = Inspector(part.dataset, crop=tuple(crop) if crop else None, halved=_is_halved(config))
    for name, lacks in getattr(part.dataset, "incomplete", {}).items():
        part.found.append(Problem(MISSING, name, lacks.split(" missing ")[0], lacks))
    part.digests = [None] * len(part.dataset)
    found: dict[int, Sequence[Problem]] = {}
    problems += len(part.found)
    count, workers = len(part.dataset), config.run.workers or cores()
    looks: Iterator[tuple[int, Inspection | Lost]]
    if config.entry.in_few_files:  # in memory already
        looks = ((index, inspector(index)) for index in range(count))
    else:
        looks = apply_to_all(inspector, count, workers=workers, timeout=config.timeout)
    # Closed at once where the user interrupts, so that no process outlives this one.
    with closing(looks):
        for index, result in looks:
            if isinstance(result, Lost):
                found[index] = (inspector.problem(LOST, index, result.reason),)
            else:
                part.digests[index] = result.digest
                if result.measures is not None:
                    part.measures[index] = result.measures
                found[index] = result.found
            done += 1
            problems += sum(not one.is_note for one in found[index])
            progress(done, total, problems)
    part.found += [one for index in sorted(found) for one in found[index]]
    return done


def _measured(found: Sequence[Measures]) -> str:
    sizes = sorted({(one.width, one.height) for one in found})
    shown = " to ".join(f"{width}x{height}" for width, height in dict.fromkeys((sizes[0], sizes[-1])))
    largest, known = max(one.largest for one in found), 100 * sum(one.known for one in found) / len(found)
    return f"pictures of {shown}, true disparities up to {largest:.1f} px on {known:.0f} % of the pixels"


def _beyond_range(part: _Part, split: str, config: CheckConfig) -> Iterator[str]:
    """Disparities that can be meant but exceed the setting."""
    largest = max((one.largest for one in part.measures.values() if one.largest <= one.width), default=0.0)
    data: Any = config.dataset
    if (most := data.max_disparity) < (used := largest / 2 if _is_halved(config) else largest):
        yield f"{split}: dataset.max_disparity={most} is below {used:.1f} px, which a matching head cannot express then"


def _require_crop(part: _Part, config: CheckConfig, report: CheckReport) -> None:
    """Suggests a crop where pictures of several sizes would have to go into one batch."""
    names = part.dataset.names
    sizes = {(one.height, one.width) for index, one in part.measures.items() if names[index] not in report.excluded}
    if len(sizes) < 2 or getattr(config.dataset, "crop", None) is not None:
        return
    shrunk = 2 if _is_halved(config) else 1
    report.crop = [
        max(SMALLEST[axis], min(side, min(size[axis] for size in sizes) // shrunk // 32 * 32))
        for axis, side in enumerate(USUAL_CROP)
    ]
    report.remarks.append(
        f"train: pictures of {len(sizes)} sizes cannot be put into one batch: dataset.crop=null needs "
        f"search.batch_size=1 and training.batch_size=1; otherwise take {setting('dataset.crop', report.crop)}"
    )


def counted(count: int, what: str) -> str:
    """In words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _compare(train: _Part, test: _Part | None, config: CheckConfig, report: CheckReport) -> None:
    """Looks for the same picture in both halves, and in both splits."""
    names = train.dataset.names
    halves: Mapping[int, str] = {}
    try:
        weights, architecture = deal(groups_of(train.dataset), limit=config.dataset.limit, seed=config.seed)
        halves = {**dict.fromkeys(weights, "weight"), **dict.fromkeys(architecture, "architecture")}
    except InputError as error:
        report.remarks.append(f"a search cannot use this training split: {error}")
    flawed = {problem.sample for problem in report.problems}
    report.found += train.with_files(find_twins(names, train.groups, train.digests, halves, flawed=flawed))
    if test is not None:
        shown = {digest: names[index] for index, digest in enumerate(train.digests) if digest is not None}
        report.found += test.with_files(find_shared(shown, test.dataset.names, test.digests))


def _exclude(parts: Mapping[str, _Part], config: CheckConfig, report: CheckReport) -> None:
    """Says what to leave out, and whether a run is possible without it."""
    before = getattr(config.dataset, "exclude", None)
    if before is not None:
        report.excluded = dict.fromkeys(read_entries(before), f"listed in {before}")
    _leave_out(report.problems, report)
    parted = any(problem.kind == BOTH_HALVES for problem in report.found)
    if "train" in parts and (parted or not all(found.is_note for found in parts["train"].found)):
        # The halves are dealt anew once a sample is left out, and any twins may then be parted.
        _leave_out((note for note in report.notes if note.kind == TWINS), report)
    if report.unlisted:
        report.obstacle = f"{len(report.unlisted)} of the problems cannot be mended by leaving samples out"
    for split, part in parts.items():
        groups = {
            group for group, name in zip(part.groups, part.dataset.names, strict=True) if name not in report.excluded
        }
        if len(groups) == 0:
            says = f"no sample of the {split} split would be left"
        elif len(groups) == 1 and split == "train":
            says = "what would be left of the train split cannot be divided in two halves"
        else:
            continue
        if split == "test" and "train" in parts:
            report.remarks.append(f"{says}, so a training needs validation.fraction=0.1")
        else:
            report.obstacle = says


def _leave_out(problems: Iterable[Problem], report: CheckReport) -> None:
    for problem in problems:
        if can_be_listed(problem.sample):
            report.excluded.setdefault(problem.sample, f"{problem.kind}: {problem.says}")
        else:
            report.unlisted.append(problem)
