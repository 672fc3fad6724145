"""Reads a run folder in any state: complete, still growing, or left behind by a killed run.

A run folder may be untrusted or damaged. Its content becomes plain numbers and cells that can be drawn. Damage becomes
a note if there is something left to show, else an InputError.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from autodisp import model_file
from autodisp.cells.genotype import SCHEMA
from autodisp.cells.spaces import INPUTS, KINDS, SPACES, NodeChoice, SearchSpace
from autodisp.errors import InputError
from autodisp.records import read_json_lines, start_record
from autodisp.run_files import BEST, COMMAND, CONFIG, GENOTYPE, GENOTYPES, LAST, METRICS, TENSORBOARD
from autodisp.run_lock import at_work
from autodisp.tasks.base import Figure
from autodisp.tasks.registry import KITS

Cells = Mapping[str, tuple[NodeChoice, ...]]

_MOST_EPOCHS = 10**9
_LARGEST = 1e30
"""Larger values count as infinite: no axis shows them."""
_DEEPEST = 8
"""Depth up to which the levels of a config are distinguished."""
_MOST_EDGES = 64
"""Largest number of nodes and edges of a cell that is drawn."""
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


@dataclass(frozen=True)
class Epoch:
    """One record of a run: an epoch of a search, or an interval of a training."""

    epoch: int
    values: Mapping[str, float]
    """Its numbers by key, such as ``valid/loss``, including NaN and infinities."""
    cells: Cells = field(default_factory=dict)
    """In a search, the cells that the alphas preferred; empty if not recorded."""
    alphas: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The edge weights computed from the alphas, in their order; empty if not recorded."""
    spectrum: tuple[float, ...] = ()
    """All eigenvalues of the Hessian over the alphas, ascending; empty if not computed."""

    @property
    def restart(self) -> int:
        """Number of roll-backs by ADA before it."""
        return int(self.values.get("restart", 0))


@dataclass
class Run:
    """Content of a run folder for a report."""

    folder: Path
    kind: Literal["search", "training"]
    config: Mapping[str, Any]
    """Plain data of config.yaml; empty if it cannot be read."""
    figure: Figure
    """The metric that the task selects by."""
    epochs: Sequence[Epoch] = ()
    """In the order in which they were written."""
    events: Sequence[Mapping[str, Any]] = ()
    """Decisions: each has ``event``, a text, and numbers."""
    start: Mapping[str, float] = field(default_factory=dict)
    """Measurements before the first step."""
    found: Cells = field(default_factory=dict)
    """The cells in genotype.json, or of the trained model; empty if there is none yet."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the run in that file."""
    command: str | None = None
    notes: list[str] = field(default_factory=list)

    def setting(self, key: str, default: Any = None) -> Any:
        """Returns a setting of the config by its dotted name; the name of a space.file for that of its space."""
        file = setting_of(self.config, "space.file") if key == "space.name" else None
        return Path(file).name if isinstance(file, str) else setting_of(self.config, key, default)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        """True if the run is complete."""
        if self.kind == "search":
            return bool(self.found)
        steps = as_number(self.setting("training.steps"))
        return bool(self.epochs) and steps is not None and self.epochs[-1].values.get("step", 0.0) >= steps

    @property
    def state(self) -> str:
        """The state in words: complete, running or stopped."""
        if self.finished:
            return "complete"
        return {True: "running", False: "stopped", None: "running or stopped"}[at_work(self.folder)]

    @property
    def kept(self) -> list[Epoch]:
        """The epochs that count, ascending, without those discarded by a roll-back."""
        kept: list[Epoch] = []
        for epoch in self.epochs:
            while kept and kept[-1].epoch >= epoch.epoch:
                kept.pop()
            kept.append(epoch)
        return kept

    def place(self, epoch: Epoch) -> int:
        """Returns the place of a record on a horizontal axis: its epoch, or the step of a training."""
        return epoch.epoch if self.kind == "search" else int(epoch.values.get("step", epoch.epoch))

    def course(self, key: str) -> list[tuple[int, float]]:
        """Returns (place, value) of a number of the records that count, where it is finite."""
        return [(self.place(e), e.values[key]) for e in self.kept if math.isfinite(e.values.get(key, math.nan))]

    @property
    def chosen(self) -> Epoch | None:
        """The epoch whose cells the search returned, or the newest; of a training, the best."""
        kept = self.kept
        if self.kind == "training":
            key, best = f"valid/{self.figure.name}", None
            for epoch in kept:
                than = math.nan if best is None else best.values[key]
                if self.figure.better(epoch.values.get(key, math.nan), than):
                    best = epoch
            return best
        returned = as_number(self.provenance.get("epoch"))
        if returned is None:
            stops = [event for event in self.events if event["event"] == "early_stop"]
            returned = as_number(stops[-1].get("returned_epoch")) if stops else None
        at = [epoch for epoch in kept if epoch.epoch == returned]
        return at[-1] if at else kept[-1] if kept else None

    @property
    def metric(self) -> float | None:
        """The validation metric of the chosen epoch; None if it is not recorded.

        For ranked architectures it is the score of the best one.
        """
        if "ranking" in self.provenance:
            score = self.provenance.get("figure")
            return as_number(score.get("value")) if isinstance(score, Mapping) else None
        return None if self.chosen is None else self.chosen.values.get(f"valid/{self.figure.name}")

    @property
    def cells(self) -> Cells:
        """The found cells, or those of the newest epoch."""
        return self.found or (self.chosen.cells if self.chosen else {})

    @property
    def space(self) -> SearchSpace | None:
        """The search space, if it is known."""
        file, name = self.setting("space.file"), self.setting("space.name")
        try:
            if isinstance(file, str):
                return SearchSpace.load(Path(file).expanduser())
        except (InputError, RuntimeError):
            return None
        return SPACES.get(name) if isinstance(name, str) else None


