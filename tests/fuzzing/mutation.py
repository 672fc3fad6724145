"""Turns good bytes into bad ones, the same for the same random generator.

Plain edits know nothing of a format. Those of JSON put odd values where values stand, so that a file still parses and
is refused, if at all, by the reader that it is for.
"""

import copy
import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

WHOLE_NUMBERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 1000, 32767, 65535, 65536, 10**5, 10**6, 2**31 - 1, 2**31,
                 2**32 - 1, 10**9, 2**40, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 10**18, 10**30)  # fmt: skip
WORDS = (b"", b"0", b"-0", b"nan", b"inf", b"1e999", b"1_0", b"null", b"true", b"\xff\xfe", b"\x00", b"\n", b"\r\n",
         b" ", b"\t", b"[", b"]", b"{", b"}", b"(", b")", b",", b":", b'"', b"'", b"\\", b"#", b"$", b"*", b"&", b"%",
         b"../", b"PK\x03\x04", b"\x1b[31m", "\u2028é".encode())  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (None, True, False, "", "x", "a\nb", "\x1b[31m", "\ud800", "é\u2028", "none", "../x", 0.5,
                               -1.0, 1e308, float("nan"), float("inf"), [], {}, [[]], [1], [None], {"a": 1},
                               {"": []}, ["skip_connect", 0], *WHOLE_NUMBERS)  # fmt: skip

Edit = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def mutate(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A copy with one edit or a few.

    Args:
        draw: says which.
        data: any bytes.
        others: good bytes of the same format, of which parts may be spliced in.
    """
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5, 12))):
        draw.choice(EDITS)(draw, changed, others)
    return bytes(changed)


def _place(draw: random.Random, data: bytearray) -> int:
    """A position; half of them in the first or last bytes, where headers and directories are."""
    if not data:
        return 0
    near = draw.random()
    if near < 0.4:
        return draw.randrange(min(len(data), 96))
    if near < 0.5:
        return len(data) - 1 - draw.randrange(min(len(data), 128))
    return draw.randrange(len(data))


def _flip_bit(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[_place(draw, data)] ^= 1 << draw.randrange(8)


def _set_byte(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if data:
        data[_place(draw, data)] = draw.choice((0, 1, 9, 10, 32, 127, 128, 254, 255, draw.randrange(256)))


def _set_number(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    width, code = draw.choice(((2, "H"), (4, "I"), (4, "I"), (8, "Q")))
    place = _place(draw, data)
    number = draw.choice(WHOLE_NUMBERS) % (1 << 8 * width)
    packed = struct.pack(draw.choice("<>") + code, number)
    data[place : place + width] = packed[: len(data) - place]


def _write_number(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    """In place of a decimal number in a text or a header."""
    found = list(re.finditer(rb"-?\d+", data[:4096]))
    if found:
        start, end = draw.choice(found).span()
        data[start:end] = str(draw.choice((*WHOLE_NUMBERS, draw.randrange(2000)))).encode()


def _truncate(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[_place(draw, data) :]


def _delete(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(draw, data)
    del data[place : place + draw.choice((1, 2, 4, 8, 64, 512))]


def _insert(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    noise = draw.randbytes(draw.choice((1, 2, 4, 16, 200)))
    place = _place(draw, data)
    data[place:place] = draw.choice((noise, draw.choice(WORDS)))


def _repeat(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(draw, data)
    chunk = data[place : place + draw.choice((1, 2, 4, 16, 64, 400))]
    data[place:place] = chunk * draw.choice((1, 1, 2, 50))


def _move(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place, length = _place(draw, data), draw.choice((1, 4, 16, 128))
    chunk = data[place : place + length]
    del data[place : place + length]
    target = _place(draw, data)
    data[target:target] = chunk


def _splice(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = bytearray(draw.choice(others)) if others else data
    place = _place(draw, data)
    data[place:] = other[_place(draw, other) :]


def _word(draw: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    place = _place(draw, data)
    data[place : place + draw.choice((0, 1, 4))] = draw.choice(WORDS)


EDITS: tuple[Edit, ...] = (_flip_bit, _flip_bit, _set_byte, _set_number, _set_number, _write_number, _truncate, _delete,
                           _insert, _repeat, _move, _splice, _word)  # fmt: skip


def mutate_json(draw: random.Random, text: bytes) -> bytes:
    """The same JSON with one value or a few replaced, dropped, doubled or nested deeply."""
    tree = json.loads(text)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        tree = _with_odd_value(draw, tree)
    written = json.dumps(tree)
    depth = draw.choice((10, 500, 5000))
    return written.replace('"DEEP"', "[" * depth + "]" * depth).encode()


def _with_odd_value(draw: random.Random, tree: Any) -> Any:
    places = list(_containers(tree))
    if not places:
        return copy.deepcopy(draw.choice(ODD_VALUES))
    container = draw.choice(places)
    key = draw.choice(list(container)) if isinstance(container, dict) else draw.randrange(len(container))
    action = draw.random()
    if action < 0.6:
        container[key] = copy.deepcopy(draw.choice(ODD_VALUES))
    elif action < 0.7:
        del container[key]
    elif action < 0.8 and isinstance(container, list):
        container.insert(key, container[key])
    elif action < 0.9 and isinstance(container, dict):
        container[str(draw.choice(ODD_VALUES))] = container.pop(key)
    elif action < 0.93:
        container[key] = "DEEP"
    else:
        container[key] = "y" * draw.choice((100, 5000, 100_000))
    return tree


def _containers(tree: Any) -> Any:
    if isinstance(tree, dict | list) and tree:
        yield tree
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from _containers(part)
