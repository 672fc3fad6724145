"""autodisp-report: one page on a run, or on how several compare, with its images next to it."""

from pathlib import Path

from omegaconf import DictConfig

from autodisp.assembly.networks import use_threads
from autodisp.assembly.reporting import build_report, report_folder
from autodisp.cli.console import build_console, say
from autodisp.config.report import parse
from autodisp.report.page import PAGE


def run(tree: DictConfig) -> None:
    """Runs the program with its composed config."""
    report(tree)


def report(tree: DictConfig) -> Path:
    """Writes the report of the composed config and returns its page.

    Raises:
        InputError: a setting, a run or the folder cannot be used.
    """
    config = parse(tree)
    use_threads(config.threads)
    replaces = (report_folder(config) / PAGE).exists()
    folder, files = build_report(config)
    say(
        build_console(),
        f"page:  {folder / PAGE}{' (replaces the previous one)' if replaces else ''}",
        f"files: {folder}/ ({', '.join(files[1:])})",
    )
    return folder / PAGE
