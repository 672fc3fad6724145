"""Depth against the closed form, points projected back to their pixels, PLY read by a parser of the test's own."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from autodisp.errors import InputError
from autodisp.prediction.point_cloud import Calibration, PointCloud, depth_of, point_cloud, write_ply

RNG = np.random.default_rng(0)


def read_ply(path: Path) -> list[tuple[float, float, float, int, int, int]]:
    """Vertex by vertex, by the header's own words."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = [line for line in header.decode("ascii").splitlines() if not line.startswith("comment")]
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert lines[2].startswith("element vertex ")
    assert [line.split()[2] for line in lines[3:]] == ["x", "y", "z", "red", "green", "blue"]
    layout = "<" + "".join({"float": "f", "uchar": "B"}[line.split()[1]] for line in lines[3:])
    count = int(lines[2].split()[2])
    assert len(body) == count * struct.calcsize(layout)
    return list(struct.iter_unpack(layout, body))  # type: ignore[arg-type]


def scene(height: int = 5, width: int = 7) -> tuple[np.ndarray, Tensor]:
    disparity = RNG.uniform(1, 60, (height, width)).astype(np.float32)
    return disparity, torch.from_numpy(RNG.uniform(0, 1, (3, height, width))).float()


@pytest.mark.parametrize("doffs", [0.0, 31.5, -0.5])
def test_depth_is_the_closed_form(doffs: float) -> None:
    disparity, _ = scene()
    depth = depth_of(disparity, Calibration(focal=720.5, baseline=0.54, doffs=doffs))
    assert depth.dtype == np.float32
    for row, column in np.ndindex(*disparity.shape):
        assert depth[row, column] == pytest.approx(720.5 * 0.54 / (float(disparity[row, column]) + doffs), rel=1e-6)


def test_depth_is_infinite_where_nothing_is_known() -> None:
    disparity = np.array([[0.0, -1.0, math.nan, math.inf, -math.inf, 2.0, 1e-45]], np.float32)
    assert depth_of(disparity, Calibration(100.0, 1.0)).tolist() == [[math.inf] * 5 + [50.0, math.inf]]
    with_offset = depth_of(disparity, Calibration(100.0, 1.0, doffs=1.0)).tolist()
    assert with_offset[0][:2] == [100.0, math.inf], "a disparity of 0 is near where the principal points differ"


@pytest.mark.parametrize("centre", [None, (0.0, 0.0), (2.25, 9.5)])
@pytest.mark.parametrize("doffs", [0.0, 3.0])
def test_points_project_to_their_pixels_in_both_views(centre: tuple[float, float] | None, doffs: float) -> None:
    disparity, view = scene()
    calibration = Calibration(focal=50.0, baseline=0.2, doffs=doffs, centre=centre)
    points, colours = point_cloud(disparity, view, calibration)
    cx, cy = centre or (3.0, 2.0)
    assert points.dtype == np.float32
    assert colours.dtype == np.uint8
    assert len(points) == len(colours) == disparity.size
    for index, (row, column) in enumerate(np.ndindex(*disparity.shape)):
        x, y, z = (float(value) for value in points[index])
        assert 50.0 * x / z + cx == pytest.approx(column, abs=1e-4)
        assert 50.0 * y / z + cy == pytest.approx(row, abs=1e-4), "y must point down"
        seen_from_the_right = 50.0 * (x - 0.2) / z + cx + doffs
        assert column - seen_from_the_right == pytest.approx(float(disparity[row, column]), abs=1e-4)
        assert colours[index].tolist() == [round(255 * float(value)) for value in view[:, row, column]]


def test_unknown_and_distant_points_are_left_out() -> None:
    disparity = np.array([[0.0, 1.0, 2.0], [math.nan, 4.0, math.inf]], np.float32)
    view = torch.arange(6).reshape(1, 2, 3).expand(3, 2, 3) / 255
    calibration = Calibration(focal=8.0, baseline=1.0)
    for limit, kept in ((None, [1, 2, 4]), (8.0, [1, 2, 4]), (7.9, [2, 4]), (0.5, [])):
        cloud = point_cloud(disparity, view, calibration, max_depth=limit)
        assert cloud.colours[:, 0].tolist() == kept
        assert cloud.positions[:, 2].tolist() == [8.0 / disparity.flat[index] for index in kept]


def test_colours_out_of_range_are_clipped() -> None:
    view = torch.tensor([-0.1, 0.5, 1.2]).reshape(3, 1, 1)
    assert point_cloud(np.ones((1, 1), np.float32), view, Calibration(1.0, 1.0)).colours.tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_ply_is_read_back(tmp_path: Path, count: int) -> None:
    positions = RNG.normal(0, 10, (count, 3)).astype(np.float32)
    colours = RNG.integers(0, 256, (count, 3)).astype(np.uint8)
    path = tmp_path / "x.ply"
    write_ply(path, PointCloud(positions, colours))
    expected = zip(positions.tolist(), colours.tolist(), strict=True)
    assert read_ply(path) == [(*position, *colour) for position, colour in expected]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_ply_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.ply"
    path.write_text("old")
    with pytest.raises(ValueError, match="broadcast"):
        write_ply(path, PointCloud(np.zeros((2, 3), np.float32), np.zeros((3, 3), np.uint8)))
    assert path.read_text() == "old"
    with pytest.raises(FileNotFoundError):
        write_ply(tmp_path / "none" / "x.ply", PointCloud(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"focal": 0.0, "baseline": 1.0}, "focal=0.0: .*pixels"),
        ({"focal": 9.0, "baseline": -0.1}, "baseline=-0.1: .*metres"),
        ({"focal": math.nan, "baseline": 1.0}, "focal=nan"),
        ({"focal": 9.0, "baseline": math.inf}, "baseline=inf"),
        ({"focal": 9.0, "baseline": 1.0, "doffs": math.inf}, "doffs=inf"),
        ({"focal": 9.0, "baseline": 1.0, "centre": (1.0, math.nan)}, "centre=nan"),
    ],
)
def test_calibrations_that_cannot_be(numbers: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Calibration(**numbers)  # type: ignore[arg-type]


def test_a_view_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5 x 7 .*\(3, 5, 8\)"):
        point_cloud(scene()[0], torch.zeros(3, 5, 8), Calibration(1.0, 1.0))
