"""Curves of a run: which panels there are, and what is drawn into them."""

import math
import random
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from autodisp.report.curves import charts_of, curves_figure, draw_curves, local_average, marked_chart, panels_of
from autodisp.report.figures import rendered
from autodisp.report.reading import Run, first_metric, read_run
from autodisp.report.viewer import panel_named
from tests.made_runs import config_of, record_of, write_run, write_search, write_training

NAN = math.nan


def search(tmp_path: Path, records: list[dict[str, Any]], **settings: Any) -> Run:
    return read_run(write_run(tmp_path / "run", records, config=config_of(**settings)))


def figure_of(records: list[dict[str, Any]], events: list[dict[str, Any]] | None = None, **options: Any) -> Figure:
    return curves_figure(panels_of(records, options.pop("metric", first_metric(records)), **options), events or [])


def record(epoch: int, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, **{key.replace("__", "/"): value for key, value in values.items()}}


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def drawn(figure: Figure, title: str) -> dict[str, list[tuple[float, float]]]:
    """The named curves of a panel, events aside."""
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))
    found = {str(line.get_label()): line for line in axes.lines if line.get_marker() == "o"}
    return {name: list(zip(*map(np.asarray, line.get_data()), strict=True)) for name, line in found.items()}


def dashed(axes: Axes) -> list[list[tuple[float, float]]]:
    found = [line for line in axes.lines if line.get_alpha() is not None]
    assert all(line.is_dashed() and line.get_alpha() < 0.6 for line in found)
    return [[(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)] for line in found]


def full(epoch: int, weight_decay: float = 3e-4) -> dict[str, Any]:
    values = record_of(epoch, metric="epe", weight_decay=weight_decay)
    return values if epoch % 2 == 0 else {**values, "eigenvalue": None}


def test_each_panel_shows_what_was_recorded() -> None:
    figure = figure_of([full(epoch) for epoch in range(6)], averages=[(2, 0.5), (4, 0.7)], unit="px")
    assert titles(figure) == [
        "dominant eigenvalue", "epe, px", "loss", "discretisation drop", "entropy of the alphas, nats",
        "parameter-free operations in the cells",
    ]  # fmt: skip
    assert drawn(figure, "dominant") == {
        "eigenvalue": [(0, 0.2), (2, pytest.approx(0.3)), (4, 0.4)], "local average": [(2, 0.5), (4, 0.7)]
    }  # fmt: skip
    assert drawn(figure, "epe") == {
        "weight split": [(e, 40.0 + e) for e in range(6)],
        "architecture split": [(e, 30.0 + e) for e in range(6)],
        "architecture split, discretised": [(e, 20.0 + e) for e in range(6)],
    }
    assert drawn(figure, "loss")["architecture split"] == [(e, 2.5 / (e + 1)) for e in range(6)]
    assert drawn(figure, "discretisation") == {"drop": [(e, 10.0) for e in range(6)]}
    assert set(drawn(figure, "entropy")) == {"normal", "reduce"}
    assert drawn(figure, "parameter") == {"parameter-free": [(e, 3.0 + e) for e in range(6)]}


def test_a_weight_decay_that_changes_is_shown() -> None:
    assert "weight decay of the weights" in titles(figure_of([full(0), full(1, 3e-3)]))
    assert "weight decay of the weights" not in titles(figure_of([full(0), full(1)]))


def test_the_metric_is_the_one_next_to_the_loss() -> None:
    records = [record(0, train__loss=1.0, valid__loss=1.0, train__top5=0.9, valid__accuracy=0.5, valid__top5=0.8)]
    assert titles(figure_of(records)) == ["accuracy", "loss"]
    assert titles(figure_of(records, metric="top5")) == ["top5", "loss"]
    assert titles(figure_of([record(0, train__loss=1.0, train__d1=3.0)])) == ["d1", "loss"]


def test_missing_values_are_bridged_and_values_that_are_no_number_leave_a_gap() -> None:
    values: list[Any] = [1.0, None, 3.0, NAN, 5.0, math.inf, 7.0, "eight", True, 10]
    records = [record(epoch, train__loss=value) for epoch, value in enumerate(values)]
    del records[1]["train/loss"]
    points = drawn(figure_of(records), "loss")["weight split"]
    assert [x for x, _ in points] == [0, 2, 3, 4, 5, 6, 9]
    np.testing.assert_equal([y for _, y in points], [1.0, 3.0, NAN, 5.0, NAN, 7.0, 10.0])


