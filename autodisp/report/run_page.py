"""The page of one run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autodisp.cells.genotype import Genotype
from autodisp.report.alphas import alpha_maps, maps_figure
from autodisp.report.animation import write_animation
from autodisp.report.cells import KIND_COLOURS, cells_figure
from autodisp.report.curves import Chart, charts_of
from autodisp.report.next_steps import next_commands
from autodisp.report.page import Gallery, write_page
from autodisp.report.reading import Run, flat_settings
from autodisp.report.run_image import read_image
from autodisp.report.viewer import viewer_of
from autodisp.run_files import PREDICTION
from autodisp.tracking import in_time

_LONGEST = 400
"""Longest value of a setting that is shown, in characters."""
_MOST_SETTINGS = 500


def write_run_page(
    run: Run, folder: Path, *, sizes: Sequence[tuple[str, str]] = (), with_animation: bool = True
) -> list[str]:
    """Writes the page of a run and its images.

    Args:
        sizes: facts about the networks, as (name, value).
        with_animation: write the GIF and the MP4, which take most of the time.

    Returns:
        The names of all files, the page first.
    """
    gallery, notes, genotype = Gallery(folder), list(run.notes), Genotype("", run.cells)
    if not run.epochs:
        notes.append("nothing has been recorded yet: the first epoch is not complete")
    content: dict[str, Any] = {
        "title": run.name,
        "lead": _lead(run),
        "badge": _badge(run),
        "tiles": _tiles(run),
        "events": told_events(run),
        "commands": next_commands(run),
        "command": run.command,
        "facts": [*_facts(run), *sizes],
        "config": _settings(run.config),
        "words": genotype.in_words(),
        "cells_title": _cells_title(run),
        "cells": [
            gallery.add(Chart(f"cell_{kind}", f"{kind} cell", cells_figure(genotype, [kind])))
            for kind in genotype.kinds
        ],
        "charts": [gallery.add(chart) for chart in charts_of(run)],
        "kinds": list(KIND_COLOURS.items()),
    }
    content["maps"] = [
        gallery.add(Chart(f"alphas_{kind}", f"weights of the {kind} cell", maps_figure(kind, *maps)))
        for kind, maps in (alpha_maps(run) if run.kind == "search" else {}).items()
    ]
    if not content["maps"] and any(epoch.alphas for epoch in run.epochs):
        notes.append("the weights of the operations are not shown: the search space is not known, or another one")
    content["image"] = image = read_image(run.folder, notes)
    if image:
        (folder / PREDICTION).write_bytes(image.png)
        gallery.files.append(PREDICTION)
    content["viewer"] = viewer = viewer_of(run)
    content["animation"] = animation = write_animation(run, folder, notes) if viewer and with_animation else []
    gallery.files += animation
    return write_page(gallery, "run.html", content, notes, script="viewer.js" if viewer else None)


def _lead(run: Run) -> str:
    parts: list[str] = [run.kind]
    for key, words in (
        ("task.name", "{}"), ("dataset.name", "{}"), ("space.name", "space {}"),
        ("regularization.name", "regularization {}"), ("seed", "seed {}"),
    ):  # fmt: skip
        if isinstance(value := run.setting(key), str | int):
            parts.append(words.format(str(value)[:60]))
    return " · ".join(parts)


def _badge(run: Run) -> str:
    """Returns the state and, for an unfinished run, its progress."""
    if run.finished:
        return run.state
    planned = run.setting("search.epochs" if run.kind == "search" else "training.steps")
    unit = "epochs" if run.kind == "search" else "steps"
    newest = run.kept[-1] if run.epochs else None
    done = 0 if newest is None else newest.epoch + 1 if run.kind == "search" else int(newest.values.get("step", 0))
    of = f" of {planned}" if isinstance(planned, int) else ""
    return f"{run.state}: {done}{of} {unit}"


def _cells_title(run: Run) -> str:
    if run.kind == "training":
        return "Cells of the network"
    when = f" after epoch {run.chosen.epoch}" if run.chosen else ""
    return "Found cells" if run.found else f"Cells{when}, so far"


def _tiles(run: Run) -> list[tuple[str, str]]:
    """Returns the most important numbers."""
    chosen = run.chosen
    if chosen is None:
        return []
    name, unit = run.figure.name, run.figure.unit
    when = f"epoch {chosen.epoch}" if run.kind == "search" else f"step {chosen.values.get('step', 0):.0f}, the best"
    shown = [
        (f"validation {name}, {when}", f"valid/{name}", unit),
        ("with the found cells only, not retrained", f"valid_discrete/{name}", unit),
        ("discretisation drop", "discretisation_drop", unit),
        ("dominant eigenvalue", "eigenvalue", ""),
        ("parameter-free operations", "parameter_free", ""),
    ]
    found = [
        (words, f"{chosen.values[key] + 0.0:.4g} {of}".strip()) for words, key, of in shown if key in chosen.values
    ]
    return [*found, ("time, all epochs" if run.kind == "search" else "time", in_time(seconds_of(run)))]


def seconds_of(run: Run, key: str = "seconds") -> float:
    """Sums a duration over all records, including discarded ones; invalid durations are left out."""
    return sum(value for epoch in run.epochs if 0 <= (value := epoch.values.get(key, 0.0)) < 1e12)


def told_events(run: Run) -> list[str]:
    """Returns the decisions of the stopping rule, one sentence each."""
    told = []
    for event in run.events:
        decided, returned, decay, ratio = (
            event.get(key) for key in ("decided_epoch", "returned_epoch", "weight_decay", "ratio")
        )
        growth = "" if ratio is None else f", the local average having grown {ratio:.3g}-fold"
        when = "" if decided is None else f" after epoch {decided:g}{growth}"
        if event["event"] == "early_stop":
            back = "" if returned is None else f", and returned the cells of epoch {returned:g}"
            told.append(f"ES stopped the search{when}{back}")
        elif event["event"] == "restart":
            back = "" if returned is None else f": back to epoch {returned:g}"
            told.append(f"ADA raised the weight decay{'' if decay is None else f' to {decay:.3g}'}{when}{back}")
        elif event["event"] == "cost" and {"predicted", "measured", "target"} <= event.keys():
            told.append(
                f"the found network costs {event['measured']:.4g}, and {event['predicted']:.4g} by the table; "
                f"the target was {event['target']:.4g}"
            )
        else:
            told.append(event["event"].replace("_", " ") + when)
    return told


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    yield "folder", str(run.folder)
    name, unit = run.figure.name, run.figure.unit
    for key, words in (("constant", "best constant answer"), (f"valid/{name}", "before the first step")):
        if key in run.start:
            yield f"{name}, {words}", f"{run.start[key]:.4g} {unit}"
    if run.epochs:
        count = len(run.epochs)
        undone = count - len(run.kept)
        unit = "epochs" if run.kind == "search" else "intervals"
        yield f"{unit} recorded", f"{count}, {undone} of them discarded by a roll-back" if undone else str(count)
        for key, words in (
            ("seconds", "time"),
            ("seconds_training", "  of it in steps"),
            ("seconds_curvature", "  of it measuring the curvature"),
            ("seconds_waiting", "  of it waiting for data"),
        ):
            if any(key in epoch.values for epoch in run.epochs):
                spent = seconds_of(run, key)
                yield words, f"{in_time(spent)}, {in_time(spent / count)} in each of the {unit}"
    for key, value in list(run.provenance.items())[:20]:
        if isinstance(value, str | int | float) and key not in ("epoch", "eigenvalue", "run"):
            yield str(key)[:60].replace("_", " "), _short(value)
    if "seed" not in run.provenance and isinstance(run.setting("seed"), int):
        yield "seed", str(run.setting("seed"))


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the names and values of the config as in YAML."""
    words: dict[Any, str] = {None: "null", True: "true", False: "false"}
    flat = [
        (name[:_LONGEST], words[value] if value is None or isinstance(value, bool) else _short(value))
        for name, value in flat_settings(config).items()
    ]
    more = len(flat) - _MOST_SETTINGS
    return flat if more <= 0 else [*flat[:_MOST_SETTINGS], ("…", f"and {more} more")]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