def setting_of(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """Returns a setting of a plain config by its dotted name."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


def flat_settings(config: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Returns the settings of a plain config by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            flat |= flat_settings(value, f"{prefix}{key}.", depth + 1)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_number(value: Any) -> float | None:
    """Returns the value as a float; None if it is not a number, or an integer too large for a float."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def first_metric(records: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the first metric in the records other than the loss."""
    for split in ("valid/", "train/"):
        for record in records:
            for key, value in record.items():
                if key.startswith(split) and key != split + "loss" and as_number(value) is not None:
                    return key.removeprefix(split)
    return None


def thinned(epochs: Sequence[Epoch], most: int) -> list[Epoch]:
    """Returns at most ``most`` epochs, evenly spread, including the first and the last."""
    if len(epochs) <= most:
        return list(epochs)
    return [epochs[place] for place in np.linspace(0, len(epochs) - 1, most).round().astype(int)]


def is_run(folder: Path) -> bool:
    """Returns True if a folder looks like that of a search or a training; a cheap test, reading it may still fail."""
    try:
        return (folder / METRICS).is_file() or ((folder / CONFIG).is_file() and (folder / TENSORBOARD).is_dir())
    except OSError:
        return False


def read_run(folder: Path, *, key: str = "run") -> Run:
    """Reads the folder of a run, which the setting ``key`` names.

    Raises:
        InputError: there is no such folder, it is not that of a run, or its records are damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{key}={folder}: no such folder; a run makes one and names it when it starts")
    if not is_run(folder):
        raise InputError(
            f"{key}={folder}: is not the folder of a run: it has no {METRICS}; name that of a search or a training, "
            "or compare all those below it with runs="
        )
    notes: list[str] = []
    config = read_config(folder / CONFIG, notes)
    records = _read_records(folder / METRICS, notes)
    epochs = [record for record in records if "event" not in record]
    kind = _kind(folder, config, epochs)
    found, provenance = _read_genotype(folder / GENOTYPE, notes) if kind == "search" else _read_model(folder, notes)
    return Run(
        folder,
        kind,
        config,
        _metric(config, epochs),
        epochs=_epochs(epochs, notes),
        events=[event for event in map(_event, records) if event is not None and event["event"] != "start"],
        start=_numbers(start_record(records)),
        found=found,
        provenance=provenance,
        command=_read_text(folder / COMMAND, notes),
        notes=notes,
    )


def read_config(path: Path, notes: list[str]) -> dict[str, Any]:
    """Reads a run's settings as plain data; empty, with a note, if that fails."""
    text = _read_text(path, notes)
    if text is None:
        notes.append(f"there is no readable {path.name}: settings are not known")
        return {}
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        notes.append(f"{path.name} is damaged ({type(error).__name__}): settings are not known")
        return {}
    if not isinstance(config, dict):
        notes.append(f"{path.name} holds no settings")
        return {}
    return config


def _read_text(path: Path, notes: list[str]) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig") if path.is_file() else None
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
        return None


def _read_records(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    records = read_json_lines(path)
    if not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        notes.append(f"the last line of {path.name} is unfinished: the run is writing it, or was killed over it")
    return records


def _read_genotype(path: Path, notes: list[str]) -> tuple[Cells, dict[str, Any]]:
    """Returns the cells and the provenance; empty if there are none."""
    text = _read_text(path, notes)
    if text is None:
        return {}, {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        notes.append(f"{path.name} is no genotype: the cells shown are those of the newest epoch")
        return {}, {}
    cells, provenance = checked_cells(data.get("cells")), data.get("provenance")
    if not cells:
        notes.append(f"{path.name} holds no cells that can be drawn: those shown are of the newest epoch")
    return cells or {}, provenance if isinstance(provenance, dict) else {}


def _read_model(folder: Path, notes: list[str]) -> tuple[Cells, dict[str, Any]]:
    """Returns the cells of a training's network and the facts in its model file."""
    for path in (folder / BEST, folder / LAST):
        if path.is_file():
            try:
                card, _ = model_file.load(path)
            except InputError as error:
                notes.append(str(error))
                continue
            return (dict(card.genotype.cells) if card.genotype else {}), dict(card.about)
    return {}, {}


def _kind(
    folder: Path, config: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]
) -> Literal["search", "training"]:
    if "search" in config or "training" in config:
        return "search" if "search" in config else "training"
    searched = any("alphas" in record or "genotype" in record for record in epochs)
    return "search" if searched or (folder / GENOTYPES).is_dir() else "training"


def _metric(config: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns the task's metric or, for an unknown task, the recorded one."""
    if (name := setting_of(config, "task.name")) in list(KITS):
        kit, section = KITS[name], setting_of(config, "task")
        if kit.figure is not None and isinstance(section, Mapping):
            return kit.figure(section)
        figure: Figure = kit.task.figure
        return figure
    metric = first_metric(epochs) or "metric"
    for kit in KITS.values():
        if kit.task.figure.name == metric:
            return Figure(metric, kit.task.figure.direction, kit.task.figure.unit)
    for record in epochs:
        before, after = (as_number(record.get(f"{split}/{metric}")) for split in ("valid", "valid_discrete"))
        drop = as_number(record.get("discretisation_drop"))
        if before is not None and after is not None and drop:
            return Figure(metric, "min" if (after - before > 0) == (drop > 0) else "max")
    return Figure(metric, "min")


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    numbers = {key: _drawable(value) for key, value in record.items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _drawable(value: Any) -> float | None:
    number = as_number(value)
    return number if number is None or not abs(number) > _LARGEST else math.copysign(math.inf, number)


def _event(record: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = record.get("event")
    return {**_numbers(record), "event": kind[:40]} if isinstance(kind, str) else None


def _epochs(records: Sequence[Mapping[str, Any]], notes: list[str]) -> list[Epoch]:
    epochs: list[Epoch] = []
    damaged = 0
    for record in records:
        numbers = _numbers(record)
        epoch = numbers.pop("epoch", None)
        if epoch is None or not 0 <= epoch < _MOST_EPOCHS:
            continue
        for key in ("restart", "step"):
            if not 0 <= numbers.get(key, 0.0) < _MOST_EPOCHS:
                del numbers[key]
        cells = checked_cells(record.get("genotype", {}))
        damaged += cells is None
        alphas, weights = (_vectors(record.get(key)) for key in ("alphas", "weights"))
        epochs.append(Epoch(int(epoch), numbers, cells or {}, alphas, weights, _floats(record.get("spectrum"))))
    if lost := len(records) - len(epochs):
        notes.append(f"{lost} of {len(records)} records have no epoch and were left out")
    if damaged:
        notes.append(f"the cells of {damaged} records cannot be drawn and were left out")
    return epochs


def _vectors(record: Any) -> dict[str, tuple[float, ...]]:
    """Returns the vectors of the kinds of cells that have one."""
    vectors = {kind: _floats(record.get(kind)) for kind in KINDS} if isinstance(record, dict) else {}
    return {kind: values for kind, values in vectors.items() if values}


def _floats(values: Any) -> tuple[float, ...]:
    """Returns all values, or none if one is not a number."""
    numbers = [_drawable(value) for value in values] if isinstance(values, list) else []
    return () if None in numbers else tuple(value for value in numbers if value is not None)


def checked_cells(cells: Any) -> dict[str, tuple[NodeChoice, ...]] | None:
    """Returns cells from plain data, or None if a kind, a source or a name is not valid in a cell."""
    if not isinstance(cells, dict) or not set(cells) <= set(KINDS):
        return None
    found: dict[str, tuple[NodeChoice, ...]] = {}
    try:
        for kind in (kind for kind in KINDS if kind in cells):
            nodes = [[(name, source) for name, source in node] for node in cells[kind]]
            for place, node in enumerate(nodes):
                for name, source in node:
                    if type(source) is not int or not 0 <= source < INPUTS[kind] + place or not _NAME.fullmatch(name):
                        return None
            if not nodes or len(nodes) + sum(map(len, nodes)) > _MOST_EDGES:
                return None
            found[kind] = tuple(map(tuple, nodes))
    except (TypeError, ValueError):
        return None
    return found