def test_a_roll_back_counts_even_where_the_value_is_missing() -> None:
    course = [(0, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (3, None), (4, 5.0)]
    figure = figure_of([record(epoch, eigenvalue=value) for epoch, value in course])
    assert drawn(figure, "dominant")["eigenvalue"] == [(0, 1.0), (2, 2.0), (4, 5.0)]
    assert dashed(figure.axes[0]) == [[(2, 2.0), (3, 3.0), (4, 4.0)]]


def test_random_roll_backs_keep_what_no_later_record_took_back() -> None:
    rng = random.Random(0)
    for _ in range(20):
        course = [0]
        for _ in range(rng.randrange(1, 40)):
            course.append(course[-1] + 1 if rng.random() < 0.85 else rng.randint(0, course[-1]))
        records = [record(epoch, train__loss=float(place)) for place, epoch in enumerate(course)]
        ((line,),) = (panel.lines for panel in panels_of(records, None))
        kept = [(e, place) for place, e in enumerate(course) if all(later > e for later in course[place + 1 :])]
        assert line.kept == kept
        discarded = [place for part in line.abandoned for _, place in part]
        assert {*discarded, *(place for _, place in kept)} == set(range(len(course)))


def test_events_stand_where_they_happened_and_where_they_led() -> None:
    events = [
        {"event": "restart", "decided_epoch": 4, "returned_epoch": 2, "weight_decay": 3e-3},
        {"event": "odd_one", "epoch": 4}, {"event": "noted"}, {"epoch": None},
    ]  # fmt: skip
    figure = figure_of([*map(full, range(5)), full(3), full(4)], events)
    for axes in figure.axes:
        upright = {float(line.get_xdata()[0]) for line in axes.lines if line.get_linestyle() == ":" or
                   list(line.get_ydata()) == [0, 1]}  # fmt: skip
        assert upright == {2.0, 4.0}
        legend = axes.get_legend()
        assert legend is not None
        assert {"ADA restarted", "odd one", "returned to"} <= {text.get_text() for text in legend.get_texts()}


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{}],
        [full(7)],
        [{"train/loss": 1.0}, {"train/loss": 2.0, "epoch": None}, {"train/loss": 3.0, "epoch": "x"}],
        [record(0, train__loss=NAN, valid__loss=NAN, eigenvalue=NAN), record(1, train__loss=math.inf)],
        [record(0, train__loss=-1.0, eigenvalue=-3.0), record(1, train__loss=0.0, eigenvalue=0.0)],
        [record(0, train__loss=1e-9, eigenvalue=1e-3), record(1, train__loss=1e9, eigenvalue=1e30)],
        [record(epoch, valid__epe=1.0) for epoch in range(600)],
        [full(0), full(0), full(0)],
    ],
    ids=["none", "empty", "late", "no epoch", "nan", "negative", "wide", "long", "again"],
)
def test_whatever_was_recorded_an_image_comes_of_it(records: list[dict[str, Any]], tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    draw_curves(records, tmp_path / "curves.png", events=[{"event": "es_stopped", "epoch": 3, "returned_epoch": 1}])
    image = cv2.imread(str(tmp_path / "curves.png"))
    assert image.shape[0] > 200
    assert image.min() < 200
    assert dict(mpl.rcParams) == settings


def test_without_a_number_the_figure_says_so() -> None:
    assert [text.get_text() for text in figure_of([{"epoch": 0}]).texts] == ["no epoch recorded yet"]


def test_records_without_an_epoch_follow_each_other() -> None:
    figure = figure_of([record(3, train__loss=1.0), {"train/loss": 2.0}, {"train/loss": 3.0}])
    assert drawn(figure, "loss")["weight split"] == [(3, 1.0), (4, 2.0), (5, 3.0)]


def test_a_wide_range_is_logarithmic_and_any_other_linear() -> None:
    wide = [record(0, train__loss=0.1, eigenvalue=-0.1), record(1, train__loss=99.0, eigenvalue=99.0)]
    eigenvalue, loss = figure_of(wide).axes
    assert (loss.get_yscale(), eigenvalue.get_yscale()) == ("log", "linear")


def test_all_panels_have_one_range_of_epochs_and_words_stay_inside() -> None:
    figure = figure_of([full(3), full(4, 1e-2), full(9)], averages=[(3, 1.0)])
    ((low, high),) = {axes.get_xlim() for axes in figure.axes}
    assert 2 < low < 3
    assert 9 < high < 10
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())
    assert (box.min >= 0).all()
    assert (box.max <= figure.get_size_inches()).all()


