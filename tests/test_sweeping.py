"""Sweeps (-m): folders, failures, signals, launchers of other processes, and what sweepers are told."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra._internal.core_plugins import basic_sweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from autodisp.cli import entry, job
from autodisp.cli.job import JobOutcome, JobPlace, outcomes, told
from autodisp.errors import InputError, RunFault
from autodisp.observers.search_folder import SearchFolder
from autodisp.report.comparison import find_runs
from autodisp.report.comparison_charts import charts_of_group
from autodisp.report.evaluations import EVALUATION
from autodisp.report.reading import Epoch, Run
from autodisp.tasks.base import Figure
from tests.made_data import write_cifar10

STUB = '''
"""Stands in for a program: does what the seed says."""
import os, signal, sys, time
from pathlib import Path
from autodisp.cli.run_folder import claimed, keep_command, keep_config
from autodisp.cli.signals import StopSignals
from autodisp.errors import InputError, RunFault

RAISED = {2: InputError("seed=2: must be another"), 3: RunFault("no room left"), 4: ZeroDivisionError("ours")}

def run(tree):
    if tree.resume is not None:
        (Path(tree.resume) / "resumed").touch()
        return 0.5
    if tree.seed in RAISED:
        raise RAISED[tree.seed]
    with claimed(Path(tree.run.folder), tree) as folder, StopSignals() as stopping:
        keep_command(folder)
        keep_config(folder, tree, None)
        (folder / "checkpoints").mkdir()
        if tree.seed == 5:
            signal.raise_signal(signal.SIGINT)
        if tree.seed == 6:
            signal.raise_signal(signal.SIGUSR2)
        if tree.seed == 7:
            while not stopping():
                time.sleep(0.02)
            time.sleep(0.5)  # the state of a large network takes its time
        if stopping():
            (folder / "saved").touch()
            sys.exit(stopping.exit_code)
    if tree.seed == 9:
        return float("nan")
    return 1000 * tree.optimizer.weights.weight_decay
'''
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
SUBMITIT = ("hydra/launcher=submitit_local",)
LAUNCHERS = {"basic": (), "joblib": JOBLIB, "submitit": SUBMITIT}
DECAYS = "optimizer.weights.weight_decay=3e-4,9e-4"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "stub_of_sweeps.py").write_text(STUB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parent.parent)]))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    yield
    GlobalHydra.instance().clear()
    sys.modules.pop("stub_of_sweeps", None)


@pytest.fixture
def returned(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What Hydra is returned by each job."""
    values: list[float] = []
    call = job.Job.__call__

    def noted(self: job.Job, tree: DictConfig) -> float:
        values.append(call(self, tree))
        return values[-1]

    monkeypatch.setattr(job.Job, "__call__", noted)
    return values


def sweep(*words: str, module: str = "stub_of_sweeps", program: str = "search") -> int:
    """The exit code; -m may stand anywhere."""
    sys.argv[:] = [f"/somewhere/autodisp-{program}", *words[:1], "-m", *words[1:]]
    try:
        entry._run(program, module)
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def needs(launcher: str) -> None:
    if launcher != "basic":
        pytest.importorskip(f"hydra_plugins.hydra_{launcher}_launcher", reason="pip install '.[launchers]'")


def ended(folder: str = "sweep") -> dict[int, JobOutcome]:
    return {outcome.job: outcome for outcome in outcomes(Path(folder))}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_job_has_a_folder_and_a_metric_under_each_launcher(launcher: str) -> None:
    needs(launcher)
    words = [DECAYS, "space=s2", "hydra.sweep.dir=sweep", *LAUNCHERS[launcher]]
    assert sweep(*words) == 0
    found = ended()
    for number, decay in ((1, 0.0003), (2, 0.0009)):
        folder = Path("sweep") / f"{number}_optimizer.weights.weight_decay={decay}"
        assert found[number].metric == pytest.approx(1000 * decay)
        assert found[number].folder == str(folder)
        assert OmegaConf.load(folder / "config.yaml").optimizer.weights.weight_decay == decay
        told_by_user = f"autodisp-search -m {DECAYS} space=s2 hydra.sweep.dir=sweep"
        assert (folder / "command.txt").read_text().startswith(told_by_user)


