"""Finds runs and lines them up: what each gave, which settings tell them apart, how results go with the curvature."""

import glob
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from autodisp.errors import InputError
from autodisp.report.curves import as_number
from autodisp.report.evaluations import MeasuredNetwork, read_tested
from autodisp.report.reading import Moment, Run, is_run, read_run
from autodisp.run_files import EVALUATION

_MOST_FOLDERS = 200_000
_WORDS = ("space.name", "regularization.name", "network.name")
"""Settings without a number that are compared."""
_NOT_COMPARED = ("seed", "run.")
"""Settings that tell runs apart without being what is compared."""


@dataclass
class Entry:
    """A run among others."""

    number: int
    """From 1, as the table counts."""
    run: Run
    chosen: Moment | None
    """Whose figures count, see ``Run.chosen``."""
    trainings: list["Entry"] = field(default_factory=list)
    """Of a search: those that trained its cells."""
    evaluation: MeasuredNetwork | None = None
    """Of a training: the newest one of its network on the test split of its own dataset."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The numeric settings, by dotted name."""

    @property
    def group(self) -> tuple[str, str, str]:
        """Runs of one group can be drawn into one chart: searches or trainings, by the same figure on the same data."""
        return self.run.kind, self.run.figure.name, self._data()

    def _data(self) -> str:
        """The dataset in words; two readers of the user's own are two datasets, and so is one at half resolution."""
        name, factory, root = (self.run.setting(f"dataset.{key}") for key in ("name", "factory", "root"))
        if not isinstance(name, str):
            return ""
        if isinstance(factory, str):
            name = f"{name} {Path(factory).name} {Path(*Path(str(root)).parts[-2:])}"
        return f"{name} at half resolution" if self.run.setting("dataset.half_resolution") is True else name

    @property
    def policy(self) -> str:
        """none, es or ada; empty for a training."""
        name = self.run.setting("regularization.name")
        return name[:20] if isinstance(name, str) and self.run.kind == "search" else ""

    def value(self, key: str) -> float | None:
        """A number of the moment that counts; None where it is not recorded or not finite."""
        value = None if self.chosen is None else self.chosen.values.get(key)
        return value if value is not None and math.isfinite(value) else None

    @property
    def eigenvalue(self) -> float | None:
        """At the moment that counts or, where it was not measured then, the newest before."""
        if self.chosen is None:
            return None
        measured = [m.values["eigenvalue"] for m in self.run.kept
                    if m.epoch <= self.chosen.epoch and "eigenvalue" in m.values]  # fmt: skip
        return measured[-1] if measured and math.isfinite(measured[-1]) else None

    @property
    def figure(self) -> float | None:
        """On the validation half, of the supernet or of the trained network."""
        return self.value(f"valid/{self.run.figure.name}")

    @property
    def discretised(self) -> float | None:
        """Of a search: with the found cells only, not retrained."""
        return self.value(f"valid_discrete/{self.run.figure.name}")

    @property
    def drop(self) -> float | None:
        """Of a search: what discretising costs."""
        return self.value("discretisation_drop")

    @property
    def trained(self) -> float | None:
        """Of a search: the mean best figure of the trainings of its cells."""
        return self._mean(entry.figure for entry in self.trainings if entry.run.figure.name == self.run.figure.name)

    @property
    def tested(self) -> float | None:
        """Of a training: the figure on the test split; of a search: their mean over the trainings of its cells."""
        if self.run.kind == "search":
            return self._mean(entry.tested for entry in self.trainings if entry.run.figure.name == self.run.figure.name)
        return None if self.evaluation is None else self.evaluation.figures.get(self.run.figure.name)

    @staticmethod
    def _mean(figures: Iterable[float | None]) -> float | None:
        known = [figure for figure in figures if figure is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Found:
    """What a pattern led to."""

    entries: list[Entry]
    passed_over: int
    """Folders that are no run, hold none, and lie in none."""
    notes: list[str]


def find_runs(patterns: Sequence[str], *, skip: Path | None = None) -> Found:
    """Reads every run that the patterns name.

    Args:
        patterns: folders, or patterns of folders as ``glob`` has them, ``**`` for any depth. A folder that is no run
            stands for all runs below it.
        skip: a folder that is not looked into, the report's own.

    Raises:
        InputError: a folder is not there, or no run is found.
    """
    folders = list(dict.fromkeys(folder for pattern in patterns for folder in _folders(pattern)))
    if skip is not None:
        folders = [folder for folder in folders if skip.resolve() not in (folder.resolve(), *folder.resolve().parents)]
    runs = {folder.resolve(): folder for folder in folders if is_run(folder)}
    evaluations = {folder.resolve() for folder in folders if (folder / EVALUATION).is_file()}
    holding = {parent for folder in (*runs, *evaluations) for parent in folder.parents}
    others = [folder.resolve() for folder in folders if folder.resolve() not in {*runs, *evaluations}]
    lost = [folder for folder in others if folder not in holding and not any(p in runs for p in folder.parents)]
    notes: list[str] = []
    entries: list[Entry] = []
    for folder in sorted(runs.values()):
        try:
            run = read_run(folder, key="runs")
        except InputError as error:
            notes.append(f"passed over: {error}")
            continue
        entries.append(Entry(len(entries) + 1, run, run.chosen, numbers=numeric_settings(run.config)))
    if not entries:
        raise InputError(
            f"runs={','.join(patterns)}: no run that can be read among {len(folders)} folders"
            + (f" ({notes[0]})" if notes else "; name the folder above them, or a pattern such as 'runs/**'")
        )
    _link(entries)
    _link_evaluations(entries, [tested for folder in sorted(evaluations) if (tested := read_tested(folder))])
    return Found(entries, len(set(lost)), notes)


def common_folder(patterns: Sequence[str]) -> Path:
    """The deepest folder that all patterns lie in: where a report on them belongs."""
    folders = []
    for pattern in patterns:
        parts = Path(pattern).expanduser().parts
        plain = [part for part, whole in zip(parts, _whole_parts(parts), strict=True) if whole]
        folders.append(Path(*plain) if plain else Path())
    return Path(os.path.commonpath([folder.absolute() for folder in folders])) if len(folders) > 1 else folders[0]


def _whole_parts(parts: Sequence[str]) -> Iterator[bool]:
    whole = True
    for part in parts:
        whole = whole and not glob.has_magic(part)
        yield whole


def _folders(pattern: str) -> Iterator[Path]:
    pattern = str(Path(pattern).expanduser())
    if glob.has_magic(pattern) and not Path(pattern).is_dir():
        names = glob.iglob(pattern, recursive=True)
    elif not Path(pattern).is_dir():
        raise InputError(f"runs={pattern}: no such folder; name one that holds runs, or a pattern such as 'runs/**'")
    elif is_run(Path(pattern)):
        names = iter([pattern])
    else:
        names = glob.iglob(f"{glob.escape(pattern)}/**/", recursive=True)
    for count, name in enumerate(names):
        if count >= _MOST_FOLDERS:
            raise InputError(f"runs={pattern}: more than {_MOST_FOLDERS} files and folders; name fewer")
        if os.path.isdir(name):
            yield Path(name)


def numeric_settings(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, float]:
    """The numbers of a config by their dotted name."""
    found: dict[str, float] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 8:
            found |= numeric_settings(value, f"{name}.", depth + 1)
        elif (number := as_number(value)) is not None and math.isfinite(number):
            found[name] = number
    return found


def varying_keys(entries: Sequence[Entry]) -> list[str]:
    """The numeric settings that all of them have and that differ among them, seeds and the like aside."""
    shared = set.intersection(*(set(entry.numbers) for entry in entries)) if entries else set()
    return sorted(
        key
        for key in shared
        if not key.startswith(_NOT_COMPARED) and len({entry.numbers[key] for entry in entries}) > 1
    )


def differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """What tells runs of one group apart, the seed last: for each setting its value in words, one a run.

    Named by the last part of the dotted name where that is enough, with ``.name`` left out: ``weight_decay``.
    """
    found: dict[str, list[str]] = {}
    for key in _WORDS:
        found[key.removesuffix(".name")] = [str(entry.run.setting(key) or "")[:20] for entry in entries]
    keys = [*varying_keys(entries), "seed"]
    lasts = [key.rpartition(".")[2] for key in keys]
    for key, last in zip(keys, lasts, strict=True):
        name = key if lasts.count(last) > 1 else last
        found[name] = [f"{entry.numbers[key]:g}" if key in entry.numbers else "" for entry in entries]
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, None where it is not defined: fewer than three pairs, or all equal on one side."""
    if len(pairs) < 3 or any(len({pair[side] for pair in pairs}) < 2 for side in (0, 1)):
        return None
    return float(spearmanr([x for x, _ in pairs], [y for _, y in pairs]).statistic)


def _link_evaluations(entries: Sequence[Entry], evaluations: Sequence[MeasuredNetwork]) -> None:
    """Gives each training the last one of its best.safetensors, or of another file in its folder."""
    trainings = {entry.run.folder.resolve(): entry for entry in entries if entry.run.kind == "training"}
    by_setting = {str(entry.run.setting("run.folder")): entry for entry in trainings.values()}
    for tested in evaluations:
        parent = tested.checkpoint.parent
        training = by_setting.get(str(parent)) or trainings.get(parent.resolve())
        if training is not None and training.run.setting("dataset.name") == tested.dataset:
            training.evaluation = tested


def _link(entries: Sequence[Entry]) -> None:
    """Gives each search the trainings whose config names its genotype.json."""
    searches = {entry.run.folder.resolve(): entry for entry in entries if entry.run.kind == "search"}
    by_setting = {str(entry.run.setting("run.folder")): entry for entry in searches.values()}
    for entry in entries:
        genotype = entry.run.setting("genotype")
        if entry.run.kind != "training" or not isinstance(genotype, str) or not genotype.endswith(".json"):
            continue
        parent = Path(genotype).parent
        search = by_setting.get(str(parent)) or searches.get(parent.resolve())
        if search is not None:
            search.trainings.append(entry)
