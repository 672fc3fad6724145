"""The charts of a comparison: overlaid curves, results over a setting, over the cost, and over the curvature."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from autodisp.report.comparison import Entry, differences
from autodisp.report.curves import Chart, empty_chart, logarithmic_if_wide, told_apart, whole_numbers
from autodisp.report.figures import COLOURS, plain, style
from autodisp.tables import rank_correlation

STYLES: Mapping[str, Any] = {"none": "solid", "es": (0, (4, 2)), "ada": (0, (1, 1.5))}
_STYLES_NOTE = " Solid: no early stopping; dashed: ES; dotted: ADA."
COSTS = {
    "latency": "latency of the network, ms per image",
    "macs": "multiplications of the network, one sample",
    "parameters": "parameters of the network",
}
"""Costs of a network, with the label of their axis."""
_MOST_NAMED = 12
_MOST_TOLD = 3
"""Largest number of settings in a legend, next to the run's number."""
_LEGEND_LETTERS = 66
"""Width of the legend in letters, of which each line drawn takes five."""
_SPREAD_FOR_LOGARITHM = 30.0


def colour_of(entry: Entry) -> str:
    """Returns the run's colour in the charts and the table."""
    return COLOURS[(entry.number - 1) % len(COLOURS)]


def style_of(policy: str) -> Any:
    """Returns the line style of a policy."""
    return STYLES.get(policy, "solid")


def charts_of_group(entries: Sequence[Entry], key: str | None) -> Iterator[Chart]:
    """Draws all charts of the runs of a group, those over a setting if ``key`` names a numeric one."""
    kind, metric, dataset = entries[0].group
    unit = entries[0].run.figure.unit
    prefix = "_".join("".join(c if c.isascii() and c.isalnum() else "_" for c in name)[:40]
                      for name in (kind, dataset, metric) if name)  # fmt: skip
    if kind == "search":
        yield from _overlay(entries, f"{prefix}_eigenvalue", "dominant eigenvalue", "eigenvalue")
    named = f"validation {metric}, {unit}" if unit else f"validation {metric}"
    yield from _overlay(entries, f"{prefix}_validated", named, f"valid/{metric}")
    results = [("validated", f"{metric}, the best")]
    if kind == "search":
        results = [
            ("discretised", f"{metric} with the found cells, not retrained"),
            ("trained", f"{metric} after training"),
        ]
    results.append(("tested", f"{metric} on the test split"))
    if key is not None:
        for result, words in results:
            yield from _over_setting(entries, key, result, words, f"{prefix}_{result}_over_setting")
    for quantity, axis in COSTS.items():
        costs = [entry.cost(quantity) for entry in entries]
        for result, words in results:
            yield from _scatter(entries, costs, axis, result, words, f"{prefix}_{result}_over_{quantity}")
    if kind == "search":
        eigenvalues = [entry.eigenvalue for entry in entries]
        for result, words in (("drop", f"discretisation drop of {metric}"), *results):
            yield from _scatter(
                entries, eigenvalues, "dominant eigenvalue", result, words, f"{prefix}_{result}_over_eigenvalue"
            )


