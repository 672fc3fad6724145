"""The searches that are killed: tiny ones of both tasks under each policy, in processes that can be spared."""

import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_module

from autodisp.checkpoints import Checkpoints
from autodisp.cli.search import resume, search
from autodisp.search.loop import Search
from tests import programs
from tests.crashing.weapons import Weapon

EPOCHS = 6
RISE = 3
"""From this epoch on the curvature is said to grow, so that ES stops and ADA rolls back, twice."""
COMMON = (
    "experiment=smoke", f"search.epochs={EPOCHS}", "regularization.start_epoch=1", "regularization.window=1",
    "regularization.delta=1", "search.drop_path=0.2", "search.steps_per_epoch=2", "curvature.tolerance=0.1",
    "run.threads=1",
)  # fmt: skip
TASKS = {
    "disparity": (
        "network=disparity_tiny", "dataset.length=8", "dataset.height=32", "dataset.width=48",
        "dataset.max_disparity=16", "dataset.crop=null", "optimizer.alphas.order=first",
        "optimizer.alphas.first_order_epochs=0",
    ),
    "classification": ("task=classification", "dataset=cifar10", "space=s4", "network=classification_tiny"),
}  # fmt: skip
POLICIES = ("none", "es", "ada")


@dataclass(frozen=True)
class Case:
    """One search."""

    task: str
    policy: str
    data: Path
    """Where ``write_cifar10`` wrote."""
    workers: int = 0

    def overrides(self, folder: Path) -> list[str]:
        """Of configs/search."""
        root = [f"dataset.root={self.data}"] if self.task == "classification" else []
        chosen = f"regularization={self.policy}"
        return [*COMMON, *TASKS[self.task], *root, chosen, f"run.workers={self.workers}", f"run.folder={folder}"]


def warm_up() -> None:
    """Imports what a first optimizer brings in, once instead of in each process."""
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def attempt(case: Case, folder: Path, weapon: Weapon | None) -> int:
    """Begins the search in a process of its own, or goes on with it, and kills that.

    Args:
        case: the search.
        folder: of the run, which may be there.
        weapon: what kills it; None lets it live.

    Returns:
        The process's exit code, minus the signal's number if it was killed.
    """
    child = os.fork()
    if child == 0:
        _live(case, folder, weapon)
    if weapon is not None and weapon.seconds is not None:
        ends = time.monotonic() + weapon.seconds
        while time.monotonic() < ends:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _live(case: Case, folder: Path, weapon: Weapon | None) -> None:
    """The whole life of that process."""
    log = os.open(folder.parent / f"{folder.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        torch.manual_seed(int.from_bytes(os.urandom(4)))  # a resumed search must not depend on what it finds
        _say_that_curvature_rises()
        if weapon is not None:
            weapon.load()
        begun = (folder / "config.yaml").exists()
        words = [f"resume={folder}"] if begun else case.overrides(folder)
        with initialize_config_module("autodisp.configs.search", version_base="1.3"):
            tree = compose("search", overrides=[*words, *([f"run.folder={folder}"] if begun else [])])
        if begun:
            resume(tree, words)
        else:
            search(tree)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _say_that_curvature_rises() -> None:
    original = Search.measure_curvature

    def measure(search: Search) -> dict[str, Any]:
        record, epoch = original(search), search.progress.epochs
        value = 1.0 if epoch < RISE else 2.0**epoch
        search.progress.history[-1] = (epoch, value)
        return {**record, "eigenvalue": value}

    Search.measure_curvature = measure  # type: ignore[method-assign]


def differences(first: Path, second: Path) -> list[str]:
    """What two finished runs differ in, apart from times: records, found cells, and every bit of the last state."""
    found = []
    one, other = programs.untimed(first), programs.untimed(second)
    if one != other:
        lines = [number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b]
        found.append(f"metrics.jsonl: {len(one)} and {len(other)} records, of which {lines} differ")
    if (first / "genotype.json").read_bytes() != (second / "genotype.json").read_bytes():
        found.append("genotype.json")
    states = {folder: Checkpoints(folder / "checkpoints").newest(found.append) for folder in (first, second)}
    found += [f"{folder}: no state" for folder, state in states.items() if state is None]
    return [*found, *(f"state{place}" for place in programs.differences(*states.values()))]
