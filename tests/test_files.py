"""A file that is written takes its place whole, or the old one stays."""

from pathlib import Path

import pytest

from autodisp.prediction.files import replacing


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
