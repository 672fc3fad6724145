"""The chunks of a PNG, checked before a decoder sees them.

Decoders differ in what damage they pass over, and libpng tells of it on standard error. Here every chunk that matters
has to be whole, with its right checksum, up to the end mark; ancillary ones may be anything.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER, _END = b"IHDR", b"IEND"
_HEADER_BYTES = 13
_DECODED = (_HEADER, b"PLTE", b"IDAT", _END)
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PACKING = 1032
"""The most that deflate makes of a byte."""


class PngHeader(NamedTuple):
    """What a PNG says of its pixels."""

    width: int
    height: int
    depth: int
    """Bits a channel."""
    colour: int
    """0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGB with alpha."""


def read_chunks(data: bytes) -> tuple[PngHeader, bytes]:
    """Checks a PNG.

    Returns:
        Its header; and the same PNG with no more in it than what makes its pixels.

    Raises:
        ValueError: says how it is damaged.
    """
    chunks = list(_decoded_chunks(data))
    if not chunks or chunks[0][4:8] != _HEADER or len(chunks[0]) != 12 + _HEADER_BYTES:
        raise ValueError("does not begin with its header")
    header = PngHeader(*struct.unpack_from(">IIBB", chunks[0], 8))
    if header.height * (header.width * header.depth * _CHANNELS.get(header.colour, 1) // 8) > _PACKING * len(data):
        raise ValueError(f"claims {header.width}x{header.height} pixels, which its {len(data)} bytes cannot hold")
    return header, SIGNATURE + b"".join(chunks)


def _decoded_chunks(data: bytes) -> Iterator[bytes]:
    """Each chunk that makes pixels, with its length and checksum, up to the end mark."""
    place, name = len(SIGNATURE), b""
    while name != _END:
        if place + 12 > len(data):
            raise ValueError("is truncated")
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise ValueError("is truncated")
        if name in _DECODED:
            (checksum,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(memoryview(data)[place + 4 : end - 4]) != checksum:
                raise ValueError(f"is damaged: a checksum in it ({name.decode()}) is wrong")
            yield data[place:end]
        place = end
