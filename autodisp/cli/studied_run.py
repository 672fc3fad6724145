"""Carries out one run of a study in the process of a worker."""

import shutil
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from math import isfinite
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from autodisp.cli.job import FOLDERS
from autodisp.cli.malloc import keep_freed_memory
from autodisp.cli.program import GAVE_WAY, explained
from autodisp.cli.run_folder import holds_run
from autodisp.commands import setting
from autodisp.errors import in_one_line
from autodisp.report.reading import read_run
from autodisp.run_lock import at_work
from autodisp.studies.endings import Ending
from autodisp.studies.trials import Tuning, carry_out

PROGRAM_OF = {"tune": "train"}
"""The program that a run without one of its own consists of."""
_ALONE = threading.Lock()
"""One run at a time in a process: it has one command line, one standard output and one random generator of torch."""


def perform(program: str, words: Sequence[str], folder: Path) -> Ending:
    """Runs a program in a folder, or resumes the run that is there.

    Its output is appended to the file FOLDER.log.

    Args:
        program: its name, without autodisp-.
        words: of its command line, without the folder.
        folder: of the run, or of the results.
    """
    key = FOLDERS[PROGRAM_OF.get(program, program)]
    arguments = sys.argv
    with _ALONE, folder.with_name(f"{folder.name}.log").open("a", encoding="utf-8") as log:
        sys.argv = [f"autodisp-{PROGRAM_OF.get(program, program)}", *words, setting(key, folder)]
        try:
            with redirect_stdout(log), redirect_stderr(log):
                return _ending(program, words, folder)
        finally:
            sys.argv = arguments


def _ending(program: str, words: Sequence[str], folder: Path) -> Ending:
    try:
        if program == "tune":
            metric = carry_out(Tuning.read(words), folder, lambda words, folder: _metric("train", words, folder))
        else:
            metric = _metric(program, words, folder)
    except SystemExit as left:
        return Ending("failed", message=f"left with exit code {left.code}", exit_code=GAVE_WAY)
    except Exception as error:
        if (ending := explained(error)) is None:
            traceback.print_exc()
            ending = GAVE_WAY, f"{type(error).__name__}: {in_one_line(error)}"
        else:
            print(f"autodisp-{program}: {ending[1]}", flush=True)  # noqa: T201
        return Ending("failed", message=ending[1], exit_code=ending[0])
    return Ending("done", metric=metric if metric is not None and isfinite(metric) else None)


def _metric(program: str, words: Sequence[str], folder: Path) -> float | None:
    keep_freed_memory()
    resuming = holds_run(folder)
    if folder.exists() and not resuming and at_work(folder) is not True:
        shutil.rmtree(folder)  # killed before its first state
    module = import_module(f"autodisp.cli.{program}")
    tree = composed(program, [*words, setting(FOLDERS[program], folder)])
    if not resuming:
        found: float | None = module.run(tree)
        return found
    tree.resume = str(folder)
    return read_run(module.resume(tree, overrides=[word for word in words if word.startswith("run.")])).metric


def composed(program: str, words: Sequence[str]) -> DictConfig:
    """Composes the config of a program.

    Raises:
        HydraException: a word names no setting.
    """
    GlobalHydra.instance().clear()
    with initialize_config_module(f"autodisp.configs.{program}", version_base="1.3"):
        return compose(program, overrides=list(words))
