"""No file makes a reader do anything but read it or refuse it by name, and the harness that says so would see it."""

import dataclasses
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp.errors import InputError
from tests.fuzzing import campaign, seeds
from tests.fuzzing.campaign import Tally, place_case
from tests.fuzzing.formats import FORMATS, Format
from tests.fuzzing.judge import read

pytestmark = pytest.mark.fuzz

ROOT = Path(__file__).parents[1]
PATIENCE = 20.0
"""Seconds of computing that a case may take here, where others compute beside it; `make fuzz` has 2."""


def test_two_thousand_cases_are_read_or_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", "--cases", "2000", "--workers", "1", "--seconds", str(PATIENCE),
         "--out", str(tmp_path / "faults")],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(\S.*?) +(\d+) +(\d+) +(\d+) +0 +[\d.]+$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == list(FORMATS)
    assert sum(int(row[1]) for row in rows) == 2000
    assert all(int(row[2]) + int(row[3]) == int(row[1]) for row in rows)
    assert not (tmp_path / "faults").exists()


def test_a_case_is_always_the_same_and_hardly_ever_good() -> None:
    for kind in FORMATS.values():
        cases = [kind.case(number) for number in range(40)]
        assert cases == [dataclasses.replace(kind).case(number) for number in range(40)], kind.name
        assert sum(case in kind.good for case in cases) < 8, kind.name
        assert len(set(cases)) > 20, kind.name


@dataclasses.dataclass(frozen=True)
class Fixed(Format):
    """A format whose every case is one file."""

    content: bytes = b""

    def case(self, number: int) -> bytes:
        return self.content


def fixed(name: str, content: bytes, title: str) -> Fixed:
    kind = FORMATS[name]
    fields = {field.name: getattr(kind, field.name) for field in dataclasses.fields(kind)}
    return Fixed(**fields | {"name": title, "content": content, "seeds": lambda: kind.good})


def tallies(
    kinds: list[Format], folder: Path, *, hangs_after: float = 60.0, seconds: float = PATIENCE
) -> dict[str, Tally]:
    return campaign.run(kinds, lambda kind: [0], folder, hangs_after=hangs_after, seconds=seconds)


def misbehaving(folder: Path) -> dict[str, tuple[Callable[[Path], Any], str]]:
    """Readers, and what the harness has to say of them."""

    def refusing(message: str, cause: Exception | None = None) -> Callable[[Path], Any]:
        def refuse(path: Path) -> None:
            raise InputError(message.format(path=path)) from cause

        return refuse

    def loops(path: Path) -> None:
        end = time.process_time() + 1.5
        while time.process_time() < end:
            pass

    def exhausts(path: Path) -> None:
        try:
            bytearray(1 << 40)
        except MemoryError:
            raise InputError(f"{path}: too large") from None

    return {
        "crashes": (lambda path: os.abort(), "the process that read it was ended by signal 6"),
        "leaves": (lambda path: os._exit(3), "the process that read it left with exit code 3"),
        "hangs": (lambda path: time.sleep(60), "took more than 8 s"),
        "computes": (loops, "computed for 1"),
        "raises": (lambda path: {}[path], "KeyError at test_fuzz.py"),
        "exits": (lambda path: sys.exit(2), "SystemExit"),
        "recurses": (lambda path: json.loads("[" * 10**5), "RecursionError"),
        "two lines": (refusing("{path}: bad\nand worse"), "the message is more than one line"),
        "escapes": (refusing("{path}: \x1b[31m"), "the message is more than one line"),
        "nameless": (refusing("it is bad"), "the message does not name the file"),
        "long": (refusing("{path}" + "x" * 5000), "the message has 5"),
        "fills": (lambda path: bytes(bytearray(b"x") * (200 << 20)), "took "),
        "exhausts": (exhausts, "asked for more memory than there is"),
        "speaks": (lambda path: os.write(2, b"libfoo: bad data"), "said on the console: b'libfoo: bad data'"),
        "prints": (lambda path: print("bad data"), "said on the console: b'bad data"),
        "warns": (lambda path: warnings.warn("bad data", stacklevel=1), "a warning: bad data"),
        "runs": (lambda path: os.system("true"), "did what no reader does: os.system"),
        "unpickles": (lambda path: pickle.loads(pickle.dumps(Path())), "did what no reader does: pickle.find_class"),
        "writes": (lambda path: (folder / "left").write_text("x"), "did what no reader does: open"),
    }


def test_the_harness_sees_whatever_a_reader_does_wrong(tmp_path: Path) -> None:
    wrong = misbehaving(tmp_path)
    kinds: list[Format] = []
    for name, (misbehave, _) in wrong.items():

        def reader(path: Path, misbehave: Callable[[Path], Any] = misbehave) -> None:
            if path.read_bytes() == b"bad":
                misbehave(path)

        kinds.append(Fixed(name, "a.bin", lambda: [b"good"], reader, 1, content=b"bad"))
    found = tallies(kinds, tmp_path, hangs_after=8.0, seconds=1.0)
    for name, (_, says) in wrong.items():
        assert [fault.reason[: len(says)] for fault in found[name].faults] == [says]
        assert (found[name].cases, found[name].refused) == (1, 0)


def test_after_a_crash_the_others_go_on(tmp_path: Path) -> None:
    class Numbered(Fixed):
        def case(self, number: int) -> bytes:
            return b"%d" % number

    def read_number(path: Path) -> None:
        number = int(path.read_bytes())
        if number in (3, 7):
            os.abort()
        if number % 2:
            raise InputError(f"{path}: is odd")

    kind = Numbered("numbers", "a.bin", lambda: [b"0"], read_number, 1)
    tally = campaign.run([kind], lambda kind: range(10), tmp_path, workers=2)["numbers"]
    assert (tally.cases, tally.read, tally.refused) == (10, 5, 3)
    assert sorted(fault.number for fault in tally.faults) == [3, 7]