def _overlay(entries: Sequence[Entry], name: str, title: str, key: str) -> Iterator[Chart]:
    search = entries[0].run.kind == "search"
    settings, labels = _legend(entries)
    curves = [entry.run.course(key) for entry in entries]
    drawn = [(e, label, points) for e, label, points in zip(entries, labels, curves, strict=True) if points]
    if not drawn:
        return
    figure, axes = empty_chart(title, "epoch" if search else "step")
    with style():
        for place, (entry, label, points) in enumerate(drawn):
            axes.plot(
                *zip(*points, strict=True), color=colour_of(entry), linestyle=style_of(entry.policy), label=label,
                **told_apart(place, len(drawn), len(points)),
            )  # fmt: skip
        logarithmic_if_wide(axes, [y for points in curves for _, y in points])
        whole_numbers(axes)
        if len(drawn) <= _MOST_NAMED:
            columns = max(1, min(6, len(drawn), _LEGEND_LETTERS // (max(map(len, labels)) + 5)))
            figure.legend(loc="outside lower center", ncols=columns, title=settings or None)
    note = "Numbers and colours as in the table."
    if search:
        note += f"{_STYLES_NOTE} Epochs that a roll-back discarded are left out."
    yield Chart(name, title, figure, note)


def _legend(entries: Sequence[Entry]) -> tuple[str, list[str]]:
    """Returns the settings in which the runs differ, and for each run its number in the table with its values."""
    told = dict(list(differences(entries).items())[:_MOST_TOLD])
    labels = []
    for place, entry in enumerate(entries):
        values = ", ".join(values[place] for values in told.values())
        labels.append(plain(f"{entry.number}: {values}" if told else str(entry.number)))
    return plain(", ".join(told)), labels


def _over_setting(entries: Sequence[Entry], key: str, result: str, words: str, name: str) -> Iterator[Chart]:
    series: dict[tuple[str, str], dict[float, list[float]]] = {}
    for entry in entries:
        value, space = entry.result(result), entry.run.setting("space.name")
        if value is not None and key in entry.numbers:
            group = (space[:20] if isinstance(space, str) else "", entry.policy)
            series.setdefault(group, {}).setdefault(entry.numbers[key], []).append(value)
    places = sorted({x for points in series.values() for x in points})
    if len(places) < 2:
        return
    spaces = sorted({space for space, _ in series})
    figure, axes = empty_chart(words, key)
    with style():
        for (space, policy), points in sorted(series.items()):
            look: dict[str, Any] = {"color": COLOURS[spaces.index(space) % len(COLOURS)]}
            every = [(x, y) for x, values in points.items() for y in values]
            axes.plot(*zip(*every, strict=True), "o", alpha=0.55, **look)
            means = [(x, sum(values) / len(values)) for x, values in sorted(points.items())]
            label = " ".join(part for part in (space if len(spaces) > 1 else "", policy) if part)
            axes.plot(*zip(*means, strict=True), linestyle=style_of(policy), label=plain(label) or None, **look)
        _scale_setting(axes, places)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=3)
    note = "A point per run; lines through the means."
    if entries[0].run.kind == "search":
        note += _STYLES_NOTE
    if others := [name for name in differences(entries) if name not in (key.rpartition(".")[2], "regularization")]:
        note += f" The runs differ in {', '.join(others[:8])} too."
    yield Chart(name, words, figure, note)


def _scale_setting(axes: Axes, places: Sequence[float]) -> None:
    """Makes the axis of a setting logarithmic where its values spread widely, symmetrically so with a zero."""
    positive = [place for place in places if place > 0]
    if min(places) < 0 or max(positive) / min(positive) <= _SPREAD_FOR_LOGARITHM:
        return
    if len(positive) == len(places):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min(positive))


def _scatter(
    entries: Sequence[Entry], at: Sequence[float | None], axis: str, result: str, words: str, name: str
) -> Iterator[Chart]:
    """Draws a point for each run of which both numbers are known; random networks are crosses."""
    known = [
        (entry, x, y)
        for entry, x in zip(entries, at, strict=True)
        if x is not None and (y := entry.result(result)) is not None
    ]
    if len(known) < 2:
        return
    figure, axes = empty_chart(words, axis)
    with style():
        for entry, x, y in known:
            axes.plot([x], [y], "x" if entry.is_random else "o", color=colour_of(entry), markersize=5)
            if len(known) <= _MOST_NAMED:
                axes.annotate(str(entry.number), (x, y), textcoords="offset points", xytext=(5, 3), fontsize=7)
        places = [x for _, x, _ in known]
        if min(places) > 0 and max(places) / min(places) > _SPREAD_FOR_LOGARITHM:
            axes.set_xscale("log")
    correlation = rank_correlation([(x, y) for _, x, y in known], resamples=1)
    note = f"{len(known)} runs: too few, or too much alike, for a rank correlation."
    if correlation is not None:
        note = f"Spearman's rank correlation {correlation.value:+.2f}, over {len(known)} runs."
    if any(entry.is_random for entry, _, _ in known):
        note += " Crosses: random networks."
    yield Chart(name, words, figure, note)
