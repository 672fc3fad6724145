"""Every study, budget and cluster composes, parses and lists its runs; each run's words compose and parse too."""

from collections import Counter
from pathlib import Path

import pytest

from autodisp import configs
from autodisp.assembly.studies import build_protocol, build_study
from autodisp.config import evaluate, search, train
from autodisp.config.study import StudyConfig, parse
from autodisp.errors import InputError
from autodisp.studies.endings import Ending
from autodisp.studies.graph import Run, in_order
from autodisp.studies.trials import Tuning
from tests.programs import composed

PARSERS = {"search": search.parse, "train": train.parse, "evaluate": evaluate.parse}
TASKS = ("disparity", "classification")


def config_of(*words: str) -> StudyConfig:
    config = composed("study", *words)
    if config.task.name == "classification" or "budget=published" in words:
        config.root = "/data/{dataset}"
    return parse(config)


def runs_of(*words: str) -> list[Run]:
    config = config_of(*words)
    return list(in_order(build_study(config).runs(build_protocol(config))))


def parsed(run: Run) -> None:
    """Compose and parse the words of a run, as its worker does."""
    endings = {other.name: Ending("done") for other in run.needs}
    words = run.words(Path("/study"), endings)
    program = run.program
    if program == "tune":
        program, words = "train", [*Tuning.read(words).training]
    folder = "out=unused" if program == "evaluate" else "run.folder=unused"
    PARSERS[program](composed(program, *words, folder))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("study", ["table", "spaces", "rdarts", "regularization", "augmentation", "hyperparameters"])
def test_every_study_lists_runs_that_parse(study: str, task: str) -> None:
    runs = runs_of(f"study={study}", f"task={task}", "budget=smoke")
    assert len({run.name for run in runs}) == len(runs)
    for program in {run.program for run in runs}:
        parsed(next(run for run in runs if run.program == program))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("budget", configs.groups("study")["budget"])
def test_the_words_of_every_budget_parse(budget: str, task: str) -> None:
    dataset = {"disparity": "flyingthings3d", "classification": "cifar10"}[task]
    if task == "disparity" and budget != "published":
        dataset = "shapes3d"
    runs = runs_of("study=spaces", f"task={task}", f"budget={budget}", f"study.datasets=[{dataset}]", "seeds=[0]")
    runs += runs_of("study=table", f"task={task}", f"budget={budget}", f"study.dataset={dataset}", "study.samples=1")
    first = {(run.program, run.labels.get("index")): run for run in runs}
    assert len(first) == 5
    for run in first.values():
        parsed(run)


@pytest.mark.parametrize(
    ("words", "counts"),
    [
        (["study=table", "seeds=[0,1]"], {"train": 162, "evaluate": 81}),
        (["study=table", "seeds=[0]", "study.samples=10"], {"train": 10, "evaluate": 10}),
        (["study=spaces", "task=classification", "seeds=[1,2,3]"], {"search": 108, "train": 108, "evaluate": 108}),
        (["study=rdarts", "task=classification", "seeds=[0]"], {"search": 16, "train": 20, "evaluate": 4}),
        (["study=regularization", "seeds=[0]"], {"search": 10, "train": 10, "evaluate": 10}),
        (["study=augmentation", "seeds=[0,1]"], {"search": 12, "train": 12, "evaluate": 12}),
        (["study=hyperparameters", "study.trials=7"], {"tune": 7}),
        (["study=drop"], {}),
    ],
)
def test_the_number_of_runs(words: list[str], counts: dict[str, int]) -> None:
    assert Counter(run.program for run in runs_of(*words)) == counts


def test_the_best_of_rdarts_needs_all_short_trainings() -> None:
    runs = runs_of("study=rdarts", "task=classification", "study.spaces=[s2]", "seeds=[0]")
    (best,) = [run for run in runs if run.program == "train" and run.labels.get("length") != "short"]
    assert Counter(run.program for run in best.needs) == {"search": 4, "train": 4}


def test_a_space_too_large_for_all() -> None:
    with pytest.raises(InputError, match=r"^study\.samples=null: must be a number, since space autodispnet is too"):
        config_of("study=table", "study.space=autodispnet")


def test_close_values_are_different_runs() -> None:
    words = ["study=rdarts", "study.key=seed", "study.values=[4294967290,4294967291]", "seeds=[0]"]
    runs = [run for run in runs_of(*words) if run.program == "search"]
    seeds = sorted(word for run in runs for word in run.settings if str(word).startswith("seed="))
    assert seeds == ["seed=4294967290", "seed=4294967291"]
    close = [
        "study=regularization",
        "study.values=[0.12345671,0.12345672,3e-4,2]",
        "study.policies=[none]",
        "seeds=[0]",
    ]
    factors = {run.labels["factor"] for run in runs_of("study=regularization", *close)}
    assert factors == {"0.12345671", "0.12345672", "0.0003", "2"}


def test_the_words_of_a_trial() -> None:
    tuning = Tuning.read(runs_of("study=hyperparameters", "budget=smoke")[3].words(Path("/study"), {}))
    assert (tuning.trial, tuning.steps, tuning.direction) == (3, [2, 6], "min")
    assert tuning.ranges == {"optimizer.learning_rate": (1e-4, 1e-2), "optimizer.weight_decay": (1e-6, 1e-2)}
