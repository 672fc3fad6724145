"""Reads a run folder for a report, whatever state it is in: complete, still growing, or left behind by a killed run.

A run folder may come from a stranger. What is read becomes plain numbers and checked cells here, so that nobody after
this module meets a value that has not been looked at. Damage that leaves something to show becomes a note; a folder
that shows nothing ends in an InputError.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from autodisp import model_file
from autodisp.cells.genotype import SCHEMA
from autodisp.cells.spaces import INPUTS, KINDS, SPACES, NodeChoice, SearchSpace
from autodisp.errors import InputError
from autodisp.records import read_json_lines
from autodisp.report.curves import as_number, first_metric
from autodisp.run_files import COMMAND, CONFIG, GENOTYPE, GENOTYPES, METRICS, TENSORBOARD
from autodisp.run_lock import at_work
from autodisp.tasks.base import Figure
from autodisp.tasks.registry import KITS

Cells = Mapping[str, tuple[NodeChoice, ...]]

_MOST_RECORD_BYTES = 1 << 29
_MOST_TEXT_BYTES = 1 << 20
_MOST_EPOCHS = 10**9
_LARGEST = 1e30
_MOST_NODES, _MOST_EDGES = 16, 64
_OPERATION = re.compile(r"[A-Za-z0-9_]{1,40}")


@dataclass(frozen=True)
class Moment:
    """One record of a run: an epoch of a search, or an interval of a training."""

    epoch: int
    values: Mapping[str, float]
    """Its numbers by their key, such as ``valid/loss``; NaN and infinities are among them."""
    cells: Cells = field(default_factory=dict)
    """Of a search: the cells that the alphas preferred then; empty if not recorded."""
    alphas: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    spectrum: tuple[float, ...] = ()
    """All eigenvalues of the Hessian over the alphas, where they were computed, ascending."""

    @property
    def restart(self) -> int:
        """How often ADA had gone back before."""
        return int(self.values.get("restart", 0))


@dataclass
class Run:
    """What there is to tell of a run."""

    folder: Path
    kind: Literal["search", "training"]
    config: Mapping[str, Any]
    """As in config.yaml, plain; empty where that cannot be read."""
    figure: Figure
    moments: Sequence[Moment] = ()
    """In the order in which they were written."""
    events: Sequence[Mapping[str, Any]] = ()
    """Decisions: each has ``event``, a text, and numbers."""
    start: Mapping[str, float] = field(default_factory=dict)
    """What was measured before the first step."""
    found: Cells = field(default_factory=dict)
    """The cells in genotype.json, or of the trained model; empty if there is none yet."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """What that file says of its run."""
    command: str | None = None
    notes: list[str] = field(default_factory=list)

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting of the config by its dotted name."""
        return setting_of(self.config, key, default)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        if self.kind == "search":
            return bool(self.found)
        steps = as_number(self.setting("training.steps"))
        return bool(self.moments) and steps is not None and self.moments[-1].values.get("step", 0.0) >= steps

    @property
    def state(self) -> str:
        """In words: complete, still going or stopped."""
        if self.finished:
            return "complete"
        return {True: "still going", False: "stopped", None: "still going, or stopped"}[at_work(self.folder)]

    @property
    def kept(self) -> list[Moment]:
        """The moments that count: without those that a roll-back threw away, in ascending order of epochs."""
        kept: list[Moment] = []
        for moment in self.moments:
            while kept and kept[-1].epoch >= moment.epoch:
                kept.pop()
            kept.append(moment)
        return kept

    @property
    def chosen(self) -> Moment | None:
        """The moment whose cells the search returned, or the newest one; of a training, the best."""
        kept = self.kept
        if self.kind == "training":
            key = f"valid/{self.figure.name}"
            judged = [moment for moment in kept if moment.values.get(key, float("nan")) == moment.values.get(key)]
            best = judged[0] if judged else None
            for moment in judged[1:]:
                if best is not None and self.figure.better(moment.values[key], best.values[key]):
                    best = moment
            return best
        returned = as_number(self.provenance.get("epoch"))
        if returned is None:
            stops = [event for event in self.events if event["event"] == "early_stop"]
            returned = as_number(stops[-1].get("returned_epoch")) if stops else None
        at = [moment for moment in kept if moment.epoch == returned]
        return at[-1] if at else kept[-1] if kept else None

    @property
    def metric(self) -> float | None:
        """The validation metric that the task selects by, of the chosen moment; None where it is not recorded.

        Of ranked architectures it is the score of the best one.
        """
        if "ranking" in self.provenance:
            score = self.provenance.get("figure")
            return as_number(score.get("value")) if isinstance(score, Mapping) else None
        return None if self.chosen is None else self.chosen.values.get(f"valid/{self.figure.name}")

    @property
    def cells(self) -> Cells:
        """The found cells, or those of the newest moment."""
        return self.found or (self.chosen.cells if self.chosen else {})

    @property
    def space(self) -> SearchSpace | None:
        """The space that was searched, where it is known."""
        file, name = self.setting("space.file"), self.setting("space.name")
        try:
            if isinstance(file, str):
                return SearchSpace.load(Path(file).expanduser())
        except (InputError, RuntimeError):
            return None
        return SPACES.get(name) if isinstance(name, str) else None


