"""Finding and matching files by path."""

from pathlib import Path

import pytest
import torch

from autodisp.datasets.layout import Frame, Tree, files_in, find_root, folders_in, match, require_one_size
from autodisp.errors import InputError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_files_by_stem_whatever_their_case(tmp_path: Path) -> None:
    for name in ("0002.PNG", "0001.webp", "0001.png", "0003.jpg", ".0004.png", "._0001.png", "notes", "0.5.Png"):
        touch(tmp_path / name)
    (tmp_path / "folder").mkdir()
    found = files_in(tmp_path, (".png", ".webp"))
    assert {stem: path.name for stem, path in found.items()} == {
        "0001": "0001.png",
        "0002": "0002.PNG",
        "0.5": "0.5.Png",
    }
    assert files_in(tmp_path / "none", (".png",)) == {}


def test_folders(tmp_path: Path) -> None:
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    touch(tmp_path / "file")
    assert folders_in(tmp_path) == ["a", "b"]
    assert folders_in(tmp_path / "file") == []


def test_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "here" / "b" / "x")
    ask = {"looked_for": ["a", "b"], "origin": "from example.org"}
    assert find_root(str(tmp_path / "here"), **ask) == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_root("~/here", **ask) == tmp_path / "here"
    for root in (None, "", "  ", tmp_path, tmp_path / "none", tmp_path / "here" / "b" / "x"):
        with pytest.raises(InputError, match=r"dataset\.root.*a or b.*example\.org.*shapes3d"):
            find_root(root, **ask)


def tree(top: str, root: Path, *stems: str) -> Tree:
    return Tree(
        f"{top}/{{scene}}/{{stem}}.png", {Frame("s", stem): touch(root / f"{top}/s/{stem}.png") for stem in stems}
    )


def test_matches_whole_frames_in_order(tmp_path: Path) -> None:
    trees = [tree("l", tmp_path, "3", "1", "2"), tree("r", tmp_path, "2", "3", "1")]
    assert [frame.stem for frame in match(tmp_path, trees, remedy="")] == ["1", "2", "3"]
    assert match(tmp_path, [tree("x", tmp_path)], remedy="") == []


def test_names_incomplete_frames_and_counts_them(tmp_path: Path) -> None:
    left = tree("l", tmp_path, *"0123456")
    right = tree("r", tmp_path, "0", "9")
    with pytest.raises(InputError, match="Get them") as caught:
        match(tmp_path, [left, right], remedy="Get them.")
    text = str(caught.value)
    assert "7 of 8 frames are incomplete" in text
    assert "r/s/1.png missing while l/s/1.png is there" in text
    assert "r/s/3.png" in text
    assert "r/s/4.png" not in text
    assert "and 4 more" in text
    ignored = {Frame("s", stem) for stem in "1234569"}
    assert match(tmp_path, [left, right], ignored=ignored, remedy="") == [Frame("s", "0")]


def test_incomplete_frames_may_be_collected(tmp_path: Path) -> None:
    left, right = tree("l", tmp_path, *"012"), tree("r", tmp_path, "0", "9")
    collected: dict[Frame, str] = {}
    assert match(tmp_path, [left, right], remedy="", collected=collected) == [Frame("s", "0")]
    assert set(collected) == {Frame("s", stem) for stem in "129"}
    assert collected[Frame("s", "9")] == "l/s/9.png missing while r/s/9.png is there"


def test_a_folder_that_may_not_be_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    for look in (folders_in, lambda folder: files_in(folder, (".png",))):
        with pytest.raises(InputError, match="cannot be listed"):
            look(tmp_path)


def test_sizes_must_agree() -> None:
    low, high = torch.zeros(1, 2, 3), torch.zeros(3, 4, 3)
    require_one_size({Path("a"): low, Path("b"): low})
    with pytest.raises(InputError, match="b: is 3x4 but a is 3x2"):
        require_one_size({Path("a"): low, Path("b"): high})
