"""Writes the run folder of a search while it runs; docs/files.md lists the files."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SearchSpace
from autodisp.observers.picture import Pictures, keep_picture
from autodisp.records import Record
from autodisp.report.alphas import weights_figure
from autodisp.report.cells import cells_figure, draw_cells
from autodisp.report.curves import draw_curves
from autodisp.report.figures import rendered
from autodisp.run_files import CURVES, GENOTYPE, GENOTYPES
from autodisp.search.early_stopping import EarlyStopping
from autodisp.tasks.base import Figure
from autodisp.tracking import Tracker

PICTURE_SECONDS = 30.0
"""Seconds between two sets of drawings, which take about as long as a very small epoch."""


def as_code(genotype: Genotype) -> str:
    """Returns the cells in words, as a code block in Markdown."""
    return "\n".join(f"    {line}" for line in genotype.in_words().splitlines())


class SearchFolder:
    """Follows a search and writes its run folder.

    Args:
        tracker: receives the metrics; its folder is the run folder.
        space: of the search.
        figure: the task's metric.
        early_stopping: the rule, for the local average in the curves, or None.
        provenance: of the run, written to every genotype file.
        pictures: called after an epoch; returns the images to show, such as a predicted disparity.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        space: SearchSpace,
        figure: Figure,
        early_stopping: EarlyStopping | None,
        provenance: Mapping[str, Any],
        pictures: Pictures | None,
    ) -> None:
        self.folder = tracker.folder
        self.space = space
        self.figure = figure
        self.early_stopping = early_stopping
        self.tracker = tracker
        self.provenance = dict(provenance)
        self.pictures = pictures
        self._drawn = -PICTURE_SECONDS
        (self.folder / GENOTYPES).mkdir(exist_ok=True)

    @property
    def records(self) -> Sequence[Record]:
        """The records in metrics.jsonl."""
        return self.tracker.records

    def message(self, text: str) -> None:
        """Writes a line to the console."""
        self.tracker.console.message(text)

    def step(self, epoch: int, step: int, metrics: Callable[[], Mapping[str, float]]) -> None:
        """Moves the progress bar."""
        self.tracker.console.step(epoch, step, metrics)

    def epoch(self, record: dict[str, Any], genotype: Genotype, edge_weights: Mapping[str, Tensor]) -> None:
        """Writes the record, the genotype and the images of an epoch."""
        number = record["epoch"]
        self.signed(genotype, record).save(self.folder / GENOTYPES / f"epoch_{number:04d}.json")
        self.tracker.tensorboard.text("genotype", as_code(genotype), self.tracker.tensorboard_step)
        draws = time.monotonic() - self._drawn >= PICTURE_SECONDS
        if draws:
            self._show(genotype, edge_weights)
        self.tracker.epoch({key: value for key, value in record.items() if value is not None}, self._line(record))
        if draws:
            try:
                self.draw_curves()
            except OSError as error:  # a drawing must not end a run
                self.message(f"{self.folder / CURVES}: cannot be written ({error.strerror}); the run continues")
            self._drawn = time.monotonic()

    def event(self, kind: str, **entries: Any) -> None:
        """Records an event and shows it on the console."""
        self.tracker.event(kind, **entries)
        words = ", ".join(f"{name} {value:g}" for name, value in entries.items() if isinstance(value, int | float))
        self.tracker.console.note(f"{kind.replace('_', ' ')}: {words}")

    def finish(self, genotype: Genotype, record: Mapping[str, Any]) -> Path:
        """Writes the found cells and their drawings; returns the path of genotype.json."""
        path = self.folder / GENOTYPE
        self.signed(genotype, record).save(path)
        board, step = self.tracker.tensorboard, self.tracker.tensorboard_step
        board.text("found", as_code(genotype), step)
        board.scalars({f"found/{self.figure.name}": record.get(f"valid_discrete/{self.figure.name}")}, step)
        for kind in genotype.kinds:
            for suffix in ("svg", "png"):
                draw_cells(genotype, self.folder / f"cell_{kind}.{suffix}", [kind])
        self.draw_curves()
        return path

    def signed(self, genotype: Genotype, record: Mapping[str, Any]) -> Genotype:
        """Returns the genotype with the run, the epoch and its metrics as provenance."""
        value = record.get(f"valid_discrete/{self.figure.name}")
        return genotype.with_provenance(
            **self.provenance,
            **{
                "epoch": record.get("epoch"),
                "figure": {"name": self.figure.name, "value": _finite(value), "of": "architecture split, discretised"},
                "eigenvalue": _finite(record.get("eigenvalue")),
                **genotype.provenance,
            },
        )

    def draw_curves(self) -> None:
        """Draws curves.png."""
        records = self.records
        events = [record for record in records if record.get("event") not in (None, "start")]
        epochs = [record for record in records if "event" not in record]
        latest = max((record.get("restart", 0) for record in epochs), default=0)
        history = {r["epoch"]: r["eigenvalue"] for r in epochs if r.get("eigenvalue") is not None}
        newest = max((r["epoch"] for r in epochs if r.get("restart", 0) == latest), default=0)
        pairs = sorted((epoch, value) for epoch, value in history.items() if epoch <= newest)
        averages = self.early_stopping.local_average(pairs) if self.early_stopping else ()
        draw_curves(epochs, self.folder / CURVES, metric=self.figure.name, averages=averages, events=events)

    def _show(self, genotype: Genotype, edge_weights: Mapping[str, Tensor]) -> None:
        board, step = self.tracker.tensorboard, self.tracker.tensorboard_step
        for kind, cell in self.space.cells.items():
            board.image(f"weights/{kind}", rendered(weights_figure(kind, cell, edge_weights[kind])), step)
            board.image(f"cell/{kind}", rendered(cells_figure(genotype, [kind])), step)
        for name, picture in (self.pictures() if self.pictures else {}).items():
            board.image(name, picture, step)
            keep_picture(self.folder, name, picture)

    def _line(self, record: Mapping[str, Any]) -> str:
        name = self.figure.name
        parts = [f"train loss {record['train/loss']:.3f}", f"{name} {record[f'train/{name}']:.2f}"]
        parts += [f"valid {name} {record[f'valid/{name}']:.2f} {self.figure.unit}"]
        parts += [f"discretised {record[f'valid_discrete/{name}']:.2f}"]
        if record.get("eigenvalue") is not None:
            parts.append(f"eigenvalue {record['eigenvalue']:.4g}")
        return " · ".join([*parts, f"{record['seconds']:.0f} s"])


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, float | int) and abs(value) < float("inf") else None