@pytest.mark.parametrize(("seeds", "code"), [("1,2,8", 2), pytest.param("1,2,3,4,8", 1, marks=pytest.mark.slow)])
def test_a_job_that_fails_does_not_end_the_others(seeds: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(f"seed={seeds}", "space=s2", "hydra.sweep.dir=sweep") == code
    said, numbers = capsys.readouterr(), seeds.split(",")
    assert [path.name for path in sorted(Path("sweep").glob("*=[18]"))] == ["1_seed=1", f"{len(numbers)}_seed=8"]
    assert f"job 2 of {len(numbers)}: seed=2\njob 2 of {len(numbers)}: exit code 2\njob 3 of" in said.out
    assert f"sweep: 2 of {len(numbers)} jobs done" in said.out
    assert "  job 2 (seed=2): exit code 2: seed=2: must be another\n" in said.out
    assert f"autodisp-search: job 2 of {len(numbers)}: seed=2: must be another\n" in said.err
    assert ("ZeroDivisionError: ours" in said.err) == ("Traceback" in said.err) == ("4" in numbers)
    assert ended()[2] == JobOutcome(2, ["seed=2"], None, 2, None, "seed=2: must be another")
    assert [ended()[job + 1].exit_code for job in range(len(numbers))] == [0, 2, *[1] * (len(numbers) - 3), 0]


@pytest.mark.slow
def test_what_a_stopped_sweep_has_not_done_is_done_by_the_command_that_it_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the process that the user began, the first signal ends the sweep."""
    words = ["seed=1,5,8", "hydra.sweep.dir=sweep"]
    assert sweep(*words) == 130
    assert set(ended()) == {1, 2}
    assert Path("sweep/2_seed=5/saved").exists()
    assert f"next:  autodisp-search -m {' '.join(words)}\n" in capsys.readouterr().out
    assert sweep(*words) == 0
    assert [ended()[number].metric for number in (1, 2, 3)] == pytest.approx([0.5, 0.5, 0.3])
    assert Path("sweep/2_seed=5/resumed").exists()
    assert not Path("sweep/3_seed=8/resumed").exists()


_PROGRAM = """
import sys
from autodisp.cli.entry import _run
sys.argv[0] = "autodisp-search"
_run("search", "stub_of_sweeps")
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "submitit"])
def test_ctrl_c_saves_the_jobs_of_a_launcher(launcher: str) -> None:
    """It reaches all processes of a terminal; none is killed over its state, and what waits is not begun."""
    needs(launcher)
    command = [sys.executable, "-c", _PROGRAM, "-m", "seed=7", f"{DECAYS},27e-4", "hydra.sweep.dir=sweep"]
    with subprocess.Popen([*command, *LAUNCHERS[launcher]], start_new_session=True) as process:
        at_once = 2 if launcher == "joblib" else 3
        until(lambda: len(list(Path("sweep").glob("*/checkpoints"))) == at_once)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert len(list(Path("sweep").glob("*/saved"))) == at_once
    assert [outcome.exit_code for outcome in ended().values()] == [130, 130, 130]
    assert sum(outcome.message == "not begun" for outcome in ended().values()) == 3 - at_once


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_preempted_job_saves_its_state_is_queued_again_and_resumes() -> None:
    needs("submitit")
    assert sweep("seed=6", "hydra.sweep.dir=sweep", *SUBMITIT) == 0
    assert Path("sweep/1/saved").exists()
    assert Path("sweep/1/resumed").exists()
    assert ended()[1].metric == 0.5
    assert not Path("sweep/.submitit/%j").exists()


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["seed=1,8", "run.folder=mine"], ["mine/1_seed=1", "mine/2_seed=8"]),
        pytest.param(["seed=1,8", "run.folder=mine_${seed}"], ["mine_1", "mine_8"], marks=pytest.mark.slow),
        (["seed=1,8", "run.folder=mine/${hydra:job.num}"], ["mine/0", "mine/1"]),
        (["space=s1,s2", "seed=1,8", "run.folder=mine_${seed}"],
         ["mine_1/1_space=s1,seed=1", "mine_1/3_space=s2,seed=1",
          "mine_8/2_space=s1,seed=8", "mine_8/4_space=s2,seed=8"]),
        (["run.folder=mine,yours"], ["mine", "yours"]),
    ],
)  # fmt: skip
def test_a_folder_that_the_user_names_is_honoured_and_shared_by_no_two_jobs(
    words: list[str], folders: list[str]
) -> None:
    assert sweep(*words) == 0
    made = sorted(str(path.parent.relative_to(Path.cwd())) for path in Path.cwd().rglob("config.yaml"))
    assert made == folders


