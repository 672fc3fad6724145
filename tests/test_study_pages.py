"""What studies show, from run folders made up for it, and the page, CSV and LaTeX of it."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError
from autodisp.report.curves import Chart, empty_chart
from autodisp.report.reading import read_run
from autodisp.report.study_page import Findings, ResultTable, write_study_page
from autodisp.studies.drop import DropStudy
from autodisp.studies.endings import Ending, write_ending
from autodisp.studies.graph import RUNS, in_order
from autodisp.studies.protocol import Protocol
from autodisp.studies.provenance import PROVENANCE
from autodisp.studies.published import published
from autodisp.studies.rdarts import RdartsStudy
from autodisp.studies.regret import RegretStudy, would_stop
from autodisp.studies.results import Results
from autodisp.studies.spaces import SpacesStudy
from autodisp.studies.study import Study
from autodisp.studies.table import FILE, TableStudy
from autodisp.tables import Entry, Table, Trained, load
from autodisp.tasks.base import Figure
from tests.made_runs import record_of, write_evaluation, write_run, write_search, write_training

ACCURACY = Figure("accuracy", "max", "%")
PROTOCOL = Protocol("classification", ACCURACY, ["a=1"], ["b=1"], ["c=1"], [], None, [0, 1])
SPACE = SPACES["tiny81"]


def made(study: Study, folder: Path, metric_of: Mapping[str, float], protocol: Protocol = PROTOCOL) -> Results:
    """Run folders as the programs leave them; the metric depends on index or seed."""
    results = Results(folder, study.runs(protocol), protocol)
    (folder / RUNS).mkdir()
    (folder / PROVENANCE).write_text(json.dumps({"command": "autodisp-study study=table", "machine": "a desk"}))
    for run in in_order(results.runs):
        place, value = folder / RUNS / run.name, metric_of[run.labels.get("index") or run.labels["seed"]]
        value += 0.5 * int(run.labels.get("trained with", 0))
        if run.program == "search":
            write_search(place, space=run.labels["space"], policy=run.labels.get("policy", "none"))
        elif run.program == "train":
            start = {"event": "start", "parameters": 1234, "constant": 10.0}
            write_run(place, [start, *({"epoch": e, "step": 5 * e, "valid/accuracy": value - 1 + e} for e in (0, 1))])
        else:
            write_evaluation(place, str(folder / RUNS / run.needs[0].name / "best.safetensors"), top1=value)
        write_ending(place, Ending("done", metric=value, seconds=60.0))
    return results


def load_text(text: str, folder: Path) -> Table:
    (folder / FILE).write_text(text)
    return load(folder / FILE)


def rows_of(table: ResultTable) -> list[list[str]]:
    return list(csv.reader(table.csv().splitlines()))


def test_a_table_of_architectures(tmp_path: Path) -> None:
    study = TableStudy("cifar10", SPACE, 3)
    indices = study.indices()
    results = made(study, tmp_path, {str(index): 10.0 * place for place, index in enumerate(indices, 1)})
    (tmp_path / FILE).write_text(study.files(results)[FILE])
    table = load(tmp_path / FILE)
    assert table.about["training"] == ["c=1"]
    assert table.about["machine"] == "a desk"
    assert [entry.index for entry in map(table.best, (1, 2, 3))] == indices[::-1]
    best = table.best()
    assert (best.parameters, [run.metric for run in best.runs]) == (1234, [30.0, 30.5])
    assert ([run.test for run in best.runs], best.runs[0].curve) == ([30.0, None], [(0, 29.0), (5, 30.0)])
    findings = study.findings(results)
    spread, architectures = map(rows_of, findings.tables)
    assert architectures[1][:4] == ["1", f"tiny81:{indices[2]}", "30.25", str(best.deviation)]
    assert spread[3] == ["rank correlation between two seeds, mean", "1.0"]
    assert len(findings.cells) == 3
    assert study.check(results) is None


def test_a_training_that_diverged_is_left_out_of_a_table(tmp_path: Path) -> None:
    """Its last finite metric is that of a shorter training."""
    study = TableStudy("cifar10", SPACE, 2)
    results = made(study, tmp_path, dict.fromkeys(map(str, study.indices()), 10.0))
    lost = results.done("train")[0]
    with (tmp_path / RUNS / lost.name / "metrics.jsonl").open("a", encoding="utf-8") as file:
        record = {"epoch": 2, "step": 10, "valid/accuracy": None, "non_finite": [[["valid/accuracy"], "nan"]]}
        file.write(json.dumps(record) + "\n")
    table = study.table(results)
    assert table is not None
    assert sorted(len(entry.runs) for entry in table.entries) == [1, 2]
    assert results.notes == [f"{lost.name}: left out: its last validation metric is not finite"]


def test_a_table_is_checked_by_longer_trainings(tmp_path: Path) -> None:
    study = TableStudy("cifar10", SPACE, None, checked=4)
    protocol = replace(PROTOCOL, check=["training.steps=4"])
    longer = [run for run in study.runs(protocol) if run.labels.get("length") == "long"]
    assert [run.labels["index"] for run in longer] == [str(index) for index in study.indices()[:4]]
    assert all("training.steps=4" in run.settings and run.labels["trained with"] == "0" for run in longer)
    order = dict(zip(study.indices(), [3.0, 1.0, 2.0, 4.0], strict=False))
    results = made(study, tmp_path, {str(index): order.get(index, 0.0) for index in range(81)}, protocol)
    swapped = {3.0: 1.0, 1.0: 3.0}
    for run in longer:
        metric = order[int(run.labels["index"])]
        record = {"epoch": 0, "step": 20, "valid/accuracy": swapped.get(metric, metric)}
        (tmp_path / RUNS / run.name / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    found = study.check(results)
    assert found is not None
    assert (found.value, found.pairs) == (pytest.approx(1 - 6 * 8 / (4 * 15)), 4)
    assert json.loads(study.files(results)[FILE])["about"]["check"]["training"] == ["training.steps=4"]
    assert {len(entry.runs) for entry in load_text(study.files(results)[FILE], tmp_path).entries} == {2}
    assert "check" in {chart.name for chart in study.findings(results).charts}


def test_policies_over_spaces(tmp_path: Path) -> None:
    study = SpacesStudy(["cifar10"], ["s2"], ["none", "es"])
    findings = study.findings(made(study, tmp_path, {"0": 90.0, "1": 94.0}))
    head, none, es = rows_of(findings.tables[0])
    assert head[:4] == ["dataset", "space", "policy", "test error, %, mean"]
    assert none[:6] == ["cifar10", "s2", "none", "7.75", str(4.5 / 2**0.5), "2"]
    assert (none[-1], es[-1]) == ("4.42 ± 0.40", "3.41 ± 0.14")
    assert {chart.name for chart in findings.charts} == {"eigenvalue", "valid_accuracy"}
    assert len(findings.cells) == 4


def test_the_chosen_cells_of_rdarts(tmp_path: Path) -> None:
    study = RdartsStudy(["cifar10"], ["s2"], "search.drop_path", [0.0, 0.2, 0.4], "none")
    results = made(study, tmp_path, {"0": 90.0, "1": 94.0})
    searches = [run for run in study.runs(PROTOCOL) if run.program == "search" and run.labels["seed"] == "0"]
    trained = {run.needs[0].name: run for run in results.done("train") if run.labels.get("length") == "short"}
    folder = tmp_path / RUNS / trained[searches[1].name].name
    write_ending(folder, Ending("done", metric=99.0, seconds=1.0))
    tested, choice = study.findings(Results(tmp_path, results.runs, PROTOCOL)).tables
    assert rows_of(tested)[1][:5] == ["cifar10", "s2", "7.75", str(4.5 / 2**0.5), "2"]
    marks = {(row[2], row[3]): row[-1] for row in rows_of(choice)[1:]}
    assert {value: mark for (seed, value), mark in marks.items() if seed == "0"} == {"0": "", "0.2": "yes", "0.4": ""}
    assert list(marks.values()).count("yes") == 2, "one of each seed"


def table_of_space(latency: float | None = None) -> Table:
    entries = [Entry(index, 1, latency, [Trained(0, float(index), [(1, 0.0)])]) for index in range(SPACE.size)]
    return Table(SPACE, ACCURACY, entries, {"dataset": "cifar10"})


def test_regret_of_searches(tmp_path: Path) -> None:
    study = RegretStudy(table_of_space(), "cifar10", "tiny81", ["none"], ["relaxation=dirichlet"])
    assert len(study.runs(PROTOCOL)) == 4
    findings = study.findings(made(study, tmp_path, {"0": 90.0, "1": 90.0}))
    found = SPACE.sample(1)  # of write_search after four epochs
    expected = 80.0 - study.table.find(found).index
    row, *_, baseline = rows_of(findings.tables[0])[1:]
    assert (row[0], float(row[1]), float(row[2]), row[4:6]) == ("none", expected, 0.0, ["", "2"])
    assert float(row[3]) == study.table.rank(Genotype("tiny81", found))
    assert [float(baseline[place]) for place in (1, 3, 5)] == [40.0, 41.0, 81.0]
    assert [chart.name for chart in findings.charts] == ["regret", "validated", "eigenvalue"]


def test_a_damaged_run_is_left_out_with_a_note(tmp_path: Path) -> None:
    study = RegretStudy(table_of_space(), "cifar10", "tiny81", ["none"], [])
    results = made(study, tmp_path, {"0": 90.0, "1": 90.0})
    broken = results.runs[0].name
    (tmp_path / RUNS / broken / "genotype.json").unlink()
    findings = study.findings(results)
    assert rows_of(findings.tables[0])[1][5] == "1"
    (note,) = [note for note in findings.notes if broken in note]
    assert f"{broken}: left out: cannot be read (FileNotFoundError" in note
    table = TableStudy("cifar10", SPACE, 2)
    (tmp_path / "other").mkdir()
    of_table = made(table, tmp_path / "other", {str(index): 1.0 for index in table.indices()})
    training = of_table.done("train")[0].name
    metrics = tmp_path / "other" / RUNS / training / "metrics.jsonl"
    metrics.write_text("damaged\n" + metrics.read_text())
    again = Results(tmp_path / "other", of_table.runs, PROTOCOL)
    left = table.table(again)
    assert left is not None
    assert sorted(len(entry.runs) for entry in left.entries) == [1, 2]
    evaluation = of_table.done("evaluate")[0].name
    (tmp_path / "other" / RUNS / evaluation / "evaluation.json").write_text("{")
    last = Results(tmp_path / "other", of_table.runs, PROTOCOL)
    assert len(last.done("evaluate")) == 1
    assert f"{evaluation}: left out: cannot be read (JSONDecodeError" in last.notes[0]


@pytest.mark.parametrize(
    ("program", "file", "damage", "noted"),
    [
        ("evaluate", "evaluation.json", '{"methods": null}', False),
        ("evaluate", "evaluation.json", "[" * 100_000, True),
        ("train", "metrics.jsonl", '{"event": "start", "parameters": null}\n', True),
        ("train", "metrics.jsonl", '{"epoch": 0, "step": 1, "valid/accuracy": 1%s}\n' % ("0" * 400), True),
    ],
)
def test_a_damaged_value_is_left_out(tmp_path: Path, program: str, file: str, damage: str, noted: bool) -> None:
    study = TableStudy("cifar10", SPACE, 2)
    results = made(study, tmp_path, {str(index): 1.0 for index in study.indices()})
    (tmp_path / RUNS / results.done(program)[0].name / file).write_text(damage)
    findings = study.findings(Results(tmp_path, results.runs, PROTOCOL))
    assert len(findings.notes) == noted
    counts = [row[-1] for row in rows_of(findings.tables[1])[1:]]
    assert sorted(counts) == (["1", "2"] if program == "train" else ["2", "2"])


def test_found_cells_among_all_by_metric_and_latency(tmp_path: Path) -> None:
    study = RegretStudy(table_of_space(latency=3.0), "cifar10", "tiny81", [], ["cost_penalty=latency"])
    findings = study.findings(made(study, tmp_path, {"0": 90.0, "1": 90.0}))
    costs = findings.charts[-1]
    table, found = (np.asarray(line.get_ydata()).tolist() for line in costs.figure.axes[0].get_lines())
    assert (costs.name, table) == ("costs", list(range(81)))
    assert found == [study.table.find(SPACE.sample(1)).index] * 2
    assert rows_of(findings.tables[0])[1][4] == "3.0"


def test_where_es_would_stop(tmp_path: Path) -> None:
    rising = [record_of(epoch, eigenvalue=0.2 if epoch < 20 else 2.0) for epoch in range(40)]
    folder = write_run(tmp_path / "rising", rising, config={"curvature": {"every": 1}, "search": {"epochs": 40}})
    stop = would_stop(read_run(folder))
    assert stop is not None
    assert stop[1] < 20 <= stop[0] < 30
    flat = write_run(
        tmp_path / "flat", [record_of(epoch, eigenvalue=0.2) for epoch in range(40)],
        config={"curvature": {"every": 1}, "search": {"epochs": 40}},
    )  # fmt: skip
    assert would_stop(read_run(flat)) is None
    for damaged in ({"curvature": {"every": None}, "search": {"epochs": 40}}, {"search": {"epochs": "x"}}):
        (folder / "config.yaml").write_text(json.dumps(damaged))
        assert would_stop(read_run(folder)) is None


def test_drop_over_the_eigenvalue(tmp_path: Path) -> None:
    for number in range(5):
        value = float(min(number, 3))  # the last two ended alike
        records = [record_of(0, eigenvalue=value, discretisation_drop=value)]
        folder = write_search(tmp_path / "runs" / str(number))
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("seed: 0", "seed: []"))  # edited
        (tmp_path / "runs" / str(number) / "metrics.jsonl").write_text(json.dumps(records[0]) + "\n")
    findings = DropStudy([str(tmp_path / "runs")]).findings(Results(tmp_path / "study", [], PROTOCOL))
    assert findings.lead == "5 searches, 4 of them distinct"
    rows = {row[1]: row for row in rows_of(findings.tables[0])[1:] if "drop" in row[2]}
    assert [float(value) for value in rows["all"][3:5]] == [4.0, 1.0]
    assert rows["s2"][3:] == rows["all"][3:]


def test_drop_of_searches_of_own_data_and_without_a_config(tmp_path: Path) -> None:
    own = {"name": "own", "factory": "rig.py:Rig", "root": "/data/rig"}
    for number in range(4):
        folder = write_search(tmp_path / "runs" / str(number))
        record = record_of(0, eigenvalue=float(number), discretisation_drop=float(number))
        (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        config = folder / "config.yaml"
        config.write_text("{" if number < 3 else json.dumps({**yaml.safe_load(config.read_text()), "dataset": own}))
    with pytest.raises(InputError, match=r"study\.runs=.*: none of the 1 runs is a search; name folders"):
        DropStudy([str(write_training(tmp_path / "other"))]).findings(Results(tmp_path / "study", [], PROTOCOL))
    study = DropStudy([str(tmp_path / "runs")])
    findings = study.findings(Results(tmp_path / "study", [], PROTOCOL))
    rows = [row[:4] for row in rows_of(findings.tables[0])[1:] if "drop" in row[2]]
    metric = "accuracy, discretisation drop"
    data = "own rig.py:Rig data/rig"
    assert rows == [["", "all", metric, "3"], [data, "all", metric, "1"], [data, "s2", metric, "1"]]
    (tmp_path / "page").mkdir()
    write_study_page(findings, tmp_path / "page", how=[])


def test_published_results() -> None:
    assert published("spaces", "cifar10", "s1", "ada") == "3.03 ± 0.08"
    assert published("spaces", "cifar10", "mine", "ada") is None
    assert published("factors", "sintel", "scale 2") == "3.76"


def test_page_and_files(tmp_path: Path) -> None:
    table = ResultTable(
        "results",
        "Results",
        ["name", "loss & co", "n"],
        [["a_b", 1.23456789, None], ["ä ± 1", 2.0, 84444], ["~^", 2, 3]],
    )
    chart = Chart("one", "a chart", empty_chart("a chart")[0])
    files = write_study_page(Findings("<study>", "lead", [table], [chart]), tmp_path, how=["autodisp-study"])
    assert set(files) == {"index.html", "one.svg", "one.png", "results.csv", "results.tex"}
    assert (tmp_path / "results.csv").read_text() == "name,loss & co,n\na_b,1.23456789,\nä ± 1,2.0,84444\n~^,2,3\n"
    latex = (tmp_path / "results.tex").read_text()
    assert r"\begin{tabular}{lrr}" in latex
    assert "name & loss \\& co & n \\\\\n\\midrule\na\\_b & 1.235 &  \\\\\nä $\\pm$ 1 & 2 & 84444 \\\\" in latex
    assert r"\textasciitilde{}\textasciicircum{} & 2 & 3" in latex
    page = (tmp_path / "index.html").read_text()
    assert "&lt;study&gt;" in page
    assert "1.235" in page


@pytest.mark.parametrize("study", [TableStudy("cifar10", SPACE, 2), SpacesStudy(["cifar10"], ["s2"], ["none"])])
def test_a_study_without_a_complete_run(tmp_path: Path, study: Study) -> None:
    results = Results(tmp_path, study.runs(PROTOCOL), PROTOCOL)
    assert study.files(results) == {}
    write_study_page(study.findings(results), tmp_path, how=[])
