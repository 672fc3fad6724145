"""A check of a dataset from its typed config: inspects every sample and lists which ones to leave out."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autodisp.assembly.data import groups_of
from autodisp.commands import setting
from autodisp.config.check import CheckConfig
from autodisp.datasets.checking import (
    LOST,
    MISSING,
    OF_GROUND_TRUTH,
    SMALLEST,
    TWINS,
    UNREADABLE,
    Inspection,
    Inspector,
    Problem,
    find_shared,
    find_twins,
    kinds_of,
)
from autodisp.datasets.exclusions import can_be_listed, read_entries, write_exclusions
from autodisp.datasets.layout import DamagedFiles, NotThere
from autodisp.datasets.processes import Lost, apply_to_all, cores
from autodisp.datasets.samples import FlowSample, SegmentedImage
from autodisp.datasets.splits import deal
from autodisp.errors import InputError, WrongSetting

USUAL_CROP = (192, 384)
"""(height, width) of the default crop of the datasets of files."""
MOST_ABSENT = 5
"""Number of absent classes that a remark names."""


@dataclass
class CheckReport:
    """Result of a check."""

    config: CheckConfig
    samples: dict[str, int] = field(default_factory=dict)
    """Number of samples by split, incomplete ones included."""
    found: list[Problem] = field(default_factory=list)
    """Problems, which spoil a run, and notes."""
    data: list[str] = field(default_factory=list)
    """Sizes, disparities and classes of each split, in words."""
    remarks: list[str] = field(default_factory=list)
    """Warnings about the dataset as a whole."""
    excluded: dict[str, str] = field(default_factory=dict)
    """The samples to leave out, each with the reason."""
    crop: list[int] | None = None
    """The crop that a search needs and the config lacks, for images of several sizes."""
    obstacle: str = ""
    """Reason why no run is possible without the excluded samples; "" if one is possible."""

    @property
    def problems(self) -> list[Problem]:
        """Problems that spoil a run."""
        return [found for found in self.found if not found.is_note]

    @property
    def notes(self) -> list[Problem]:
        """Problems that the programs can handle."""
        return [found for found in self.found if found.is_note]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of problem that this dataset can have."""
        entry = self.config.entry
        return tuple(kind for kind in kinds_of(entry.sample) if entry.ground_truth or kind not in OF_GROUND_TRUTH)

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
        """Writes the samples to leave out, in the format of `dataset.exclude`."""
        title = f"{self.config.dataset.name}: samples that dataset.exclude leaves out, as autodisp-check found them"
        write_exclusions(path, self.excluded.items(), title=title)


