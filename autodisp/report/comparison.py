"""Finds and compares runs: their results, the settings that differ, and the trainings of a search's cells."""

import glob
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autodisp.errors import InputError
from autodisp.report.evaluations import MeasuredNetwork, read_tested
from autodisp.report.reading import Cells, Epoch, Run, as_number, flat_settings, is_run, read_run
from autodisp.run_files import EVALUATION

_WORDS = ("space.name", "regularization.name", "network.name")
"""Non-numeric settings that are compared."""
_NOT_COMPARED = ("seed", "run.")


@dataclass
class Entry:
    """A run of a comparison."""

    number: int
    """Number in the table, from 1."""
    run: Run
    chosen: Epoch | None
    """The epoch whose metrics are compared, see ``Run.chosen``."""
    trainings: list["Entry"] = field(default_factory=list)
    """For a search, the runs that trained its cells."""
    evaluation: MeasuredNetwork | None = None
    """For a training, the newest evaluation of its network on the test split of its own dataset."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The numeric settings, by dotted name."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """For a training, ``parameters`` and ``macs`` of its network, as far as they are known."""

    @property
    def group(self) -> tuple[str, str, str]:
        """Kind, metric and dataset; runs of one group can share a chart."""
        return self.run.kind, self.run.figure.name, self._data()

    def _data(self) -> str:
        """The dataset in words; distinguishes user-defined readers, and half resolution."""
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
        """Returns a number of the chosen epoch; None if it is not recorded or not finite."""
        value = None if self.chosen is None else self.chosen.values.get(key)
        return value if value is not None and math.isfinite(value) else None

    @property
    def eigenvalue(self) -> float | None:
        """The eigenvalue at the chosen epoch or, if it was not measured then, the newest one before."""
        last = -1 if self.chosen is None else self.chosen.epoch
        measured = [e.values["eigenvalue"] for e in self.run.kept if e.epoch <= last and "eigenvalue" in e.values]
        return measured[-1] if measured and math.isfinite(measured[-1]) else None

    @property
    def is_random(self) -> bool:
        """True for the training of a random network of a space."""
        return str(self.run.setting("genotype")).startswith("random:")

    def cost(self, quantity: str) -> float | None:
        """Returns the cost of the network; None if it is not known.

        Args:
            quantity: ``latency`` (milliseconds per image: of a training as evaluated on the test split, of a search as
                measured at its end), ``macs`` or ``parameters``; of a search the one that its penalty is on.
        """
        if self.run.kind == "training":
            if quantity == "latency":
                return None if self.evaluation is None else self.evaluation.milliseconds
            return self.counts.get(quantity)
        if self.run.setting("cost_penalty.name") != quantity:
            return None
        measured = [as_number(event.get("measured")) for event in self.run.events if event["event"] == "cost"]
        return next((value for value in reversed(measured) if value is not None and math.isfinite(value)), None)

    def result(self, name: str) -> float | None:
        """Returns a result of the run.

        Args:
            name: ``validated`` (the validation metric, of the supernet or of the trained network), ``tested`` (the
                metric on the test split) or, for a search, ``discretised`` (the validation metric with the found cells
                only), ``drop`` (the cost of discretising) or ``trained`` (the validation metric after training). For a
                search, ``trained`` is the mean over the complete trainings of its cells, and ``tested`` over all of
                them: those on its own dataset or, without any, on another one. None if they are on several others.
        """
        metric = self.run.figure.name
        if name == "tested" and self.run.kind == "training":
            return None if self.evaluation is None else self.evaluation.metrics.get(metric)
        if name in ("trained", "tested"):
            inner = "validated" if name == "trained" else name
            known = [
                (entry._data(), value)
                for entry in self.trainings
                if entry.run.figure.name == metric and (name == "tested" or entry.run.finished)
                if (value := entry.result(inner)) is not None
            ]
            known = [(data, value) for data, value in known if data == self._data()] or known
            values = [value for _, value in known] if len({data for data, _ in known}) == 1 else []
            return sum(values) / len(values) if values else None
        keys = {
            "validated": f"valid/{metric}",
            "discretised": f"valid_discrete/{metric}",
            "drop": "discretisation_drop",
        }
        return self.value(keys[name])


@dataclass(frozen=True)
class FoundRuns:
    """The runs that match patterns."""

    entries: list[Entry]
    passed_over: int
    """Number of folders that are no run, contain none, and are not inside one."""
    notes: list[str]


def find_runs(patterns: Sequence[str], *, skip: Path | None = None) -> FoundRuns:
    """Reads every run that matches the patterns.

    Args:
        patterns: folders, or patterns of folders as in ``glob``, ``**`` for any depth. A folder that is not a run
            represents all runs below it.
        skip: a folder to leave out, the report's own.

    Raises:
        InputError: a folder does not exist, or no run is found.
    """
    folders = {folder.resolve(): folder for pattern in patterns for folder in _folders(pattern)}
    if skip is not None:
        folders = {path: folder for path, folder in folders.items() if not path.is_relative_to(skip.resolve())}
    runs = {path for path, folder in folders.items() if is_run(folder)}
    evaluations = {path for path in folders if (path / EVALUATION).is_file()}
    holding = {parent for path in runs | evaluations for parent in path.parents}
    lost = [path for path in folders.keys() - runs - evaluations - holding if not runs.intersection(path.parents)]
    notes: list[str] = []
    entries: list[Entry] = []
    for folder in sorted(folders[path] for path in runs):
        try:
            run = read_run(folder, key="runs")
        except InputError as error:
            notes.append(f"left out: {error}")
            continue
        entries.append(Entry(len(entries) + 1, run, run.chosen, numbers=numeric_settings(run.config)))
    if not entries:
        raise InputError(
            f"runs={','.join(patterns)}: no run that can be read among {len(folders)} folders"
            + (f" ({notes[0]})" if notes else "; name the folder above them, or a pattern such as 'runs/**'")
        )
    _link(entries, {folder: tested for folder in sorted(evaluations) if (tested := read_tested(folder))})
    return FoundRuns(entries, len(lost), notes)


def common_folder(patterns: Sequence[str]) -> Path:
    """Returns the deepest folder that contains all runs."""
    folders = []
    for pattern in patterns:
        folder = Path(pattern).expanduser()
        while glob.has_magic(str(folder)) and not folder.is_dir():
            folder = folder.parent
        folders.append(folder)
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.absolute() for folder in folders]))


def _folders(pattern: str) -> Iterator[Path]:
    folder = Path(pattern).expanduser()
    if not folder.is_dir():
        if not glob.has_magic(pattern):
            raise InputError(
                f"runs={pattern}: no such folder; name one that holds runs, or a pattern such as 'runs/**'"
            )
        names = glob.iglob(str(folder), recursive=True)
    else:
        names = iter([str(folder)]) if is_run(folder) else glob.iglob(f"{glob.escape(str(folder))}/**/", recursive=True)
    yield from (Path(name) for name in names if os.path.isdir(name))


def numeric_settings(config: Mapping[str, Any]) -> dict[str, float]:
    """Returns the finite numbers of a config by their dotted name."""
    numbers = {key: as_number(value) for key, value in flat_settings(config).items()}
    return {key: value for key, value in numbers.items() if value is not None and math.isfinite(value)}


def varying_keys(entries: Sequence[Entry]) -> list[str]:
    """Returns the numeric settings that all runs have and that differ, without seeds and similar settings."""
    shared = set.intersection(*(set(entry.numbers) for entry in entries)) if entries else set()
    return sorted(
        key
        for key in shared
        if not key.startswith(_NOT_COMPARED) and len({entry.numbers[key] for entry in entries}) > 1
    )


def differences(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """Returns the settings in which runs of one group differ, the seed last: the value in words for every run.

    A setting is named by the last part of its dotted name if that is unique, without ``.name``: ``weight_decay``.
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


