"""Lists of samples to leave out: what is read, what is refused, and that a written list reads back."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodisp.datasets.exclusions import can_be_listed, read_entries, read_exclusions, write_exclusions
from autodisp.errors import WrongSetting

KNOWN = {"TRAIN/A/0000/0006", "TRAIN/A/0000/0007", "a scene/frame#1"}


def listed(folder: Path, text: str | bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", set()),
        ("\n# only words\n   \n#\n", set()),
        ("TRAIN/A/0000/0006", {"TRAIN/A/0000/0006"}),
        ("  TRAIN/A/0000/0006\t# is black \nTRAIN/A/0000/0006\n", {"TRAIN/A/0000/0006"}),
        ("TRAIN/A/0000/0006\r\nTRAIN/A/0000/0007\r\n", {"TRAIN/A/0000/0006", "TRAIN/A/0000/0007"}),
        ("\ufeffTRAIN/A/0000/0006\n", {"TRAIN/A/0000/0006"}),
        ("a scene/frame#1 # a hash within a name\n", {"a scene/frame#1"}),
    ],
)
def test_what_a_list_says(tmp_path: Path, text: str, found: set[str]) -> None:
    assert read_exclusions(listed(tmp_path, text), KNOWN) == found


def test_no_list_leaves_nothing_out() -> None:
    assert read_exclusions(None, KNOWN) == set()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# why\n\nTRAIN/A/0000/0008\n", "line 3, 'TRAIN/A/0000/0008', names no sample of this data, whose"),
        ("x\nTRAIN/A/0000/0006\ny\nz # w\n", "line 1, 'x', names no sample of this data (nor do 2 other lines)"),
        (b"\x00\xff" * 500, "names no sample"),
        ("train/a/0000/0006", "named like TRAIN/A/0000/0006"),
    ],
)
def test_an_entry_that_names_nothing_is_refused_in_one_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = listed(tmp_path, text)
    with pytest.raises(WrongSetting, match=f"^dataset.exclude={path}: .*{re.escape(says)}") as caught:
        read_exclusions(path, KNOWN)
    assert len(str(caught.value)) < 600


def test_an_entry_of_another_part_is_passed_over(tmp_path: Path) -> None:
    path = listed(tmp_path, "TEST/x\nTRAIN/A/0000/0006\n")
    assert read_exclusions(path, KNOWN, elsewhere=lambda name: name.startswith("TEST/")) == {"TRAIN/A/0000/0006"}


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "nul\0"):
        with pytest.raises(WrongSetting, match=r"dataset\.exclude=.*cannot be read"):
            read_exclusions(path, KNOWN)
        with pytest.raises(WrongSetting, match="cannot be read"):
            read_entries(path)


NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("# \n\t\udce4"), max_size=12)


@given(names=st.lists(NAMES, max_size=6, unique=True), reason=st.text(max_size=20))
def test_a_written_list_reads_back(tmp_path_factory: pytest.TempPathFactory, names: list[str], reason: str) -> None:
    kept = [name for name in names if can_be_listed(name)]
    path = tmp_path_factory.mktemp("list") / "excluded.txt"
    write_exclusions(path, [(name, reason.encode("ascii", "ignore").decode()) for name in kept], title="of a test")
    assert read_entries(path) == kept
    assert read_exclusions(path, set(names)) == set(kept)


@pytest.mark.parametrize("name", ["", " a", "a ", "#a", "a #b", "a\nb", "a\rb"])
def test_what_no_line_can_name(name: str) -> None:
    assert not can_be_listed(name)
