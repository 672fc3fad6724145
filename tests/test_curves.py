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

from autodisp.report.curves import curves_figure, draw_curves

NAN = math.nan


def record(epoch: int, **values: Any) -> dict[str, Any]:
    return {"epoch": epoch, **{key.replace("__", "/"): value for key, value in values.items()}}


def panel(figure: Figure, title: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))
    return found


def titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left").split(",")[0] for axes in figure.axes]


def drawn(axes: Axes, name: str) -> list[tuple[float, float]]:
    (line,) = (line for line in axes.lines if line.get_label() == name)
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def dashed(axes: Axes) -> list[list[tuple[float, float]]]:
    found = [line for line in axes.lines if line.get_alpha() is not None]
    assert all(line.is_dashed() and line.get_alpha() < 0.6 for line in found)
    return [[(float(x), float(y)) for x, y in zip(p.get_xdata(), p.get_ydata(), strict=True)] for p in found]


def upright(axes: Axes) -> set[float]:
    return {
        float(line.get_xdata()[0]) for line in axes.lines if len(set(line.get_xdata())) == 1 < len(line.get_xdata())
    }


def full(epoch: int, weight_decay: float = 3e-4) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train/loss": 3.0 / (epoch + 1),
        "valid/loss": 4.0 / (epoch + 1),
        "train/epe": 9.0 - epoch / 10,
        "valid/epe": 10.0 - epoch / 10,
        "valid_discrete/epe": 12.0 - epoch / 5,
        "discretisation_drop": 2.0 - epoch / 10,
        "eigenvalue": 0.1 + epoch if epoch % 2 == 0 else None,
        "weight_decay": weight_decay,
        "genotype": "normal: ...",
        "alphas/normal": [[0.5, 0.5]],
    }


def test_each_panel_shows_what_was_recorded() -> None:
    records = [full(epoch) for epoch in range(6)]
    figure = curves_figure(records, averages=[(2, 0.5), (4, 0.7)])
    assert titles(figure) == ["loss", "epe", "dominant eigenvalue", "discretisation drop"]
    assert drawn(panel(figure, "loss"), "weight half") == [(e, 3.0 / (e + 1)) for e in range(6)]
    assert drawn(panel(figure, "loss"), "architecture half") == [(e, 4.0 / (e + 1)) for e in range(6)]
    assert drawn(panel(figure, "epe"), "architecture half, discretised") == [(e, 12.0 - e / 5) for e in range(6)]
    assert drawn(panel(figure, "dominant"), "eigenvalue") == [(0, 0.1), (2, 2.1), (4, 4.1)]
    assert drawn(panel(figure, "dominant"), "local average") == [(2, 0.5), (4, 0.7)]
    assert drawn(panel(figure, "discretisation"), "drop") == [(e, 2.0 - e / 10) for e in range(6)]


def test_a_weight_decay_that_changes_is_shown() -> None:
    assert "weight decay" in titles(curves_figure([full(0), full(1, 3e-3)]))
    assert "weight decay" not in titles(curves_figure([full(0), full(1)]))


def test_the_metric_is_what_stands_beside_the_loss() -> None:
    records = [record(0, train__loss=1.0, valid__loss=1.0, train__top5=0.9, valid__accuracy=0.5, valid__top5=0.8)]
    assert titles(curves_figure(records)) == ["loss", "accuracy"]
    assert titles(curves_figure(records, metric="top5")) == ["loss", "top5"]
    assert titles(curves_figure([record(0, train__loss=1.0, train__d1=3.0)])) == ["loss", "d1"]


def test_missing_values_are_bridged_and_values_that_are_no_number_leave_a_gap() -> None:
    values: list[Any] = [1.0, None, 3.0, NAN, 5.0, math.inf, 7.0, "eight", True, 10]
    records = [record(epoch, train__loss=value) for epoch, value in enumerate(values)]
    del records[1]["train/loss"]
    points = drawn(panel(curves_figure(records), "loss"), "weight half")
    assert [x for x, _ in points] == [0, 2, 3, 4, 5, 6, 9]
    np.testing.assert_equal([y for _, y in points], [1.0, 3.0, NAN, 5.0, NAN, 7.0, 10.0])


def test_what_a_roll_back_threw_away_is_dashed() -> None:
    course = [*range(6), *range(3, 8), *range(5, 7)]
    records = [record(epoch, train__loss=float(place)) for place, epoch in enumerate(course)]
    axes = panel(curves_figure(records), "loss")
    assert drawn(axes, "weight half") == [(0, 0), (1, 1), (2, 2), (3, 6), (4, 7), (5, 11), (6, 12)]
    assert dashed(axes) == [[(2, 2), (3, 3), (4, 4), (5, 5)], [(4, 7), (5, 8), (6, 9), (7, 10)]]