def _link(entries: Sequence[Entry], evaluations: Mapping[Path, MeasuredNetwork]) -> None:
    """Gives each search the trainings of its genotype.json, and each training the last evaluation of its model.

    A file is named as seen when the run was made. Folders that were copied since then, such as those of several
    machines, may all match that name: of these, the nearest one is meant.
    """

    named = defaultdict[str, list[Entry]](list)
    for entry in entries:
        for name in {str(entry.run.setting("run.folder")), str(entry.run.folder.resolve())}:
            named[name].append(entry)

    def run_of(file: str | Path, kind: str, user: Path) -> Entry | None:
        parent = Path(file).parent
        meant = {entry.number: entry for name in (str(parent), str(parent.resolve())) for entry in named[name]}
        shared = {number: _shared(entry.run.folder, user) for number, entry in meant.items() if entry.run.kind == kind}
        nearest = [number for number in shared if shared[number] == max(shared.values())]
        return meant[nearest[0]] if len(nearest) == 1 else None

    for entry in entries:
        genotype = entry.run.setting("genotype")
        if entry.run.kind == "training" and isinstance(genotype, str) and genotype.endswith(".json"):
            search = run_of(genotype, "search", entry.run.folder)
            if search is not None and _same(entry.run.found, search.run.found):
                search.trainings.append(entry)
    for folder, tested in evaluations.items():
        training = run_of(tested.checkpoint, "training", folder)
        if training is not None and training.run.setting("dataset.name") == tested.dataset:
            training.evaluation = tested


def _same(one: Cells, other: Cells) -> bool:
    return not one or not other or one == other


def _shared(one: Path, other: Path) -> int:
    """Counts the folders that two paths have in common."""
    return len(Path(os.path.commonpath([one.resolve(), other.resolve()])).parts)
