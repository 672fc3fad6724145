"""The program as it is called: exit codes, messages, nothing created where the input is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException, ValidationError

from autodisp.cli.program import explain, run_program
from autodisp.errors import InputError
from tests.programs import start


def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = start(tmp_path, "search", "search.epoch=3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("autodisp-search: search.epoch: no such setting; did you mean search.epochs?")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_config_file_of_the_users_own_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "experiment" / "short.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("\ufeff# @package _global_\nsearch:\n  epochs: 7\n", encoding="utf-8")
    done = start(tmp_path, "search", "--config-dir", "mine", "experiment=short", "--cfg", "job", "--package", "search")
    assert (done.returncode, done.stderr) == (0, "")
    assert "epochs: 7\n" in done.stdout


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("search", ["autodisp-search", "dataset: cifar10", "regularization: ada, es, none", "experiment: "]),
        ("train", ["recipe: adapt, classification_", "network: autodispnet_large", "resume=runs/MY_TRAINING"]),
        ("predict", ["checkpoint: null", "colour_range: null", "left=rig/left right=rig/right"]),
    ],
)
def test_help_lists_groups_choices_and_settings(
    program: str, words: list[str], tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(program, "--help") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert all(word in said.out for word in words)
    assert list(tmp_path.iterdir()) == []


def test_neither_locale_nor_notebook_ends_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")  # has no dash
    monkeypatch.setenv("MPLBACKEND", "not_installed")
    data = ("dataset=shapes3d", "dataset.length=1", "dataset.height=32", "dataset.width=48", "dataset.max_disparity=9")
    done = start(tmp_path, "evaluate", "baseline=constant", *data, "pictures=1", "out=o")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "o" / "worst_constant_1.png").is_file()


def test_a_fault_keeps_its_traceback() -> None:
    def fails() -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        run_program(fails)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory.\nTried 2 GiB"), "out of memory"),
        (OSError(28, "No space left on device"), "a file: cannot be written (No space left on device); make room"),
        (OSError(30, "Read-only file system", "a.csv"), "a.csv: cannot be written (Read-only file system); make room"),
    ],
)
def test_a_lack_of_memory_or_room_is_one_line_and_exit_code_1(
    fault: Exception, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise fault

    with pytest.raises(SystemExit) as end:
        run_program(fails)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


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
