"""Writes the run folder of a training while it runs; docs/files.md lists the files."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from autodisp import model_file
from autodisp.model_file import ModelCard
from autodisp.observers.picture import Pictures, keep_picture
from autodisp.records import Record
from autodisp.run_files import BEST, LAST
from autodisp.tasks.base import Figure
from autodisp.tracking import Tracker


class TrainFolder:
    """Follows a training and writes its run folder.

    Args:
        tracker: receives the metrics; its folder is the run folder.
        figure: the task's metric.
        card: of the network.
        network: the network whose weights are written, see ``Training.evaluated``.
        pictures: called at each validation; returns the images to show.
    """

    def __init__(
        self, tracker: Tracker, *, figure: Figure, card: ModelCard, network: nn.Module, pictures: Pictures | None
    ) -> None:
        self.folder = tracker.folder
        self.figure = figure
        self.tracker = tracker
        self.card = card
        self.network = network
        self.pictures = pictures

    @property
    def records(self) -> Sequence[Record]:
        """The records in metrics.jsonl."""
        return self.tracker.records

    def step(self, interval: int, step: int, metrics: Callable[[], Mapping[str, float]]) -> None:
        """Moves the progress bar."""
        self.tracker.console.step(interval, step, metrics)

    def interval(self, record: Mapping[str, Any], *, best: bool) -> None:
        """Writes the record, the images and the models."""
        for name, picture in (self.pictures() if self.pictures else {}).items():
            self.tracker.tensorboard.image(name, picture, record["step"])
            keep_picture(self.folder, name, picture)
        self.tracker.epoch(record, self._line(record, best), step=record["step"])
        self._save(LAST, record)
        if best:
            self._save(BEST, record)

    def _save(self, name: str, record: Mapping[str, Any]) -> None:
        figures = {key: value for key, value in record.items() if key.startswith("valid/") and math.isfinite(value)}
        about = {**self.card.about, "steps": record["step"], "figures": figures}
        card = dataclasses.replace(self.card, about=about)
        model_file.save(self.folder / name, card, self.network.state_dict())

    def _line(self, record: Mapping[str, Any], best: bool) -> str:
        name, unit = self.figure.name, self.figure.unit
        parts = [
            f"step {record['step']}",
            f"train loss {record['train/loss']:.3f}",
            f"{name} {record[f'train/{name}']:.2f}",
            f"valid {name} {record[f'valid/{name}']:.2f} {unit}" + (" (best)" if best else ""),
            f"{record['steps_per_second']:.2f} steps/s",
        ]
        return " · ".join(parts)
