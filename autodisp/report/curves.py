"""Curves of one run over its epochs or steps: all of them in curves.png, each as a chart of its own for a page.

A search that ADA rolled back has some epochs twice. The epochs that count are solid; discarded ones, which are the
reason for the roll-back, are dashed and pale. The metric is the one that the task selects by.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from autodisp.errors import InputError
from autodisp.report.figures import COLOURS, INK, plain, save, settle, style
from autodisp.report.reading import Run, as_number, first_metric
from autodisp.search.early_stopping import EarlyStopping

Record = Mapping[str, Any]
Pairs = Sequence[tuple[int, float]]

SIZE = (4.3, 2.9)
"""Inches of a chart: at 96 pixels per inch the width of a phone."""
BLUE, ORANGE, GREEN, PURPLE, RED = COLOURS[:5]
_PALE_BLUE = "#56A0C8"
_SPREAD_FOR_LOGARITHM = 50.0
_MOST_RANKS = 48
_NOTES = {
    "eigenvalue": "Of the Hessian of the validation loss over the alphas. Dashed and pale: discarded by a roll-back.",
    "discretisation_drop": "Change of the metric when each edge keeps one operation only, without retraining.",
    "entropy": "Mean over the edges of a kind of cell. Zero: a single operation on every edge.",
    "parameter_free": "Skips and poolings in the derived cells. A large number indicates a degenerate search.",
    "spectrum": "All eigenvalues of that Hessian, one line per rank; symmetric logarithmic scale.",
}
_EVENTS = {"early_stop": "ES stopped", "restart": "ADA restarted"}
_DOTTED: dict[str, Any] = {"linewidth": 1.0, "linestyle": (0, (1, 1.5)), "zorder": 1.5}


@dataclass(frozen=True)
class Line:
    """One curve of a panel."""

    name: str
    kept: Pairs
    """The (epoch, value) points that count."""
    abandoned: Sequence[Pairs]
    """The parts discarded by a roll-back, each with the point that it started from."""
    colour: str


@dataclass(frozen=True)
class Panel:
    """Content of one pair of axes."""

    name: str
    """Stem of its files."""
    title: str
    lines: Sequence[Line]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure of a page."""

    name: str
    """Stem of its files."""
    title: str
    figure: Figure
    note: str = ""


def draw_curves(
    records: Sequence[Record],
    path: Path,
    *,
    metric: str | None = None,
    averages: Pairs = (),
    events: Sequence[Record] = (),
) -> None:
    """Writes all panels of a search as one image, 120 pixels per inch; see :func:`panels_of`."""
    save(curves_figure(panels_of(records, metric or first_metric(records), averages=averages), events), path, dpi=120)


def curves_figure(panels: Sequence[Panel], events: Sequence[Record] = ()) -> Figure:
    """Draws the panels side by side; without panels, the figure contains a line of text instead."""
    columns = min(len(panels), 3 if len(panels) > 4 else 2) or 1
    rows = math.ceil(len(panels) / columns) or 1
    with style(font_size=9):
        figure = Figure(figsize=(5.2 * columns, 3.4 * rows), layout="constrained", facecolor="white")
        if not panels:
            figure.text(0.5, 0.5, "no epoch recorded yet", ha="center", va="center", color="#8A949E")
        for number, panel in enumerate(panels):
            draw_panel(figure.add_subplot(rows, columns, number + 1), panel, events, span_of(panels))
    return figure


def charts_of(run: Run) -> Iterator[Chart]:
    """Draws each panel of a run as a chart, and the spectrum of the Hessian if it was measured."""
    panels, along = run_panels(run), "epoch" if run.kind == "search" else "step"
    for panel in panels:
        figure, axes = empty_chart()
        draw_panel(axes, panel, run.events, span_of(panels), along=along)
        yield Chart(panel.name, panel.title, figure, panel.note)
    if any(epoch.spectrum for epoch in run.epochs):
        yield Chart("spectrum", "spectrum", _spectrum_figure(run), _NOTES["spectrum"])


def run_panels(run: Run) -> list[Panel]:
    """Returns the panels of a run; those of a training are over its steps."""
    training = run.kind == "training"
    records = [{**epoch.values, "epoch": run.place(epoch)} for epoch in run.epochs]
    return panels_of(records, run.figure.name, unit=run.figure.unit, averages=local_average(run), training=training)


