"""One run as a page: a single HTML file that needs no network, and its pictures as files beside it.

Whatever came from the run folder is escaped by the template engine. The page forbids itself, by its content security
policy, to load anything and to run any script but its own.
"""

import base64
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import autodisp
from autodisp.cells.genotype import Genotype
from autodisp.report.alpha_maps import alpha_maps, maps_figure
from autodisp.report.animation import write_animation
from autodisp.report.charts import charts_of, told_events
from autodisp.report.drawing import KIND_COLOURS, cell_figure
from autodisp.report.next_steps import next_commands
from autodisp.report.pictures import Gallery
from autodisp.report.reading import Moment, Run
from autodisp.report.run_picture import read_prediction
from autodisp.report.viewer import drawings_of, viewer_of
from autodisp.run_files import PREDICTION
from autodisp.tracking import in_time

PAGE = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"
_LONGEST = 400
"""Characters of a setting that are shown."""
_MOST_SETTINGS = 500


def write_run_page(
    run: Run, folder: Path, *, sizes: Sequence[tuple[str, str]] = (), with_animation: bool = True
) -> list[str]:
    """Writes the page of a run and its pictures.

    Args:
        run: what was read.
        folder: exists.
        sizes: what else is known of the networks, as (name, value).
        with_animation: whether the moving pictures are written; they take most of the time.

    Returns:
        The names of all files, the page first.
    """
    gallery, notes = Gallery(folder), list(run.notes)
    if not run.moments:
        notes.append("nothing has been recorded yet: the first epoch is not over")
    content: dict[str, Any] = {
        "title": run.name,
        "lead": lead(run),
        "badge": badge(run),
        "tiles": tiles(run),
        "events": told_events(run),
        "commands": next_commands(run),
        "command": run.command,
        "facts": [*facts(run), *sizes],
        "config": settings(run.config),
        "words": Genotype("", run.cells).in_words() if run.cells else "",
    }
    content |= _cells(run, gallery)
    content["charts"] = [gallery.add(c.name, c.title, c.figure, note=c.note) for c in charts_of(run)]
    content["maps"] = maps = [
        gallery.add(f"alphas_{cell.kind}", f"weights of the {cell.kind} cell", maps_figure(cell))
        for cell in (alpha_maps(run) if run.kind == "search" else ())
    ]
    if not maps and any(moment.alphas for moment in run.moments):
        notes.append("the weights of the operations are not shown: the search space is not known, or another one")
    viewer = viewer_of(run)
    animation = write_animation(run, folder, notes) if viewer and with_animation else []
    prediction = read_prediction(run.folder, notes)
    if prediction:
        (folder / PREDICTION).write_bytes(prediction.png)
        gallery.files.append(PREDICTION)
    gallery.files += animation
    content |= {
        "viewer": viewer,
        "viewer_kinds": list(drawings_of(run.moments[-1].cells or run.cells)) if viewer else [],
        "viewer_data": as_json(viewer.data) if viewer else "",
        "animation": animation,
        "prediction": prediction,
        "kinds": list(KIND_COLOURS.items()),
    }
    write_page(folder, "run.html", content, gallery, notes, script="viewer.js" if viewer else None)
    return [PAGE, *gallery.files]


