"""autodisp-report from its config to its exit codes; the pages have tests of their own."""

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from autodisp.cli import entry
from autodisp.cli import report as program
from autodisp.config.report import parse
from autodisp.errors import InputError
from tests.made_runs import write_search, write_training

QUICK = "animation=false"


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with initialize_config_module("autodisp.configs.report", version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def composed(*overrides: str) -> Any:
    return compose("report", overrides=list(overrides))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_page_in_the_run_which_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_search(tmp_path / "a run", space="tiny81")
    before = snapshot(folder)
    page = program.report(composed(f"run='{folder}'"))
    assert page == folder / "report" / "index.html"
    after = snapshot(folder)
    assert {name: content for name, content in after.items() if not name.startswith("report/")} == before
    assert {"report/search.gif", "report/search.mp4", "report/cell_normal.svg"} <= set(after)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"page:  {page}"
    assert told[1].startswith(f"files: {folder}/report/ (cell_normal.svg, ")


def test_again_while_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_training(tmp_path / "run", intervals=1)
    page = program.report(composed(f"run={folder}"))
    assert "still going, or stopped: 100 of 300 steps" in page.read_text()
    assert "the one before" not in capsys.readouterr().out
    write_training(folder, intervals=3)
    assert "complete" in program.report(composed(f"run={folder}")).read_text()
    assert f"page:  {page} (in place of the one before)\n" in capsys.readouterr().out
    assert not [path for path in (folder / "report").iterdir() if path.name.startswith(".")]


def test_a_report_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The disk's limit is met by a real write."""
    folder = write_training(tmp_path / "run")
    program.report(composed(f"run={folder}", QUICK))
    before = snapshot(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(InputError, match=r"^out=.*report: .* cannot be written \(File too large\)$"):
            program.report(composed(f"run={folder}", QUICK))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert snapshot(folder) == before


def test_a_comparison_lies_beside_its_runs(tmp_path: Path) -> None:
    for name in "ab":
        write_training(tmp_path / "runs" / name)
    page = program.report(composed(f"runs='{tmp_path}/runs/**'"))
    assert page == tmp_path / "runs" / "report" / "index.html"
    assert "2 runs compared" in page.read_text()
    listed = program.report(composed(f"runs=[{tmp_path}/runs/a]", f"out={tmp_path}/one"))
    assert "1 training" in listed.read_text()


def test_a_comparison_leaves_the_report_on_a_run(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    before = program.report(composed(f"run={folder}", QUICK)).read_bytes()
    assert program.report(composed(f"runs={folder}")) == folder / "comparison" / "index.html"
    assert (folder / "report" / "index.html").read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "give run="),
        (["run=a", "runs=b"], "excludes runs="),
        (["run=a", "key=seed"], "null with run="),
        (["run=''"], "must be the folder of a run"),
        (["runs=[]"], "must be a folder or a pattern"),
        (["runs=[1]"], "must be a folder or a pattern"),
        (["runs=a", "threads=0"], "at least 1"),
        (["run=a", "+animaton=false"], "did you mean 'animation'"),
        (["run=a", "animation=perhaps"], "animation"),
        (["run=[a]"], "run"),
    ],
)
def test_settings_that_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(composed(*overrides))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_does_not_write_through_a_link_in_the_run(tmp_path: Path) -> None:
    folder, elsewhere = write_training(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "report").symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link"):
        program.report(composed(f"run={folder}"))
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    folder, precious = write_training(tmp_path / "run"), tmp_path / "precious"
    precious.write_text("mine")
    (folder / "report").mkdir()
    (folder / "report" / "index.html").symlink_to(precious)
    program.report(composed(f"run={folder}"))
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("out", ["file", "file/below", "taken"])
def test_a_place_that_cannot_be_written_to(tmp_path: Path, out: str) -> None:
    folder = write_training(tmp_path / "run")
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "index.html" / "full").mkdir(parents=True)
    with pytest.raises(InputError, match="out=") as caught:
        program.report(composed(f"run={folder}", f"out={tmp_path / out}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run={run}", QUICK], 0, ""),
        (["run={run}/gone"], 2, "no such folder"),
        (["run={run}/..", QUICK], 2, "runs="),
        (["runs={run}/gone*"], 2, "no run"),
        (["runs={run}", "key=nothing"], 2, "key=nothing"),
    ],
)
def test_exit_codes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    GlobalHydra.instance().clear()
    run = write_training(tmp_path / "runs" / "run")
    monkeypatch.setattr(sys, "argv", ["autodisp-report", *(word.format(run=run) for word in words)])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # run_program sets it for good
    try:
        entry.report()
        left = 0
    except SystemExit as leaving:
        left = int(str(leaving.code))
    errors = capsys.readouterr().err
    assert left == code
    assert said in errors
    assert errors.count("\n") == (1 if code else 0)
