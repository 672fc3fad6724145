"""Portable float maps against bytes packed here, in the forms that the publishers write."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodisp.datasets.pfm import read_disparity_pfm, read_pfm, write_pfm
from autodisp.errors import InputError
from tests.image_files import put_pfm


def pack(rows: list[list[float]], order: str) -> bytes:
    """The payload of a map: rows from the bottom up."""
    return b"".join(struct.pack(f"{order}f", value) for row in reversed(rows) for value in row)


ROWS = [[1.5, 2.5, -3.0], [4.0, float("inf"), 6.25]]


@pytest.mark.parametrize(
    ("header", "order"),
    [
        (b"Pf \n3 2 \n-1.0\n", "<"),  # FlyingThings3D
        (b"Pf\n3 2\n-0.003922\n", "<"),  # Middlebury
        (b"Pf\n3 2\n-1\n", "<"),
        (b"Pf\n3 2\n1.0\n", ">"),
        (b"Pf\n3\n2\n-1.0 \n", "<"),
        (b"Pf 3 2 -1 ", "<"),
        (b"Pf\r\n3 2\r\n-1\r\n", "<"),
        (b"Pf\n3 2\n-1\r", "<"),
        (b"Pf\n 03  2 \n+1e0\n", ">"),
    ],
)
def test_reads_every_header(tmp_path: Path, header: bytes, order: str) -> None:
    path = tmp_path / "map.PFM"
    path.write_bytes(header + pack(ROWS, order))
    pixels = read_pfm(path)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert pixels.tolist() == ROWS


def test_reads_colour_top_row_first(tmp_path: Path) -> None:
    rows = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [7.0, 8.0, 9.0, 10.0, 11.0, 12.0]]
    (tmp_path / "c.pfm").write_bytes(b"PF\n2 2\n-1\n" + pack(rows, "<"))
    assert read_pfm(tmp_path / "c.pfm").tolist() == [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]


@pytest.mark.parametrize("first", [0x20, 0x0A, 0x09, 0x0D])
@pytest.mark.parametrize("end", [b"\n", b" \n"])
def test_pixels_that_begin_with_white_space_are_kept(tmp_path: Path, first: int, end: bytes) -> None:
    payload = bytes([first, first, first, 0x42]) * 2
    (tmp_path / "w.pfm").write_bytes(b"Pf \n2 1 \n-1.0" + end + payload)
    assert read_pfm(tmp_path / "w.pfm").astype("<f4").tobytes() == payload


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 3])),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shape: tuple, trailing: bool, seed: int) -> None:
    shape = tuple(n for n in shape if n is not None)
    bits = np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint64).astype(np.uint32)
    pixels = bits.view(np.float32)
    path = tmp_path_factory.mktemp("pfm") / "x.pfm"
    write_pfm(path, pixels, trailing_spaces=trailing)
    assert np.array_equal(read_pfm(path), pixels, equal_nan=True)


def test_writes_the_genuine_bytes(tmp_path: Path) -> None:
    write_pfm(tmp_path / "a.pfm", np.array(ROWS), trailing_spaces=True)
    assert (tmp_path / "a.pfm").read_bytes() == b"Pf \n3 2 \n-1.0\n" + pack(ROWS, "<")
    write_pfm(tmp_path / "b.pfm", np.array(ROWS))
    assert (tmp_path / "b.pfm").read_bytes() == b"Pf\n3 2\n-1.0\n" + pack(ROWS, "<")


@pytest.mark.parametrize("shape", [(3,), (2, 2, 1), (2, 2, 4), (0, 3)])
def test_refuses_to_write_other_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="PFM"):
        write_pfm(tmp_path / "x.pfm", np.zeros(shape))


GOOD = pack([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "<")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no PFM"),
        (b"P", "is no PFM"),
        (b"P6\n3 2\n255\n" + GOOD, "is no PFM"),
        (b"pf\n3 2\n-1\n" + GOOD, "is no PFM"),
        (b"Pfx\n3 2\n-1\n" + GOOD, "malformed"),
        (b"Pf\n3 2\n", "cut short"),
        (b"Pf\n3 2\n-1", "cut short"),
        (b"Pf\n3 2\n-1\n" + GOOD[:-1], "truncated"),
        (b"Pf\n3 2\n-1\n" + GOOD[:-4], "truncated"),
        (b"Pf\n3 2\n-1\n", "truncated"),
        (b"Pf\n3 2\n-1\n" + GOOD + b"\n", "appended"),
        (b"Pf\n3 2\n-1\n" + GOOD + b"0123", "appended"),
        (b"Pf\nthree 2\n-1\n" + GOOD, "dimension b'three'"),
        (b"Pf\n3 2.0\n-1\n" + GOOD, "dimension"),
        (b"Pf\n3 -2\n-1\n" + GOOD, "dimension"),
        (b"Pf\n0 2\n-1\n", "dimension"),
        (b"Pf\n1_0 2\n-1\n" + GOOD, "dimension"),
        (b"Pf\n1000000000 1000000000\n-1\n" + GOOD, "1000000000x1000000000"),
        (b"Pf\n" + b"9" * 200 + b" 2\n-1\n" + GOOD, "dimension"),
        (b"Pf\n3 2\n0\n" + GOOD, "scale"),
        (b"Pf\n3 2\n-0.0\n" + GOOD, "scale"),
        (b"Pf\n3 2\nnan\n" + GOOD, "scale"),
        (b"Pf\n3 2\n-inf\n" + GOOD, "scale"),
        (b"Pf\n3 2\nlittle\n" + GOOD, "scale"),
        (b"Pf\n3 2" + b" " * 600 + b"-1\n" + GOOD, "malformed"),
    ],
)
def test_refuses_malformed_files_by_name(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bad.pfm"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"^{path}: .*{says}"):
        read_pfm(path)


def test_a_disparity_has_one_channel(tmp_path: Path) -> None:
    put_pfm(tmp_path / "x.pfm", np.arange(6, dtype=np.float32).reshape(2, 3))
    assert read_disparity_pfm(tmp_path / "x.pfm").tolist() == [[[0, 1, 2], [3, 4, 5]]]
    (tmp_path / "x.pfm").write_bytes(b"PF\n3 2\n-1\n" + bytes(3 * 2 * 12))
    with pytest.raises(InputError, match=r"x\.pfm: is a colour PFM"):
        read_disparity_pfm(tmp_path / "x.pfm")


def test_names_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pfm", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_pfm(path)
