"""autodisp-report from its config to its exit codes; the pages have tests of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autodisp.cli import report as program
from autodisp.errors import InputError, RunFault
from tests.made_runs import write_search, write_training
from tests.programs import composed, contents, files_up_to

pytestmark = pytest.mark.usefixtures("empty_figures")

QUICK = "animation=false"


@pytest.mark.slow
def test_a_page_in_the_run_which_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_search(tmp_path / "a run", space="tiny81")
    before = contents(folder)
    page = program.report(composed("report", f"run='{folder}'"))
    assert page == folder / "report" / "index.html"
    after = contents(folder)
    assert {name: content for name, content in after.items() if not name.startswith("report/")} == before
    assert {"report/search.gif", "report/search.mp4", "report/cell_normal.svg"} <= set(after)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"page:  {page}"
    assert told[1].startswith(f"files: {folder}/report/ (cell_normal.svg, ")


def test_again_while_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_training(tmp_path / "run", intervals=1)
    page = program.report(composed("report", f"run={folder}"))
    assert "running or stopped: 100 of 300 steps" in page.read_text()
    assert "the previous one" not in capsys.readouterr().out
    write_training(folder, intervals=3)
    assert "complete" in program.report(composed("report", f"run={folder}")).read_text()
    assert f"page:  {page} (replaces the previous one)\n" in capsys.readouterr().out
    assert not [path for path in (folder / "report").iterdir() if path.name.startswith(".")]


def test_a_report_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    """The disk's limit is met by a real write."""
    folder = write_training(tmp_path / "run")
    program.report(composed("report", f"run={folder}", QUICK))
    before = contents(folder)
    says = r"^out=.*report: .* cannot be written \(File too large\)$"
    with files_up_to(5_000), pytest.raises(RunFault, match=says):
        program.report(composed("report", f"run={folder}", QUICK))
    assert contents(folder) == before


def test_a_comparison_lies_beside_its_runs(tmp_path: Path) -> None:
    for name in "ab":
        write_training(tmp_path / "runs" / name)
    page = program.report(composed("report", f"runs='{tmp_path}/runs/**'"))
    assert page == tmp_path / "runs" / "report" / "index.html"
    assert "2 runs compared" in page.read_text()
    listed = program.report(composed("report", f"runs=[{tmp_path}/runs/a]", f"out={tmp_path}/one"))
    assert "1 training" in listed.read_text()


def test_a_comparison_leaves_the_report_on_a_run(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    before = program.report(composed("report", f"run={folder}", QUICK)).read_bytes()
    assert program.report(composed("report", f"runs={folder}")) == folder / "comparison" / "index.html"
    assert (folder / "report" / "index.html").read_bytes() == before


def test_a_comparison_leaves_the_report_on_a_study(tmp_path: Path) -> None:
    write_training(tmp_path / "runs" / "train-1")
    (tmp_path / "study.yaml").write_text("study: {name: table}\n")
    page = program.report(composed("report", f"runs={tmp_path}"))
    assert page == tmp_path / "comparison" / "index.html"


def test_it_does_not_write_through_a_link_in_the_run(tmp_path: Path) -> None:
    folder, elsewhere = write_training(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "report").symlink_to(elsewhere)
    with pytest.raises(InputError, match="is a link"):
        program.report(composed("report", f"run={folder}"))
    assert list(elsewhere.iterdir()) == []


def test_exit_codes(tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    write_training(tmp_path / "runs" / "run")
    assert call("report", "run=runs/run", QUICK) == 0
    assert capsys.readouterr().err == ""
    for words, says in ((["run=runs", QUICK], "runs="), (["runs=runs/run", "key=nothing"], "key=nothing")):
        assert call("report", *words) == 2
        error = capsys.readouterr().err
        assert says in error
        assert error.count("\n") == 1
