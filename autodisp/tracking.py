"""Where the figures of a run go: the console, TensorBoard, and metrics.jsonl.

A run writes through one :class:`Tracker`. metrics.jsonl is the record that others read (curves, report, tests of
reproducibility); the other two are for watching. The file is strict JSON, which has no NaN and no infinity: such a
value is written as null, and ``non_finite`` in the same record says where it stood and what it was, so that
:func:`read_json_lines` gives it back.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

import numpy as np
import numpy.typing as npt
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from autodisp.errors import InputError, RunFault
from autodisp.run_files import METRICS, TENSORBOARD

Record = Mapping[str, Any]
Figures = Mapping[str, float | None] | Callable[[], Mapping[str, float | None]]

_NON_FINITE = "non_finite"
_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 30.0
_VERBOSE_LINE_SECONDS = 5.0

Verbosity = Literal["quiet", "normal", "verbose"]


def in_time(seconds: float) -> str:
    """In the unit that a person would choose."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{1000 * seconds:.0f} ms"


class JsonLines:
    """A file of one JSON object a line, to which records are appended.

    Every record is on disk when :meth:`append` returns. The file is opened anew each time, so there is nothing to
    close. What a killed run left of an unfinished last line is cut off at once.

    Args:
        path: the file; made at the first record if it is not there. Its folder exists.

    Raises:
        InputError: a line other than the last is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ends = [end for _, end in _complete_lines(path)]
        if path.exists():
            self.keep(len(self._ends))
            self._end_last_line()

    @property
    def count(self) -> int:
        """Records in the file; a checkpoint that stores it can cut the file back to its own moment."""
        return len(self._ends)

    def append(self, record: Record) -> None:
        """Adds one record; tensors and arrays become numbers and lists.

        Raises:
            ValueError: the record has the key ``non_finite``, which is taken.
            TypeError: a value has no JSON form.
            RunFault: it cannot be written; the file holds what it held.
        """
        line = (_to_json(record) + "\n").encode()
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                end = file.tell()
        except OSError as error:
            self._cut()
            raise RunFault(f"{self.path}: cannot be written ({error.strerror})") from error
        self._ends.append(end)

    def keep(self, count: int) -> None:
        """Cuts the file back to its first records, as when a run is resumed from a checkpoint.

        Raises:
            InputError: it holds fewer.
        """
        if not 0 <= count <= len(self._ends):
            raise InputError(
                f"{self.path}: {len(self._ends)} records, but the checkpoint was written after {count}: "
                "put back the file that belongs to the checkpoint, or start the run anew in another folder"
            )
        del self._ends[count:]
        if self.path.exists():
            os.truncate(self.path, self._ends[-1] if self._ends else 0)

    def _cut(self) -> None:
        """Takes off what a write that failed has left, if the disk lets it."""
        try:
            os.truncate(self.path, self._ends[-1] if self._ends else 0)
        except OSError:
            return  # whoever opens the file next passes over an unfinished line

    def _end_last_line(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            self.path.write_bytes(content + b"\n")
            self._ends[-1] += 1


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file that :class:`JsonLines` wrote; NaN and infinities are themselves again.

    An unfinished last line, left by a killed run, is passed over, as are empty lines.

    Raises:
        InputError: the file is not there, or a line other than the last is no JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a run writes it into its folder as {METRICS}")
    return [_restored(record, path) for record, _ in _complete_lines(path)]


def start_record(folder: Path) -> dict[str, Any]:
    """What a run recorded before its first step; empty where it recorded nothing."""
    records = read_json_lines(folder / METRICS)
    return next((record for record in records if record.get("event") == "start"), {})


def _complete_lines(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Each record as it stands in the file, with the offset at which its line ends."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error
    found: list[tuple[dict[str, Any], int]] = []
    end = 0
    for number, line in enumerate(lines, start=1):
        end += len(line)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            found.append((record, end))
        elif number < len(lines):
            raise InputError(f"{path}: line {number} is no JSON object; only the last may be unfinished: remove it")
    return found


def _to_json(record: Record) -> str:
    if _NON_FINITE in record:
        raise ValueError(f"a record's key {_NON_FINITE!r} is taken by the values that JSON cannot hold: rename yours")
    lost: list[tuple[list[str | int], str]] = []
    plain = _plain(record, [], lost)
    if lost:
        plain[_NON_FINITE] = lost
    return json.dumps(plain, allow_nan=False)


def _plain(value: Any, place: list[str | int], lost: list[tuple[list[str | int], str]]) -> Any:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        lost.append((place, repr(float(value))))
        return None
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a record's keys are texts, not {wrong[0]!r}")
        return {key: _plain(part, [*place, key], lost) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, [*place, number], lost) for number, part in enumerate(value)]
    return value


def _restored(record: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        for place, name in record.pop(_NON_FINITE, []):
            within: Any = record
            for key in place[:-1]:
                within = within[key]
            within[place[-1]] = float(name)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise InputError(f"{path}: {_NON_FINITE!r} names a value that its record lacks: remove that entry") from error
    return record


class ConsoleProgress:
    """Shows how far a run is: a progress bar on a terminal, plain lines elsewhere.

    Epochs are counted from 0 everywhere in this project; the console shows "epoch 4 [5/50]". The bar is drawn at most
    four times a second and without a thread of its own, since loader workers are forked beside it. Elsewhere each
    epoch has its line, and half a minute without one brings a line in between. NO_COLOR is honoured.

    Args:
        stream: where to write; standard output at the time of construction if None.
        clock: seconds, from any moment on.
        unit: what is counted.
        verbosity: quiet writes messages alone, no bar, no epochs and no remarks; verbose leaves a line every five
            seconds, on a terminal too.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "epoch",
        verbosity: Verbosity = "normal",
    ) -> None:
        self._unit = unit
        self._quiet = verbosity == "quiet"
        self._stream = sys.stdout if stream is None else stream
        self._clock = clock
        console = Console(file=self._stream, emoji=False)
        terminal = self._stream.isatty() and console.is_terminal and not console.is_dumb_terminal
        draws = terminal and not self._quiet and _encoding(self._stream).startswith("utf")
        self._bar = _bar(console) if draws else None
        self._line_seconds = math.inf if self._bar else _LINE_SECONDS
        if verbosity == "verbose":
            self._line_seconds = _VERBOSE_LINE_SECONDS
        self.start(0, 0)

    def start(self, epochs: int, steps_per_epoch: int) -> None:
        """Begins to count: so many epochs in the whole run, wherever a resumed one goes on, of so many steps each."""
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._place: int | None = None
        self._steps_done = 0
        self._started = self._line_written = self._clock()
        self._shown = -math.inf
        if self._bar is not None and epochs:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task("", total=epochs * steps_per_epoch)
            self._bar.start()

    def step(self, epoch: int, step: int, figures: Figures) -> None:
        """Says that a step is done.

        Args:
            epoch: from 0; it may go back, after a roll-back.
            step: of this epoch, from 0.
            figures: what to show, or a function that gives it. The function is called only when something is shown,
                so that it may read values off a GPU, which would otherwise be waited for at every step.
        """
        place = epoch * self._steps_per_epoch + step + 1
        # a resumed run begins far on, and a roll-back leads back: either is one step done
        self._steps_done += 1 if self._place is None else max(1, place - self._place)
        self._place = place
        now = self._clock()
        line_due = now - self._line_written >= self._line_seconds
        bar_due = self._bar is not None and now - self._shown >= _REFRESH_SECONDS
        if self._quiet or not (line_due or bar_due):
            return
        self._shown = now
        values = figures() if callable(figures) else figures
        words = [f"{name} {value:.4g}" for name, value in values.items() if value is not None]
        count = f"{self._epoch(epoch)}  step {step + 1}/{self._steps_per_epoch}"
        left = self._epochs * self._steps_per_epoch - place
        seconds = max(0, left) * (now - self._started) / self._steps_done
        text = "  ".join([count, f"{timedelta(seconds=round(seconds))} left", *words])
        if line_due:
            self.message(text)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=place, description=text, refresh=True)

    def epoch_done(self, epoch: int, line: str) -> None:
        """Writes the line that stays of an epoch."""
        self.note(f"{self._epoch(epoch)}  {line}")

    def note(self, text: str) -> None:
        """Writes a line that tells how it goes, which nobody misses who wants it quiet."""
        if not self._quiet:
            self.message(text)

    def message(self, text: str) -> None:
        """Writes a line, above the bar where there is one."""
        self._line_written = self._clock()
        if self._bar is None:
            encoding = _encoding(self._stream)
            self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Takes the bar off the terminal; whatever was written before it stays."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _epoch(self, epoch: int) -> str:
        return f"{self._unit} {epoch} [{epoch + 1}/{self._epochs}]"


