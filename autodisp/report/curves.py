"""Draws the course of a search from its epoch records: one picture, a panel for each thing that was recorded.

A search that ADA rolled back has some epochs twice. What counts in the end is drawn solid; the part that was thrown
away stays in the picture, dashed and lighter, since it is the reason for the roll-back.

Nothing here knows a task: the task's figure is whatever the records hold beside the loss.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

Record = Mapping[str, Any]
Pairs = Sequence[tuple[int, float]]

RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "figure.constrained_layout.w_pad": 0.08,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8A949E",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6EAED",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.9,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "text.usetex": False,
}
_WEIGHT_HALF, _ARCHITECTURE_HALF, _DISCRETE = "#0072B2", "#D55E00", "#6A51A3"
_EIGENVALUE, _AVERAGE, DECIDED, RETURNED = "#56A0C8", "#22303C", "#C0392B", "#009E73"
_SPREAD_FOR_LOGARITHM = 50.0
_NO_PANEL = "no epoch recorded yet"


@dataclass(frozen=True)
class Course:
    """One curve: the points that count, and the parts that were thrown away, each with the point it set out from."""

    kept: Pairs
    abandoned: Sequence[Pairs]


@dataclass(frozen=True)
class Line:
    """One curve of a panel."""

    name: str
    course: Course
    colour: str
    style: str = "default"


@dataclass(frozen=True)
class Panel:
    """What is drawn into one pair of axes."""

    name: str
    """Of its files."""
    title: str
    lines: Sequence[Line]


def draw_curves(
    records: Sequence[Record],
    path: Path,
    *,
    metric: str | None = None,
    averages: Pairs = (),
    events: Sequence[Record] = (),
) -> None:
    """Writes the picture of :func:`curves_figure`, 120 pixels per inch; its format is the path's suffix."""
    figure = curves_figure(records, metric=metric, averages=averages, events=events)
    with mpl.rc_context({**RC, "svg.hashsalt": "autodisp"}):
        figure.savefig(path, dpi=120)


def curves_figure(
    records: Sequence[Record],
    *,
    metric: str | None = None,
    averages: Pairs = (),
    events: Sequence[Record] = (),
) -> Figure:
    """The course of a search.

    Args:
        records: in the order they were written, as ``read_json_lines`` returns them; any may lack any key, and an
            entry that has the key ``event`` is taken as an event. Read are ``epoch``, ``train/loss``, ``valid/loss``,
            ``train/M``, ``valid/M`` and ``valid_discrete/M`` for the metric M, ``eigenvalue`` and ``weight_decay``.
            A value that is missing, None or no number is passed over; at NaN or an infinity the curve has a gap.
        metric: M; if None, the first that ``valid/`` or ``train/`` has beside the loss.
        averages: (epoch, local average of the eigenvalues).
        events: each with ``event`` (what happened), ``decided_epoch`` or ``epoch`` and, if the search went back,
            ``returned_epoch``: a line at each.

    Returns:
        The figure; with no record at all it says so.
    """
    epochs = [record for record in records if "event" not in record]
    happened = [*(record for record in records if "event" in record), *events]
    panels = panels_of(epochs, metric or first_metric(epochs), averages)
    with mpl.rc_context(RC):
        columns = min(len(panels), 3 if len(panels) > 4 else 2) or 1
        rows = math.ceil(len(panels) / columns) or 1
        figure = Figure(
            figsize=(5.2 * columns, 3.1 * rows), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1), facecolor="white"
        )
        if not panels:
            figure.text(0.5, 0.5, _NO_PANEL, ha="center", va="center", color="#8A949E")
        worded = next((i for i, panel in enumerate(panels) if panel.name == "eigenvalue"), 0)
        for number, panel in enumerate(panels):
            axes = figure.add_subplot(rows, columns, number + 1)
            draw_panel(axes, panel)
            draw_events(axes, happened, worded=number == worded)
            axes.set_xlim(*span_of(panels))
    return figure


def first_metric(records: Sequence[Record]) -> str | None:
    """What the records measure beside the loss; None where that is nothing."""
    for half in ("valid/", "train/"):
        for record in records:
            for key, value in record.items():
                if key.startswith(half) and key != half + "loss" and as_number(value) is not None:
                    return key.removeprefix(half)
    return None


def panels_of(records: Sequence[Record], metric: str | None, averages: Pairs) -> list[Panel]:
    """The panels of :func:`curves_figure`, those that would be empty left out."""
    epochs = epochs_of(records)

    def course(key: str) -> Course:
        return course_of(epochs, [as_number(record.get(key)) for record in records])

    decay = course("weight_decay")
    changes = len({value for part in (decay.kept, *decay.abandoned) for _, value in part}) > 1
    panels = [
        Panel("loss", "loss", [
            Line("weight half", course("train/loss"), _WEIGHT_HALF),
            Line("architecture half", course("valid/loss"), _ARCHITECTURE_HALF),
        ]),
        Panel("figure", str(metric), [
            Line("weight half", course(f"train/{metric}"), _WEIGHT_HALF),
            Line("architecture half", course(f"valid/{metric}"), _ARCHITECTURE_HALF),
            Line("architecture half, discretised", course(f"valid_discrete/{metric}"), _DISCRETE),
        ]),
        Panel("eigenvalue", "dominant eigenvalue", [
            Line("eigenvalue", course("eigenvalue"), _EIGENVALUE),
            Line("local average", Course(averages, []), _AVERAGE),
        ]),
        Panel("discretisation_drop", "discretisation drop, above 0 is worse", [
            Line("drop", course("discretisation_drop"), _DISCRETE),
        ]),
        Panel("weight_decay", "weight decay", [
            Line("weight decay", decay, _WEIGHT_HALF, "steps-post"),
        ] if changes else []),
    ]  # fmt: skip
    return filled(panels)


