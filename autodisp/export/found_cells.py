"""The cells that a search found: JSON, and one drawing of all of them side by side."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from autodisp.cells import genotype as genotypes
from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SearchSpace
from autodisp.commands import setting
from autodisp.errors import InputError
from autodisp.records import read_json_lines
from autodisp.report.cells import draw_cells
from autodisp.run_files import CONFIG, GENOTYPE, GENOTYPES, METRICS

SPACE, DRAWINGS = "space.json", ("cells.svg", "cells.png")
_EPOCH = re.compile(r"epoch_(\d+)\.json")


@dataclass(frozen=True)
class Found:
    """Cells and what a reader of them should know."""

    genotype: Genotype
    space: SearchSpace | None
    """None: one of the named ones."""
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        """The names of what ``write`` writes."""
        return [GENOTYPE, *DRAWINGS, *([] if self.space is None else [SPACE])]

    def write(self, folder: Path) -> None:
        """Writes the JSON and the drawings, and the space where it is no named one."""
        self.genotype.save(folder / GENOTYPE)
        for name in DRAWINGS:
            draw_cells(self.genotype, folder / name)
        if self.space is not None:
            text = json.dumps(self.space.to_json(), indent=1)
            (folder / SPACE).write_text(text + "\n", encoding="utf-8")


def of_run(run: Path, *, space: SearchSpace | None = None) -> Found:
    """The cells that a search found, or those of its newest epoch while it is going or where it was stopped.

    Args:
        run: its folder.
        space: of its cells; None for a named one, or where the run's config names its file.

    Raises:
        InputError: no folder of a search, or none of its genotypes can be read.
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
            notes.append(f"the search has not come to its end: these are the cells after {_epoch_words(path)} ({path})")
        return Found(genotype, space, tuple(notes))
    raise InputError(problems[0])


def _candidates(run: Path) -> Iterator[Path]:
    """Files with genotypes, the most final first."""
    if (run / GENOTYPE).is_file():
        yield run / GENOTYPE
    # A search that restarted from an earlier epoch leaves higher numbers behind, which are older.
    newest = _last_epoch(run)
    numbered = {int(match[1]): path for path in run.glob(f"{GENOTYPES}/*") if (match := _EPOCH.fullmatch(path.name))}
    yield from (numbered[number] for number in sorted(numbered, key=lambda number: (number != newest, -number)))


def _last_epoch(run: Path) -> int | None:
    try:
        records = read_json_lines(run / METRICS)
    except InputError:
        return None
    return next((record["epoch"] for record in reversed(records) if "event" not in record and "epoch" in record), None)


def _epoch_words(path: Path) -> str:
    match = _EPOCH.fullmatch(path.name)
    assert match is not None
    return f"epoch {int(match[1])}"


def _what_it_is(run: Path) -> str:
    models = sorted(path.name for path in run.glob("*.safetensors"))
    if models:
        return f"is the folder of a training; {setting('checkpoint', run / models[0])} exports its network"
    return f"holds neither {GENOTYPE} nor {GENOTYPES}/epoch_*.json; name the folder of a search after its first epoch"


def _own_space(run: Path) -> SearchSpace | None:
    """The space whose file the run's config names."""
    try:
        file = OmegaConf.select(OmegaConf.load(run / CONFIG), "space.file")
    except Exception:  # of the parser, which is free to raise its own; without a config the space is a named one
        return None
    if file is None:
        return None
    try:
        return SearchSpace.load(Path(str(file)))
    except InputError as error:
        raise InputError(f"run={run}: was a search in a space of its own, but {error}; give space_file=PATH") from None