def setting_of(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """A setting of a plain config by its dotted name."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


def is_run(folder: Path) -> bool:
    """Whether a folder looks like one of a search or a training: cheap, and no promise that it can be read."""
    try:
        return (folder / METRICS).is_file() or ((folder / CONFIG).is_file() and (folder / TENSORBOARD).is_dir())
    except OSError:
        return False


def read_run(folder: Path, *, key: str = "run") -> Run:
    """Everything of a run.

    Args:
        folder: its folder.
        key: the setting that named it.

    Raises:
        InputError: there is no such folder, it is that of no run, or its records are damaged.
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
    run = Run(folder, kind, config, _figure(config, epochs), notes=notes)
    run.moments = _moments(epochs, notes)
    run.events = [event for event in map(_event, records) if event is not None and event["event"] != "start"]
    run.start = next((_numbers(record) for record in records if record.get("event") == "start"), {})
    if kind == "search":
        run.found, run.provenance = _read_genotype(folder / GENOTYPE, notes)
    else:
        run.found, run.provenance = _read_model(folder, notes)
    run.command = _read_text(folder / COMMAND, notes)
    return run


def _read_model(folder: Path, notes: list[str]) -> tuple[Cells, dict[str, Any]]:
    """The cells of a training's network and what its model file says of the run."""
    for name in ("best", "last"):
        path = folder / f"{name}{model_file.SUFFIX}"
        if path.is_file():
            try:
                card, _ = model_file.load(path)
            except InputError as error:
                notes.append(str(error))
                continue
            return (dict(card.genotype.cells) if card.genotype else {}), dict(card.about)
    return {}, {}


def _read_text(path: Path, notes: list[str]) -> str | None:
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > _MOST_TEXT_BYTES:
            notes.append(f"{path.name} is larger than {_MOST_TEXT_BYTES >> 20} MiB and was passed over")
            return None
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__})")
        return None


def read_config(path: Path, notes: list[str]) -> dict[str, Any]:
    """A run's settings as plain data; empty, with a note, where they cannot be read."""
    text = _read_text(path, notes)
    if text is None:
        notes.append(f"there is no readable {path.name}: settings are not known")
        return {}
    try:
        # An alias may stand for itself ten times over, and so on: no config of ours has one.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("has aliases")
        config = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        notes.append(f"{path.name} is damaged ({type(error).__name__}): settings are not known")
        return {}
    if not isinstance(config, dict):
        notes.append(f"{path.name} holds no settings")
        return {}
    return config


def _read_records(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > _MOST_RECORD_BYTES:
            raise InputError(f"{path}: is larger than {_MOST_RECORD_BYTES >> 20} MiB, which no run writes")
        records = read_json_lines(path)
        if not path.read_bytes().endswith(b"\n") and path.stat().st_size:
            notes.append(f"the last line of {path.name} is unfinished: the run is writing it, or was killed over it")
        return records
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _kind(
    folder: Path, config: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]
) -> Literal["search", "training"]:
    if "search" in config or "training" in config:
        return "search" if "search" in config else "training"
    searched = any("alphas" in record or "genotype" in record for record in epochs)
    return "search" if searched or (folder / GENOTYPES).is_dir() else "training"