def filled(panels: Iterable[Panel]) -> list[Panel]:
    """The panels without lines that are empty, and without those that have no other."""
    kept = [replace(p, lines=[line for line in p.lines if line.course.kept or line.course.abandoned]) for p in panels]
    return [panel for panel in kept if panel.lines]


def as_number(value: Any) -> float | None:
    """The value as a float; None if it is no number, or an integer beyond all floats."""
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return None


def epochs_of(records: Sequence[Record]) -> list[int]:
    """Each record's epoch; one that does not say follows the record before."""
    epochs: list[int] = []
    for record in records:
        epoch = as_number(record.get("epoch"))
        known = epoch is not None and math.isfinite(epoch)
        epochs.append(int(epoch) if epoch is not None and known else epochs[-1] + 1 if epochs else 0)
    return epochs


def course_of(epochs: Sequence[int], values: Sequence[float | None]) -> Course:
    """The curve of values that came at these epochs, in the order in which they came; None is passed over."""
    kept: list[tuple[int, float]] = []
    abandoned: list[Pairs] = []
    for epoch, value in zip(epochs, values, strict=True):
        left = next((place for place, (known, _) in enumerate(kept) if known >= epoch), len(kept))
        if left < len(kept):
            abandoned.append(kept[max(0, left - 1) :])
            del kept[left:]
        if value is not None:
            kept.append((epoch, value))
    return Course(kept, abandoned)


def draw_panel(axes: Axes, panel: Panel, *, along: str = "epoch", legend: bool = True) -> None:
    """Draws the lines, the title and the scales; ``along`` names the horizontal axis."""
    numbers: list[float] = []
    for line in panel.lines:
        marker = "o" if len(line.course.kept) <= 60 else ""
        look: dict[str, Any] = {"color": line.colour, "drawstyle": line.style}
        for part in line.course.abandoned:
            axes.plot(*_with_gaps(part), linestyle=(0, (3, 2)), linewidth=1.1, alpha=0.45, **look)
        axes.plot(*_with_gaps(line.course.kept), marker=marker, label=line.name, **look)
        numbers += [y for part in (line.course.kept, *line.course.abandoned) for _, y in part if math.isfinite(y)]
    if numbers and min(numbers) > 0 and max(numbers) / min(numbers) > _SPREAD_FOR_LOGARITHM:
        axes.set_yscale("log")
    if legend and len(panel.lines) > 1:
        axes.legend(loc="best")
    axes.set_title(panel.title)
    axes.set_xlabel(along)
    whole_numbers(axes)


def whole_numbers(axes: Axes) -> None:
    """Ticks for epochs and steps."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))


def span_of(panels: Iterable[Panel]) -> tuple[float, float]:
    """One range of epochs for all panels, so that they can be read side by side."""
    courses = [line.course for panel in panels for line in panel.lines]
    epochs = [x for course in courses for part in (course.kept, *course.abandoned) for x, _ in part]
    margin = max(0.5, 0.03 * (max(epochs) - min(epochs)))
    return min(epochs) - margin, max(epochs) + margin


def _with_gaps(points: Pairs) -> tuple[list[int], list[float]]:
    return [x for x, _ in points], [y if math.isfinite(y) else math.nan for _, y in points]


def draw_events(axes: Axes, events: Iterable[Record], worded: bool) -> None:
    """Draws a line at each event, see :func:`curves_figure`, with words beside it if ``worded``."""
    words: dict[tuple[int, str], list[str]] = {}
    for event in events:
        what = str(event.get("event", "event")).replace("_", " ")
        decided, returned = event.get("decided_epoch", event.get("epoch")), event.get("returned_epoch")
        for value, colour, text in ((decided, DECIDED, what), (returned, RETURNED, "returned")):
            epoch = as_number(value)
            if epoch is not None and math.isfinite(epoch):
                told = words.setdefault((int(epoch), colour), [])
                if text not in told:
                    told.append(text)
    for (epoch, colour), texts in words.items():
        axes.axvline(epoch, color=colour, linewidth=1.0, linestyle=(0, (1, 1.5)), zorder=1.5)
        if worded:
            axes.text(
                epoch, 0.98, f"{', '.join(texts)} ", transform=axes.get_xaxis_transform(), rotation=90, fontsize=7,
                color=colour, ha="right", va="top", parse_math=False,
            )  # fmt: skip
