"""Hypothesis strategies for hostile files: unlike a campaign's, their failures shrink to the smallest one."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.fuzzing.formats import Format
from tests.fuzzing.mutation import EDITS, ODD_VALUES, WHOLE_NUMBERS, WORDS


def json_values() -> st.SearchStrategy[Any]:
    """Whatever JSON can hold, the odd values among them."""
    leaves = st.one_of(st.sampled_from(ODD_VALUES).map(copy.deepcopy), st.integers(), st.floats(), st.text(max_size=20))
    return st.recursive(
        leaves,
        lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=9), part, max_size=4),
        max_leaves=12,
    )


@st.composite
def edited(draw: st.DrawFn, kind: Format) -> bytes:
    """A good file with a few edits, blind or inside."""
    data = draw(st.sampled_from(list(kind.good)))
    random = draw(st.randoms(use_true_random=False))
    if kind.inside is not None and draw(st.booleans()):
        return kind.inside(random, data, lambda part: _blind(random, part, kind))
    for _ in range(draw(st.integers(1, 3))):
        data = _blind(random, data, kind)
    return data


@st.composite
def replaced(draw: st.DrawFn, kind: Format) -> bytes:
    """A good JSON file with the values of one or two of its containers replaced by any."""
    tree = json.loads(draw(st.sampled_from(list(kind.good))))
    for _ in range(draw(st.integers(1, 2))):
        place: Any = tree
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
                place[key] = draw(json_values())
                break
            place = inner
    return json.dumps(tree).encode()


def pfm_headers() -> st.SearchStrategy[bytes]:
    """Headers of plausible and impossible numbers before a few pixels."""
    number = st.one_of(
        st.sampled_from(WHOLE_NUMBERS).map(str), st.sampled_from(WORDS).map(repr), st.integers().map(str)
    )
    space = st.sampled_from([" ", "\n", "\r\n", "  ", "", "\t"])
    parts = st.tuples(st.sampled_from(["Pf", "PF", "P6"]), space, number, space, number, space, number, space)
    return st.builds(lambda header, body: "".join(header).encode() + body, parts, st.binary(max_size=64))


def genotype_calls() -> st.SearchStrategy[bytes]:
    """Python expressions where a published genotype's are."""
    name = st.sampled_from(["'sep_conv_3x3'", "'skip_connect'", "'a\\nb'", "None", "b'x'", "f'{1}'", "open('x')"])
    number = st.sampled_from(
        ["0", "1", "-1", "0x" + "f" * 5000, "9" * 5000, "True", "1j", "np.int64(2)", "range(2, 6)"]
    )
    pair = st.builds("({}, {})".format, name, number)
    cell = st.lists(pair, max_size=9).map(lambda pairs: "[" + ", ".join(pairs) + "]")
    key = st.sampled_from(["normal", "reduce", "upsample", "normal_concat", "**", "x", "__class__"])
    return st.lists(st.tuples(key, cell | number), max_size=5).map(
        lambda fields: f"Genotype({', '.join(f'{key}={value}' for key, value in fields)})".encode()
    )


def _blind(random: Any, data: bytes, kind: Format) -> bytes:
    changed = bytearray(data)
    random.choice(EDITS)(random, changed, kind.good)
    return bytes(changed)
