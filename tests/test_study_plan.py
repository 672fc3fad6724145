"""The time that a study takes, by runs that are done and by measured ones."""

import pytest

from autodisp.assembly.studies import build_protocol, build_study
from autodisp.cli import study_plan
from autodisp.cli.study_plan import check_runs, kind_of, time_left, unmeasured
from autodisp.config.study import parse
from autodisp.errors import InputError
from autodisp.studies.endings import Ending
from autodisp.studies.graph import Run, in_order
from tests.programs import composed


def run(program: str, number: int, **labels: str) -> Run:
    return Run(program, (f"seed={number}",), labels)


SHORT = [run("train", number, length="short", space="s1") for number in range(3)]
LONG = [run("train", number, space=space) for number, space in enumerate(["s1", "s1", "s2"], 10)]
SEARCHES = [run("search", number, space="s2") for number in range(2)]
RUNS = [*SHORT, *LONG, *SEARCHES]


def endings(**seconds: float) -> dict[str, Ending]:
    """All wait but those given, as train_1, which are done."""
    done = {f"{program}_{number}": value for key, value in seconds.items() for program, number in [key.split("_")]}
    return {
        one.name: Ending("done", seconds=done[key])
        if (key := f"{one.program}_{one.settings[0].partition('=')[2]}") in done  # type: ignore[union-attr]
        else Ending()
        for one in RUNS
    }


def test_a_run_takes_as_long_as_those_of_its_kind() -> None:
    known = endings(train_0=10, train_1=20, train_10=100, search_0=1000)
    assert time_left(RUNS, known, 1) == 15 + 100 + 100 + 1000, "a training in s2 counts like one in s1"
    assert time_left(RUNS, known, 2) == 1000, "the longest run bounds it from below"
    assert time_left(RUNS, known, 1, measured={("train", "", "s2"): 300.0}) == 15 + 100 + 300 + 1000


def test_a_run_in_progress_has_less_to_do() -> None:
    known = endings(train_0=10, train_1=20, train_10=100, search_0=1000)
    name = SEARCHES[1].name
    known[name] = Ending("running")
    assert time_left(RUNS, known, 1, elapsed={name: 400.0}) == 15 + 100 + 100 + 600
    assert time_left(RUNS, known, 1, elapsed={name: 4000.0}) == 15 + 100 + 100


def test_nothing_is_known_of_a_search() -> None:
    known = endings(train_0=10, train_1=20, train_10=100)
    assert time_left(RUNS, known, 1) is None
    assert [kind_of(one) for one in unmeasured(RUNS, known)] == [("train", "", "s2"), ("search", "", "s2")]
    measured = {("search", "", "s2"): 50.0, ("train", "", "s2"): 200.0}
    assert time_left(RUNS, known, 1, measured=measured) == pytest.approx(15 + 100 + 200 + 2 * 50)


def test_what_failed_takes_no_time() -> None:
    known = endings(train_0=10, train_1=20, train_10=100, search_0=1000)
    known[SEARCHES[1].name] = Ending("failed", seconds=3.0)
    assert time_left(RUNS, known, 1) == 15 + 100 + 100
    assert time_left([], {}, 1) == 0.0


def checked(*words: str) -> None:
    config = parse(composed("study", "budget=smoke", *words))
    runs = list(in_order(build_study(config).runs(build_protocol(config))))
    check_runs(runs, {one.name: Ending() for one in runs})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["study=regularization", "study.key=search.drop_path", "study.values=[0,0.2,2.5]"],
            "search.drop_path=2.5: must",
        ),
        (["study=table", 'budget.short=["network=disparity_tiny","dataset.length=-1"]'], "dataset.length=-1: must"),
        (["study=table", 'budget.evaluate=["densities=[120.0]"]'], "densities=[120.0]: must"),
        (
            ["study=table", 'budget.evaluate=["dataset.lenth=3"]'],
            "dataset.lenth: no such setting; did you mean dataset.",
        ),
        (["study=spaces", "budget=published"], "dataset.half_resolution: the dataset that is chosen has"),
        (["study=table", 'budget.evaluate=["=3"]'], "budget.evaluate=[=3]: must be words such as"),
        (["study=hyperparameters", "study.genotype=nowhere.json"], "genotype=nowhere.json: no such file"),
        (["study=hyperparameters", "study.genotype=tiny81:3"], "genotype=tiny81:3: has the cells normal, reduce, but"),
    ],
)
def test_a_wrong_setting_of_any_run_is_found_before_the_first(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("build_data", "build_train_data"):
        monkeypatch.setattr(study_plan, name, lambda config: None)
    with pytest.raises(InputError) as error:
        checked(*words, "seeds=[0]")
    assert str(error.value).startswith(line)


def test_a_setting_that_cannot_be_composed_is_told_with_its_run() -> None:
    with pytest.raises(InputError, match=r"\(in autodisp-search task=disparity dataset=shapes3d space=autodispnet "):
        checked("study=spaces", "budget=published", "seeds=[0]")


def test_few_runs_are_checked_of_many_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    programs: list[str] = []
    monkeypatch.setattr(study_plan, "_check", lambda program, words, with_data: programs.append(program))
    words = ["study=spaces", "task=classification", "study.datasets=[cifar10,cifar100,svhn]", "seeds=[0,1]"]
    checked(*words, "study.spaces=[s1,s2,s3,s4]")
    assert 12 <= programs.count("search") < 24, "of 72; 12 have the pairs of dataset and space"
    assert programs.count("train") == programs.count("evaluate") == 3


def test_two_settings_that_exclude_each_other_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("build_data", "build_train_data"):
        monkeypatch.setattr(study_plan, name, lambda config: None)
    words = ["study=regularization", "study.policies=[none,ada]", "study.values=[1e-4,1e-2,0.05]", "seeds=[0]"]
    with pytest.raises(InputError, match=r"^regularization\.cap=0\.03: must be above"):
        checked(*words)


def test_each_dataset_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(study_plan, "build_data", lambda config: read.append("search"))
    monkeypatch.setattr(study_plan, "build_train_data", lambda config: read.append("train"))
    checked("study=regularization", "study.values=[1e-4,1e-3]", "seeds=[0,1]")
    assert read == ["search", "train"]
