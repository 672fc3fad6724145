"""Builds a study from its typed config."""

import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf

from autodisp.atomic import replacing
from autodisp.cells.spaces import SPACES, find_space
from autodisp.config.checks import shown
from autodisp.config.study import AddressConfig, LocalConfig, SlurmConfig, StudyConfig
from autodisp.config.study_sections import (
    DropConfig,
    FactorConfig,
    HyperparametersConfig,
    RdartsConfig,
    RegretConfig,
    SpacesConfig,
    TableConfig,
)
from autodisp.errors import InputError, RunFault
from autodisp.studies.drop import DropStudy
from autodisp.studies.factors import FactorStudy
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


def stored_study(folder: Path, *, key: str, remedy: str) -> DictConfig:
    """Reads the config in the folder of a study; ``key`` is the setting that names the folder.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        tree = OmegaConf.load(folder / STUDY)
        if not isinstance(tree, DictConfig):
            raise TypeError
    except Exception as error:  # OSError, or any exception of YAML at a damaged file
        raise InputError(f"{key}={folder}: its {STUDY} cannot be read ({type(error).__name__}); {remedy}") from None
    return tree


def build_study(config: StudyConfig) -> Study:
    """Builds the study.

    Raises:
        InputError: the table cannot be read.
    """
    match config.study:
        case TableConfig() as own:
            return TableStudy(own.dataset, find_space(own.space), own.samples, own.checked)
        case SpacesConfig() as own:
            return SpacesStudy(own.datasets, own.spaces, own.policies)
        case RegretConfig() as own:
            return _regret_study(config, own)
        case DropConfig() as own:
            return DropStudy(own.patterns)
        case RdartsConfig() as own:
            return RdartsStudy(own.datasets, own.spaces, own.key, own.values, own.policy)
        case FactorConfig() as own:
            return FactorStudy(own.name, own.datasets, own.spaces, own.policies, own.key, own.values)
        case HyperparametersConfig() as own:
            ranges = {LEARNING_RATE: own.learning_rate, WEIGHT_DECAY: own.weight_decay}
            return HyperparametersStudy(own.dataset, own.genotype, own.trials, config.budget.steps, ranges)
    raise NotImplementedError(config.study.name)


def _regret_study(config: StudyConfig, own: RegretConfig) -> RegretStudy:
    """Builds the study, whose searches need the task, the dataset and the space of the table."""
    table, named = load(str(own.table)), f"study.table={own.table}"
    task, dataset = table.about.get("task", config.task.name), own.dataset or table.about.get("dataset")
    if task != config.task.name:
        raise InputError(
            f"{named}: is a table of task={shown(task)}, but task is {config.task.name}: set it to that one"
        )
    if not isinstance(dataset, str) or dataset not in config.kit.datasets:
        fitting = ", ".join(config.kit.datasets)
        raise InputError(f"{named}: its dataset is {shown(dataset)}: set study.dataset to one of {fitting}")
    if table.space.name not in SPACES or SPACES[table.space.name] != table.space:
        raise InputError(
            f"{named}: its space {shown(table.space.name)} is none of {', '.join(SPACES)}: take another table"
        )
    return RegretStudy(table, dataset, table.space.name, own.policies, own.methods)


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
        check=budget.check,
        root=config.root,
        seeds=config.seeds,
        machine=[f"run.threads={config.cluster.threads}", *([] if _loads(config) else ["run.workers=0"])],
    )


def _loads(config: StudyConfig) -> bool:
    """Returns True if the budget gives runs loading processes of their own."""
    words = (*config.budget.search, *config.budget.train, *config.budget.short, *config.budget.check)
    return any(word.startswith("run.workers=") for word in words)


def build_results(config: StudyConfig, folder: Path) -> tuple[Study, Results]:
    """Builds the study with the results of its runs in a folder."""
    study, protocol = build_study(config), build_protocol(config)
    return study, Results(folder, study.runs(protocol), protocol)


def cluster_of(config: StudyConfig) -> AbstractContextManager["Client"]:
    """Builds the cluster, which starts when it is entered.

    Raises:
        InputError: Dask is not installed, or an option of Slurm is unknown.
    """
    try:
        from autodisp.studies import clusters
    except ImportError as error:
        raise InputError(f"autodisp-study needs {error.name}: pip install 'autodisp[studies]'") from None
    match config.cluster:
        case AddressConfig(address=address):
            return clusters.at_address(str(address))
        case SlurmConfig() as own:
            clusters.check_slurm(options := slurm_options(own))
            return clusters.slurm(own.workers, own.threads, options)
        case LocalConfig() as own:
            return clusters.local(own.workers or max(1, (os.cpu_count() or 1) // own.threads))
    raise NotImplementedError(config.cluster.name)


def slurm_options(config: SlurmConfig) -> dict[str, Any]:
    """Reads the options as YAML, except for a time, which YAML 1.1 takes for a number to the base 60."""
    pairs = (word.partition("=") for word in config.options)
    return {key: value if re.fullmatch(r"[\d-]+:[\d:]+", value) else yaml.safe_load(value) for key, _, value in pairs}


def write_files(study: Study, results: Results) -> list[str]:
    """Writes the files that a study leaves in its folder; returns their names.

    Raises:
        RunFault: one cannot be written.
    """
    files = study.files(results)
    for name, text in files.items():
        try:
            with replacing(results.folder / name) as path:
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunFault(f"{results.folder / name}: cannot be written ({error.strerror})") from None
    return list(files)
