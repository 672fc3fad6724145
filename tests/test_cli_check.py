"""autodisp-check as it is called: the table, the verdict, the files, the exit codes, the command to go on with."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from autodisp.assembly.checking import CheckReport
from autodisp.cli.check import check, next_command
from autodisp.config.check import parse
from autodisp.datasets.shapes3d import Shapes3D, write
from autodisp.errors import InputError, RunFault
from tests.programs import command_of, composed, start

TINY = ("dataset.height=64", "dataset.width=96", "dataset.max_disparity=16")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write(Shapes3D(length=6, seed=0, height=48, width=64, max_disparity=16), tmp_path / "data", train=5)
    return tmp_path / "data"


def run(folder: Path, root: Path, *overrides: str) -> CheckReport:
    things = ["dataset=flyingthings3d", f"dataset.root={root}", "dataset.half_resolution=false", "dataset.crop=null"]
    return check(composed("check", f"out={folder}", "run.workers=1", *things, *overrides), things[:2])


def test_a_clean_dataset(tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", frames).problems == []
    out = capsys.readouterr().out
    assert "check of flyingthings3d: 5 train, 1 test" in out
    assert "verdict: nothing is wrong with 6 samples\n" in out
    assert f"next:  autodisp-search dataset=flyingthings3d dataset.root={frames}\n" in out
    assert json.loads((tmp_path / "out/check.json").read_text())["clean"] is True
    assert all(line.startswith("#") for line in (tmp_path / "out/excluded.txt").read_text().splitlines())


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parse(composed("check", "out='~/checks'")).out == "/home/me/checks"


def test_problems_by_kind_with_the_first_files(
    tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for scene in range(4):
        (frames / f"frames_cleanpass/TRAIN/A/{scene:04d}/right/0006.png").write_bytes(b"\x89PNG")
    (frames / "disparity/TEST/A/0000/left/0006.pfm").unlink()
    report = run(tmp_path / "out", frames)
    out = capsys.readouterr().out
    rows = {cells[0].strip(): cells for line in out.splitlines() if len(cells := line.split("│")[1:-1]) == 3}
    assert [cell.strip() for cell in rows["unreadable file"][1:]] == [
        "4",
        "frames_cleanpass/TRAIN/A/0000/right/0006.png",
    ]
    assert [cell.strip() for cell in rows["missing partner"][1:]] == ["1", "disparity/TEST/A/0000/left/0006.pfm"]
    assert rows["views and disparities disagree"][1].strip() == "0"
    assert re.search(r"^first unreadable file: TRAIN/A/0000/0006: .*/A/0000/right/0006\.png: .*PNG", out, re.MULTILINE)
    assert "first missing partner: TEST/A/0000/0006" in out
    assert "first views" not in out
    assert "A/0002/right/0006.png" in out
    assert "A/0003/right/0006.png" not in out
    assert "and 1 more" in out
    assert "verdict: 5 problems in 5 of 6 samples, 5 listed in excluded.txt; " in out
    assert "next:  fix it, then autodisp-check dataset=flyingthings3d" in out, "one scene is too little"
    listed = [line for line in (tmp_path / "out/excluded.txt").read_text().splitlines() if not line.startswith("#")]
    assert listed == list(report.excluded)
    assert len(listed) == 5


def test_the_next_command_names_the_list(tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (frames / "disparity/TRAIN/A/0000/left/0006.pfm").unlink()
    run(tmp_path / "out", frames, "split=train")
    listed = tmp_path / "out/excluded.txt"
    out = capsys.readouterr().out
    assert f"next:  autodisp-search dataset=flyingthings3d dataset.root={frames} dataset.exclude={listed}\n" in out


@pytest.mark.parametrize(
    ("overrides", "excluded", "following"),
    [
        (["dataset=sintel", "dataset.root=a b", "run.workers=3", "seed=2"], False,
         "autodisp-search dataset=sintel 'dataset.root=a b' seed=2"),
        (["dataset=cifar10", "dataset.root=x", "out=y"], True,
         "autodisp-search task=classification dataset=cifar10 dataset.root=x dataset.exclude=run/excluded.txt"),
        (["dataset=flyingthings3d_full", "dataset.root=x", "dataset.exclude=old", "dataset.subsets=[A]"], True,
         "autodisp-search dataset=flyingthings3d_full dataset.root=x 'dataset.subsets=[A]' "
         "dataset.exclude=run/excluded.txt"),
        (["dataset=flyingthings3d", "dataset.root=x", "dataset.exclude=old"], False,
         "autodisp-search dataset=flyingthings3d dataset.root=x dataset.exclude=old"),
        (["dataset=svhn", "dataset.root=x", "split=test"], False,
         "autodisp-evaluate checkpoint=runs/MY_TRAINING/best.safetensors dataset=svhn dataset.root=x"),
        (["dataset=pairs", "dataset.root=x"], True,
         "autodisp-train recipe=adapt init=shipped dataset.root=x dataset.exclude=run/excluded.txt"),
    ],
)  # fmt: skip
def test_the_next_command_keeps_what_was_asked(overrides: list[str], excluded: bool, following: str) -> None:
    composable = [word for word in overrides if " " not in word]
    report = CheckReport(parse(composed("check", "out=unused", *composable)))
    report.excluded = {"a": "why"} if excluded else {}
    assert next_command(report, Path("run"), overrides) == following
    report.obstacle = "nothing left"
    assert next_command(report, Path("run"), overrides).startswith("autodisp-check dataset=")


def test_a_damaged_file_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin"
    path.parent.mkdir()
    path.write_bytes(b"cut off")
    words = ["dataset=cifar10", f"dataset.root={tmp_path}"]
    check(composed("check", f"out={tmp_path / 'out'}", *words), words)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("first unreadable file: ")]
    assert line.count(str(path)) == 1


def test_odd_file_names_are_printed(tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = os.fsdecode(b"sc\xe9ne\x1b[31m [red]")
    path = frames / "frames_cleanpass/TRAIN/A" / scene / "left/0001.png"
    path.parent.mkdir(parents=True)
    path.touch()
    report = run(tmp_path / "out", frames)
    said = capsys.readouterr().out
    assert "[red]" in said
    assert "\x1b" not in said
    assert list(report.excluded) == [f"TRAIN/A/{scene}/0001"]
    again = run(tmp_path / "again", frames, f"dataset.exclude={tmp_path / 'out/excluded.txt'}")
    assert again.problems == []


def test_nothing_is_left_of_a_check_that_could_not_begin(tmp_path: Path, frames: Path) -> None:
    with pytest.raises(InputError, match=r"dataset\.root"):
        run(tmp_path / "out", tmp_path / "none")
    assert not (tmp_path / "out").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/precious").touch()
    with pytest.raises(InputError, match="is not empty"):
        run(tmp_path / "taken", frames)


def test_a_report_that_cannot_be_written(tmp_path: Path, frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunFault, match="the report cannot be written \\(No space left on device\\)"):
        run(tmp_path / "out", frames)


@pytest.mark.slow
def test_exit_codes(tmp_path: Path, frames: Path) -> None:
    (frames / "disparity/TRAIN/A/0003/left/0006.pfm").write_bytes(b"Pf")
    things = ["dataset=flyingthings3d", f"dataset.root={frames}", "dataset.half_resolution=false", "dataset.crop=null"]
    first = start(tmp_path, "check", *things, "out=first")
    assert (first.returncode, first.stderr) == (2, "")
    following = shlex.split(first.stdout.split("next:  ")[1].strip())
    assert following == ["autodisp-search", *things, "dataset.exclude=first/excluded.txt"]
    second = start(tmp_path, "check", *following[1:], "out=second")
    assert (second.returncode, second.stderr) == (0, "")
    third = start(tmp_path, "check", "dataset=sintel")
    assert (third.returncode, third.stdout, third.stderr.count("\n")) == (2, "", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "first", "second"]


@pytest.mark.slow
def test_an_interruption_leaves_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command_of("check", *TINY, "dataset.length=1000000", "run.workers=2", "out=out"),
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "COLUMNS": "120"},
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has what it runs in the background ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    shown = b""
    while b"/1000000" not in shown:
        shown += os.read(ours, 4096)
    # As the terminal does, to all processes of the session.
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "autodisp-check: interrupted\n"
    assert b"0 problems" in shown
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 10
    while _alive(process.pid):
        assert time.monotonic() < deadline, "a reading process outlived the check"
        time.sleep(0.05)
    os.close(ours)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
