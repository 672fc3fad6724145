"""Where a search is killed: after some time, or inside a named act of its own, in a roll-back or anywhere.

A weapon is loaded in the process that is to die. What it changes is where that process ends, nothing before.
"""

import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodisp import atomic
from autodisp.records import JsonLines
from autodisp.search.loop import Search

HALF_STATE, UNNAMED_STATE, NAMED_STATE = "half of a state written", "state not yet renamed", "state renamed"
HALF_RECORD, DELETING = "half of a record written", "old states being deleted"
POINTS = (HALF_STATE, UNNAMED_STATE, NAMED_STATE, HALF_RECORD, DELETING)


@dataclass(frozen=True)
class Weapon:
    """What kills a process."""

    seconds: float | None = None
    """After so long, from outside; or"""
    point: str = ""
    """one of ``POINTS``,"""
    turn: int = 1
    """when it comes there for that time,"""
    rolling_back: bool = False
    """counting only while the search rolls back."""

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"after {self.seconds:.2f} s"
        return f"{self.point}, {self.turn}. time" + (" in a roll-back" if self.rolling_back else "")

    def load(self) -> None:
        """Sets it up in this process; one that is timed needs nothing."""
        if self.point:
            _Trigger(self).set()


class _Trigger:
    def __init__(self, weapon: Weapon) -> None:
        self.weapon = weapon
        self.seen = 0
        self.rolling = False

    def set(self) -> None:
        """Wraps the acts of the search."""
        self._watch_roll_backs()
        wrap: dict[str, Callable[[], None]] = {
            HALF_STATE: self._half_state,
            UNNAMED_STATE: lambda: self._before(Path, "replace"),
            NAMED_STATE: lambda: self._before(atomic, "sync_folder"),
            HALF_RECORD: self._half_record,
            DELETING: lambda: self._before(Path, "unlink"),
        }
        wrap[self.weapon.point]()

    def now(self) -> bool:
        """Whether it is time to die."""
        if self.weapon.rolling_back and not self.rolling:
            return False
        self.seen += 1
        return self.seen == self.weapon.turn

    def _watch_roll_backs(self) -> None:
        original = Search._roll_back

        def roll_back(search: Search, answer: Any) -> None:
            self.rolling = True
            original(search, answer)
            self.rolling = False

        Search._roll_back = roll_back  # type: ignore[method-assign]

    def _before(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def act(*arguments: Any, **options: Any) -> Any:
            if self.now():
                die()
            return original(*arguments, **options)

        setattr(owner, name, act)

    def _half_state(self) -> None:
        original = torch.save

        def half(state: Any, file: Any) -> None:
            if self.now():
                whole = io.BytesIO()
                original(state, whole)
                file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                file.flush()
                die()
            original(state, file)

        torch.save = half

    def _half_record(self) -> None:
        original = JsonLines.append

        def append(lines: JsonLines, record: Any) -> None:
            if self.now():
                with lines.path.open("ab") as file:
                    file.write(b'{"epoch": 3, "train/lo')
                die()
            original(lines, record)

        JsonLines.append = append  # type: ignore[method-assign]


def die() -> None:
    """At once, with nothing put in order."""
    os.kill(os.getpid(), signal.SIGKILL)