def test_a_roll_back_counts_even_where_the_value_is_missing() -> None:
    course = [(0, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (3, None), (4, 5.0)]
    axes = panel(curves_figure([record(epoch, eigenvalue=value) for epoch, value in course]), "dominant")
    assert drawn(axes, "eigenvalue") == [(0, 1.0), (2, 2.0), (4, 5.0)]
    assert dashed(axes) == [[(2, 2.0), (3, 3.0), (4, 4.0)]]


def test_random_roll_backs_keep_what_no_later_record_took_back() -> None:
    rng = random.Random(0)
    for _ in range(50):
        course = [0]
        for _ in range(rng.randrange(1, 40)):
            course.append(course[-1] + 1 if rng.random() < 0.85 else rng.randint(0, course[-1]))
        records = [record(epoch, train__loss=float(place)) for place, epoch in enumerate(course)]
        axes = panel(curves_figure(records), "loss")
        kept = [
            (epoch, place) for place, epoch in enumerate(course) if all(later > epoch for later in course[place + 1 :])
        ]
        assert drawn(axes, "weight half") == kept
        seen = [place for part in dashed(axes) for _, place in part]
        assert {*seen, *(place for _, place in kept)} == set(range(len(course)))


def test_events_stand_where_they_happened_and_where_they_led() -> None:
    event = {"event": "ada_raised", "decided_epoch": 4, "returned_epoch": 2, "weight_decay": 3e-3}
    records = [full(0), full(1), full(2), full(3), full(4), event, full(3), full(4)]
    figure = curves_figure(records, events=[{"event": "es_stopped", "epoch": 4}, {"event": "noted"}, {"epoch": None}])
    for axes in figure.axes:
        assert upright(axes) == {2.0, 4.0}
    words = {text.get_text().strip(): text.get_position()[0] for text in panel(figure, "dominant").texts}
    assert words == {"ada raised, es stopped": 4, "returned": 2}
    assert not panel(figure, "loss").texts


def test_events_are_worded_though_there_is_no_eigenvalue() -> None:
    figure = curves_figure([record(0, train__loss=1.0)], events=[{"event": "stopped", "epoch": 0}])
    assert [text.get_text().strip() for text in panel(figure, "loss").texts] == ["stopped"]


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{}],
        [{"event": "es_stopped", "epoch": 3, "returned_epoch": 1}],
        [full(0)],
        [full(7)],
        [{"train/loss": 1.0}, {"train/loss": 2.0, "epoch": None}, {"train/loss": 3.0, "epoch": "x"}],
        [record(0, train__loss=NAN, valid__loss=NAN, eigenvalue=NAN), record(1, train__loss=math.inf)],
        [record(0, train__loss=-1.0, eigenvalue=-3.0), record(1, train__loss=0.0, eigenvalue=0.0)],
        [record(0, train__loss=1e-9, eigenvalue=1e-3), record(1, train__loss=1e9, eigenvalue=1e30)],
        [record(epoch, valid__epe=1.0) for epoch in range(600)],
        [full(0), full(0), full(0)],
    ],
    ids=["none", "empty", "event", "one", "late", "no epoch", "nan", "negative", "wide", "long", "again"],
)
def test_whatever_was_recorded_a_picture_comes_of_it(records: list[dict[str, Any]], tmp_path: Path) -> None:
    draw_curves(records, tmp_path / "curves.png")
    image = cv2.imread(str(tmp_path / "curves.png"))
    assert image.shape[0] > 200
    assert image.min() < 200


def test_without_a_number_the_picture_says_so() -> None:
    figure = curves_figure([{"epoch": 0}])
    assert not figure.axes
    assert [text.get_text() for text in figure.texts] == ["no epoch recorded yet"]


def test_records_without_an_epoch_follow_each_other() -> None:
    axes = panel(curves_figure([record(3, train__loss=1.0), {"train/loss": 2.0}, {"train/loss": 3.0}]), "loss")
    assert drawn(axes, "weight half") == [(3, 1.0), (4, 2.0), (5, 3.0)]


def test_a_wide_range_is_logarithmic_and_any_other_linear() -> None:
    wide = [record(0, train__loss=0.1, eigenvalue=-0.1), record(1, train__loss=99.0, eigenvalue=99.0)]
    figure = curves_figure(wide)
    assert panel(figure, "loss").get_yscale() == "log"
    assert panel(figure, "dominant").get_yscale() == "linear"


def test_all_panels_have_one_range_of_epochs() -> None:
    figure = curves_figure([full(3), full(4), full(9)], averages=[(3, 1.0)])
    ranges = {axes.get_xlim() for axes in figure.axes}
    assert len(ranges) == 1
    low, high = ranges.pop()
    assert 2 < low < 3
    assert 9 < high < 10


def test_words_do_not_leave_the_picture_and_settings_stay() -> None:
    settings = dict(mpl.rcParams)
    figure = curves_figure([full(epoch, 3e-4 * (1 + epoch)) for epoch in range(5)])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())
    assert (box.min >= 0).all()
    assert (box.max <= figure.get_size_inches()).all()
    assert dict(mpl.rcParams) == settings
