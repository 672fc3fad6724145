"""Files appear whole or not at all, and what was there stays."""

from pathlib import Path

import pytest

from autodisp.errors import InputError
from autodisp.export.staging import refuse_overwriting, staged


def listed(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_files_move_into_a_folder_that_is_made(tmp_path: Path) -> None:
    with staged(tmp_path / "a" / "b") as stage:
        (stage / "x").write_text("1")
        (stage / "y").write_text("2")
        assert not (tmp_path / "a" / "b" / "x").exists()
    assert listed(tmp_path) == {"a/b/x": "1", "a/b/y": "2"}
    assert [path.name for path in (tmp_path / "a" / "b").iterdir() if path.is_dir()] == []


def write_and_fail(folder: Path, error: BaseException) -> None:
    with staged(folder) as stage:
        (stage / "x").write_text("new")
        raise error


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_and_fail(tmp_path / "a" / "b", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_survives_an_exception_and_is_replaced_by_success(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    (tmp_path / "other").write_text("kept")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path, ZeroDivisionError())
    assert listed(tmp_path) == {"x": "old", "other": "kept"}
    with staged(tmp_path) as stage:
        (stage / "x").write_text("new")
    assert listed(tmp_path) == {"x": "new", "other": "kept"}


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(InputError, match=r"out=.*file.*: cannot be used"), staged(tmp_path / name):
        pass
    assert listed(tmp_path) == {"file": "1"}


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    refuse_overwriting(tmp_path / "absent", ["x"])
    (tmp_path / "y").touch()
    with pytest.raises(InputError, match=r"y: exists already; take another folder with out=, or overwrite=true"):
        refuse_overwriting(tmp_path, ["x", "y"])
