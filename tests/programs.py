"""Settings of the programs, composed as Hydra does, and runs compared with one another."""

import functools
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils import _pytree

from autodisp import configs
from autodisp.cells.spaces import SPACES
from autodisp.config.search import SearchConfig, parse
from autodisp.records import read_json_lines
from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import KITS


def composed(program: str, *overrides: str) -> DictConfig:
    """Compose the settings of a program.

    Hydra takes 0.1 s to compose: it does so once a process for the same choices of groups, and values are then set in a
    copy, as it sets them itself.
    """
    values = [word for word in overrides if _sets_a_value(program, word)]
    tree = _composed(program, *(word for word in overrides if word not in values)).copy()
    for override in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(tree, override.key_or_group, override.value(), merge=True)
    return tree


@functools.cache
def _composed(program: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_module(f"autodisp.configs.{program}", version_base="1.3"):
        return compose(program, overrides=list(overrides))


def _sets_a_value(program: str, word: str) -> bool:
    """Return whether a word names a setting, rather than the choice of a group or what Hydra has to refuse."""
    named = re.match(r"([a-z_.]+)=", word)
    if named is None:
        return False
    top, _, rest = named[1].partition(".")
    tree = _composed(program)
    return top in tree and isinstance(tree._get_node(top), DictConfig) == bool(rest)


def search_config(*overrides: str) -> SearchConfig:
    """Return the typed settings of a search; Hydra's own resolver of the folder needs a running job."""
    return parse(composed("search", "run.folder=unused", *overrides))


def task_of(program: str, choice: str) -> list[str]:
    """Return the setting of the task that ``GROUP=CHOICE`` needs."""
    group, name = choice.split("=")
    name = str(configs.settings(program, group, name).get("name"))
    fits: dict[str, Callable[[TaskKit], bool]] = {
        "dataset": lambda kit: name in kit.datasets,
        "network": lambda kit: name in kit.networks or name == "from_checkpoint",
        "space": lambda kit: kit.kinds == set(SPACES[name].kinds),
    }
    return [f"task={next(kit.name for kit in KITS.values() if fits[group](kit))}"] if group in fits else []


def command_of(program: str, *words: str) -> list[str]:
    """Return the command that runs a program in a process of its own."""
    code = f"import sys; sys.argv[0] = 'autodisp-{program}'; from autodisp.cli.entry import {program}; {program}()"
    return [sys.executable, "-c", code, *words]


def start(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own; for most tests the fixture ``call`` will do."""
    return subprocess.run(
        command_of(program, *words),
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no larger file be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, by their path in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def untimed(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a run without what depends on the clock."""
    records = read_json_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in record.items() if not key.startswith("seconds")} for record in records]


def tensorboard(folder: Path) -> EventAccumulator:
    """Return everything that the event files of a folder hold."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    events.Reload()
    return events


def same(first: Iterable[Tensor], second: Iterable[Tensor]) -> bool:
    """Return whether as many tensors are equal one by one."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def differences(first: Any, second: Any) -> list[str]:
    """Return the places where two nested states differ, in structure, type or any bit of a tensor; NaN equals NaN."""
    (one, form), (other, other_form) = (_pytree.tree_flatten_with_path(state) for state in (first, second))
    if form != other_form:
        return ["the structure"]
    pairs = zip(one, other, strict=True)
    return [_pytree.keystr(path) for (path, mine), (_, theirs) in pairs if not _equal(mine, theirs)]


def _equal(mine: Any, theirs: Any) -> bool:
    if type(mine) is not type(theirs):
        return False
    if isinstance(mine, Tensor):
        return mine.dtype == theirs.dtype and torch.equal(mine, theirs)
    return bool(mine == theirs or (mine != mine and theirs != theirs))
