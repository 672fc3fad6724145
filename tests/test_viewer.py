"""The viewer's frames: the cells of each epoch, and where its marker stands."""

import base64
import json
import re
from pathlib import Path

import pytest

from autodisp.report.reading import read_run
from autodisp.report.viewer import MOST_FRAMES, viewer_of
from tests.made_runs import config_of, record_of, write_run, write_search


def test_a_frame_an_epoch_and_a_drawing_a_cell(tmp_path: Path) -> None:
    viewer = viewer_of(read_run(write_search(tmp_path / "run")))
    assert viewer is not None
    assert [frame["label"].split(" · ")[0] for frame in viewer.frames] == [f"epoch {i}" for i in range(4)]
    cells = [frame["cells"] for frame in viewer.frames]
    assert cells == [{"normal": 0, "reduce": 1}] * 2 + [{"normal": 2, "reduce": 3}] * 2
    assert len(viewer.drawings) == 4
    assert viewer.first == 3
    json.dumps(viewer.data, allow_nan=False)


def test_the_marker_stands_on_the_curve(tmp_path: Path) -> None:
    viewer = viewer_of(read_run(write_search(tmp_path / "run")))
    assert viewer is not None
    assert viewer.chart is not None
    svg = base64.b64decode(viewer.chart.uri.partition(",")[2]).decode()
    width, height = (float(length) for length in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    # the points that matplotlib wrote for the curve's markers
    points = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*style="fill: #56a0c8', svg)
    drawn = [(100 * float(x) / width, 100 * float(y) / height) for x, y in points]
    assert len(drawn) == 4
    for frame in viewer.frames:
        assert any(abs(frame["x"] - x) <= 0.1 and abs(frame["y"] - y) <= 0.1 for x, y in drawn)
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
    assert "undone later" in viewer.frames[1]["label"]
    assert "after 1 restart" in viewer.frames[2]["label"]


def test_a_long_search_is_thinned_out(tmp_path: Path) -> None:
    records = [record_of(i, genotype={"normal": [[["skip_connect", 0]]]}, alphas={}) for i in range(250)]
    viewer = viewer_of(read_run(write_run(tmp_path / "run", records, config=config_of())))
    assert viewer is not None
    assert len(viewer.frames) == MOST_FRAMES
    assert viewer.frames[-1]["label"].startswith("epoch 249")
    assert len(viewer.drawings) == 1


def test_no_cells_no_viewer(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", [record_of(0, genotype={})], config=config_of()))
    assert viewer_of(run) is None