@pytest.mark.parametrize(
    ("varies", "name"),
    [
        (["space=s2", "regularization=es"], "7_space=s2,regularization=es"),
        (["genotype=runs/a b/genotype.json"], "7_genotype=runs-a-b-genotype.json"),
        (["dataset.crop=[64,128]", "+x='é,\"$(ls)'"], "7_dataset.crop=-64,128-,x=-,-ls-"),
        ([f"dataset.root=/{'long/' * 100}"], "7_dataset.root=" + ("-" + "long-" * 100)[: 100 - len("dataset.root=")]),
        ([], "7"),
    ],
)
def test_the_folder_of_a_job_says_what_it_varies(varies: list[str], name: str) -> None:
    assert JobPlace(Path("sweep"), 7, None, varies).name == name


@pytest.mark.parametrize(
    ("words", "constant", "jobs"),
    [
        (["-m", "seed=1,2", "space=s1,s2", "search.epochs=3"], {"search.epochs"}, 4),
        (["-m", "seed=range(0,5)", "seed=3", "space=choice(s1,s2,s3)"], {"seed"}, 3),
        (["-m", "seed=interval(0,1)"], set(), None),
        (["-m", "hydra/sweeper=optuna", "seed=1,2"], {"hydra/sweeper"}, None),
    ],
)
def test_what_a_command_line_says_of_all_its_jobs(words: list[str], constant: set[str], jobs: int | None) -> None:
    assert told(["autodisp-search", *words]) == (constant, jobs)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed=1,2", "resume=runs/a"], "resume=runs/a: a run is resumed without -m"),
        (["resume=runs/a,runs/b"], "resume=runs/a,runs/b: a run is resumed without -m"),
        (["sed=1,2"], "sed: no such setting; did you mean seed?"),
        (["space=s1,zz"], "space=zz: no such choice"),
    ],
)
def test_a_sweep_that_cannot_begin_leaves_one_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*words) == 2
    assert capsys.readouterr().err.startswith(f"autodisp-search: {says}")
    assert [path.name for path in tmp_path.iterdir()] == ["stub_of_sweeps.py"]


def test_jobs_that_leave_nothing_leave_no_folder(tmp_path: Path) -> None:
    assert sweep("seed=2,3") == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["stub_of_sweeps.py"]


@pytest.mark.slow
def test_a_folder_that_holds_another_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the same sweep with a setting that all jobs share and that was another then."""
    small = ["experiment=smoke", "network=disparity_tiny", "dataset.length=4", "hydra.sweep.dir=sweep", "seed=1"]
    assert sweep(*small) == 0
    assert sweep(*small, "search.epochs=9", module="autodisp.cli.search") == 2
    assert "resume=sweep/1: would change search.epochs=9 (the run has 2)" in capsys.readouterr().err


@pytest.mark.slow
def test_searches_over_weight_decay_and_the_report_on_them(
    returned: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In earnest: what the sweeper is returned is what the runs recorded and the report shows."""
    for drawing in ("_show", "draw_curves"):
        monkeypatch.setattr(SearchFolder, drawing, lambda *_: None)
    write_cifar10(Path("images"))
    tiny = ["experiment=smoke", "task=classification", "dataset=cifar10", "dataset.root=images", "space=tiny81",
            "network=classification_tiny", "regularization=none", "search.epochs=1", "search.steps_per_epoch=1",
            "curvature.tolerance=0.5", "run.workers=0"]  # fmt: skip
    assert sweep(*tiny, DECAYS, "hydra.sweep.dir=sweep", module="autodisp.cli.search") == 0
    said = capsys.readouterr().out
    assert "job 2 of 2: optimizer.weights.weight_decay=0.0009\n" in said
    assert "look:  autodisp-report runs=sweep\n" in said
    folders = sorted(path for path in Path("sweep").iterdir() if path.is_dir())
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in folders]
    assert returned == [record["valid/accuracy"] for record in last]
    assert all(map(math.isfinite, returned))
    charts = charts_of_group(find_runs(["sweep"]).entries, "optimizer.weights.weight_decay")
    drawn = next(chart for chart in charts if chart.name.endswith("_discretised_over_setting")).figure
    assert sorted(float(x) for line in drawn.axes[0].lines[:1] for x in line.get_xdata()) == [0.0003, 0.0009]


