"""Studies of tiny runs: what is run, what is not run again, what fails, and a worker that is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir
from pathlib import Path

import pytest

from autodisp.assembly.studies import slurm_options
from autodisp.commands import setting
from autodisp.config.study import SlurmConfig, parse
from autodisp.errors import InputError
from autodisp.studies.endings import Ending, read_ending, write_ending
from autodisp.studies.graph import RUNS, Link, Run, endings_of, in_order
from autodisp.studies.protocol import Protocol
from autodisp.tasks.base import Figure
from tests.programs import composed

distributed = pytest.importorskip("distributed")
from autodisp.studies import clusters  # noqa: E402
from autodisp.studies.execute import execute  # noqa: E402

STEPS = 5
ROOT = Path(__file__).parent.parent


def counted(program: str, words: Sequence[str], folder: Path) -> Ending:
    """A stand-in for the programs: adds up the numbers 0 to 4, a state a step, and resumes from what it has saved.

    Words: seed=N is the first number; with fails=1 it fails; with file=PATH it adds the sum in that folder's result.
    """
    given = dict(word.split("=") for word in words)
    folder.mkdir(exist_ok=True)
    with (folder / "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if given.get("fails"):
        return Ending("failed", message="fails=1: must be 0; leave it out", exit_code=2)
    state = folder / "state"
    step, total = json.loads(state.read_text()) if state.exists() else (0, float(given["seed"]))
    while step < STEPS:
        waiting = folder.parent.parent / f"hold_{given['seed']}_{step}"
        while waiting.exists():
            time.sleep(0.02)
        step, total = step + 1, total + step
        state.write_text(json.dumps([step, total]))
        with (folder / "steps").open("a") as file:
            file.write(f"{step}\n")
    if "file" in given:
        total += float(Path(given["file"]).read_text())
    (folder / "result").write_text(str(total))
    return Ending("done", metric=total)


def chains(*seeds: int, fails: int | None = None) -> list[Run]:
    """A search and the training of its result, for each seed."""
    found = []
    for seed in seeds:
        words = [f"seed={seed}", *(["fails=1"] if seed == fails else [])]
        search = Run("search", tuple(words), {"seed": str(seed)})
        found.append(Run("train", (f"seed={seed}", Link("file", (search,), "result")), {"seed": str(seed)}))
    return list(in_order(found))


def results_of(folder: Path) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in (folder / RUNS).glob("*/result")}


def begun(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in (folder / RUNS).glob("*/begun"))


@pytest.fixture(scope="module")
def client() -> Iterator[distributed.Client]:
    """A worker in this process, which starts at once."""
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_run_is_named_by_its_settings_in_any_order() -> None:
    run = Run("train", ("seed=1", "genotype=a", "run.threads=1", "dataset.root=/data"))
    assert run.name == Run("train", ("genotype=a", "seed=2", "run.threads=4", "seed=1"), {"space": "s1"}).name
    others = [Run("search", run.settings), Run("train", ("seed=2", "genotype=a")), Run("train", ("seed=1",))]
    assert len({run.name, *(other.name for other in others)}) == 4
    linked = [Run("train", (Link("genotype", (Run("search", (f"seed={seed}",)),), "g.json"),)) for seed in (1, 2)]
    assert linked[0].name != linked[1].name


def test_what_is_needed_comes_first_and_each_run_once() -> None:
    runs = chains(1, 2)
    assert [run.program for run in runs].count("search") == 2
    for place, run in enumerate(runs):
        assert all(other in runs[:place] for other in run.needs)
    assert list(in_order([*runs, *runs])) == runs


@pytest.mark.parametrize(("largest", "chosen"), [(False, 2), (True, 1)])
def test_a_link_to_the_best_of_several(largest: bool, chosen: int) -> None:
    searches = tuple(Run("search", (f"seed={seed}",)) for seed in range(4))
    trained = tuple(Run("train", (Link("genotype", (search,), "g.json"),)) for search in searches)
    metrics = dict(zip((run.name for run in trained), (None, 7.0, 3.0, 5.0), strict=True))
    endings = {name: Ending("done", metric=metric) for name, metric in metrics.items()}
    best = Run("train", (Link("genotype", trained, "g.json", largest, searches), "seed=0"))
    assert best.words(Path("/s"), endings) == [f"genotype=/s/runs/{searches[chosen].name}/g.json", "seed=0"]
    assert set(best.needs) == {*searches, *trained}


def test_an_ending_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert read_ending(folder) == Ending()
    failed, done = Ending("failed", message="x", exit_code=2, seconds=1.5, attempts=2), Ending("done", metric=0.5)
    write_ending(folder, failed)
    assert read_ending(folder) == failed
    write_ending(folder, done)
    assert read_ending(folder) == Ending(), "its folder is gone"
    folder.mkdir()
    assert read_ending(folder) == done
    for damaged in (
        "{",
        "[]",
        '{"state": "dnoe"}',
        '{"state": "done", "metric": "1"}',
        '{"state": "done", "seconds": []}',
        '{"state": "done", "metric": 1%s}' % ("0" * 400),
    ):
        folder.with_name("run.json").write_text(damaged)
        assert read_ending(folder) == Ending()


def test_what_is_done_is_not_run_again(tmp_path: Path, client: distributed.Client) -> None:
    runs = chains(1, 2)
    seen: list[int] = []

    def watch(endings: dict[str, Ending]) -> None:
        seen.append(sum(ending.is_done for ending in endings.values()))

    endings = execute(runs, tmp_path, client, counted, watch=watch)
    assert {run.program: endings[run.name].metric for run in runs if run.labels["seed"] == "2"} == {
        "search": 12.0, "train": 24.0,
    }  # fmt: skip
    assert (seen[0], seen[-1], begun(tmp_path)) == (0, 4, 4)
    assert all(ending.attempts == 1 and ending.seconds > 0 for ending in endings.values())
    assert execute(runs, tmp_path, client, counted) == endings
    assert begun(tmp_path) == 4
    execute(chains(1, 2, 3), tmp_path, client, counted)
    assert begun(tmp_path) == 6


def test_a_failed_run_ends_those_only_that_need_it(tmp_path: Path, client: distributed.Client) -> None:
    runs = chains(1, 2, 3, fails=2)
    endings = execute(runs, tmp_path, client, counted)
    states = {(run.program, run.labels["seed"]): endings[run.name] for run in runs}
    assert sum(ending.is_done for ending in states.values()) == 4
    failed = states["search", "2"]
    assert (failed.state, failed.message, failed.exit_code) == ("failed", "fails=1: must be 0; leave it out", 2)
    lost = states["train", "2"]
    search = next(run for run in runs if (run.program, run.labels["seed"]) == ("search", "2"))
    assert (lost.state, lost.message) == ("not run", f"needs {search.name}, which is not done")
    assert endings_of(runs, tmp_path) == endings
    before = begun(tmp_path)
    execute(runs, tmp_path, client, counted)
    assert begun(tmp_path) == before + 1, "the failed one is tried again"


@pytest.mark.slow
def test_the_run_of_a_killed_worker_is_resumed_with_the_same_results(tmp_path: Path) -> None:
    undisturbed, folder, runs = tmp_path / "whole", tmp_path / "killed", chains(1, 2, 3)
    with clusters.local(2) as client:
        execute(runs, undisturbed, client, counted)
        folder.mkdir()
        hold = folder / "hold_1_3"
        hold.touch()
        held = folder / RUNS / runs[0].name
        killed: list[int] = []

        def kill(endings: dict[str, Ending]) -> None:
            if not killed and (held / "steps").exists() and (held / "steps").read_text().split()[-1] == "3":
                killed.append(int((held / "begun").read_text()))
                os.kill(killed[0], signal.SIGKILL)
                hold.unlink()

        endings = execute(runs, folder, client, counted, watch=kill)
    assert killed
    assert all(ending.is_done for ending in endings.values())
    assert results_of(folder) == results_of(undisturbed)
    assert [len((held / name).read_text().splitlines()) for name in ("begun", "steps")] == [2, STEPS]
    assert begun(folder) == len(runs) + 1
    assert endings[runs[0].name].attempts == 2


def test_no_scheduler_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_TIMEOUT", 0.2)
    says = r"^cluster.address=tcp://127.0.0.1:9: no scheduler of Dask answers"
    with pytest.raises(InputError, match=says), clusters.at_address("tcp://127.0.0.1:9"):
        pass


@pytest.mark.slow
def test_workers_at_an_address_give_the_same_results(tmp_path: Path) -> None:
    runs, file = chains(1, 2), tmp_path / "scheduler.json"
    dask = [sys.executable, "-W", "ignore", "-m", "dask"]
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    worker = [*dask, "worker", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
    with ExitStack() as started:
        for words in ([*scheduler, "--scheduler-file", str(file)], [*worker, "--scheduler-file", str(file)]):
            process = started.enter_context(subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL))
            started.callback(process.terminate)
            while not file.exists():
                assert process.poll() is None
                time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        with clusters.at_address(address) as client:
            endings = execute(runs, tmp_path / "there", client, counted)
    with clusters.local(1) as client:
        assert execute(runs, tmp_path / "here", client, counted).keys() == endings.keys()
    assert all(ending.is_done for ending in endings.values())
    assert results_of(tmp_path / "there") == results_of(tmp_path / "here")


def test_relative_paths_are_those_of_the_process_of_the_study(tmp_path: Path, client: distributed.Client) -> None:
    def where(program: str, words: Sequence[str], folder: Path) -> Ending:
        folder.mkdir()
        return Ending("done", message=os.getcwd())

    with chdir(tmp_path):
        (ending,) = execute([Run("train", ())], Path("study"), client, where).values()
    assert (tmp_path / "study" / RUNS).is_dir()
    assert ending.message == str(tmp_path)


def test_a_job_of_slurm_has_one_run_at_a_time_on_all_of_its_cores() -> None:
    words = ["queue=gpu", "walltime=24:00:00", "memory=8GB", "job_extra_directives=[--gres=gpu:1]"]
    config = parse(composed("study", "cluster=slurm", "cluster.threads=6", setting("cluster.options", words)))
    assert isinstance(config.cluster, SlurmConfig)
    with clusters.slurm_cluster(config.cluster.threads, slurm_options(config.cluster)) as cluster:
        lines = cluster.job_script().splitlines()
    expected = {"-p gpu", "-n 1", "--cpus-per-task=6", "--mem=8G", "-t 24:00:00", "--gres=gpu:1"}
    assert expected <= {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}
    assert "export DASK_DISTRIBUTED__WORKER__DAEMON=False" in lines
    assert "--nthreads 1 " in lines[-1]


def test_an_option_that_slurm_lacks() -> None:
    with pytest.raises(InputError, match=r"^cluster.options: colour, cores: must be options of dask_jobqueue"):
        clusters.check_slurm({"colour": "red", "cores": 2, "queue": "gpu"})


def test_the_words_of_a_protocol() -> None:
    protocol = Protocol(
        "stereo", Figure("epe", "min", "px"), ["search.epochs=1", "seed=9"], ["training.steps=8"], ["training.steps=2"],
        ["batch_size=2"], "/data/{dataset}", [0, 1], ["run.threads=1", "run.workers=0"],
    )  # fmt: skip
    search = protocol.searches("sintel", "mine", 3, "regularization=es", policy="es")
    assert list(search.settings) == [
        "task=stereo", "dataset=sintel", "dataset.root=/data/sintel", "space=mine", "search.epochs=1", "seed=3",
        "regularization=es", "run.threads=1", "run.workers=0",
    ]  # fmt: skip
    training = protocol.trains("sintel", search, 5, short=True)
    assert training.needs == (search,)
    assert "training.steps=2" in training.settings
    assert "training.steps=8" in protocol.trains("sintel", "autodispnet", 5).settings
    assert dict(training.labels) == {
        "dataset": "sintel", "space": "mine", "seed": "3", "policy": "es", "trained with": "5",
    }  # fmt: skip
    evaluation = protocol.evaluates("sintel", training)
    assert evaluation.words(Path("/s"), {training.name: Ending("done")}) == [
        "dataset=sintel", "dataset.root=/data/sintel", "batch_size=2",
        f"checkpoint=/s/runs/{training.name}/best.safetensors", "run.threads=1",
    ]  # fmt: skip
