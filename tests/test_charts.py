"""The charts of a run: which there are, and what is drawn into them."""

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from autodisp.report.charts import charts_of, course_figure, course_panel, local_average, told_events
from autodisp.report.reading import Run, read_run
from tests.made_runs import config_of, record_of, write_run, write_search, write_training


def search(tmp_path: Path, records: list[dict[str, Any]], **settings: Any) -> Run:
    return read_run(write_run(tmp_path / "run", records, config=config_of(**settings)))


def lines(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """The named lines of the only axes."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]  # type: ignore[union-attr]
        for line in figure.axes[0].lines
        if not str(line.get_label()).startswith("_")
    }


def test_a_search_has_them_all(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run"))
    charts = {chart.name: chart for chart in charts_of(run)}
    assert list(charts) == ["eigenvalue", "figure", "loss", "discretisation_drop", "entropy", "parameter_free"]
    assert lines(charts["figure"].figure)["architecture half, discretised"] == [(i, 20.0 + i) for i in range(4)]
    assert lines(charts["discretisation_drop"].figure)["drop"] == [(i, 10.0) for i in range(4)], (
        "an accuracy that falls"
    )
    assert lines(charts["parameter_free"].figure)["parameter-free"] == [(i, 3.0 + i) for i in range(4)]
    assert set(lines(charts["entropy"].figure)) == {"normal", "reduce"}
    # three values around each epoch of a straight line: the line itself
    average = lines(charts["eigenvalue"].figure)["local average"]
    assert [x for x, _ in average] == [0, 1, 2]
    assert average[1][1] == pytest.approx(0.25)


def test_a_training_goes_by_its_steps(tmp_path: Path) -> None:
    charts = {chart.name: chart for chart in charts_of(read_run(write_training(tmp_path / "run")))}
    assert list(charts) == ["figure", "loss", "learning_rate"]
    assert lines(charts["figure"].figure)["validation"] == [(100, 40.0), (200, 41.0), (300, 42.0)]
    assert charts["figure"].figure.axes[0].get_xlabel() == "step"


def test_a_run_without_records_has_none(tmp_path: Path) -> None:
    assert list(charts_of(search(tmp_path, []))) == []


@pytest.mark.parametrize(
    "strange",
    [
        {"eigenvalue": math.nan},
        {"eigenvalue": math.inf},
        {"eigenvalue": -1e29},
        {"valid/loss": 1e-300},
        {"spectrum": [0.0, 0.0]},
        {"spectrum": [math.nan, -1.0, 2.0]},
        {"entropy/normal": 0.69},
    ],
)
def test_odd_values_are_drawn_without_a_warning(tmp_path: Path, strange: dict[str, Any]) -> None:
    run = search(tmp_path, [record_of(0), record_of(1, **strange)])
    for chart in charts_of(run):
        chart.figure.draw_without_rendering()


def test_the_spectrum_is_a_line_a_rank(tmp_path: Path) -> None:
    records = [record_of(0, spectrum=[-1.0, 0.0, 2.0]), record_of(1), record_of(2, spectrum=[-2.0, 3.0, 1.0])]
    chart = {chart.name: chart for chart in charts_of(search(tmp_path, records))}["spectrum"]
    drawn = [line.get_xydata().tolist() for line in chart.figure.axes[0].lines]  # type: ignore[union-attr]
    assert drawn == [[[0, -1], [2, -2]], [[0, 0], [2, 1]], [[0, 2], [2, 3]]]


def test_a_long_spectrum_is_thinned_out_to_its_ends(tmp_path: Path) -> None:
    records = [record_of(i, spectrum=[float(k) for k in range(300)]) for i in range(3)]
    chart = {chart.name: chart for chart in charts_of(search(tmp_path, records))}["spectrum"]
    heights = [line.get_ydata()[0] for line in chart.figure.axes[0].lines]  # type: ignore[index]
    assert len(heights) <= 48
    assert (heights[0], heights[-1]) == (0, 299)


def test_decisions_in_words(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [record_of(0)]
    records += [{"event": "restart", "decided_epoch": 22, "returned_epoch": 10, "weight_decay": 3e-3, "ratio": 1.96}]
    records += [{"event": "early_stop", "decided_epoch": 24, "returned_epoch": 12, "ratio": 1.5}, {"event": "odd_one"}]
    assert told_events(search(tmp_path, records)) == [
        "ADA raised the weight decay to 0.003 after epoch 22, the local average having grown 1.96-fold: "
        "back to epoch 10",
        "ES stopped the search after epoch 24, the local average having grown 1.5-fold, "
        "and returned the cells of epoch 12",
        "odd one",
    ]


@pytest.mark.parametrize("window", [2, 0, "five", None, math.inf, [3]])
def test_a_rule_that_cannot_be_read_smooths_nothing(tmp_path: Path, window: Any) -> None:
    run = search(tmp_path, [record_of(i) for i in range(4)], regularization={"name": "es", "window": window})
    assert local_average(run) == []


def test_the_viewers_chart_does_not_move_any_more(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run"))
    panel = course_panel(run, "eigenvalue")
    assert panel is not None
    figure, axes = course_figure(run, panel)
    before = axes.transData.transform((3, 0.35)).tolist()
    figure.draw_without_rendering()
    assert axes.transData.transform((3, 0.35)).tolist() == before


def test_no_eigenvalue_no_panel(tmp_path: Path) -> None:
    record = record_of(0)
    del record["eigenvalue"]
    assert course_panel(search(tmp_path, [record]), "eigenvalue") is None
