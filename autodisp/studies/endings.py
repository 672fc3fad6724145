"""Endings of the runs of a study, in a file next to the folder of each."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Literal, get_args

from autodisp.atomic import replacing

State = Literal["waiting", "running", "done", "failed", "not run"]


@dataclass(frozen=True)
class Ending:
    """State of a run of a study."""

    state: State = "waiting"
    metric: float | None = None
    """Metric of the program; None if it has none, or it is not finite."""
    message: str = ""
    """Reason of a failure, in one line."""
    exit_code: int = 0
    """As that of the program."""
    seconds: float = 0.0
    """Time of all attempts."""
    attempts: int = 0
    host: str = ""

    @property
    def is_done(self) -> bool:
        """True if the run is complete."""
        return self.state == "done"


def ending_file(folder: Path) -> Path:
    """Returns the file with the ending of the run in a folder."""
    return folder.with_name(f"{folder.name}.json")


def read_ending(folder: Path) -> Ending:
    """Reads the ending of a run; that of a run which waits if there is none, it is damaged, or its folder is gone."""
    ending = Ending()
    with suppress(OSError, ValueError, TypeError, OverflowError, RecursionError):
        found = Ending(**json.loads(ending_file(folder).read_text(encoding="utf-8")))
        numbers = [found.exit_code, found.attempts, found.seconds, *([] if found.metric is None else [found.metric])]
        texts = isinstance(found.message, str) and isinstance(found.host, str)
        if texts and found.state in get_args(State) and all(map(_is_number, numbers)):
            ending = found
    return ending if not ending.is_done or folder.is_dir() else Ending()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def write_ending(folder: Path, ending: Ending) -> None:
    """Writes the ending of the run in a folder."""
    with replacing(ending_file(folder)) as path:
        path.write_text(json.dumps(asdict(ending)) + "\n", encoding="utf-8")