def test_curves_that_coincide_are_all_seen() -> None:
    alike = [record(e, entropy__normal=0.5, entropy__reduce=0.5, entropy__upsample=0.5) for e in range(9)]
    figure = figure_of(alike)
    image = rendered(figure).astype(int)
    box = figure.axes[0].get_window_extent()
    pixels = image[int(image.shape[0] - box.y1) : int(image.shape[0] - box.y0)].reshape(-1, 3)  # without the legend
    for colour in ("#0072B2", "#D55E00", "#009E73"):
        near = np.abs(pixels - 255 * np.array(mpl.colors.to_rgb(colour))).max(axis=1) < 8
        assert near.sum() > 40, colour


def test_a_training_goes_by_its_steps(tmp_path: Path) -> None:
    charts = {chart.name: chart.figure for chart in charts_of(read_run(write_training(tmp_path / "run")))}
    assert list(charts) == ["metric", "loss", "learning_rate"]
    assert drawn(charts["metric"], "accuracy")["validation"] == [(100, 40.0), (200, 41.0), (300, 42.0)]
    assert charts["metric"].axes[0].get_xlabel() == "step"


def test_the_local_average_is_that_of_the_runs_rule(tmp_path: Path) -> None:
    # three values around each epoch of a straight line: the line itself
    average = local_average(read_run(write_search(tmp_path / "run")))
    assert [x for x, _ in average] == [0, 1, 2]
    assert average[1][1] == pytest.approx(0.25)
    assert list(charts_of(search(tmp_path / "none", []))) == []


@pytest.mark.parametrize("window", [2, 0, "five", None, math.inf, [3]])
def test_a_rule_that_cannot_be_read_smooths_nothing(tmp_path: Path, window: Any) -> None:
    run = search(tmp_path, [record_of(i) for i in range(4)], regularization={"name": "es", "window": window})
    assert local_average(run) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "strange",
    [
        {"eigenvalue": -1e29},
        {"valid/loss": 1e-300},
        {"spectrum": [0.0, 0.0]},
        {"spectrum": [NAN, -1.0, 2.0]},
        {"entropy/normal": 0.69},
    ],
)
def test_odd_values_are_drawn_without_a_warning(tmp_path: Path, strange: dict[str, Any]) -> None:
    for chart in charts_of(search(tmp_path, [record_of(0), record_of(1, **strange)])):
        chart.figure.draw_without_rendering()


def test_the_spectrum_is_a_line_per_rank(tmp_path: Path) -> None:
    records = [record_of(0, spectrum=[-1.0, 0.0, 2.0]), record_of(1), record_of(2, spectrum=[-2.0, 3.0, 1.0])]
    *_, chart = charts_of(search(tmp_path, records))
    assert [line.get_xydata().tolist() for line in chart.figure.axes[0].lines] == [
        [[0, -1], [2, -2]], [[0, 0], [2, 1]], [[0, 2], [2, 3]]
    ]  # fmt: skip


def test_a_long_spectrum_is_thinned_out_to_its_ends(tmp_path: Path) -> None:
    *_, chart = charts_of(search(tmp_path, [record_of(i, spectrum=list(map(float, range(300)))) for i in range(3)]))
    heights = [line.get_ydata()[0] for line in chart.figure.axes[0].lines]
    assert len(heights) <= 48
    assert (heights[0], heights[-1]) == (0, 299)


def test_the_viewers_chart_does_not_move_any_more(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run"))
    panel = panel_named(run, "eigenvalue")
    assert panel is not None
    figure, axes = marked_chart(run, panel)
    before = axes.transData.transform((3, 0.35)).tolist()
    figure.draw_without_rendering()
    assert axes.transData.transform((3, 0.35)).tolist() == before
    record = record_of(0)
    del record["eigenvalue"]
    assert panel_named(search(tmp_path / "none", [record]), "eigenvalue") is None
