"""The outputs of a run's metrics: the console, TensorBoard, and metrics.jsonl.

A run writes through one :class:`Tracker`. metrics.jsonl, see ``records``, is for programs to read; the other two are
for watching.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TextIO

import numpy as np
import numpy.typing as npt
import yaml
from rich import progress as rich_progress
from rich.console import Console
from rich.table import Column
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from autodisp.records import JsonLines, Record
from autodisp.run_files import METRICS, TENSORBOARD

Metrics = Mapping[str, float | None] | Callable[[], Mapping[str, float | None]]

_REFRESH_SECONDS = 0.25
_LINE_SECONDS = 30.0
_FIRST_LINE_SECONDS = 10.0
_VERBOSE_LINE_SECONDS = 5.0
_LONG_EPOCH, _LONG_WAIT = 10.0, 0.3
"""Seconds of an epoch, and the share of them spent waiting for data, from which on a note is shown."""

Verbosity = Literal["quiet", "normal", "verbose"]


def in_time(seconds: float) -> str:
    """Formats seconds in a convenient unit."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{1000 * seconds:.0f} ms"


class ConsoleProgress:
    """Shows the progress of a run: a progress bar on a terminal, plain lines elsewhere.

    Epochs are counted from 0 everywhere in this project; the console shows "epoch 4 [5/50]". The bar is drawn at most
    four times a second and without a thread of its own, since loader workers are forked. Elsewhere each
    epoch has its line, with another one after every 30 seconds without any. NO_COLOR is honoured.

    Args:
        stream: None: standard output at the time of construction.
        clock: returns seconds, with any origin.
        unit: name of the unit counted.
        verbosity: quiet writes messages only, without bar, epochs and notes; verbose writes a line every five seconds,
            also on a terminal.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "epoch",
        verbosity: Verbosity = "normal",
    ) -> None:
        self.unit = unit
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
        """Starts counting the epochs of the whole run, also of a resumed one, and their steps."""
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._place: int | None = None
        self._steps_done = 0
        self._started = self._line_written = self._clock()
        self._next_line = self._line_seconds if self._bar else min(_FIRST_LINE_SECONDS, self._line_seconds)
        self._shown = -math.inf
        if self._bar is not None and epochs:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task("", total=epochs * steps_per_epoch)
            self._bar.start()

    def step(self, epoch: int, step: int, metrics: Metrics) -> None:
        """Shows a finished step.

        Args:
            epoch: from 0; may decrease after a roll-back.
            step: of this epoch, from 0.
            metrics: metrics to show, or a function that returns them. The function is called only when something is
                shown, so it may read values from a GPU without a synchronisation at every step.
        """
        place = epoch * self._steps_per_epoch + step + 1
        # a resumed run begins late, and a roll-back decreases the epoch: either counts as one step
        self._steps_done += 1 if self._place is None else max(1, place - self._place)
        self._place = place
        now = self._clock()
        line_due = now - self._line_written >= self._next_line
        bar_due = self._bar is not None and now - self._shown >= _REFRESH_SECONDS
        if self._quiet or not (line_due or bar_due):
            return
        self._shown = now
        values = metrics() if callable(metrics) else metrics
        words = [f"{name} {value:.4g}" for name, value in values.items() if value is not None]
        count = f"{self._epoch(epoch)}  step {step + 1}/{self._steps_per_epoch}"
        left = self._epochs * self._steps_per_epoch - place
        seconds = max(0, left) * (now - self._started) / self._steps_done
        text = "  ".join([count, f"{timedelta(seconds=round(seconds))} left", *words])
        if line_due:
            self.message(text)
            self._next_line = self._line_seconds
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=place, description=text, refresh=True)

    def epoch_done(self, epoch: int, line: str) -> None:
        """Writes the line of an epoch."""
        self.note(f"{self._epoch(epoch)}  {line}")

    def note(self, text: str) -> None:
        """Writes a line, suppressed when quiet."""
        if not self._quiet:
            self.message(text)

    def message(self, text: str) -> None:
        """Writes a line, above the bar if there is one."""
        self._line_written = self._clock()
        if self._bar is None:
            encoding = _encoding(self._stream)
            self._stream.write(text.encode(encoding, "replace").decode(encoding) + "\n")
            self._stream.flush()
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Removes the bar from the terminal; lines written before stay."""
        if self._bar is not None:
            self._bar.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _epoch(self, epoch: int) -> str:
        return f"{self.unit} {epoch} [{epoch + 1}/{self._epochs}]"


def _encoding(stream: TextIO) -> str:
    return (getattr(stream, "encoding", None) or "utf-8").lower()


def _bar(console: Console) -> rich_progress.Progress:
    """Rich's progress bar with one line of text below it."""
    return rich_progress.Progress(
        rich_progress.BarColumn(bar_width=24),
        rich_progress.TextColumn("{task.percentage:>3.0f}%", markup=False),
        rich_progress.TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        ),
        console=console,
        auto_refresh=False,
        transient=True,
    )


