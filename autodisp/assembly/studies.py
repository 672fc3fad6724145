"""Builds a study from its typed config, and its report."""

import os
import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

import autodisp
from autodisp.cells.spaces import find_space
from autodisp.config.study import StudyConfig, parse
from autodisp.errors import InputError, RunFault
from autodisp.report.study_page import ResultTable, Value, write_study_page
from autodisp.run_files import COMMAND
from autodisp.studies.drop import DropStudy
from autodisp.studies.factors import FactorStudy
from autodisp.studies.graph import in_order
from autodisp.studies.hyperparameters import LEARNING_RATE, WEIGHT_DECAY, HyperparametersStudy
from autodisp.studies.protocol import Protocol
from autodisp.studies.rdarts import RdartsStudy
from autodisp.studies.regret import RegretStudy
from autodisp.studies.results import Results
from autodisp.studies.spaces import SpacesStudy
from autodisp.studies.study import Study
from autodisp.studies.table import TableStudy
from autodisp.tables import load

if TYPE_CHECKING:
    from distributed import Client

STUDY = "study.yaml"
"""The composed config in the folder of a study."""


def _regret(config: StudyConfig) -> RegretStudy:
    section, table = config.study, load(str(config.study.table))
    dataset = section.dataset or str(table.about.get("dataset", ""))
    return RegretStudy(table, dataset, table.space.name, section.policies, section.methods)


def _factor(config: StudyConfig) -> FactorStudy:
    section = config.study
    return FactorStudy(section.name, section.datasets, section.spaces, section.policies, section.key, section.values)


def _hyperparameters(config: StudyConfig) -> HyperparametersStudy:
    section = config.study
    ranges = {LEARNING_RATE: section.learning_rate, WEIGHT_DECAY: section.weight_decay}
    return HyperparametersStudy(section.dataset, section.genotype, section.trials, config.budget.steps, ranges)


_STUDIES: Mapping[str, Callable[[StudyConfig], Study]] = {
    "table": lambda config: TableStudy(config.study.dataset, find_space(config.study.space), config.study.samples),
    "spaces": lambda config: SpacesStudy(config.study.datasets, config.study.spaces, config.study.policies),
    "regret": _regret,
    "drop": lambda config: DropStudy(config.study.patterns),
    "rdarts": lambda config: RdartsStudy(
        config.study.datasets, config.study.spaces, config.study.key, config.study.values, config.study.policy
    ),
    "regularization": _factor,
    "augmentation": _factor,
    "hyperparameters": _hyperparameters,
}


def build_study(config: StudyConfig) -> Study:
    """Builds the study.

    Raises:
        InputError: the table cannot be read.
    """
    return _STUDIES[config.study.name](config)


def build_protocol(config: StudyConfig) -> Protocol:
    """Builds the words of the programs."""
    budget = config.budget
    return Protocol(
        task=config.task.name,
        figure=config.kit.task.figure,
        search=budget.search,
        train=budget.train,
        short=budget.short,
        evaluate=budget.evaluate,
        root=config.root,
        seeds=config.seeds,
        machine=[f"run.threads={config.cluster.threads}", *([] if _loads(config) else ["run.workers=0"])],
    )


def _loads(config: StudyConfig) -> bool:
    """Returns True if the budget gives runs loading processes of their own."""
    return any(word.startswith("run.workers=") for word in (*config.budget.search, *config.budget.train))


def build_results(config: StudyConfig, folder: Path) -> tuple[Study, Results]:
    """Builds the study with the results of its runs in a folder."""
    study, protocol = build_study(config), build_protocol(config)
    return study, Results(folder, study.runs(protocol), protocol)


def cluster_of(config: StudyConfig) -> AbstractContextManager["Client"]:
    """Builds the cluster.

    Raises:
        InputError: Dask is not installed.
    """
    try:
        from autodisp.studies import clusters
    except ImportError as error:
        raise InputError(f"autodisp-study needs {error.name}: pip install 'autodisp[studies]'") from None
    section = config.cluster
    if section.name == "address":
        return clusters.at_address(section.address)
    if section.name == "slurm":
        options = {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in section.options)}
        return clusters.slurm(section.workers, section.threads, options)
    return clusters.local(section.workers or max(1, (os.cpu_count() or 1) // section.threads))


def write_files(study: Study, results: Results) -> list[str]:
    """Writes the files that a study leaves in its folder; returns their names."""
    files = study.files(results)
    for name, text in files.items():
        (results.folder / name).write_text(text, encoding="utf-8")
    return list(files)


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
