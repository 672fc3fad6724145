"""The results of the runs of a study, read from their folders."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from autodisp.cells.genotype import Genotype, from_json
from autodisp.errors import InputError, in_one_line
from autodisp.records import read_json_lines, start_record
from autodisp.report.cells import cells_figure
from autodisp.report.curves import Chart
from autodisp.report.evaluations import main_metric
from autodisp.report.reading import Run as Read
from autodisp.report.reading import read_run
from autodisp.run_files import EVALUATION, GENOTYPE, METRICS
from autodisp.studies.endings import Ending
from autodisp.studies.graph import RUNS, Run, endings_of, in_order
from autodisp.studies.protocol import Protocol
from autodisp.tasks.base import Figure


@dataclass
class Results:
    """Results of the runs of a study."""

    folder: Path
    runs: Sequence[Run]
    protocol: Protocol
    notes: list[str] = field(default_factory=list)
    """Files that could not be read, cells that could not be drawn."""
    _read: dict[str, Read] = field(default_factory=dict)
    _readable: dict[str, bool] = field(default_factory=dict)

    @cached_property
    def endings(self) -> Mapping[str, Ending]:
        """The endings of all runs, also those that others need, by name."""
        return endings_of(in_order(self.runs), self.folder)

    def done(self, program: str) -> list[Run]:
        """Returns the runs of a program that are complete."""
        done = [run for run in in_order(self.runs) if run.program == program and self.endings[run.name].is_done]
        return [run for run in done if self._is_readable(run)]

    def _is_readable(self, run: Run) -> bool:
        """Checks that a complete run can be read; if not, adds a note, once."""
        if run.name not in self._readable:
            try:
                if run.program == "search":
                    self.genotype(run)
                elif run.program == "train":
                    self.curve(run)
                    self.parameters(run)
                elif run.program == "evaluate":
                    json.loads((self.folder_of(run) / EVALUATION).read_text(encoding="utf-8"))
                self._readable[run.name] = True
            except (InputError, OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
                self._readable[run.name] = False
                self.notes.append(
                    f"{run.name}: left out: cannot be read ({type(error).__name__}: {in_one_line(error, at_most=80)}); "
                    f"delete {self.folder_of(run)}, and the study runs it again"
                )
        return self._readable[run.name]

    def folder_of(self, run: Run) -> Path:
        """Returns the folder of a run."""
        return self.folder / RUNS / run.name

    def read(self, run: Run) -> Read:
        """Reads the folder of a complete search or training."""
        if run.name not in self._read:
            self._read[run.name] = read_run(self.folder_of(run))
        return self._read[run.name]

    def curve(self, training: Run) -> list[tuple[int, float]]:
        """Returns (step, validation metric) of a training, without what is not finite; empty if it ends with that."""
        key = f"valid/{self.protocol.figure.name}"
        records = read_json_lines(self.folder_of(training) / METRICS)
        points = [(record["step"], record[key]) for record in records if "event" not in record and key in record]
        if points and not math.isfinite(points[-1][1]):
            return []
        return [(int(step), float(value)) for step, value in points if math.isfinite(value)]

    def parameters(self, training: Run) -> int:
        """Returns the number of parameters that a training recorded before its first step; 0 if it did not."""
        return int(float(start_record(read_json_lines(self.folder_of(training) / METRICS)).get("parameters", 0)))

    def tested(self, evaluation: Run) -> float | None:
        """Returns the metric of a complete evaluation."""
        return main_metric(self.folder_of(evaluation))

    @property
    def shown(self) -> Figure:
        """The metric as the papers give it: an accuracy in percent as an error."""
        figure = self.protocol.figure
        return Figure("error", "min", "%") if _is_accuracy(figure) else figure

    def as_shown(self, value: float) -> float:
        """Returns a metric of the task as that of ``shown``."""
        return 100.0 - value if _is_accuracy(self.protocol.figure) else value

    def genotype(self, search: Run) -> Genotype:
        """Returns the cells that a complete search found."""
        path = self.folder_of(search) / GENOTYPE
        return from_json(json.loads(path.read_text(encoding="utf-8")), origin=str(path), space=self.read(search).space)

    def drawings(self, searches: Sequence[Run]) -> list[Chart]:
        """Draws the found cells."""
        charts = []
        for run in searches:
            words = ", ".join(f"{key} {value}" for key, value in run.labels.items())
            try:
                charts.append(Chart(f"cells_{run.name}", words, cells_figure(self.genotype(run)), words))
            except (InputError, OSError, ValueError) as error:
                self.notes.append(f"{run.name}: its cells cannot be drawn ({error})")
        return charts


def in_words(figure: Figure) -> str:
    """Returns name and unit of a metric."""
    return f"{figure.name}, {figure.unit}".rstrip(", ")


def _is_accuracy(figure: Figure) -> bool:
    return figure.direction == "max" and figure.unit == "%"
