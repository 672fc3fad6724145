"""The moving picture of a search."""

import itertools
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import pytest

from autodisp.report import animation
from autodisp.report.animation import write_animation
from autodisp.report.reading import Run, read_run
from tests.made_runs import config_of, record_of, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    records = [record_of(0), record_of(1), record_of(2), record_of(2, restart=1, eigenvalue=0.1)]
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "run", records, config=config_of()))


def test_a_frame_an_epoch(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("imageio_ffmpeg")
    notes: list[str] = []
    assert write_animation(run, tmp_path, notes) == ["search.gif", "search.mp4"]
    assert notes == []
    frames = iio.imread(tmp_path / "search.gif")
    assert len(frames) == 4
    assert all((one != other).any() for one, other in itertools.pairwise(frames))
    film = cv2.VideoCapture(str(tmp_path / "search.mp4"))
    read, first = film.read()
    film.release()
    assert read
    assert first.shape == frames.shape[1:]
    assert first.shape[0] % 16 == first.shape[1] % 16 == 0
    # lossy, so near: the first frame of both is the same picture
    assert np.abs(first[..., ::-1].astype(int) - frames[0]).mean() < 6


def test_without_its_package_there_is_no_film_and_a_note(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(animation, "find_spec", lambda name: None)
    notes: list[str] = []
    assert write_animation(run, tmp_path, notes) == ["search.gif"]
    assert notes == ["no search.mp4: it needs ffmpeg, which `pip install imageio-ffmpeg` (the extra video) brings"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["search.gif"]


def test_without_ffmpeg_there_is_a_note(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written = animation.imageio.mimsave

    def without_ffmpeg(path: Path, frames: list[object], **settings: object) -> None:
        if path.suffix == ".mp4":
            path.write_bytes(b"begun")
            raise RuntimeError("No ffmpeg exe could be found")
        written(path, frames, **settings)

    monkeypatch.setattr(animation.imageio, "mimsave", without_ffmpeg)
    notes: list[str] = []
    assert write_animation(run, tmp_path, notes) == ["search.gif"]
    assert notes == ["no search.mp4: ffmpeg failed (No ffmpeg exe could be found); animation=false leaves it out"]
    assert not (tmp_path / "search.mp4").exists()


def test_one_epoch_does_not_move(tmp_path: Path) -> None:
    one = read_run(write_run(tmp_path / "run", [record_of(0)], config=config_of()))
    assert write_animation(one, tmp_path, []) == []
    assert not (tmp_path / "search.gif").exists()


def test_without_eigenvalues_the_figure_moves(tmp_path: Path) -> None:
    records = [record_of(i, eigenvalue=None) for i in range(2)]
    run = read_run(write_run(tmp_path / "run", records, config=config_of()))
    assert write_animation(run, tmp_path, [])[0] == "search.gif"
