import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodisp.errors import InputError
from autodisp.records import JsonLines, read_json_lines

NAN, INF = math.nan, math.inf


def strictly(line: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def same(a: object, b: object) -> bool:
    return repr(a) == repr(b)  # NaN equals itself in print


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"epoch": 0, "valid/loss": 0.1 + 0.2, "genotype": "ä\nb", "none": None, "flag": True, "list": [1, [2.5, "x"]]},
        {"epoch": 1, "valid/loss": NAN, "alphas": [[1.0, INF], [-INF, 0.0]], "deep": {"a": [{"b": NAN}]}, "null": None},
        {},
    ]
    lines = JsonLines(tmp_path / "metrics.jsonl")
    for record in records:
        lines.append(record)
    assert same(read_json_lines(lines.path), records)
    assert len(lines.records) == 3
    written = [strictly(line) for line in lines.path.read_text().splitlines()]
    assert written[1]["valid/loss"] is None
    assert written[1]["alphas"] == [[1.0, None], [None, 0.0]]
    assert sorted(written[1]["non_finite"], key=repr) == sorted(
        [
            [["valid/loss"], "nan"],
            [["alphas", 0, 1], "inf"],
            [["alphas", 1, 0], "-inf"],
            [["deep", "a", 0, "b"], "nan"],
        ],
        key=repr,
    )
    assert "non_finite" not in written[0]


def test_tensors_and_arrays_become_numbers(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "m.jsonl")
    lines.append({
        "scalar": torch.tensor(2.5), "table": torch.tensor([[1, 2]]), "numpy": np.float32(0.5), "int": np.int64(3),
        "array": np.array([1.0, NAN]), "parameter": torch.nn.Parameter(torch.ones(2)), "double": np.float64(0.1),
        "pair": (1, 2),
    })  # fmt: skip
    (record,) = read_json_lines(lines.path)
    assert math.isnan(record.pop("array")[1])
    assert record == {
        "scalar": 2.5, "table": [[1, 2]], "numpy": 0.5, "int": 3, "parameter": [1.0, 1.0], "double": 0.1,
        "pair": [1, 2],
    }  # fmt: skip


def test_a_record_is_on_disk_at_once_and_in_its_order(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "m.jsonl")
    assert not lines.path.exists()
    lines.append({"b": 1, "a": 2})
    assert lines.path.read_text() == '{"b": 1, "a": 2}\n'


@pytest.mark.parametrize(
    ("record", "error"),
    [({"non_finite": 1}, ValueError), ({"x": object()}, TypeError), ({1: 2}, TypeError), ({"x": {2: 3}}, TypeError)],
)
def test_a_record_that_has_no_json_form_leaves_the_file_as_it_is(
    tmp_path: Path, record: Any, error: type[Exception]
) -> None:
    lines = JsonLines(tmp_path / "m.jsonl")
    lines.append({"epoch": 0})
    with pytest.raises(error):
        lines.append(record)
    assert lines.path.read_text() == '{"epoch": 0}\n'
    assert len(lines.records) == 1


def test_wherever_a_run_is_killed_the_complete_records_stay(tmp_path: Path) -> None:
    whole = JsonLines(tmp_path / "whole.jsonl")
    for epoch in range(3):
        whole.append({"epoch": epoch, "name": "ü", "loss": NAN})
    content = whole.path.read_bytes()
    records = read_json_lines(whole.path)
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        # a record is complete with its closing brace, the line's end may be missing
        complete = sum(cut >= end - 1 for end in ends)
        assert same(read_json_lines(path), records[:complete])
        lines = JsonLines(path)
        assert len(lines.records) == complete
        lines.append({"epoch": 99})
        assert same(read_json_lines(path), [*records[:complete], {"epoch": 99}])
        lines.keep(complete)
        assert path.read_bytes() == content[: ends[complete - 1] if complete else 0]


@pytest.mark.parametrize("tail", [b"\0\0\0\0", b"\xff\xfe", b"[1, 2]\n", b"12", b"\n\n", b"{}garbage\n"])
def test_a_tail_that_is_no_record_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + tail)
    assert read_json_lines(path) == [{"epoch": 0}]
    lines = JsonLines(path)
    lines.append({"epoch": 1})
    assert path.read_bytes() == b'{"epoch": 0}\n{"epoch": 1}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        *(
            (f'{{"epoch": 0}}\n{line}\n{{"epoch": 2}}\n'.encode(), "line 2 is no JSON object")
            for line in ("{", "nonsense", "[1]", '"text"', "null", '{"a": 1} {"b": 2}')
        ),
        (b"[" * 10**5 + b"\n{}\n", "line 1 is no JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}\n{}\n", "line 1 is no JSON object"),
        (b"\xff\xfe{}\n{}\n", "line 1 is no JSON object"),
        *(
            (f'{{"a": null, "non_finite": {entry}}}\n'.encode(), "'non_finite' names a value that its record lacks")
            for entry in (
                '[[["b"], "nan", 3]]', '[[["b", 1], "nan"]]', "7", '[[[], "nan"]]', '[[["a"], "x"]]',
                f'[[["a"], 1{"0" * 400}]]',
            )
        ),
    ],
)  # fmt: skip
def test_damage_before_the_last_line_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(content)
    for read in (read_json_lines, JsonLines):
        with pytest.raises(InputError, match=rf"m\.jsonl: {says}"):
            read(path)
    assert path.read_bytes() == content


def test_lines_of_other_systems_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\r\n{"a": NaN}\r\n')
    assert same(read_json_lines(path), [{"a": 1}, {"a": NAN}])
    path.write_bytes(b"")
    assert read_json_lines(path) == []
    JsonLines(path).append({"a": 1})
    assert read_json_lines(path) == [{"a": 1}]
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        read_json_lines(tmp_path / "none.jsonl")


def test_the_file_is_cut_back_to_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    lines = JsonLines(path)
    for epoch in range(5):
        lines.append({"epoch": epoch})
    expected = path.read_bytes()
    JsonLines(path).keep(2)
    resumed = JsonLines(path)
    assert len(resumed.records) == 2
    for epoch in range(2, 5):
        resumed.append({"epoch": epoch})
    assert path.read_bytes() == expected
    resumed.keep(0)
    assert path.read_bytes() == b""
    for count in (1, -1):
        with pytest.raises(InputError, match=rf"m\.jsonl: 0 records, .* after {count}"):
            resumed.keep(count)
