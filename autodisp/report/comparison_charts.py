"""The charts of a comparison: curves laid over each other, results over a setting, results over the curvature."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autodisp.report.charts import SIZE, Chart
from autodisp.report.comparing import Entry, differences, rank_correlation
from autodisp.report.curves import RC, whole_numbers

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#6A51A3", "#C0392B", "#B5559A", "#8C6D31", "#7F7F7F", "#56A0C8", "#B8A100",
)  # fmt: skip
STYLES: Mapping[str, Any] = {"none": "solid", "es": (0, (4, 2)), "ada": (0, (1, 1.5))}
"""As the seed's figures have them: solid without early stopping, dashed with it; ADA is dotted."""
_MOST_NAMED = 12
_LEGEND_LETTERS = 66
"""What fits beside each other, with five for each line drawn."""
_MOST_TOLD = 3
"""Settings in a legend beside the run's number."""
_SPREAD_FOR_LOGARITHM = 30.0


def colour_of(entry: Entry) -> str:
    """The run's colour in the curves, the scatters and the table."""
    return COLOURS[(entry.number - 1) % len(COLOURS)]


def style_of(policy: str) -> Any:
    """The dashes of a policy."""
    return STYLES.get(policy, "solid")


def charts_of_group(entries: Sequence[Entry], key: str | None) -> Iterator[Chart]:
    """All charts of runs that can be compared.

    Args:
        entries: of one group.
        key: the numeric setting to draw results over, None for none.
    """
    kind, metric, dataset = entries[0].group
    unit = entries[0].run.figure.unit
    prefix = f"{kind}_{_plain(dataset)}_{_plain(metric)}" if dataset else f"{kind}_{_plain(metric)}"
    if kind == "search":
        yield from _overlay(entries, f"{prefix}_eigenvalue", "dominant eigenvalue", "eigenvalue")
    named = f"validation {metric}, {unit}" if unit else f"validation {metric}"
    yield from _overlay(entries, f"{prefix}_figure", named, f"valid/{metric}")
    results = [
        ("discretised", f"{metric} with the found cells, not retrained"),
        ("trained", f"{metric} after training"),
    ]
    if kind == "training":
        results = [("figure", f"{metric}, the best")]
    results.append(("tested", f"{metric} on the test split"))
    if key is not None:
        for attribute, words in results:
            yield from _over_setting(entries, key, attribute, words, f"{prefix}_{attribute}_over_setting")
    if kind == "search":
        for attribute, words in (("drop", f"discretisation drop of {metric}"), *results):
            yield from _scatter(entries, attribute, words, f"{prefix}_{attribute}_over_eigenvalue")


