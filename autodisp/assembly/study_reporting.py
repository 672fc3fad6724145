"""Builds the report of a study from its folder."""

import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

import autodisp
from autodisp.assembly.studies import STUDY, build_results
from autodisp.config.study import parse
from autodisp.errors import InputError, RunFault
from autodisp.report.study_page import ResultTable, Value, write_study_page
from autodisp.run_files import COMMAND
from autodisp.studies.graph import in_order
from autodisp.studies.results import Results


def read_study(folder: Path) -> Callable[[Path], list[str]]:
    """Reads the folder of a study.

    Returns:
        A function that writes its page into a folder and returns the names of the files, the page first.

    Raises:
        InputError: the folder is not that of a study.
    """
    try:
        tree = OmegaConf.load(folder / STUDY)
    except Exception as error:  # OSError, or any exception of YAML at a damaged file
        raise InputError(
            f"study={folder}: its {STUDY} cannot be read ({type(error).__name__}); name the folder of autodisp-study"
        ) from None
    if not isinstance(tree, DictConfig):
        raise InputError(f"study={folder}: its {STUDY} is a list; name the folder of autodisp-study")
    study, results = build_results(parse(tree), folder)
    findings = study.findings(results)
    states = [ending.state for ending in results.endings.values()]
    if rest := [state for state in states if state != "done"]:
        findings.notes.append(f"{len(rest)} of {len(states)} runs are not done")
    for run in in_order(results.runs):
        if (ending := results.endings[run.name]).state == "failed":
            findings.notes.append(f"{run.name}: {ending.message}")
    try:
        command = (folder / COMMAND).read_text(encoding="utf-8").strip().splitlines()
    except OSError as error:
        raise RunFault(f"{folder / COMMAND}: cannot be read ({error.strerror})") from None
    versions = f"autodisp {autodisp.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    return partial(write_study_page, findings, how=[*command, versions], cost=_cost(results))


def _cost(results: Results) -> ResultTable:
    by_program: dict[str, list[float]] = {}
    for run in in_order(results.runs):
        if results.endings[run.name].is_done:
            by_program.setdefault(run.program, []).append(results.endings[run.name].seconds)
    rows: list[list[Value]] = [
        [name, float(len(times)), sum(times) / len(times), sum(times) / 3600] for name, times in by_program.items()
    ]
    heads = ["program", "runs", "seconds a run, mean", "hours in all"]
    return ResultTable("cost", "Cost", heads, rows, "Of complete runs, on the worker's clock.")
