"""Arrays of plain numbers out of MATLAB files of level 5 (MathWorks, "MAT-File Format", 2023), such as SVHN's.

scipy reads every kind of content, nested to any depth, and takes each length in a file for true; a file of a few
hundred bytes makes it ask for gigabytes or run out of stack. Here an array is numbers of a known type, its parts have
to agree in length, and no more is unpacked than they say.
"""

import math
import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from autodisp.errors import InputError

_FILE_HEADER, _TAG = 128, 8
_HEAD = 1024
"""Bytes of an element within which its numbers begin."""
_MATRIX, _COMPRESSED = 14, 15
_COMPLEX = 0x08
_PACKING = 1032
"""The most that deflate makes of a byte."""
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
"""What an array's numbers are in MATLAB."""
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""What they are stored as, which may be smaller."""


class _Damaged(Exception):
    """Says what is wrong, without the file's name."""


class _Array(NamedTuple):
    """What stands before the numbers of an array."""

    name: str
    shape: tuple[int, ...]
    kind: np.dtype
    stored: np.dtype
    start: int
    """Of the numbers, counted from the beginning of the array."""

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.stored.itemsize


def read_arrays(path: Path, names: Collection[str]) -> dict[str, npt.NDArray[np.generic]]:
    """Reads the arrays of these names; one that is not there is left out.

    Returns:
        Each in MATLAB's shape (at least two axes) and type.

    Raises:
        InputError: the file is missing, damaged, of another level, or one of the arrays is not plain numbers.
    """
    try:
        with path.open("rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size, names)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error
    except (_Damaged, struct.error, zlib.error) as error:
        raise InputError(f"{path}: is no readable MATLAB file ({error}); was the download interrupted?") from None


def _read(file: BinaryIO, size: int, names: Collection[str]) -> dict[str, npt.NDArray[np.generic]]:
    header = file.read(_FILE_HEADER)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None or header[125 if order == "<" else 124] != 1:
        raise _Damaged("it is not of level 5, as MATLAB's save -v7 writes it")
    found: dict[str, npt.NDArray[np.generic]] = {}
    place = _FILE_HEADER
    while place < size:
        file.seek(place)
        kind, length = struct.unpack(f"{order}II", file.read(_TAG))
        place += _TAG + length
        if place > size:
            raise _Damaged("it is cut short")
        if kind not in (_MATRIX, _COMPRESSED):
            raise _Damaged(f"it holds an element of type {kind} where an array must be")
        packed = kind == _COMPRESSED
        content = file.read(min(length, _HEAD))
        name, _ = _name(_beginning(content) if packed else content, order)
        if name in names:
            content += file.read(length - len(content))
            found[name] = _packed(content, order) if packed else _numbers(content, _describe(content, order))
    return found


def _part(content: bytes, place: int, order: str) -> tuple[int, int, int, int]:
    """The (type, first byte, length) of the part at that place, and where the next one is."""
    kind, length = struct.unpack_from(f"{order}II", content, place)
    if kind >> 16:
        return kind & 0xFFFF, place + 4, kind >> 16, place + 8
    return kind, place + 8, length, place + 8 + -(-length // 8) * 8


def _name(content: bytes, order: str) -> tuple[str, int]:
    """An array's name, and where the part with its numbers begins."""
    *_, dimensions = _part(content, 0, order)
    *_, name = _part(content, dimensions, order)
    _, first, length, numbers = _part(content, name, order)
    return content[first : first + length].decode("latin-1"), numbers


def _describe(content: bytes, order: str) -> _Array:
    name, numbers = _name(content, order)
    flags_kind, first, length, place = _part(content, 0, order)
    (flags,) = struct.unpack_from(f"{order}I", content, first)
    shape_kind, shape_first, shape_length, _ = _part(content, place, order)
    if (flags_kind, length, shape_kind) != (6, 8, 5) or shape_length % 4 or not 8 <= shape_length <= 128:
        raise _Damaged("an array's description is malformed")
    if flags & 0xFF not in _CLASSES or (flags >> 8) & _COMPLEX:
        raise _Damaged(f"{name} is not an array of plain numbers")
    shape = struct.unpack_from(f"{order}{shape_length // 4}i", content, shape_first)
    kind, start, stored, _ = _part(content, numbers, order)
    if kind not in _TYPES or min(shape) < 0:
        raise _Damaged(f"{name} is malformed")
    array = _Array(name, shape, np.dtype(_CLASSES[flags & 0xFF]), np.dtype(order + _TYPES[kind]), start)
    if array.end - array.start != stored:
        sides = "x".join(map(str, shape))
        raise _Damaged(f"{name} is {sides} numbers of {array.stored.itemsize} bytes but holds {stored} bytes")
    return array


def _numbers(content: bytes, array: _Array) -> npt.NDArray[np.generic]:
    if array.end > len(content):
        raise _Damaged(f"{array.name} is cut short")
    numbers = np.frombuffer(content, array.stored, math.prod(array.shape), array.start)
    return numbers.astype(array.kind, copy=False).reshape(array.shape, order="F")


def _beginning(content: bytes) -> bytes:
    """What a packed element begins with, without the tag that says that it is an array."""
    unpacked = zlib.decompressobj().decompress(content, _HEAD)
    if len(unpacked) < _TAG or _MATRIX not in struct.unpack_from("<I", unpacked) + struct.unpack_from(">I", unpacked):
        raise _Damaged("it holds something else where an array must be")
    return unpacked[_TAG:]


def _packed(content: bytes, order: str) -> npt.NDArray[np.generic]:
    """The whole array, whose stream has to end where its description says, with the right checksum."""
    array = _describe(_beginning(content), order)
    end = _TAG + array.end
    if end > _PACKING * len(content):
        raise _Damaged(f"{array.name} claims {end} bytes, which {len(content)} packed ones cannot hold")
    stream = zlib.decompressobj()
    unpacked = stream.decompress(content, end)
    stream.decompress(stream.unconsumed_tail, _TAG)  # what pads it
    if not stream.eof:
        raise _Damaged(f"{array.name} is cut short, or longer than it says")
    return _numbers(unpacked[_TAG:], array)