def _plain(name: str) -> str:
    """As part of a file's name."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)[:40]


def _empty(title: str, along: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white", dpi=72)
    axes = figure.add_subplot()
    axes.set_title(title, parse_math=False)
    axes.set_xlabel(along, parse_math=False)
    return figure, axes


def _overlay(entries: Sequence[Entry], name: str, title: str, key: str) -> Iterator[Chart]:
    along = "epoch" if entries[0].run.kind == "search" else "step"
    settings, labels = _legend(entries)
    with mpl.rc_context(RC):
        figure, axes = _empty(title, along)
        drawn = []
        for entry, label in zip(entries, labels, strict=True):
            points = [
                (moment.epoch if along == "epoch" else moment.values.get("step", moment.epoch), moment.values[key])
                for moment in entry.run.kept
                if math.isfinite(moment.values.get(key, math.nan))
            ]
            if not points:
                continue
            axes.plot(
                [x for x, _ in points], [y for _, y in points], color=colour_of(entry), linewidth=1.2,
                linestyle=style_of(entry.policy), marker="o" if len(points) < 3 else "", label=label,
            )  # fmt: skip
            drawn.append([y for _, y in points])
        if not drawn:
            return
        _logarithmic_if_wide(axes, [y for values in drawn for y in values])
        whole_numbers(axes)
        if len(drawn) <= _MOST_NAMED:
            columns = max(1, min(6, _LEGEND_LETTERS // (max(map(len, labels)) + 5)))
            figure.legend(loc="outside lower center", ncols=min(len(drawn), columns), title=settings or None)
    note = "Numbers and colours as in the table."
    if entries[0].run.kind == "search":
        note += " Solid: no early stopping; dashed: ES; dotted: ADA. Epochs that a roll-back discarded are left out."
    yield Chart(name, title, figure, note)


def _legend(entries: Sequence[Entry]) -> tuple[str, list[str]]:
    """The settings that tell the runs apart; for each run its number in the table and its values."""
    told = dict(list(differences(entries).items())[:_MOST_TOLD])
    values = zip(*told.values(), strict=True) if told else [() for _ in entries]
    labels = [
        ": ".join([str(entry.number), *filter(None, [", ".join(own)])])
        for entry, own in zip(entries, values, strict=True)
    ]
    return _plain_text(", ".join(told)), [_plain_text(label) for label in labels]


def _plain_text(words: str) -> str:
    """Without mathematics."""
    return words.replace("$", r"\$")


def _logarithmic_if_wide(axes: Axes, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) / min(values) > _SPREAD_FOR_LOGARITHM:
        axes.set_yscale("log")


def _over_setting(entries: Sequence[Entry], key: str, attribute: str, words: str, name: str) -> Iterator[Chart]:
    series: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for entry in entries:
        result = getattr(entry, attribute)
        if result is not None and key in entry.numbers:
            series.setdefault((_space(entry), entry.policy), []).append((entry.numbers[key], result))
    if len({x for points in series.values() for x, _ in points}) < 2:
        return
    spaces = sorted({space for space, _ in series})
    with mpl.rc_context(RC):
        figure, axes = _empty(words, key)
        for (space, policy), points in sorted(series.items()):
            colour = COLOURS[spaces.index(space) % len(COLOURS)]
            axes.plot([x for x, _ in points], [y for _, y in points], "o", color=colour, alpha=0.55)
            means = _means(points)
            label = " ".join(part for part in (space if len(spaces) > 1 else "", policy) if part)
            axes.plot(
                [x for x, _ in means], [y for _, y in means], color=colour, linestyle=style_of(policy),
                label=_plain_text(label) or None,
            )  # fmt: skip
        _scale_setting(axes, [x for points in series.values() for x, _ in points])
        if any(policy or len(spaces) > 1 for _, policy in series):
            figure.legend(loc="outside lower center", ncols=3)
    note = "A point a run; lines through the means."
    if entries[0].run.kind == "search":
        note += " Solid: no early stopping; dashed: ES; dotted: ADA."
    if others := [name for name in differences(entries) if name not in (key.rpartition(".")[2], "regularization")]:
        note += f" The runs differ in {', '.join(others[:8])} too."
    yield Chart(name, words, figure, note)


def _space(entry: Entry) -> str:
    name = entry.run.setting("space.name")
    return name[:20] if isinstance(name, str) else ""


def _means(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    by_place: dict[float, list[float]] = {}
    for x, y in points:
        by_place.setdefault(x, []).append(y)
    return [(x, sum(values) / len(values)) for x, values in sorted(by_place.items())]


def _scale_setting(axes: Axes, places: Sequence[float]) -> None:
    positive = [place for place in places if place > 0]
    if min(places) < 0 or not positive or max(positive) / min(positive) <= _SPREAD_FOR_LOGARITHM:
        return
    if len(positive) == len(places):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min(positive))


def _scatter(entries: Sequence[Entry], attribute: str, words: str, name: str) -> Iterator[Chart]:
    known = [
        (entry, entry.eigenvalue, value)
        for entry in entries
        if entry.eigenvalue is not None and (value := getattr(entry, attribute)) is not None
    ]
    if len(known) < 2:
        return
    pairs = [(x, y) for _, x, y in known if x is not None]
    correlation = rank_correlation(pairs)
    with mpl.rc_context(RC):
        figure, axes = _empty(words, "dominant eigenvalue")
        for entry, x, y in known:
            axes.plot([x], [y], "o", color=colour_of(entry), markersize=5)
            if len(known) <= _MOST_NAMED:
                axes.annotate(
                    str(entry.number), (float(x or 0.0), y), textcoords="offset points", xytext=(5, 3), fontsize=7
                )
        places = [x for x, _ in pairs]
        if min(places) > 0 and max(places) / min(places) > _SPREAD_FOR_LOGARITHM:
            axes.set_xscale("log")
    note = f"{len(pairs)} runs: too few, or too much alike, for a rank correlation."
    if correlation is not None:
        note = f"Spearman's rank correlation {correlation:+.2f}, over {len(pairs)} runs."
    yield Chart(name, words, figure, note)
