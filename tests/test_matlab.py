"""Arrays out of MATLAB files against scipy, which writes them here and reads what is refused."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from autodisp.datasets.matlab import read_arrays
from autodisp.errors import InputError

RNG = np.random.default_rng(0)
KINDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


def put(path: Path, **arrays: Any) -> Path:
    savemat(path, arrays, do_compression=path.stem == "packed")
    return path


@pytest.mark.parametrize("name", ["packed.mat", "plain.mat"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 5), (4, 3), (2, 3, 4), (3, 2, 2, 5), (0, 3)])
def test_every_kind_of_number(tmp_path: Path, name: str, kind: str, shape: tuple[int, ...]) -> None:
    numbers = RNG.integers(0, 100, shape).astype(kind)
    path = put(tmp_path / name, numbers=numbers, other=np.ones((2, 2)))
    found = read_arrays(path, ("numbers", "absent"))
    assert list(found) == ["numbers"]
    assert found["numbers"].dtype == np.dtype(kind)
    assert np.array_equal(found["numbers"], numbers)
    assert np.array_equal(found["numbers"], loadmat(path)["numbers"])


@pytest.mark.parametrize("name", ["packed.mat", "plain.mat"])
def test_other_content_is_passed_over(tmp_path: Path, name: str) -> None:
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.ones((50, 50)), "text"
    record = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    path = put(tmp_path / name, cells=cells, words="abc", record=record, complex=np.ones(3) * 1j, X=np.eye(3))
    assert np.array_equal(read_arrays(path, ("X",))["X"], np.eye(3))
    for odd in ("cells", "words", "record", "complex"):
        with pytest.raises(InputError, match=rf"{name}: is no readable MATLAB file \({odd} is not an array of plain"):
            read_arrays(path, ("X", odd))


def element(order: str, kind: int, content: bytes) -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matlab(order: str, *, kind: int = 9, stored: int = 2, shape: tuple[int, ...] = (2, 3), body: bytes = bytes(6),
           pack: bool = False, header: bytes | None = None) -> bytes:  # fmt: skip
    """A file as the format's description has it, with one array X."""
    text = b"MATLAB 5.0 MAT-file".ljust(124)
    mark = (b"\x00\x01IM" if order == "<" else b"\x01\x00MI") if header is None else header
    content = element(order, 6, struct.pack(f"{order}II", kind, 0))
    content += element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
    content += element(order, 1, b"X") + element(order, stored, body)
    array = element(order, 14, content)
    packed = zlib.compress(array)
    return text + mark + (struct.pack(f"{order}II", 15, len(packed)) + packed if pack else array)


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_numbers_stored_smaller_than_they_are(tmp_path: Path, order: str, pack: bool) -> None:
    body = struct.pack(f"{order}6h", -1, 2, -3, 4, -5, 600)
    path = tmp_path / "x.mat"
    path.write_bytes(matlab(order, kind=6, stored=3, body=body, pack=pack))
    found = read_arrays(path, ("X",))["X"]
    assert found.dtype == np.float64
    assert found.tolist() == [[-1, -3, -5], [2, 4, 600]]
    assert np.array_equal(found, loadmat(path)["X"])


GOOD = matlab("<", pack=True)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not of level 5"),
        (GOOD[:127], "not of level 5"),
        (matlab("<", header=b"\x00\x02IM"), "not of level 5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "not of level 5"),
        (GOOD[:-1], "cut short"),
        (GOOD[:130], "no readable MATLAB file"),
        (GOOD + b"\x01", "no readable MATLAB file"),
        (GOOD[:-2] + b"zz", "no readable MATLAB file"),
        (matlab("<", shape=(2, 4)), "X is 2x4 numbers of 1 bytes but holds 6 bytes"),
        (matlab("<", shape=(-2, -3)), "X is malformed"),
        (matlab("<", shape=(6,)), "description is malformed"),
        (matlab("<", shape=(1,) * 40), "description is malformed"),
        (matlab("<", stored=14), "X is malformed"),
        (matlab("<", kind=1), "X is not an array of plain numbers"),
        (matlab("<")[:128] + element("<", 5, bytes(8)), "an element of type 5 where an array must be"),
        (matlab("<")[:128] + element("<", 15, zlib.compress(bytes(80))), "something else where an array must be"),
        (matlab("<", pack=True, shape=(1, 2**20), body=bytes(2**20))[:-900], "cut short"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "bad.mat"
    path.write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        read_arrays(path, ("X",))
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def test_a_stream_that_goes_on_is_not_unpacked(tmp_path: Path) -> None:
    whole = matlab("<")[128:] + bytes(1 << 20)
    packed = zlib.compress(whole)
    path = tmp_path / "x.mat"
    path.write_bytes(GOOD[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(InputError, match="X is cut short, or longer than it says"):
        read_arrays(path, ("X",))


def test_names_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mat", tmp_path):
        with pytest.raises(InputError, match=f"{path}: cannot be read"):
            read_arrays(path, ("X",))


def test_scipy_and_this_agree_on_a_file_of_many_arrays(tmp_path: Path) -> None:
    arrays = {f"a{number}": RNG.random((number + 1, 3)) for number in range(30)}
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    path = tmp_path / "many.mat"
    path.write_bytes(buffer.getvalue())
    found = read_arrays(path, tuple(arrays))
    assert list(found) == list(arrays)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
