"""Builds a study from its typed config."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from autodisp.cells.spaces import find_space
from autodisp.config.study import StudyConfig
from autodisp.errors import InputError
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
