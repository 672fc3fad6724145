"""The program as it is called: exit codes, messages, nothing created where the input is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException, ValidationError

from autodisp.cli.program import explain, run_program
from autodisp.errors import InputError


def call(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.argv[0] = 'autodisp-search'; from autodisp.cli.entry import search; search()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, *overrides],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["dataset=flyingthing3d"], "dataset=flyingthing3d: no such choice; did you mean dataset=flyingthings3d?"),
        (["dataset=flyingthings3d"], "dataset.root"),
        (["task=classification", "dataset=sintel"], "dataset=sintel does not fit task=classification"),
        (["search.epoch=3"], "search.epoch: no such setting"),
        (["search.epochs"], "search.epochs"),
        (["dataset=null"], "dataset=null: a group needs one of its choices; `autodisp-search --help` lists them"),
        (["a b=c d"], "'a b=c d' cannot be read as a setting"),
        (["search.batch_size=300"], "search.batch_size=300: the smaller half of the training split has 200 samples"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path, overrides: list[str], says: str) -> None:
    done = call(tmp_path, *overrides)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("autodisp-search: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_config_file_of_the_users_own_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "experiment" / "short.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("\ufeff# @package _global_\nsearch:\n  epochs: 7\n", encoding="utf-8")
    done = call(tmp_path, "--config-dir", "mine", "experiment=short", "--cfg", "job", "--package", "search")
    assert (done.returncode, done.stderr) == (0, "")
    assert "epochs: 7\n" in done.stdout


@pytest.mark.slow
def test_a_run_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").touch()
    done = call(tmp_path, "run.folder=taken")
    assert done.returncode == 2
    assert "run.folder=taken: is not empty" in done.stderr
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["precious"]


def test_help_lists_groups_and_choices(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert done.returncode == 0
    for word in ("autodisp-search", "dataset: cifar10", "regularization: ada, es, none", "experiment: "):
        assert word in done.stdout


def test_a_fault_keeps_its_traceback() -> None:
    def fails() -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        run_program(fails)


def test_an_interrupted_program_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        run_program(interrupted)
    assert caught.value.code == 130
    error = capsys.readouterr().err
    assert error.endswith(": interrupted\n")
    assert error.count("\n") == 1


def test_our_error_is_found_inside_a_library_error(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        try:
            raise InputError("x=1: must be 2")
        except InputError as error:
            raise HydraException("wrapped") from error

    with pytest.raises(SystemExit) as caught:
        run_program(fails)
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("x=1: must be 2\n")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MissingConfigException("m", "space/s5", ["s1", "s2"]), "space=s5: no such choice; did you mean space=s"),
        (MissingConfigException("m", "space/zzz", ["s1"]), "space=zzz: no such choice; space is one of s1"),
        (ValidationError("Value 'x' is wrong\n    full_key: a.b\n    object_type=C"), "a.b: Value 'x' is wrong"),
        (OmegaConfBaseException("plain"), "plain"),
    ],
)
def test_library_messages_become_one_line(error: Exception, says: str) -> None:
    line = explain(error)
    assert line.startswith(says)
    assert "\n" not in line