def write_page(
    folder: Path,
    template: str,
    content: Mapping[str, Any],
    gallery: Gallery,
    notes: Sequence[str],
    *,
    script: str | None,
) -> None:
    """Fills a template and writes index.html."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    code = (_TEMPLATES / script).read_text(encoding="utf-8") if script else ""
    text = environment.get_template(template).render(
        **content,
        notes=notes,
        style=Markup((_TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(code),
        policy=_policy(code),
        files=gallery.files,
        version=autodisp.__version__,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    # What is no character of Unicode, such as half a surrogate pair out of a JSON file, becomes a question mark.
    (folder / PAGE).write_bytes(text.encode("utf-8", errors="replace"))


def _policy(code: str) -> str:
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if code else "'none'"
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; base-uri 'none'"


def as_json(data: Any) -> Markup:
    """Data for a script, which nothing in it can end."""
    text = json.dumps(data, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def lead(run: Run) -> str:
    """What the run is, in a line."""
    parts: list[str] = [run.kind]
    for key, word in (("task.name", "{}"), ("dataset.name", "{}"), ("space.name", "space {}")):
        value = run.setting(key)
        if isinstance(value, str):
            parts.append(word.format(value[:60]))
    policy, seed = run.setting("regularization.name"), run.setting("seed")
    if isinstance(policy, str):
        parts.append(f"regularization {policy[:60]}")
    if isinstance(seed, int):
        parts.append(f"seed {seed}")
    return " · ".join(parts)


def badge(run: Run) -> str:
    """How far it is."""
    if run.finished:
        return run.state
    planned = run.setting("search.epochs" if run.kind == "search" else "training.steps")
    unit = "epochs" if run.kind == "search" else "steps"
    newest = run.kept[-1] if run.moments else None
    done = 0 if newest is None else newest.epoch + 1 if run.kind == "search" else int(newest.values.get("step", 0))
    of = f" of {planned}" if isinstance(planned, int) else ""
    return f"{run.state}: {done}{of} {unit}"


def tiles(run: Run) -> list[tuple[str, str]]:
    """The figures that are looked at first."""
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
    spent = sum(_seconds(moment) for moment in run.moments)
    return [*found, ("time, all epochs" if run.kind == "search" else "time", in_time(spent))]


def _seconds(moment: Moment, key: str = "seconds") -> float:
    value = moment.values.get(key, 0.0)
    return value if 0 <= value < 1e12 else 0.0


def facts(run: Run) -> Iterator[tuple[str, str]]:
    """What the run was and what it took."""
    yield "folder", str(run.folder)
    if run.start:
        for key, words in (
            ("constant", "best constant answer"),
            (f"valid/{run.figure.name}", "before the first step"),
        ):
            if key in run.start:
                yield f"{run.figure.name}, {words}", f"{run.start[key]:.4g} {run.figure.unit}"
    if run.moments:
        count = len(run.moments)
        undone = count - len(run.kept)
        name = "epochs" if run.kind == "search" else "intervals"
        yield f"{name} recorded", f"{count}, {undone} of them undone by a roll-back" if undone else str(count)
        for key, words in (
            ("seconds", "time"),
            ("seconds_training", "  of it in steps"),
            ("seconds_curvature", "  of it measuring the curvature"),
            ("seconds_waiting", "  of it waiting for data"),
        ):
            spent = sum(_seconds(moment, key) for moment in run.moments)
            if any(key in moment.values for moment in run.moments):
                yield words, f"{in_time(spent)}, {in_time(spent / count)} in each of the {name}"
    for key, value in list(run.provenance.items())[:20]:
        if isinstance(value, str | int | float) and key not in ("epoch", "eigenvalue", "run"):
            yield str(key)[:60].replace("_", " "), _short(value)
    if "seed" not in run.provenance and isinstance(run.setting("seed"), int):
        yield "seed", str(run.setting("seed"))


def settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The config, flat: dotted names and values."""
    flat = list(_flat(config, "", depth=0))
    more = len(flat) - _MOST_SETTINGS
    return flat if more <= 0 else [*flat[:_MOST_SETTINGS], ("…", f"and {more} more")]


def _flat(node: Mapping[Any, Any], prefix: str, *, depth: int) -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        name = f"{prefix}{key}"[:_LONGEST]
        if isinstance(value, Mapping) and value and depth < 8:
            yield from _flat(value, f"{name}.", depth=depth + 1)
        else:
            yield name, "null" if value is None else str(value).lower() if isinstance(value, bool) else _short(value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _cells(run: Run, gallery: Gallery) -> dict[str, Any]:
    pictures = [
        gallery.add(f"cell_{kind}", f"{kind} cell", cell_figure(drawing))
        for kind, drawing in drawings_of(run.cells).items()
    ]
    chosen = run.chosen
    when = f" after epoch {chosen.epoch}" if chosen and run.kind == "search" else ""
    title = "Found cells" if run.found else f"Cells{when}, so far"
    return {"cells": pictures, "cells_title": title if run.kind == "search" else "Cells of the network"}
