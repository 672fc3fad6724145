"""What is loaded before a program has something to do."""

import shlex
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

import autodisp
from autodisp.cli import entry
from tests.programs import command_of

SCRIPTS = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["scripts"]
_CALL = """
import sys
from autodisp.cli import entry
try:
    getattr(entry, sys.argv.pop(1))()
except SystemExit as left:
    print("left", left.code or 0)
print(sorted({"torch", "torchvision", "matplotlib", "cv2"} & set(sys.modules)))
"""


def test_every_program_has_its_entry() -> None:
    assert {name.removeprefix("autodisp-"): target for name, target in SCRIPTS.items()} == {
        name: f"autodisp.cli.entry:{name}" for name, value in vars(entry).items() if isinstance(value, partial)
    }


@pytest.mark.parametrize("name", [name.removeprefix("autodisp-") for name in SCRIPTS])
def test_the_version_is_ours(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [f"autodisp-{name}", "--version"])
    getattr(entry, name)()
    assert capsys.readouterr().out == f"autodisp-{name} {autodisp.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"), [(["--help"], None), (["run.device=cpu", "no_such_setting=1"], 2), (["--cfg", "job"], None)]
)
def test_help_and_misspelt_settings_wait_for_no_library(tmp_path: Path, words: list[str], code: int | None) -> None:
    command = [sys.executable, "-c", _CALL, "evaluate", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert ("left 2" in lines) == (code == 2)
    assert (len(lines) > 10) == (code is None)


def test_closed_streams_are_no_fault(tmp_path: Path) -> None:
    shell = f"{shlex.join(command_of('search', 'plan=maybe'))} >&- 2>&-"
    assert subprocess.run(shell, cwd=tmp_path, shell=True, check=False).returncode == 2


def test_settings_may_stand_behind_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["autodisp-search", "--config-dir", str(tmp_path), "seed=1", "--cfg", "job", "seed=2"]
    )
    GlobalHydra.instance().clear()
    entry.search()
    assert "seed: 2\n" in capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_fault(tmp_path: Path) -> None:
    command = command_of("search", "--help")
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said) == (141, "")