def model_of(**changes: Any) -> bytes:
    """A model file whose description says something else of the network."""
    data = seeds.model()[1 if "layers" in changes else 2 if "classes" in changes else 0]
    (length,) = struct.unpack_from("<Q", data)
    table = json.loads(data[8 : 8 + length])
    card = json.loads(table["__metadata__"]["autodisp"])
    card["settings"].update(changes)
    table["__metadata__"]["autodisp"] = json.dumps(card)
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def safetensors(shape: list[int], size: int) -> bytes:
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


def checkpoint_of(content: bytes, *, packing: int = zipfile.ZIP_STORED) -> bytes:
    """A good checkpoint with another pickle in it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seeds.checkpoint()[0])) as good, zipfile.ZipFile(packed, "w", packing) as archive:
        for name in good.namelist():
            archive.writestr(name, content if name.endswith("data.pkl") else good.read(name))
    return packed.getvalue()


def bombs() -> dict[str, tuple[str, bytes]]:
    """Small files that claim, or unpack to, far more than they hold."""
    return {
        "pfm of 10^18 pixels": ("pfm", b"Pf\n1000000000 1000000000\n-1\n" + bytes(64)),
        "safetensors of terabytes": ("model", safetensors([2**20, 2**20], 2**42)),
        "safetensors of a long header": ("model", struct.pack("<Q", 2**63) + bytes(64)),
        "model of 10^9 layers": ("model", model_of(layers=10**9)),
        "model of 60,000 layers": ("model", model_of(layers=60_000)),
        "model of 10^12 encoder cells": ("model", model_of(encoder_cells=10**12)),
        "model of 50,000 encoder cells": ("model", model_of(encoder_cells=50_000)),
        "model of 40,000 stages": ("model", model_of(stages=40_000)),
        "model of 10^15 bins": ("model", model_of(max_disparity=10**15)),
        "model of 10^12 classes": ("model", model_of(classes=10**12)),
        "model of 50,000 cells for classes": ("model", model_of(classes=3, encoder_cells=50_001)),
        "genotypes that never close": ("genotype text", b"Genotype(" * 100_000),
        "genotypes in genotypes": ("genotype text", b"Genotype(" * 20_000 + b")" * 20_000),
        "genotype of ranges": ("genotype text", b"Genotype(normal=[" + b"range(999)," * 100_000 + b"])"),
        "genotype of numpy's numbers": ("genotype text", b"Genotype(normal=[" + b"np.int64(1)," * 50_000 + b"])"),
        "genotype with a huge number": ("genotype text", b"Genotype(normal=[('none', 0x" + b"f" * 50_000 + b")])"),
        "genotype of brackets": ("genotype text", b"Genotype(" + b"(" * 30_000 + b")" * 30_000 + b")"),
        "genotype of signs": ("genotype text", b"Genotype(normal=" + b"-" * 60_000 + b"1)"),
        "genotype of dots": ("genotype text", b"Genotype(normal=a" + b".a" * 30_000 + b"())"),
        "json nested deeply": ("genotype json", b"[" * 200_000 + b"]" * 200_000),
        "space nested deeply": ("search space", b'{"cells": ' + b"[" * 990 + b"]" * 990 + b"}"),
        "metrics nested deeply": ("metrics", b"[" * 200_000 + b"\n{}\n"),
        "metrics of a huge number": ("metrics", b'{"a": 1, "non_finite": [[["a"], 1' + b"0" * 400 + b"]]}\n"),
        "checkpoint of packed nothing": ("checkpoint", checkpoint_of(bytes(1 << 28), packing=zipfile.ZIP_DEFLATED)),
    }  # fmt: skip


def test_nothing_small_asks_for_much(tmp_path: Path) -> None:
    kinds = [fixed(name, content, title) for title, (name, content) in bombs().items()]
    found = tallies(list(kinds), tmp_path)
    assert {title: tally.faults for title, tally in found.items() if tally.faults} == {}
    assert not [title for title, tally in found.items() if tally.read]


class Trap:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open, (str(self.path), "w")


def traps(sprung: Path) -> dict[str, tuple[str, bytes]]:
    """Files that would run something, one for each place where a reader might let them."""
    plain = pickle.dumps(Trap(sprung), protocol=2)
    saved = io.BytesIO()
    torch.save({"version": 1, "trap": Trap(sprung)}, saved)
    legacy = io.BytesIO()
    torch.save(Trap(sprung), legacy, _use_new_zipfile_serialization=False)
    code = f"open({str(sprung)!r}, 'w')"
    text = code.encode()
    return {
        **{f"{name} that is a pickle": (name, plain) for name in FORMATS},
        **{f"{name} that torch saved": (name, saved.getvalue()) for name in ("checkpoint", "model")},
        "checkpoint of old": ("checkpoint", legacy.getvalue()),
        "checkpoint with a pickle inside": ("checkpoint", checkpoint_of(plain)),
        "genotype that is code": ("genotype text", b"Genotype(normal=" + text + b", reduce=[])"),
        "genotype among code": ("genotype text", text + b"\nGenotype(normal=[(" + text + b", 0)])\n"),
    }  # fmt: skip


def test_nothing_is_executed(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for title, (name, content) in traps(sprung).items():
        path = place_case(FORMATS[name], tmp_path / "cases", content)
        fault, was_read = read(FORMATS[name], path)
        assert not sprung.exists(), title
        assert fault is None, title
        assert not was_read, title
    pickle.loads(pickle.dumps(Trap(sprung), protocol=2)).close()
    assert sprung.exists(), "the trap itself does not work"
