"""The cells found by a search: JSON, and one drawing of all of them side by side."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autodisp.cells import genotype as genotypes
from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SearchSpace
from autodisp.commands import setting
from autodisp.errors import InputError
from autodisp.records import read_json_lines
from autodisp.report.cells import draw_cells
from autodisp.report.reading import read_config, setting_of
from autodisp.run_files import CONFIG, GENOTYPE, GENOTYPES, METRICS

SPACE, DRAWINGS = "space.json", ("cells.svg", "cells.png")
_EPOCH = re.compile(r"epoch_(\d+)\.json")


@dataclass(frozen=True)
class Found:
    """Found cells with notes for the user."""

    genotype: Genotype
    space: SearchSpace | None
    """Search space of the cells; None for a built-in one."""
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """Returns the names of the files that ``write`` creates."""
        return [GENOTYPE, *DRAWINGS, *([] if self.space is None else [SPACE])]

    def write(self, folder: Path) -> None:
        """Writes the JSON and the drawings, and the space unless it is built in."""
        self.genotype.save(folder / GENOTYPE)
        for name in DRAWINGS:
            draw_cells(self.genotype, folder / name)
        if self.space is not None:
            text = json.dumps(self.space.to_json(), indent=1)
            (folder / SPACE).write_text(text + "\n", encoding="utf-8")


def of_run(run: Path, *, space: SearchSpace | None = None) -> Found:
    """Loads the cells found by a search, or those of its newest epoch if it is running or was stopped.

    Args:
        space: search space of the cells; None for a built-in one, or if the run's config names its file.

    Raises:
        InputError: the folder is not that of a search, or none of its genotypes can be read.
    """
    if not run.is_dir():
        raise InputError(f"run={run}: no such folder; autodisp-search makes one and names it when it starts")
    candidates = list(_candidates(run))
    if not candidates:
        raise InputError(f"run={run}: {_what_it_is(run)}")
    space = space or _own_space(run)
    problems: list[str] = []
    for path in candidates:
        try:
            genotype = genotypes.load(path, space=space)
        except InputError as error:
            problems.append(str(error))
            continue
        notes = [f"passed over: {problem}" for problem in problems]
        if path.name != GENOTYPE:
            epoch = int(path.stem.removeprefix("epoch_"))
            notes.append(f"the search has not come to its end: these are the cells after epoch {epoch} ({path})")
        return Found(genotype, space, tuple(notes))
    raise InputError(problems[0])


def _candidates(run: Path) -> Iterator[Path]:
    """Yields the files with genotypes, newest first."""
    if (run / GENOTYPE).is_file():
        yield run / GENOTYPE
    # A search that restarted from an earlier epoch leaves files with higher numbers, which are outdated.
    newest = _last_epoch(run)
    numbered = {int(match[1]): path for path in run.glob(f"{GENOTYPES}/*") if (match := _EPOCH.fullmatch(path.name))}
    yield from (numbered[number] for number in sorted(numbered, key=lambda number: (number != newest, -number)))


def _last_epoch(run: Path) -> int | None:
    try:
        records = read_json_lines(run / METRICS)
    except InputError:
        return None
    return next((record["epoch"] for record in reversed(records) if "event" not in record and "epoch" in record), None)


def _what_it_is(run: Path) -> str:
    models = sorted(path.name for path in run.glob("*.safetensors"))
    if models:
        return f"is the folder of a training; {setting('checkpoint', run / models[0])} exports its network"
    return f"holds neither {GENOTYPE} nor {GENOTYPES}/epoch_*.json; name the folder of a search after its first epoch"


def _own_space(run: Path) -> SearchSpace | None:
    """Loads the space whose file is named in the run's config."""
    file = setting_of(read_config(run / CONFIG, []), "space.file")  # None without a config
    if file is None:
        return None
    try:
        return SearchSpace.load(Path(str(file)).expanduser())
    except InputError as error:
        raise InputError(f"run={run}: was a search in a space of its own, but {error}; give space_file=PATH") from None
