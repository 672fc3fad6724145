"""The charts of a run, each a figure of its own: small enough to be read on a phone, several in a row on a desk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from autodisp.errors import InputError
from autodisp.report.curves import (
    DECIDED,
    RC,
    RETURNED,
    Course,
    Line,
    Panel,
    course_of,
    draw_events,
    draw_panel,
    filled,
    panels_of,
    span_of,
    whole_numbers,
)
from autodisp.report.reading import Moment, Run
from autodisp.search.early_stopping import EarlyStopping

SIZE = (4.3, 2.9)
"""Inches: at 96 pixels an inch the width of a phone."""
_MOST_LINES = 48
_ENTROPY = {"normal": "#0072B2", "reduce": "#D55E00", "upsample": "#009E73"}
_FREE, _RATE = "#D55E00", "#6A51A3"
_NOTES = {
    "eigenvalue": "Of the Hessian of the validation loss over the alphas. Dashed and pale: what a roll-back undid.",
    "discretisation_drop": "How far the figure moves when each edge keeps one operation only, without retraining.",
    "parameter_free": "Skips and poolings in the derived cells. Many of them mean that the search degenerates.",
    "spectrum": "All eigenvalues of that Hessian, one line a rank; symmetric logarithmic scale.",
    "entropy": "Mean over the edges of a kind of cell. At zero every edge has decided.",
}
_ORDER = (
    *("eigenvalue", "figure", "loss", "discretisation_drop", "entropy", "parameter_free", "learning_rate"),
    "weight_decay",
)


@dataclass(frozen=True)
class Chart:
    """A figure and what it is called."""

    name: str
    title: str
    figure: Figure
    note: str = ""


def charts_of(run: Run) -> Iterator[Chart]:
    """All charts for which the run recorded anything, in the order in which they are best looked at."""
    along = "epoch" if run.kind == "search" else "step"
    records = _records(run)
    panels = [*_course_panels(run, records), *_more_panels(run)]
    span = span_of(panels) if panels else (0.0, 1.0)
    for panel in sorted(panels, key=lambda panel: _ORDER.index(panel.name)):
        yield Chart(panel.name, panel.title, _figure(panel, run.events, span, along), _NOTES.get(panel.name, ""))
    if any(moment.spectrum for moment in run.moments):
        yield Chart("spectrum", "spectrum", _spectrum_figure(run, span), _NOTES["spectrum"])


def course_panel(run: Run, name: str) -> Panel | None:
    """The panel of that name, such as ``eigenvalue``; None where nothing of it was recorded."""
    return next((panel for panel in _course_panels(run, _records(run)) if panel.name == name), None)


def told_events(run: Run) -> list[str]:
    """What the policy did, a sentence each."""
    told = []
    for event in run.events:
        decided, returned, decay, ratio = (
            event.get(key) for key in ("decided_epoch", "returned_epoch", "weight_decay", "ratio")
        )
        growth = "" if ratio is None else f", the local average having grown {ratio:.3g}-fold"
        when = "" if decided is None else f" after epoch {decided:g}{growth}"
        if event["event"] == "early_stop":
            told.append(f"ES stopped the search{when}, and returned the cells of epoch {returned:g}"
                        if returned is not None else f"ES stopped the search{when}")  # fmt: skip
        elif event["event"] == "restart":
            back = "" if returned is None else f": back to epoch {returned:g}"
            told.append(f"ADA raised the weight decay{'' if decay is None else f' to {decay:.3g}'}{when}{back}")
        else:
            told.append(str(event["event"]).replace("_", " ") + when)
    return told


def local_average(run: Run) -> list[tuple[int, float]]:
    """The smoothed eigenvalues, as the run's own rule smooths them, or with the published window."""
    window, every = run.setting("regularization.window", 5), run.setting("curvature.every", 2)
    history = [(m.epoch, m.values["eigenvalue"]) for m in run.kept if "eigenvalue" in m.values]
    try:
        averages = EarlyStopping(window=int(window), every=int(every)).local_average(history)
    except (InputError, TypeError, ValueError, OverflowError):
        return []
    return [(epoch, value) for epoch, value in averages if epoch >= 0]


def _records(run: Run) -> list[dict[str, Any]]:
    """The moments as ``curves`` takes them; a training goes by its steps."""
    if run.kind == "search":
        return [{**moment.values, "epoch": moment.epoch} for moment in run.moments]
    return [{**moment.values, "epoch": moment.values.get("step", moment.epoch)} for moment in run.moments]


def _course_panels(run: Run, records: Sequence[Mapping[str, Any]]) -> list[Panel]:
    names = {"weight half": "training", "architecture half": "validation"} if run.kind == "training" else {}
    unit = f", {run.figure.unit}" if run.figure.unit else ""
    return [
        replace(
            panel,
            title=panel.title + (unit if panel.name == "figure" else ""),
            lines=[replace(line, name=names.get(line.name, line.name)) for line in panel.lines],
        )
        for panel in panels_of(records, run.figure.name, local_average(run))
    ]