def _encoding(stream: TextIO) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()


def _bar(console: Console) -> Progress:
    """Rich's progress bar with one line of text below it."""
    return Progress(
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=console,
        auto_refresh=False,
        transient=True,
    )


class TensorBoard:
    """Writes a run's figures as TensorBoard events.

    They are for watching: where they cannot be written, as on a full disk, the run goes on without them.

    Args:
        folder: for the event files; made if it is not there.
        purge_from: where a resumed run goes on: what was written at this step or later is no longer shown.
        warn: is told once, in one line, if they cannot be written.
    """

    def __init__(
        self, folder: Path, *, purge_from: int | None = None, warn: Callable[[str], None] = lambda _: None
    ) -> None:
        self._folder = folder
        self._warn = warn
        self._writer: SummaryWriter | None = None
        try:
            self._writer = SummaryWriter(str(folder), purge_step=purge_from)
        except OSError as error:
            self._give_up(error)

    def scalars(self, record: Record, step: int) -> None:
        """Every number of a flat record, under its key; whatever is no number is passed over."""
        for name, value in record.items():
            if isinstance(value, int | float | np.number) and not isinstance(value, bool):
                self._write(partial(SummaryWriter.add_scalar, tag=name, scalar_value=float(value), global_step=step))

    def image(self, name: str, picture: npt.NDArray[np.uint8], step: int) -> None:
        """An (H, W, 3) picture."""
        self._write(lambda writer: writer.add_image(name, picture, step, dataformats="HWC"))

    def text(self, name: str, text: str, step: int) -> None:
        """A text, read as Markdown."""
        self._write(lambda writer: writer.add_text(name, text, step))

    def settings(self, values: Mapping[str, Any], *, figures: Sequence[str]) -> None:
        """A run's settings: as a text, and as hyperparameters (HPARAMS) to set the figures of many runs against.

        Args:
            values: the config as plain data; its numbers and the names of what was chosen become hyperparameters.
            figures: tags of scalars, whose newest value counts.
        """
        written = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        self.text("config", "\n".join(f"    {line}" for line in written.splitlines()), 0)
        summaries = hparams(_hyperparameters(values), dict.fromkeys(figures, 0.0))
        self._write(lambda writer: [writer._get_file_writer().add_summary(summary) for summary in summaries])

    def close(self) -> None:
        """Finishes the file."""
        self._write(SummaryWriter.close)
        self._writer = None

    def _write(self, act: Callable[[SummaryWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            act(self._writer)
        except OSError as error:  # of this call, or of one before: a thread does the writing
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        self._warn(f"{self._folder}: cannot be written ({error.strerror}); the run goes on without TensorBoard")


def _hyperparameters(values: Mapping[str, Any], prefix: str = "") -> dict[str, float | str]:
    """The numbers of a config and the names of its choices, by their dotted keys."""
    found: dict[str, float | str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _hyperparameters(value, f"{prefix}{key}.")
        elif (isinstance(value, int | float) and not isinstance(value, bool)) or (key == "name" and value):
            found[f"{prefix}{key}"] = value
    return found


class Tracker:
    """All that a run tells about itself: the console, TensorBoard and metrics.jsonl in one.

    Args:
        run_folder: made if it is not there.
        console: where progress is shown; one on standard output if None.
        keep: for a resumed run how many records its checkpoint counts: later ones are dropped. None keeps all.
        shown_from: for a run that says at which step TensorBoard puts its records: the first one yet to come. None:
            they are put at their number.

    Raises:
        InputError: metrics.jsonl is damaged, or holds fewer records than are to be kept.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        console: ConsoleProgress | None = None,
        keep: int | None = None,
        shown_from: int | None = None,
    ) -> None:
        run_folder.mkdir(parents=True, exist_ok=True)
        self.lines = JsonLines(run_folder / METRICS)
        if keep is not None:
            self.lines.keep(keep)
        epochs = sum("event" not in record for record, _ in _complete_lines(self.lines.path))
        self.console = console or ConsoleProgress()
        purge_from = epochs if shown_from is None else shown_from
        self.tensorboard = TensorBoard(run_folder / TENSORBOARD, purge_from=purge_from, warn=self.console.message)
        self.tensorboard_step = epochs
        """The step of the epoch now running: epochs ever done. Not its number, which comes twice after a roll-back."""

    def epoch(self, record: Record, line: str, *, step: int | None = None) -> None:
        """Records an epoch.

        Args:
            record: flat; its ``epoch`` counts from 0, its numbers go to TensorBoard.
            line: what the console says of it.
            step: where TensorBoard puts it; if None, the number of epochs recorded before it.
        """
        self.lines.append(record)
        self.tensorboard.scalars(record, self.tensorboard_step if step is None else step)
        self.tensorboard_step += 1
        self.console.epoch_done(int(record["epoch"]), line)

    def event(self, kind: str, **fields: Any) -> None:
        """Records that something happened, such as a decision of early stopping, as ``{"event": kind, ...}``.

        It goes to metrics.jsonl and TensorBoard.
        """
        self.lines.append({"event": kind, **fields})
        told = ", ".join(f"{name} {value}" for name, value in fields.items())
        self.tensorboard.text("events", f"{kind}: {told}", self.tensorboard_step)

    def close(self) -> None:
        """Finishes everything; metrics.jsonl was complete all along."""
        self.console.close()
        self.tensorboard.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
