"""Files appear whole or not at all, and what was there stays."""

from pathlib import Path

import pytest

from autodisp.atomic import leftovers, refuse_overwriting, replacing, staged
from autodisp.errors import InputError


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


def test_takes_the_place_once_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.png"
    path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".png"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there", [False, True])
def test_leaves_nothing_half_done(tmp_path: Path, failure: type[BaseException], there: bool) -> None:
    path = tmp_path / "x.png"
    if there:
        path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("hal")
            raise failure

    with pytest.raises(failure):
        fail()
    assert [file.read_text() for file in tmp_path.iterdir()] == (["old"] if there else [])


def test_what_killed_processes_left_is_found(tmp_path: Path) -> None:
    for name in (".123.epoch_0001.pt", "epoch_0001.pt", ".123.best.safetensors"):
        (tmp_path / name).touch()
    assert [path.name for path in leftovers(tmp_path, "epoch_*.pt")] == [".123.epoch_0001.pt"]