def _more_panels(run: Run) -> list[Panel]:
    epochs = [moment.epoch for moment in run.moments]
    steps = [int(moment.values.get("step", moment.epoch)) for moment in run.moments]

    def course(key: str, along: Sequence[int] = epochs) -> Course:
        return course_of(along, [moment.values.get(key) for moment in run.moments])

    if run.kind == "training":
        rate = Line("learning rate", course("learning_rate", steps), _RATE)
        return filled([Panel("learning_rate", "learning rate", [rate])])
    entropies = [Line(kind, course(f"entropy/{kind}"), colour) for kind, colour in _ENTROPY.items()]
    free = Line("parameter-free", course("parameter_free"), _FREE)
    return filled(
        [
            Panel("entropy", "entropy of the alphas, nats", entropies),
            Panel("parameter_free", "parameter-free operations in the cells", [free]),
        ]
    )


def _figure(panel: Panel, events: Sequence[Mapping[str, Any]], span: tuple[float, float], along: str) -> Figure:
    with mpl.rc_context(RC):
        figure, axes = _empty()
        draw_panel(axes, panel, along=along, legend=False)
        draw_events(axes, events, worded=False)
        axes.set_xlim(*span)
        _calm(axes)
        if panel.name == "parameter_free":
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        _draw_legend(figure, panel, events if panel.name == "eigenvalue" else ())
    return figure


def _calm(axes: Axes) -> None:
    """A curve that moves by less than a ten-thousandth of itself is drawn as flat as it is."""
    low, high = axes.get_ylim()
    least = 1e-4 * max(abs(low), abs(high))
    if axes.get_yscale() == "linear" and high - low < least:
        axes.set_ylim((low + high) / 2 - least, (low + high) / 2 + least)
        axes.ticklabel_format(axis="y", useOffset=False)


def _empty() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white", dpi=72)
    return figure, figure.add_subplot()


def _draw_legend(figure: Figure, panel: Panel, events: Sequence[Mapping[str, Any]]) -> None:
    """Below the axes, where it hides nothing."""
    handles = [Line2D([], [], color=line.colour, label=line.name) for line in panel.lines]
    if events:
        dotted: dict[str, Any] = {"linestyle": (0, (1, 1.5)), "linewidth": 1.2}
        words = {str(event["event"]) for event in events}
        decided = {"early_stop": "ES decided", "restart": "ADA raised"}
        told = ", ".join(sorted(decided.get(word, word.replace("_", " ")) for word in words))
        handles.append(Line2D([], [], color=DECIDED, label=told, **dotted))
        if any("returned_epoch" in event for event in events):
            handles.append(Line2D([], [], color=RETURNED, label="returned to", **dotted))
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2))


def course_figure(run: Run, panel: Panel) -> tuple[Figure, Axes]:
    """The chart of the viewer and of the animation: laid out for good, so that a marker can be put into it."""
    with mpl.rc_context(RC):
        figure, axes = _empty()
        draw_panel(axes, panel, legend=False)
        draw_events(axes, run.events, worded=False)
        _draw_legend(figure, panel, run.events)
        epochs = [moment.epoch for moment in run.moments]
        margin = max(0.5, 0.03 * (max(epochs) - min(epochs)))
        axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure, axes


def _spectrum_figure(run: Run, span: tuple[float, float]) -> Figure:
    measured: list[Moment] = [moment for moment in run.kept if moment.spectrum]
    most = max((len(moment.spectrum) for moment in measured), default=0)
    measured = [moment for moment in measured if len(moment.spectrum) == most]
    table = np.sort(np.array([moment.spectrum for moment in measured]), axis=1)
    ranks = np.unique(np.linspace(0, most - 1, min(most, _MOST_LINES)).round().astype(int))
    finite = np.abs(table[np.isfinite(table)])
    with mpl.rc_context(RC):
        figure, axes = _empty()
        for place, rank in enumerate(ranks):
            colour = mpl.colormaps["viridis"](0.05 + 0.85 * place / max(1, len(ranks) - 1))
            marker = "o" if len(measured) < 3 else ""
            values = np.where(np.isfinite(table[:, rank]), table[:, rank], np.nan)
            axes.plot([m.epoch for m in measured], values, color=colour, linewidth=0.8, marker=marker, markersize=2)
        positive = finite[finite > 0]
        if positive.size:
            axes.set_yscale("symlog", linthresh=float(positive.max()) / 1000)
        draw_events(axes, run.events, worded=False)
        axes.set_title(f"spectrum: {len(ranks)} of {most} eigenvalues" if len(ranks) < most else "spectrum")
        axes.set_xlabel("epoch")
        whole_numbers(axes)
        axes.set_xlim(*span)
    return figure
