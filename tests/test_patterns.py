"""Patterns against the standard library's glob, and what their wildcards matched against what must stand there."""

import glob
import os
from pathlib import Path

import pytest

from autodisp.prediction.patterns import fixed_part, has_wildcard, matches

FILES = [
    "a.png", "b.png", "b.jpg", "ab.png", "[x].png", "a^b.png", "a.b.png", "x/a.png", "x/b.png", "x/y/a.png",
    "x/y/z/a.png", "w/left/1.png", "w/left/2.png", "w/right/1.png", "-.png", "\\.png",
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in FILES:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*", "*.png", "?.png", "[ab].png", "[!a].png", "[!]].png", "[a-c].png", "[]a].png", "[[]x].png", "[\\].png",
        "[^a].png", "a[^]b.png", "*.*", "a*b*", "**", "**/*.png", "**/a.png", "x/**", "x/**/a.png", "x/**/y/**/*.png",
        "**/**/a.png", "**/**", "*/*", "*/*/?.png", "x**", "**x/a.png", "w/*/1.png", "nothing/*.png", "a.[pq]n?",
        "***.png", "[a-b]*.[!j]*", "a.pn[g", "[].png", "[!].png", "w/[lr]*t/*",
    ],
)  # fmt: skip
@pytest.mark.parametrize("absolute", [False, True])
def test_the_files_are_those_of_glob(tree: Path, pattern: str, absolute: bool) -> None:
    if absolute:
        pattern = f"{glob.escape(str(tree))}/{pattern}"
    expected = {Path(name) for name in glob.glob(pattern, recursive=True) if os.path.isfile(name)}
    assert set(matches(pattern)) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("?.png", {"a.png": ("a",), "b.png": ("b",), "-.png": ("-",), "\\.png": ("\\",)}),
        ("a*.png", {"a.png": ("",), "ab.png": ("b",), "a^b.png": ("^b",), "a.b.png": (".b",)}),
        ("[b-z].*", {"b.png": ("b", "png"), "b.jpg": ("b", "jpg")}),
        ("**/y/*.png", {"x/y/a.png": ("x", "a")}),
        ("x/**/a.png", {"x/a.png": ("",), "x/y/a.png": ("y",), "x/y/z/a.png": ("y/z",)}),
        ("w/**", {"w/left/1.png": ("left/1.png",), "w/left/2.png": ("left/2.png",), "w/right/1.png": ("right/1.png",)}),
        ("./x//?.png", {"x/a.png": ("a",), "x/b.png": ("b",)}),
        ("x/../x/?.png", {"x/../x/a.png": ("a",), "x/../x/b.png": ("b",)}),
    ],
)
def test_what_the_wildcards_stand_for(tree: Path, pattern: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert {str(path): parts for path, parts in matches(pattern).items()} == expected


@pytest.mark.parametrize(
    ("pattern", "fixed"),
    [
        ("*.png", "."), ("a/b/*.png", "a/b"), ("a/*/b/c.png", "a"), ("/**", "/"), ("a/b.png", "a/b.png"),
        ("../x/[ab]", "../x"),
    ],
)  # fmt: skip
def test_fixed_part(pattern: str, fixed: str) -> None:
    assert fixed_part(pattern) == Path(fixed)
    assert has_wildcard(pattern) == (fixed != pattern)