def panels_of(
    records: Sequence[Record], metric: str | None, *, unit: str = "", averages: Pairs = (), training: bool = False
) -> list[Panel]:
    """Returns the panels that have values, in reading order.

    Args:
        records: in the order they were written; each may lack any key. Missing and non-numeric values are left out; the
            curve has a gap at NaN and infinities.
        metric: M of the keys ``train/M``, ``valid/M`` and ``valid_discrete/M``.
        unit: of the metric.
        averages: (epoch, local average of the eigenvalues).
        training: True for the records of a training, False for those of a search.
    """
    epochs = _epochs_of(records)
    upper, lower = ("training", "validation") if training else ("weight split", "architecture split")
    metrics = [(upper, f"train/{metric}", BLUE), (lower, f"valid/{metric}", ORANGE)]
    metrics.append((f"{lower}, discretised", f"valid_discrete/{metric}", PURPLE))
    losses = [(upper, "train/loss", BLUE), (lower, "valid/loss", ORANGE)]
    entropies = [(k, f"entropy/{k}", c) for k, c in (("normal", BLUE), ("reduce", ORANGE), ("upsample", GREEN))]
    table: list[tuple[str, str, list[tuple[str, str, str]]]] = [
        ("eigenvalue", "dominant eigenvalue", [("eigenvalue", "eigenvalue", _PALE_BLUE)]),
        ("metric", f"{metric}, {unit}" if unit else str(metric), metrics),
        ("loss", "loss", losses),
        ("discretisation_drop", "discretisation drop", [("drop", "discretisation_drop", PURPLE)]),
        ("entropy", "entropy of the alphas, nats", entropies),
        ("parameter_free", "parameter-free operations in the cells", [("parameter-free", "parameter_free", ORANGE)]),
    ]
    if training:
        table.append(("learning_rate", "learning rate", [("learning rate", "learning_rate", PURPLE)]))
    if len({as_number(record.get("weight_decay")) for record in records} - {None}) > 1:
        table.append(("weight_decay", "weight decay of the weights", [("weight decay", "weight_decay", INK)]))
    panels = []
    for name, title, curves in table:
        lines = [
            Line(label, *_course(epochs, [as_number(record.get(key)) for record in records]), colour)
            for label, key, colour in curves
        ]
        if name == "eigenvalue":
            lines.append(Line("local average", averages, (), INK))
        lines = [line for line in lines if line.kept or line.abandoned]
        if lines:
            panels.append(Panel(name, title, lines, _NOTES.get(name, "")))
    return panels


def local_average(run: Run) -> list[tuple[int, float]]:
    """Returns the eigenvalues smoothed as in the run's own stopping rule, or else with the published window."""
    window, every = run.setting("regularization.window", 5), run.setting("curvature.every", 2)
    history = [(m.epoch, m.values["eigenvalue"]) for m in run.kept if "eigenvalue" in m.values]
    try:
        averages = EarlyStopping(window=int(window), every=int(every)).local_average(history)
    except (InputError, TypeError, ValueError, OverflowError):
        return []
    return [(epoch, value) for epoch, value in averages if epoch >= 0]


def _epochs_of(records: Sequence[Record]) -> list[int]:
    """Returns the epoch of each record; one without an epoch follows the previous record."""
    epochs: list[int] = []
    for record in records:
        epoch = as_number(record.get("epoch"))
        epochs.append(int(epoch) if epoch is not None and math.isfinite(epoch) else epochs[-1] + 1 if epochs else 0)
    return epochs


def _course(epochs: Sequence[int], values: Sequence[float | None]) -> tuple[Pairs, Sequence[Pairs]]:
    """Splits values in order of recording into the points that count and those discarded by a later record."""
    kept: list[tuple[int, float]] = []
    abandoned: list[Pairs] = []
    for epoch, value in zip(epochs, values, strict=True):
        left = next((place for place, (known, _) in enumerate(kept) if known >= epoch), len(kept))
        if left < len(kept):
            abandoned.append(kept[max(0, left - 1) :])
            del kept[left:]
        if value is not None:
            kept.append((epoch, value))
    return kept, abandoned


def empty_chart(title: str = "", along: str = "") -> tuple[Figure, Axes]:
    """Returns a figure with one pair of axes, in the size of a chart."""
    with style():
        figure = Figure(figsize=SIZE, layout="constrained", facecolor="white", dpi=72)
        axes = figure.add_subplot()
        axes.set_title(plain(title))
        axes.set_xlabel(plain(along))
    return figure, axes