class TensorBoard:
    """Writes a run's metrics as TensorBoard events.

    If they cannot be written, as on a full disk, the run continues without them.

    Args:
        folder: for the event files; created if missing.
        purge_from: the first step of a resumed run: earlier events of this step or later are no longer shown.
        warn: called once, with one line, if they cannot be written.
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
        """Writes every number of a flat record under its key."""
        for name, value in record.items():
            if isinstance(value, int | float | np.number) and not isinstance(value, bool):
                self._write(partial(SummaryWriter.add_scalar, tag=name, scalar_value=float(value), global_step=step))

    def image(self, name: str, image: npt.NDArray[np.uint8], step: int) -> None:
        """Writes an (H, W, 3) image."""
        self._write(lambda writer: writer.add_image(name, image, step, dataformats="HWC"))

    def text(self, name: str, text: str, step: int) -> None:
        """Writes a text in Markdown."""
        self._write(lambda writer: writer.add_text(name, text, step))

    def settings(self, values: Mapping[str, Any], *, metrics: Sequence[str]) -> None:
        """Writes a run's settings as a text, and as hyperparameters (HPARAMS) to compare many runs.

        Args:
            values: the config as plain data; its numbers and the names of its choices become hyperparameters.
            metrics: tags of scalars; their newest value is shown.
        """
        written = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
        self.text("config", "\n".join(f"    {line}" for line in written.splitlines()), 0)
        summaries = hparams(_hyperparameters(values), dict.fromkeys(metrics, 0.0))
        self._write(lambda writer: [writer._get_file_writer().add_summary(summary) for summary in summaries])

    def close(self) -> None:
        """Closes the file."""
        self._write(SummaryWriter.close)
        self._writer = None

    def _write(self, act: Callable[[SummaryWriter], object]) -> None:
        if self._writer is None:
            return
        try:
            act(self._writer)
        except OSError as error:  # of this call or an earlier one, since a thread does the writing
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        self._warn(f"{self._folder}: cannot be written ({error.strerror}); the run continues without TensorBoard")


def _hyperparameters(values: Mapping[str, Any], prefix: str = "") -> dict[str, float | str]:
    """Returns the numbers of a config and the names of its choices, by dotted key."""
    found: dict[str, float | str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _hyperparameters(value, f"{prefix}{key}.")
        elif (isinstance(value, int | float) and not isinstance(value, bool)) or (key == "name" and value):
            found[f"{prefix}{key}"] = value
    return found


class Tracker:
    """The outputs of a run: the console, TensorBoard and metrics.jsonl.

    Args:
        run_folder: created if missing.
        console: for the progress; on standard output if None.
        keep: for a resumed run, the number of records in its checkpoint: later ones are dropped. None keeps all.
        shown_from: for a run that passes the TensorBoard step of its records: the next step. None: each record is shown
            at its number.
        remedy: ends the sentence "30 % of this epoch was spent waiting for data", shown once in a run; None shows
            nothing.

    Raises:
        InputError: metrics.jsonl is damaged, or has fewer records than ``keep``.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        console: ConsoleProgress | None = None,
        keep: int | None = None,
        shown_from: int | None = None,
        remedy: str | None = None,
    ) -> None:
        run_folder.mkdir(parents=True, exist_ok=True)
        self.folder = run_folder
        self.lines = JsonLines(run_folder / METRICS)
        if keep is not None:
            self.lines.keep(keep)
        epochs = sum("event" not in record for record in self.records)
        self.console = console or ConsoleProgress()
        purge_from = epochs if shown_from is None else shown_from
        self.tensorboard = TensorBoard(run_folder / TENSORBOARD, purge_from=purge_from, warn=self.console.message)
        self.tensorboard_step = epochs
        """The step of the current epoch: the number of epochs before it. Epoch numbers repeat after a roll-back."""
        self._remedy = remedy

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records of the run so far, of epochs and events."""
        return self.lines.records

    def epoch(self, record: Record, line: str, *, step: int | None = None) -> None:
        """Records an epoch.

        Args:
            record: flat; its ``epoch`` counts from 0, its numbers are written to TensorBoard.
            line: for the console.
            step: for TensorBoard; if None, the number of epochs recorded before it.
        """
        self.lines.append(record)
        self.tensorboard.scalars(record, self.tensorboard_step if step is None else step)
        self.tensorboard_step += 1
        self.console.epoch_done(int(record["epoch"]), line)
        self._tell_of_waiting(record)

    def _tell_of_waiting(self, record: Record) -> None:
        """Shows once that an epoch waited for its data; the first epoch may wait for what is then kept."""
        if self._remedy is None or record["epoch"] == 0 or record.get("seconds", 0) < _LONG_EPOCH:
            return
        share = record["seconds_waiting"] / record["seconds"]
        if share > _LONG_WAIT:
            unit = self.console.unit
            self.console.note(f"{share:.0%} of this {unit} was spent waiting for data; {self._remedy}")
            self._remedy = None

    def event(self, kind: str, **fields: Any) -> None:
        """Records an event, such as a decision of early stopping, in metrics.jsonl and TensorBoard.

        Its record is ``{"event": kind, ...}``.
        """
        self.lines.append({"event": kind, **fields})
        words = ", ".join(f"{name} {value}" for name, value in fields.items())
        self.tensorboard.text("events", f"{kind}: {words}", self.tensorboard_step)

    def close(self) -> None:
        """Closes all of them; metrics.jsonl is complete at any time."""
        self.console.close()
        self.tensorboard.close()
