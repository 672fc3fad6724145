"""autodisp-report: what a run did, or how several compare, as one page with its pictures beside it."""

from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from rich.console import Console

from autodisp.build.reporting import build_report, page_of
from autodisp.cli.program import run_program, wrong_input_leaves
from autodisp.config.report import parse


@hydra.main(config_path="pkg://autodisp.configs.report", config_name="report", version_base="1.3")
def _hydra_main(tree: DictConfig) -> None:
    with wrong_input_leaves():
        report(tree)


def report(tree: DictConfig) -> Path:
    """Writes the report that the composed config asks for; the page.

    Raises:
        InputError: a setting, a run or the folder cannot be used.
    """
    config = parse(tree)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    folder, files = build_report(config)
    console = Console(highlight=False)
    console.print(f"page:  {page_of(folder)}", markup=False, soft_wrap=True)
    console.print(f"files: {folder}/ ({', '.join(files[1:])})", markup=False, soft_wrap=True)
    return page_of(folder)


def main() -> None:
    """The program's entry point."""
    run_program(_hydra_main)