def _figure(config: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> Figure:
    """Of the task by name, or of a task that is not known here by what it recorded."""
    task = config.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    if isinstance(name, str) and name in KITS:
        figure: Figure = KITS[name].task.figure
        return figure
    metric = first_metric(epochs) or "figure"
    for kit in KITS.values():
        if kit.task.figure.name == metric:
            return Figure(metric, kit.task.figure.direction, kit.task.figure.unit)
    for record in epochs:
        before, after = (as_number(record.get(f"{half}/{metric}")) for half in ("valid", "valid_discrete"))
        drop = as_number(record.get("discretisation_drop"))
        if before is not None and after is not None and drop:
            return Figure(metric, "min" if (after - before > 0) == (drop > 0) else "max")
    return Figure(metric, "min")


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    numbers = {key: _bounded(value) for key, value in record.items()}
    return {key: value for key, value in numbers.items() if value is not None}


def _bounded(value: Any) -> float | None:
    """What no chart could show the scale of counts as infinite."""
    number = as_number(value)
    return number if number is None or not abs(number) > _LARGEST else math.copysign(math.inf, number)


def _event(record: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = record.get("event")
    return {**_numbers(record), "event": kind[:40]} if isinstance(kind, str) else None


def _moments(records: Sequence[Mapping[str, Any]], notes: list[str]) -> list[Moment]:
    moments: list[Moment] = []
    lost = damaged = 0
    for record in records:
        numbers = _numbers(record)
        epoch = numbers.pop("epoch", None)
        if epoch is None or not 0 <= epoch < _MOST_EPOCHS:
            lost += 1
            continue
        for key in ("restart", "step"):
            if not 0 <= numbers.get(key, 0.0) < _MOST_EPOCHS:
                del numbers[key]
        cells = checked_cells(record.get("genotype", {}))
        damaged += cells is None
        moments.append(Moment(int(epoch), numbers, cells or {}, _alphas(record), _floats(record.get("spectrum"))))
    if lost:
        notes.append(f"{lost} of {len(records)} records say no epoch and were passed over")
    if damaged:
        notes.append(f"the cells of {damaged} records are none that can be drawn, and were passed over")
    return moments


def _alphas(record: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    alphas = record.get("alphas")
    if not isinstance(alphas, dict):
        return {}
    return {kind: _floats(alphas[kind]) for kind in KINDS if kind in alphas and _floats(alphas[kind])}


def _floats(values: Any) -> tuple[float, ...]:
    """All of them, or none if one is no number."""
    if not isinstance(values, list):
        return ()
    numbers = [_bounded(value) for value in values]
    return () if None in numbers else tuple(value for value in numbers if value is not None)


def checked_cells(cells: Any) -> dict[str, tuple[NodeChoice, ...]] | None:
    """Cells out of plain data, or None where they could not be drawn: a kind, a source or a name is not of a cell."""
    if not isinstance(cells, dict) or not set(cells) <= set(KINDS):
        return None
    found: dict[str, tuple[NodeChoice, ...]] = {}
    for kind in KINDS:
        if kind not in cells:
            continue
        nodes = cells[kind]
        if not isinstance(nodes, list) or not 1 <= len(nodes) <= _MOST_NODES:
            return None
        checked = [_checked_node(node, INPUTS[kind] + place) for place, node in enumerate(nodes)]
        if any(node is None for node in checked) or sum(len(node or ()) for node in checked) > _MOST_EDGES:
            return None
        found[kind] = tuple(node or () for node in checked)
    return found


def _checked_node(node: Any, sources: int) -> NodeChoice | None:
    if not isinstance(node, list):
        return None
    choices = []
    for choice in node:
        if not isinstance(choice, list) or len(choice) != 2:
            return None
        name, source = choice
        if not isinstance(name, str) or not _OPERATION.fullmatch(name):
            return None
        if not isinstance(source, int) or isinstance(source, bool) or not 0 <= source < sources:
            return None
        choices.append((name, source))
    return tuple(choices)


def _read_genotype(path: Path, notes: list[str]) -> tuple[Cells, dict[str, Any]]:
    """The cells and what the file says of them; empty where there are none."""
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
