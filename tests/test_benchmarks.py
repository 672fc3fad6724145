"""The benchmark runs, on a search so small that nothing is learnt of its speed; it must not rot."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rich.console import Console

ROOT = Path(__file__).parents[1]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, from the checkout: no package holds it."""
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import measure

    yield measure
    measure._prepared.clear()


@pytest.fixture
def run(measure: ModuleType) -> ModuleType:
    from benchmarks import run

    return run


def tiny(measure: ModuleType) -> object:
    overrides = ("space=tiny81", "task=classification", "network=classification_tiny", "search.batch_size=2")
    return measure.Case((*overrides, *measure.STILL))


@pytest.mark.slow
def test_every_action_runs(measure: ModuleType, tmp_path: Path) -> None:
    notes = {}
    for name in (*measure.SEARCH, measure.FULL_HESSIAN):
        action = measure.prepare_autodisp(tiny(measure), name, tmp_path / name.replace(" ", "_"))
        before = {} if action.warm_up is None else action.warm_up()
        assert before == {}
        notes[name] = dict(action.run())
        if name == measure.EPOCH:
            assert 0 <= notes[name]["% waiting for data"] < 100
        else:
            assert dict(action.run()) == notes[name], "every run does the same work"
    assert notes[measure.FULL_HESSIAN] == {"products": 12}
    assert 2 <= notes[measure.EIGENVALUE]["products"] <= 12
    written = (tmp_path / "checkpoint" / "checkpoints" / "epoch_0000.pt").stat().st_size
    assert notes[measure.CHECKPOINT] == {"MB": written / 1e6}


def test_pairs_are_drawn(measure: ModuleType, tmp_path: Path) -> None:
    sizes = ("dataset.height=32", "dataset.width=64", "dataset.max_disparity=16")
    action = measure.prepare_autodisp(measure.Case((*sizes, *measure.STILL)), measure.PAIR, tmp_path)
    assert action.run() == {}
    assert action.pieces == measure.PAIRS