class Searching(Sweeper):
    """A sweeper that reads the metrics, as Optuna's does, and counts exceptions as failures."""

    read: ClassVar[list[object]] = []

    def __init__(self, **unused: object) -> None:
        pass

    def setup(self, **parts: Any) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(**parts)

    def sweep(self, arguments: list[str]) -> None:
        for done in self.launcher.launch([["seed=1"], ["seed=2"], ["seed=3"], ["seed=9"]], initial_job_idx=0):
            try:
                self.read.append(done.return_value)
            except (InputError, RunFault) as error:
                self.read.append(str(error))


def test_sweepers_read_metrics_and_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """No NaN, with which Optuna's ends."""
    monkeypatch.setattr(basic_sweeper, "Searching", Searching, raising=False)
    monkeypatch.setattr(Searching, "read", [])
    target = "hydra._internal.core_plugins.basic_sweeper.Searching"
    monkeypatch.setitem(Plugins.instance().class_name_to_class, target, Searching)
    assert sweep(f"hydra.sweeper._target_={target}", "hydra.sweep.dir=sweep") == 1
    wrong = ["job 2: seed=2: must be another", "job 3: no room left", "job 4: has no finite metric"]
    assert Searching.read == [pytest.approx(0.3), *wrong]


def test_training_returns_its_best_metric() -> None:
    epochs = [Epoch(epoch, {"valid/accuracy": value}) for epoch, value in enumerate((50.0, 70.0, 60.0))]
    run = Run(Path(), "training", {}, Figure("accuracy", "max"), epochs)
    assert run.metric == 70.0
    assert Run(Path(), "training", {}, Figure("accuracy", "max")).metric is None


@pytest.mark.slow
def test_an_evaluation_returns_its_main_metric(returned: list[float]) -> None:
    words = ["dataset.limit=2", "dataset.height=32", "dataset.width=64", "dataset.max_disparity=16"]
    words += ["baseline=constant", "split=train,test", "hydra.sweep.dir=sweep"]
    assert sweep(*words, program="evaluate", module="autodisp.cli.evaluate") == 0
    names = ("1_split=train", "2_split=test")
    written = [json.loads((Path("sweep") / name / EVALUATION).read_text()) for name in names]
    figures = [one["methods"]["constant"]["figures"]["regions"]["all"]["pooled"] for one in written]
    assert returned == [figure["epe"] for figure in figures]


def test_a_repeated_sweep_runs_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Also of programs that resume nothing; the results of the other jobs are kept."""
    Path("counts.py").write_text("""
import os
from autodisp.errors import InputError

def run(tree):
    if tree.batch_size == 2 and not os.path.exists("data") or os.path.exists(tree.out):
        raise InputError(f"{tree.out}: no data, or there already")
    os.makedirs(tree.out)
    return float(tree.batch_size)
""")
    words = ["baseline=constant", "batch_size=1,2,3", "hydra.sweep.dir=sweep"]
    assert sweep(*words, program="evaluate", module="counts") == 2
    assert [outcome.metric for outcome in ended().values()] == [1.0, None, 3.0]
    Path("data").touch()
    for _ in range(2):
        assert sweep(*words, program="evaluate", module="counts") == 0
        assert [outcome.metric for outcome in ended().values()] == [1.0, 2.0, 3.0]
    assert "job 1 (batch_size=1): done, 1: earlier" in capsys.readouterr().out
    assert not list(Path("sweep").glob("*.earlier"))
    assert sweep(*words, "pictures=1", program="evaluate", module="counts") == 2  # other settings


def test_problems_that_a_check_finds_are_in_the_exit_code() -> None:
    Path("finds.py").write_text("import os\n\ndef run(tree):\n    os.makedirs(tree.out)\n    return 3.0 * tree.seed\n")
    assert sweep("seed=0,1", "hydra.sweep.dir=sweep", program="check", module="finds") == 2
    assert [(outcome.exit_code, outcome.metric) for outcome in ended().values()] == [(0, 0.0), (2, 3.0)]


def test_a_sweep_whose_folder_cannot_be_used_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert sweep("seed=0,1", "hydra.sweep.dir=file") == 2
    assert capsys.readouterr().err == (
        "autodisp-search: file: cannot be used (File exists); take another folder with hydra.sweep.dir=FOLDER\n"
    )


@pytest.mark.parametrize("word", ["space=glob(nothing*)", "seed=range(0,0)"])
def test_a_sweep_without_jobs_is_told(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(word, "hydra.sweep.dir=sweep") == 2
    assert capsys.readouterr().err == f"autodisp-search: {word}: gives no job; write values, such as seed=0,1\n"
    assert not Path("sweep").exists()
