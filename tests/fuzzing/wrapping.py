"""Edits behind checksums and lengths: the inside of a file is changed, and the outside made to fit it again.

A checksum refuses whatever a blind edit does, so that nothing behind it would ever be tried.
"""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

from tests.fuzzing.mutation import mutate_json
from tests.fuzzing.seeds import png_chunk

Change = Callable[[bytes], bytes]
Inside = Callable[[random.Random, bytes, Change], bytes]
"""Given a good file and a blind edit: the file with the edit made somewhere inside."""


def in_json(draw: random.Random, data: bytes, change: Change) -> bytes:
    """A value of the whole text."""
    return mutate_json(draw, data)


def in_json_lines(draw: random.Random, data: bytes, change: Change) -> bytes:
    """A value of one line."""
    lines = data.splitlines()
    place = draw.randrange(len(lines))
    lines[place] = mutate_json(draw, lines[place])
    return b"\n".join(lines) + b"\n"


def in_png(draw: random.Random, data: bytes, change: Change) -> bytes:
    """A chunk, its length or the picture itself; checksums are right."""
    chunks, place = [], 8
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    target = draw.randrange(len(chunks))
    name, content = chunks[target]
    if name == b"IHDR" and draw.random() < 0.7:
        width, height, *rest = struct.unpack(">IIBBBBB", content)
        sides = (1, 17, 1000, 5000, 60_000, 100_000, 2**31 - 1, 2**32 - 1)
        width, height = (side if draw.random() < 0.3 else draw.choice(sides) for side in (width, height))
        if draw.random() < 0.5:
            rest[0], rest[1] = draw.choice((1, 2, 4, 8, 16)), draw.choice((0, 2, 3, 4, 6))
        rest[4] = draw.choice((0, 0, 1))
        content = struct.pack(">IIBBBBB", width, height, *rest)
    elif name == b"IDAT" and draw.random() < 0.7:
        content = zlib.compress(change(zlib.decompress(content)))
    elif draw.random() < 0.2:
        odd = (b"tEXt", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"eXIf", b"zTXt", b"gAMA", b"sRGB", b"pHYs", b"abCD")
        chunks.insert(target, (draw.choice(odd), draw.randbytes(draw.choice((0, 3, 13, 40)))))
        return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)
    else:
        content = change(content)
    chunks[target] = (name, content)
    return data[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def in_zip(draw: random.Random, data: bytes, change: Change) -> bytes:
    """An entry; the directory and its checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    target = draw.randrange(len(entries))
    heavy = [place for place, (name, _) in enumerate(entries) if name.endswith((".json", ".pkl"))]
    if heavy and draw.random() < 0.7:
        target = draw.choice(heavy)
    name, content = entries[target]
    is_json = name.endswith(".json") and draw.random() < 0.7
    entries[target] = (name, mutate_json(draw, content) if is_json else change(content))
    packed = io.BytesIO()
    packing = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, packing)  # whose date is always the same
    return packed.getvalue()


def in_safetensors(draw: random.Random, data: bytes, change: Change) -> bytes:
    """The header or the card in it; the header's length is right."""
    (length,) = struct.unpack_from("<Q", data)
    header, numbers = data[8 : 8 + length], data[8 + length :]
    if draw.random() < 0.75:
        table = json.loads(header)
        table["__metadata__"]["autodisp"] = mutate_json(draw, table["__metadata__"]["autodisp"].encode()).decode()
        header = json.dumps(table).encode()
    else:
        header = mutate_json(draw, header)
    return struct.pack("<Q", len(header)) + header + numbers