def test_what_is_not_offered_is_said_so(measure: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(measure.NotOffered, match="no measurement 'nap'"):
        measure.prepare_autodisp(tiny(measure), "nap", tmp_path)


@pytest.mark.slow
def test_every_case_composes(measure: ModuleType) -> None:
    for case in measure.CASES.values():
        config = measure.config_of(case)
        assert config.optimizer.weights.learning_rate == config.optimizer.alphas.learning_rate == 0
    assert config.dataset.name == "shapes3d"
    demo = measure.config_of(measure.CASES["autodispnet"])
    assert (demo.search.batch_size, demo.network.channels, demo.dataset.width) == (2, 4, 384)


def test_a_process_measures(measure: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The two functions that a measuring process calls, here in this one."""
    monkeypatch.setitem(measure.CASES, "tiny", tiny(measure))
    monkeypatch.setattr(measure.torch, "set_num_threads", lambda threads: None)
    idle = measure.prepare("autodisp", "tiny", measure.WEIGHT_STEP, tmp_path, 1)
    seconds, notes, peak = measure.run()
    assert seconds > 0
    assert notes == {}
    assert 10 < idle <= peak < 2**17, "MiB"


def test_runs_alternate(run: ModuleType) -> None:
    order = ""

    def taking(name: str, seconds: float) -> float:
        nonlocal order
        order += name
        return seconds

    runs = [lambda: taking("A", 1.0), lambda: taking("B", 4.0)]
    run.alternate(runs, run.Plan(sweeps=1, seconds=10.0, least_runs=2))
    assert order == "ABABAB", "until the slower one has had its time"
    order = ""
    run.alternate(runs, run.Plan(sweeps=1, seconds=0.1, least_runs=2))
    assert order == "ABAB"
    run.alternate([], run.QUICK)
    order = ""
    run.alternate([lambda: taking("A", 0.0)], run.THOROUGH)
    assert len(order) == run.MOST_RUNS


def test_the_table_compares_within_case_and_implementation(run: ModuleType, measure: ModuleType) -> None:
    results = [
        run.Result("s2", measure.WEIGHT_STEP, "autodisp", [0.2, 0.1, 0.3], memory=100.4),
        run.Result("s2", measure.WEIGHT_STEP, "textbook", [0.5], memory=50.0),
        run.Result("s2", measure.WEIGHT_STEP, "textbook_channels_last", [0.8], memory=40.0),
        run.Result("s2", measure.EIGENVALUE, "autodisp", [3.0], notes={"products": 11}),
        run.Result("s2", measure.EIGENVALUE, "textbook", failure="no memory"),
    ]
    assert results[0].median == 0.2
    out = io.StringIO()
    Console(file=out, width=130).print(run.table_of(results, "title"))
    text = out.getvalue()
    for word in ("200 ms", "100–300", "500 ms", "textbook", "eigenvalue (11 products)", "3 s", "failed"):
        assert word in text
    first, row = (next(line for line in text.splitlines() if name in line) for name in ("200 ms", "eigenvalue (11"))
    assert first.split()[-2:] == ["2.5", "2.01"], "times faster than the faster textbook, with twice its memory"
    assert row.split()[-2:] == ["15", "0"], "in weight steps of the same implementation"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cases", "s9"], "invalid choice: 's9'"),
        (["--threads", "0"], "--threads 0: must be at least 1"),
        (["--json", "."], "--json .: is a folder"),
        (["--json", "file/b.json"], "--json file/b.json: its folder cannot be made"),
    ],
)
def test_wrong_options_are_refused(
    run: ModuleType,
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as caught:
        run.parse_arguments(arguments)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_the_program_writes_what_it_measured(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {}

    def measured(plan: object, cases: list[str], implementations: list[str], **more: object) -> list[object]:
        asked.update(more, plan=plan, cases=cases, implementations=implementations)
        return [run.Result("s2", "weight step", "autodisp", [0.25, 0.75], memory=9.0)]

    monkeypatch.setattr(run, "measure_all", measured)
    path = tmp_path / "new" / "bench.json"
    assert run.main(["--quick", "--json", str(path), "--cases", "s2", "s2", "--threads", "3"]) == 0
    assert (asked["plan"], asked["cases"], asked["threads"], asked["full"]) == (run.QUICK, ["s2"], 3, False)
    data = json.loads(path.read_text())
    assert data["machine"].keys() >= {"processor", "cores", "threads", "torch", "python", "load_before"}
    (result,) = data["results"]
    assert (result["seconds"], result["median"], result["memory"]) == ([0.25, 0.75], 0.5, 9.0)
    assert "500 ms" in capsys.readouterr().out


def test_a_failure_is_told_and_the_exit_code_says_so(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = run.Result("s2", "weight step", "autodisp", failure="Traceback: no memory")
    monkeypatch.setattr(run, "measure_all", lambda *_, **__: [failed])
    assert run.main(["--json", str(tmp_path / "b.json")]) == 1
    captured = capsys.readouterr()
    assert "s2, weight step, autodisp failed:\nTraceback: no memory" in captured.err
    assert json.loads((tmp_path / "b.json").read_text())["results"][0]["median"] is None


@pytest.mark.slow
def test_all_for_a_gpu_runs_dry(measure: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import card

    monkeypatch.chdir(ROOT)
    assert card.main(["--dry", "--seconds", "1000", "--out", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "card.jsonl").read_text().splitlines()]
    assert [line for line in lines if "error" in line] == []
    tests, ceiling, *steps, training = lines
    bench = [line for line in steps if line["stage"] == "search"]
    assert tests["exit_code"] == training["exit_code"] == 0
    assert ceiling["gb_per_second"] > 0
    assert {line["case"] for line in bench} == set(card.CASES)
    assert len(bench) == 5 * len(card.CASES)
    assert len(steps) == len(bench) + len(card.TRAINED) + 2
    assert all(line["weight_ms"] > 0 for line in bench)
    assert {"best.safetensors", "last.safetensors"} <= set(training["copied"])
    assert (tmp_path / "best.safetensors").exists()


def test_traffic_counts_what_is_read_and_written(measure: ModuleType) -> None:
    from benchmarks import card

    x, y = torch.ones(2, 8)
    with card.Traffic() as traffic:
        (x[:4] + y.view(8)[4:]).sum()
    assert traffic.operations == 2
    assert traffic.bytes == 3 * 16 + 16 + 4


@pytest.mark.slow
def test_growth_is_fitted_between_the_last_two_points(measure: ModuleType, tmp_path: Path) -> None:
    from benchmarks import growth

    points = [
        growth.Point("batch", 1.0, 1.0, 10.0),
        growth.Point("batch", 2.0, 1.5, 15.0),
        growth.Point("batch", 4.0, 3.0, 60.0),
    ]
    assert growth.exponents(points) == pytest.approx((1.0, 2.0))
    out = io.StringIO()
    Console(file=out, width=100).print(growth.table_of(points))
    assert "1.00" in out.getvalue()
    growth.draw(points, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 1000
    for held, values in growth.AXES.values():
        for overrides in values.values():
            measure.config_of(measure.Case((*held, *overrides, *measure.STILL)))


def test_latencies_are_measured_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass of each network does not count."""
    from benchmarks.table_latency import shortest

    calls, now = list[str](), iter([0.0, 0.001, 0.0, 0.002, 0.0, 0.009, 0.0, 0.005, 0.0, 0.007, 0.0, 0.006])

    def network(name: str) -> Any:
        return lambda image: calls.append(name)

    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    found = shortest({3: (network("a"), [None]), 8: (network("b"), [None])}, rounds=2)  # type: ignore[list-item]
    assert calls == ["a", "b"] * 3
    assert found == {3: pytest.approx(7.0), 8: pytest.approx(5.0)}
