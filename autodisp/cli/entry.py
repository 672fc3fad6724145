"""The programs as they are called.

A program is imported once Hydra has composed its config: help, shell completion and a misspelt setting need neither
torch nor the seconds that it takes to load.
"""

from importlib import import_module

import hydra
from omegaconf import DictConfig

from autodisp.cli.program import run_program, wrong_input_leaves
from autodisp.cli.renamed import take_old_names
from autodisp.cli.verbosity import say_how_much


def search() -> None:
    """autodisp-search."""
    say_how_much()
    _run("search")


def train() -> None:
    """autodisp-train."""
    say_how_much()
    _run("train")


def evaluate() -> None:
    """autodisp-evaluate."""
    _run("evaluate")


def predict() -> None:
    """autodisp-predict."""
    _run("predict")


def export() -> None:
    """autodisp-export."""
    _run("export")


def check() -> None:
    """autodisp-check."""
    _run("check")


def report() -> None:
    """autodisp-report."""
    _run("report")


def _run(name: str) -> None:
    take_old_names(name)

    @hydra.main(config_path=f"pkg://autodisp.configs.{name}", config_name=name, version_base="1.3")
    def job(tree: DictConfig) -> None:
        with wrong_input_leaves():
            import_module(f"autodisp.cli.{name}").run(tree)

    run_program(job, name)