def draw_panel(
    axes: Axes, panel: Panel, events: Iterable[Record], span: tuple[float, float], *, along: str = "epoch"
) -> None:
    """Draws the lines of a panel, a dotted line at each event, and a legend below the axes.

    Args:
        events: each with ``event``, ``decided_epoch`` or ``epoch`` and, after a roll-back, ``returned_epoch``.
        span: limits of the horizontal axis.
    """
    numbers: list[float] = []
    with style():
        for place, line in enumerate(panel.lines):
            for part in line.abandoned:
                axes.plot(*_with_gaps(part), linestyle=(0, (3, 2)), linewidth=1.1, alpha=0.45, color=line.colour)
            look = told_apart(place, len(panel.lines), len(line.kept))
            axes.plot(*_with_gaps(line.kept), label=line.name, color=line.colour, **look)
            numbers += [y for part in (line.kept, *line.abandoned) for _, y in part if math.isfinite(y)]
        logarithmic_if_wide(axes, numbers)
        _draw_events(axes, events)
        axes.set_xlim(*span)
        axes.set_title(plain(panel.title))
        axes.set_xlabel(along)
        whole_numbers(axes)
        low, high = axes.get_ylim()
        least = 1e-4 * max(abs(low), abs(high))
        if axes.get_yscale() == "linear" and high - low < least:  # flat but for rounding
            axes.set_ylim((low + high) / 2 - least, (low + high) / 2 + least)
            axes.ticklabel_format(axis="y", useOffset=False)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)


def told_apart(place: int, count: int, points: int) -> dict[str, Any]:
    """Returns the style of one of ``count`` curves, such that coinciding curves stay visible.

    Earlier curves are thicker, and the curves alternate in showing their markers.
    """
    turns, covering = max(min(count, points), points // 20), min(2, count - 1 - place)
    return {
        "linewidth": 1.5 + 1.2 * covering,
        "marker": "o",
        "markersize": 4.0 + 2.0 * covering,
        "markevery": (place % turns if turns else 0, max(1, turns)),
    }


def logarithmic_if_wide(axes: Axes, values: Sequence[float]) -> None:
    """Makes the vertical axis logarithmic if the values are positive and spread widely."""
    if values and min(values) > 0 and max(values) / min(values) > _SPREAD_FOR_LOGARITHM:
        axes.set_yscale("log")


def whole_numbers(axes: Axes) -> None:
    """Sets integer ticks for epochs and steps."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))


def span_of(panels: Iterable[Panel]) -> tuple[float, float]:
    """Returns a common range of epochs for all panels."""
    epochs = [x for p in panels for line in p.lines for part in (line.kept, *line.abandoned) for x, _ in part]
    return _span(epochs)


def _span(epochs: Sequence[int]) -> tuple[float, float]:
    margin = max(0.5, 0.03 * (max(epochs) - min(epochs)))
    return min(epochs) - margin, max(epochs) + margin


def _with_gaps(points: Pairs) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y if math.isfinite(y) else math.nan for _, y in points]


def _draw_events(axes: Axes, events: Iterable[Record]) -> None:
    labels: set[str] = set()
    for event in events:
        what = str(event.get("event", "event"))
        words = _EVENTS.get(what, what.replace("_", " ").strip() or "event")
        decided, returned = event.get("decided_epoch", event.get("epoch")), event.get("returned_epoch")
        for value, colour, text in ((decided, RED, words), (returned, GREEN, "returned to")):
            epoch = as_number(value)
            if epoch is not None and math.isfinite(epoch):
                axes.axvline(epoch, color=colour, label=None if text in labels else plain(text), **_DOTTED)
                labels.add(text)


def marked_chart(run: Run, panel: Panel) -> tuple[Figure, Axes]:
    """Draws the chart of the viewer and of the animation, with a final layout for a marker to be added to."""
    figure, axes = empty_chart()
    draw_panel(axes, panel, run.events, _span([epoch.epoch for epoch in run.epochs]))
    settle(figure)
    return figure, axes


def _spectrum_figure(run: Run) -> Figure:
    measured = [epoch for epoch in run.kept if epoch.spectrum]
    most = max((len(epoch.spectrum) for epoch in measured), default=0)
    measured = [epoch for epoch in measured if len(epoch.spectrum) == most]
    table = np.sort(np.array([epoch.spectrum for epoch in measured]), axis=1)
    ranks = np.unique(np.linspace(0, most - 1, min(most, _MOST_RANKS)).round().astype(int))
    title = f"spectrum: {len(ranks)} of {most} eigenvalues" if len(ranks) < most else "spectrum"
    figure, axes = empty_chart(title, "epoch")
    with style():
        for place, rank in enumerate(ranks):
            colour = mpl.colormaps["viridis"](0.05 + 0.85 * place / max(1, len(ranks) - 1))
            marker = "o" if len(measured) < 3 else ""
            values = np.where(np.isfinite(table[:, rank]), table[:, rank], np.nan)
            axes.plot([m.epoch for m in measured], values, color=colour, linewidth=0.8, marker=marker, markersize=2)
        largest = np.abs(table[np.isfinite(table)]).max(initial=0.0)
        if largest > 0:
            axes.set_yscale("symlog", linthresh=float(largest) / 1000)
        _draw_events(axes, run.events)
        whole_numbers(axes)
    return figure