class Check:
    """Inspects every sample of the splits.

    Samples already listed in `dataset.exclude` are not inspected and stay excluded. `dataset.limit` only applies when
    the training split is divided: the samples of a run depend on the excluded ones.

    Raises:
        InputError: a setting is wrong, or there is nothing to inspect.
    """

    def __init__(self, config: CheckConfig) -> None:
        self.config = config
        self.report = CheckReport(config)
        self._crop = getattr(config.dataset, "crop", None)
        self._halved = bool(getattr(config.dataset, "half_resolution", False))
        self._datasets = dict(self._open())

    def run(self, progress: Callable[[int, int, int], None]) -> CheckReport:
        """Runs the check; call it once.

        Args:
            progress: called with the number of inspected samples, of all samples, and of problems so far.
        """
        report, total, done = self.report, sum(map(len, self._datasets.values())), 0
        parts: dict[str, list[Inspection]] = {}
        for split, dataset in self._datasets.items():
            incomplete = getattr(dataset, "incomplete", {})
            report.samples[split] = len(dataset) + len(incomplete)
            report.found += [
                Problem(MISSING, name, lacks.split(" missing ")[0], lacks) for name, lacks in incomplete.items()
            ]
            problems, part = len(report.problems), {}
            # Closed at once on an interrupt, so that no process outlives this one.
            with closing(self._inspect(dataset)) as inspections:
                for index, inspection in inspections:
                    part[index] = inspection
                    done += 1
                    problems += sum(not one.is_note for one in inspection.found)
                    progress(done, total, problems)
            parts[split] = [part[index] for index in range(len(part))]
            report.found += [one for inspection in parts[split] for one in inspection.found]
            self._describe(split, parts[split])
        if "train" in parts:
            self._compare(parts["train"], parts.get("test", []))
        self._exclude(parts)
        if "train" in parts:
            self._require_crop(parts["train"])
        return report

    def _open(self) -> Iterator[tuple[str, Any]]:
        """Opens the splits; an unreadable split becomes a problem, a missing one of two a remark."""
        config, report, absent = self.config, self.report, list[NotThere]()
        # Halving the resolution would conceal flaws of single pixels.
        data: Any = config.dataset
        if self._halved:
            data = replace(data, half_resolution=False)
        for split in config.splits:
            try:
                yield split, config.entry.build(data, seed=config.seed, split=split, strict=False)
            except InputError as error:
                if isinstance(error, NotThere) and config.split is None:
                    absent.append(error)
                    report.remarks.append(f"no {split} split was checked: {error}")
                elif isinstance(error, WrongSetting) or not config.entry.in_few_files:
                    raise
                else:
                    report.samples[split] = 0
                    says = error.messages if isinstance(error, DamagedFiles) else [str(error)]
                    damaged = [Problem(UNREADABLE, "", message.split(": ")[0], message) for message in says]
                    # A file of both splits is one problem.
                    report.found += [problem for problem in damaged if problem not in report.found]
        if absent and len(absent) == len(config.splits):
            raise absent[0]

    def _inspect(self, dataset: Any) -> Generator[tuple[int, Inspection], None, None]:
        """Inspects one split; yields the samples in any order."""
        inspector = Inspector(
            dataset,
            crop=tuple(self._crop) if self._crop else None,
            halved=self._halved,
            images=self.config.kit.inputs,
            ground_truth=self.config.entry.ground_truth,
        )
        if self.config.entry.in_few_files:  # in memory already
            yield from ((index, inspector(index)) for index in range(len(dataset)))
            return
        workers = self.config.run.workers or cores()
        with closing(apply_to_all(inspector, len(dataset), workers=workers, timeout=self.config.timeout)) as results:
            for index, result in results:
                yield index, inspector.inspection(index, (LOST, result[0])) if isinstance(result, Lost) else result

    def _describe(self, split: str, part: Sequence[Inspection]) -> None:
        """Adds sizes, disparities and classes to the report, and plausible disparities that exceed the setting."""
        found = [one.measures for one in part if one.measures is not None]
        if not found:
            return
        sizes = sorted({(one.width, one.height) for one in found})
        shown = " to ".join(f"{width}x{height}" for width, height in dict.fromkeys((sizes[0], sizes[-1])))
        if not self.config.entry.ground_truth:
            self.report.data.append(f"{split}: images of {shown}, without ground truth")
            return
        known = f"ground truth on {100 * sum(one.known for one in found) / len(found):.0f} % of the pixels"
        if issubclass(self.config.entry.sample, SegmentedImage):
            classes = frozenset[int]().union(*(one.classes for one in found))
            self.report.data.append(f"{split}: images of {shown}, {self._of_classes(split, classes)}, {known}")
            return
        largest = max(one.largest for one in found)
        if issubclass(self.config.entry.sample, FlowSample):
            self.report.data.append(f"{split}: images of {shown}, vectors up to {largest:.1f} px, {known}")
            return
        self.report.data.append(f"{split}: images of {shown}, disparities up to {largest:.1f} px, {known}")
        plausible = max((one.largest for one in found if one.largest <= one.width), default=0.0)
        data: Any = self.config.dataset
        used, most = plausible / 2 if self._halved else plausible, data.max_disparity
        if most < used:
            says = f"is below {used:.1f} px, which a matching head then cannot express"
            self.report.remarks.append(f"{split}: dataset.max_disparity={most} {says}")

    def _of_classes(self, split: str, found: frozenset[int]) -> str:
        """Describes how many classes occur, and remarks on those that do not."""
        names = self._datasets[split].classes
        if absent := [name for index, name in enumerate(names) if index not in found]:
            shown = ", ".join(absent[:MOST_ABSENT]) + (", ..." if len(absent) > MOST_ABSENT else "")
            self.report.remarks.append(f"{split}: no pixel of {len(absent)} of the {len(names)} classes: {shown}")
        return f"{len(found)} of {len(names)} classes"

    def _require_crop(self, train: Sequence[Inspection]) -> None:
        """Suggests a crop where images of several sizes would have to go into one batch."""
        report = self.report
        kept = [one.measures for one in train if one.measures is not None and one.name not in report.excluded]
        sizes = {(one.height, one.width) for one in kept}
        if len(sizes) < 2 or self._crop is not None:
            return
        shrunk = 2 if self._halved else 1
        report.crop = [
            max(SMALLEST[axis], min(side, min(size[axis] for size in sizes) // shrunk // 32 * 32))
            for axis, side in enumerate(USUAL_CROP)
        ]
        report.remarks.append(
            f"train: images of {len(sizes)} sizes cannot be put into one batch: dataset.crop=null needs "
            f"search.batch_size=1 and training.batch_size=1; otherwise take {setting('dataset.crop', report.crop)}"
        )

    def _compare(self, train: Sequence[Inspection], test: Sequence[Inspection]) -> None:
        """Finds duplicates within the training split and between both splits."""
        report, config = self.report, self.config
        halves: Mapping[int, str] = {}
        try:
            groups = groups_of(self._datasets["train"])
            weights, architecture = deal(groups, limit=config.dataset.limit, seed=config.seed)
            halves = {**dict.fromkeys(weights, "weight"), **dict.fromkeys(architecture, "architecture")}
        except InputError as error:
            report.remarks.append(f"a search cannot use this training split: {error}")
        report.found += find_twins(train, halves, {problem.sample for problem in report.problems})
        report.found += find_shared(train, test)

    def _exclude(self, parts: Mapping[str, Sequence[Inspection]]) -> None:
        """Lists the samples to leave out, and checks that a run is possible without them."""
        report, before = self.report, getattr(self.config.dataset, "exclude", None)
        if before is not None:
            report.excluded = dict.fromkeys(read_entries(before), f"listed in {before}")
        flawed = report.problems
        if train := self._datasets.get("train"):
            names = {*train.names, *getattr(train, "incomplete", ())}
            if any(problem.sample in names for problem in flawed):
                # The split is divided differently once a sample is left out, which may separate any duplicates.
                flawed += [note for note in report.notes if note.kind == TWINS]
        for problem in flawed:
            if can_be_listed(problem.sample):
                report.excluded.setdefault(problem.sample, f"{problem.kind}: {problem.says}")
        if unlisted := sum(not can_be_listed(problem.sample) for problem in flawed):
            report.obstacle = f"{unlisted} of the problems cannot be fixed by leaving samples out"
        for split, part in parts.items():
            groups = {one.group for one in part if one.name not in report.excluded}
            if len(groups) == 0:
                says = f"no sample of the {split} split would be left"
            elif len(groups) == 1 and split == "train":
                says = "only one group of samples would be left in the train split, which must be divided in two"
            else:
                continue
            if split == "test" and "train" in parts:
                report.remarks.append(f"{says}, so a training needs validation.fraction=0.1")
            else:
                report.obstacle = says
