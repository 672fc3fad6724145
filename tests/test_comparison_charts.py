"""The charts of a comparison: which lines and points, in which look."""

from pathlib import Path
from typing import Any

import pytest

from autodisp.report.comparison import Entry, differences, find_runs
from autodisp.report.comparison_charts import charts_of_group, style_of
from autodisp.report.curves import Chart
from tests.made_runs import config_of, record_of, write_evaluation, write_run, write_training

DECAY = "optimizer.weights.weight_decay"


def searches(root: Path, runs: list[dict[str, Any]]) -> list[Entry]:
    """One search an entry: decay, policy, result and eigenvalue."""
    for number, run in enumerate(runs):
        config = config_of(
            policy=run.get("policy", "none"), optimizer={"weights": {"weight_decay": run.get("decay", 1)}}
        )
        records = [
            record_of(i, **{"eigenvalue": 0.1, "valid_discrete/accuracy": 1.0} | run.get("values", {})) for i in (0, 1)
        ]
        write_run(root / f"{number:02}", records, config=config)
    return find_runs([str(root)]).entries


def charts(entries: list[Entry], key: str | None = None) -> dict[str, Chart]:
    return {chart.name.split("_", 3)[3]: chart for chart in charts_of_group(entries, key)}


def test_results_over_a_setting(tmp_path: Path) -> None:
    results = [(1e-4, "none", 30.0), (1e-4, "none", 40.0), (1e-2, "none", 20.0), (1e-4, "es", 50.0), (1e-2, "es", 60.0)]
    runs = [{"decay": d, "policy": p, "values": {"valid_discrete/accuracy": y}} for d, p, y in results]
    axes = charts(searches(tmp_path, runs), DECAY)["discretised_over_setting"].figure.axes[0]
    lines = {str(line.get_label()): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert lines["none"].get_xydata().tolist() == [[1e-4, 35.0], [1e-2, 20.0]]  # type: ignore[union-attr]
    assert lines["es"].get_xydata().tolist() == [[1e-4, 50.0], [1e-2, 60.0]]  # type: ignore[union-attr]
    assert lines["none"].get_linestyle() == "-"
    assert lines["es"].get_linestyle() == "--"
    points = [point for line in axes.lines if line not in lines.values() for point in line.get_xydata().tolist()]  # type: ignore[union-attr]
    assert sorted(points) == sorted([d, y] for d, _, y in results)
    assert (axes.get_xlabel(), axes.get_xscale()) == (DECAY, "log")


def test_legends_say_what_tells_the_runs_apart(tmp_path: Path) -> None:
    entries = searches(tmp_path, [{"decay": 1e-4, "policy": "es"}, {"decay": 1e-2}])
    drawn = charts(entries, DECAY)
    labels = [str(line.get_label()) for line in drawn["eigenvalue"].figure.axes[0].lines]
    assert labels == ["1: es, 0.0001", "2: none, 0.01"]
    (legend,) = drawn["eigenvalue"].figure.legends
    assert legend.get_title().get_text() == "regularization, weight_decay"
    assert drawn["discretised_over_setting"].note.endswith("dotted: ADA."), "its lines say the rest"
    alike = charts(searches(tmp_path / "alike", [{}, {}]))["eigenvalue"].figure.axes[0].lines
    assert [str(line.get_label()) for line in alike] == ["1", "2"]


def test_what_else_differs_is_told_where_results_are_drawn_over_one_setting(tmp_path: Path) -> None:
    for number in range(2):
        config = config_of(optimizer={"weights": {"weight_decay": 10.0**-number}}) | {"seed": number}
        write_run(tmp_path / str(number), [record_of(0)], config=config | {"search": {"epochs": 4 + number}})
    entries = find_runs([str(tmp_path)]).entries
    assert differences(entries) == {"weight_decay": ["1", "0.1"], "epochs": ["4", "5"], "seed": ["0", "1"]}
    note = charts(entries, DECAY)["discretised_over_setting"].note
    assert note.endswith(" The runs differ in epochs, seed too.")


@pytest.mark.parametrize(
    ("values", "scale"),
    [([0, 1, 2], "linear"), ([1e-4, 1e-2], "log"), ([0, 1e-4, 1e-2], "symlog"), ([-1, 100], "linear")],
)
def test_the_scale_of_a_setting(tmp_path: Path, values: list[float], scale: str) -> None:
    entries = searches(tmp_path, [{"decay": value} for value in values])
    assert charts(entries, DECAY)["discretised_over_setting"].figure.axes[0].get_xscale() == scale


def test_one_value_of_a_setting_is_no_chart(tmp_path: Path) -> None:
    assert "discretised_over_setting" not in charts(searches(tmp_path, [{}, {}]), DECAY)


def test_a_point_a_run_over_the_curvature(tmp_path: Path) -> None:
    values = [(0.1, 1.0), (0.2, 4.0), (0.3, 2.0), (0.4, 8.0)]
    entries = searches(tmp_path, [{"values": {"eigenvalue": x, "discretisation_drop": y}} for x, y in values])
    chart = charts(entries)["drop_over_eigenvalue"]
    assert [line.get_xydata()[0].tolist() for line in chart.figure.axes[0].lines] == [list(pair) for pair in values]  # type: ignore[index]
    # ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15)
    assert chart.note == "Spearman's rank correlation +0.80, over 4 runs."
    alike = charts(entries)["discretised_over_eigenvalue"].note
    assert alike == "4 runs: too few, or too much alike, for a rank correlation."


def test_the_test_split_over_the_curvature(tmp_path: Path) -> None:
    searches(tmp_path, [{"values": {"eigenvalue": x}} for x in (0.1, 0.4, 0.2)])
    for number, top1 in enumerate((96.0, 92.0, 94.0)):
        write_training(tmp_path / f"t{number}", genotype=str(tmp_path / f"{number:02}" / "genotype.json"))
        write_evaluation(tmp_path / f"e{number}", str(tmp_path / f"t{number}" / "best.safetensors"), top1=top1)
    entries = [entry for entry in find_runs([str(tmp_path)]).entries if entry.run.kind == "search"]
    chart = charts(entries)["tested_over_eigenvalue"]
    points = [line.get_xydata()[0].tolist() for line in chart.figure.axes[0].lines]  # type: ignore[index]
    assert points == [[0.1, 96.0], [0.4, 92.0], [0.2, 94.0]]
    assert chart.note == "Spearman's rank correlation -1.00, over 3 runs."


def test_the_test_split_over_the_cost_of_trained_networks(tmp_path: Path) -> None:
    for number, (genotype, top1, speed) in enumerate((("darts_v2", 90.0, 50.0), ("random:darts", 80.0, 100.0))):
        write_training(tmp_path / f"t{number}", genotype=genotype)
        write_evaluation(
            tmp_path / f"e{number}", str(tmp_path / f"t{number}" / "best.safetensors"), top1=top1, speed=speed
        )
    entries = find_runs([str(tmp_path)]).entries
    for entry, macs in zip(entries, (5e6, 3e6), strict=True):
        entry.counts = {"macs": macs}
    drawn = charts(entries)
    for name, places in (("tested_over_latency", [20.0, 10.0]), ("tested_over_macs", [5e6, 3e6])):
        lines = drawn[name].figure.axes[0].lines
        points = [line.get_xydata()[0].tolist() for line in lines]  # type: ignore[index]
        assert points == [[places[0], 90.0], [places[1], 80.0]]
        assert [line.get_marker() for line in lines] == ["o", "x"]
        assert drawn[name].note.endswith("Crosses: random networks.")
    assert not any(name.endswith("parameters") for name in drawn)


def test_the_trained_metric_over_the_cost_of_searched_networks(tmp_path: Path) -> None:
    for number, (measured, accuracy) in enumerate(((3.0, 70.0), (5.0, 80.0))):
        event = {"event": "cost", "predicted": 4.0, "measured": measured, "target": 2.0}
        config = config_of() | {"cost_penalty": {"name": "latency", "target": 2.0}}
        write_run(tmp_path / str(number), [record_of(0, **{"valid_discrete/accuracy": accuracy}), event], config=config)
    drawn = charts(find_runs([str(tmp_path)]).entries)
    lines = drawn["discretised_over_latency"].figure.axes[0].lines
    assert [line.get_xydata()[0].tolist() for line in lines] == [[3.0, 70.0], [5.0, 80.0]]  # type: ignore[index]


def test_runs_without_a_number_are_left_out(tmp_path: Path) -> None:
    odd = [{"values": {"eigenvalue": value}} for value in (float("nan"), None, 1e300)]
    drawn = charts(searches(tmp_path, [*odd, {}, {}]))
    assert len(drawn["drop_over_eigenvalue"].figure.axes[0].lines) == 2


def test_curves_lie_over_each_other_without_what_was_undone(tmp_path: Path) -> None:
    write_run(
        tmp_path / "0",
        [record_of(0), record_of(1, eigenvalue=9.0), record_of(1, restart=1)],
        config=config_of(policy="ada"),
    )
    write_run(tmp_path / "1", [record_of(0)], config=config_of())
    lines = charts(find_runs([str(tmp_path)]).entries)["eigenvalue"].figure.axes[0].lines
    assert lines[0].get_xydata().tolist() == [[0.0, 0.2], [1.0, 0.25]]  # type: ignore[union-attr]
    assert len(lines) == 2
    assert style_of("ada") != style_of("es") != style_of("none") == style_of("anything")


def test_trainings(tmp_path: Path) -> None:
    for number, decay in enumerate((1e-4, 1e-3)):
        write_training(tmp_path / str(number), optimizer={"weight_decay": decay})
    drawn = charts(find_runs([str(tmp_path)]).entries, "optimizer.weight_decay")
    assert list(drawn) == ["validated", "validated_over_setting"]
    assert drawn["validated"].figure.axes[0].lines[0].get_xydata()[0].tolist() == [100.0, 40.0]  # type: ignore[index]


def test_a_key_with_mathematics_in_it_is_a_word(tmp_path: Path) -> None:
    for number in range(2):
        config = config_of() | {"$x_{": number, "space": {"name": f"$s_{{{number}"}}
        write_run(tmp_path / str(number), [record_of(0)], config=config)
    for chart in charts_of_group(find_runs([str(tmp_path)]).entries, "$x_{"):
        chart.figure.draw_without_rendering()
