"""The records of a run: metrics.jsonl, one JSON object per line.

The file is for readers such as the report. It is strict JSON, which has no NaN and no infinity: such a value is written
as null, and ``non_finite`` in the same record gives its place and value, so that :func:`read_json_lines` restores it.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from autodisp.errors import InputError, RunFault
from autodisp.run_files import METRICS

Record = Mapping[str, Any]
_NON_FINITE = "non_finite"


class JsonLines:
    """A file with one JSON object per line, to which records are appended.

    Every record is on disk when :meth:`append` returns. The file is opened for each record, so there is nothing to
    close. An unfinished last line, left by a killed run, is cut off at once.

    Args:
        path: the file; created at the first record if missing. Its folder exists.

    Raises:
        InputError: a line other than the last is not a JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        complete = _complete_lines(path)
        self._ends = [end for _, end in complete]
        self.records: list[dict[str, Any]] = [_restored(record, path) for record, _ in complete]
        """The records in the file, as :func:`read_json_lines` returns them."""
        if path.exists():
            self.keep(len(self._ends))
            self._end_last_line()

    def append(self, record: Record) -> None:
        """Adds one record; tensors and arrays become numbers and lists.

        Raises:
            ValueError: the record has the key ``non_finite``, which is reserved.
            TypeError: a value has no JSON form.
            RunFault: the record cannot be written; the file is unchanged.
        """
        text = _to_json(record)
        line = (text + "\n").encode()
        try:
            with self.path.open("ab") as file:
                file.write(line)
                file.flush()
                end = file.tell()
        except OSError as error:
            with suppress(OSError):  # an unfinished line is skipped when the file is next opened
                os.truncate(self.path, self._ends[-1] if self._ends else 0)
            raise RunFault(f"{self.path}: cannot be written ({error.strerror})") from error
        self._ends.append(end)
        self.records.append(_restored(json.loads(text), self.path))

    def keep(self, count: int) -> None:
        """Truncates the file to its first records, for a run resumed from a checkpoint.

        Raises:
            InputError: the file has fewer records.
        """
        if not 0 <= count <= len(self._ends):
            raise InputError(
                f"{self.path}: {len(self._ends)} records, but the checkpoint was written after {count}: "
                "put back the file that belongs to the checkpoint, or start the run again in another folder"
            )
        del self._ends[count:], self.records[count:]
        if self.path.exists():
            os.truncate(self.path, self._ends[-1] if self._ends else 0)

    def _end_last_line(self) -> None:
        content = self.path.read_bytes()
        if content and not content.endswith(b"\n"):
            self.path.write_bytes(content + b"\n")
            self._ends[-1] += 1


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads the records of a file written by :class:`JsonLines`; NaN and infinities are restored.

    An unfinished last line, left by a killed run, is skipped, as are empty lines.

    Raises:
        InputError: the file is missing, or a line other than the last is not a JSON object.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; a run writes it into its folder as {METRICS}")
    return [_restored(record, path) for record, _ in _complete_lines(path)]


def start_record(records: Sequence[Record]) -> Record:
    """Returns the record before the first step of a run; empty if there is none."""
    return next((record for record in records if record.get("event") == "start"), {})


def _complete_lines(path: Path) -> list[tuple[dict[str, Any], int]]:
    """Returns each record as written in the file, with the offset of its line's end."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}): check the path") from error
    found: list[tuple[dict[str, Any], int]] = []
    end = 0
    for number, line in enumerate(lines, start=1):
        end += len(line)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            found.append((record, end))
        elif number < len(lines):
            raise InputError(f"{path}: line {number} is no JSON object; only the last may be unfinished: remove it")
    return found


def _to_json(record: Record) -> str:
    if _NON_FINITE in record:
        raise ValueError(f"a record's key {_NON_FINITE!r} is taken by the values that JSON cannot hold: rename yours")
    lost: list[tuple[list[str | int], str]] = []
    plain = _plain(record, [], lost)
    if lost:
        plain[_NON_FINITE] = lost
    return json.dumps(plain, allow_nan=False)


def _plain(value: Any, place: list[str | int], lost: list[tuple[list[str | int], str]]) -> Any:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        lost.append((place, repr(float(value))))
        return None
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a record's keys are texts, not {wrong[0]!r}")
        return {key: _plain(part, [*place, key], lost) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, [*place, number], lost) for number, part in enumerate(value)]
    return value


def _restored(record: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        for place, name in record.pop(_NON_FINITE, []):
            within: Any = record
            for key in place[:-1]:
                within = within[key]
            within[place[-1]] = float(name)
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise InputError(f"{path}: {_NON_FINITE!r} names a value that its record lacks: remove that entry") from error
    return record
