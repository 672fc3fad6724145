"""The viewer's frames and the animation: the cells of each epoch, and that epoch on a curve."""

import itertools
import json
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import pytest

from autodisp.report import animation
from autodisp.report.animation import write_animation
from autodisp.report.curves import marked_chart
from autodisp.report.reading import Run, read_run
from autodisp.report.viewer import MOST_FRAMES, panel_named, viewer_of
from tests.made_runs import config_of, record_of, write_run, write_search


def test_a_frame_per_epoch_and_a_drawing_per_cell(tmp_path: Path) -> None:
    viewer = viewer_of(read_run(write_search(tmp_path / "run")))
    assert viewer is not None
    assert [frame["label"].split(" · ")[0] for frame in viewer.frames] == [f"epoch {i}" for i in range(4)]
    cells = [frame["cells"] for frame in viewer.frames]
    assert cells == [{"normal": 0, "reduce": 1}] * 2 + [{"normal": 2, "reduce": 3}] * 2
    assert len(viewer.drawings) == 4
    assert (viewer.first, viewer.kinds) == (3, ("normal", "reduce"))
    json.dumps(viewer.data, allow_nan=False)


def test_the_marker_stands_on_the_curve(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run"))
    viewer, panel = viewer_of(run), panel_named(run, "eigenvalue")
    assert viewer is not None
    assert panel is not None
    _, axes = marked_chart(run, panel)
    points = axes.transData.transform(np.array(axes.lines[0].get_xydata())) / axes.figure.bbox.size
    assert len(points) == 4
    for frame, (x, y) in zip(viewer.frames, points, strict=True):
        assert (frame["x"], frame["y"]) == (pytest.approx(100 * x, abs=0.01), pytest.approx(100 * (1 - y), abs=0.01))
        assert frame["top"] <= frame["y"] <= frame["bottom"]


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_an_epoch_without_a_value_has_no_point(tmp_path: Path, value: float | None) -> None:
    run = read_run(write_run(tmp_path / "run", [record_of(0), record_of(1, eigenvalue=value)], config=config_of()))
    viewer = viewer_of(run)
    assert viewer is not None
    assert ["y" in frame for frame in viewer.frames] == [True, False]
    json.dumps(viewer.data, allow_nan=False)


def test_it_begins_at_the_found_cells(tmp_path: Path) -> None:
    records = [*(record_of(i) for i in range(4)), {"event": "early_stop", "decided_epoch": 3, "returned_epoch": 1}]
    viewer = viewer_of(read_run(write_run(tmp_path / "run", records, config=config_of())))
    assert viewer is not None
    assert viewer.first == 1


def test_a_roll_back_is_told(tmp_path: Path) -> None:
    records = [record_of(0), record_of(1), record_of(1, restart=1)]
    viewer = viewer_of(read_run(write_run(tmp_path / "run", records, config=config_of())))
    assert viewer is not None
    assert "discarded later" in viewer.frames[1]["label"]
    assert "after 1 restart" in viewer.frames[2]["label"]


def test_a_long_search_is_thinned_out(tmp_path: Path) -> None:
    records = [record_of(i, genotype={"normal": [[["skip_connect", 0]]]}, alphas={}) for i in range(250)]
    viewer = viewer_of(read_run(write_run(tmp_path / "run", records, config=config_of())))
    assert viewer is not None
    assert len(viewer.frames) == MOST_FRAMES
    assert viewer.frames[-1]["label"].startswith("epoch 249")
    assert len(viewer.drawings) == 1


def test_no_cells_no_viewer(tmp_path: Path) -> None:
    assert viewer_of(read_run(write_run(tmp_path / "run", [record_of(0, genotype={})], config=config_of()))) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    records = [record_of(0), record_of(1), record_of(2), record_of(2, restart=1, eigenvalue=0.1)]
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "run", records, config=config_of()))


@pytest.mark.slow
def test_the_animation_has_a_frame_per_epoch(tmp_path: Path, run: Run) -> None:
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
    # lossy, so near: the first frame of both is the same image
    assert np.abs(first[..., ::-1].astype(int) - frames[0]).mean() < 6


@pytest.mark.parametrize("missing", ["package", "program"])
def test_without_ffmpeg_there_is_a_note(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    def without_ffmpeg(path: Path, frames: list[object], **settings: object) -> None:
        path.write_bytes(b"begun")
        if path.suffix == ".mp4":
            raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(animation.imageio, "mimsave", without_ffmpeg)
    monkeypatch.setattr(animation, "find_spec", lambda name: None if missing == "package" else "there")
    notes: list[str] = []
    assert write_animation(run, tmp_path, notes) == ["search.gif"]
    assert (
        notes
        == {
            "package": ["no search.mp4: it needs ffmpeg, which `pip install imageio-ffmpeg` (the extra video) brings"],
            "program": ["no search.mp4: ffmpeg failed (No ffmpeg exe could be found); animation=false leaves it out"],
        }[missing]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["search.gif"]


def test_one_epoch_does_not_move(tmp_path: Path) -> None:
    one = read_run(write_run(tmp_path / "run", [record_of(0)], config=config_of()))
    assert write_animation(one, tmp_path, []) == []
    assert not (tmp_path / "search.gif").exists()


@pytest.mark.parametrize("lacking", [{"eigenvalue": None}, {"eigenvalue": None, "valid/accuracy": None,
                                     "train/accuracy": None, "valid_discrete/accuracy": None}])  # fmt: skip
def test_without_eigenvalues_something_else_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: dict[str, None]
) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(animation.imageio, "mimsave", lambda path, frames, **_: shown.extend(frames))
    records = [record_of(i, **lacking) for i in range(2)]
    write_animation(read_run(write_run(tmp_path / "run", records, config=config_of())), tmp_path, [])
    assert (shown[0] != shown[1]).any()
