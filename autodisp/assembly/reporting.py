"""Builds a report from its typed config."""

from collections.abc import Sequence
from pathlib import Path

from autodisp.assembly.network_sizes import search_sizes, training_counts, training_sizes
from autodisp.assembly.studies import STUDY
from autodisp.assembly.study_reporting import read_study
from autodisp.atomic import staged
from autodisp.config.report import ReportConfig
from autodisp.errors import InputError, RunFault, is_full_disk
from autodisp.report.comparison import common_folder, find_runs
from autodisp.report.comparison_page import write_comparison
from autodisp.report.reading import is_run, read_run
from autodisp.report.run_page import write_run_page

REPORT = "report"
COMPARISON = "comparison"
"""Name of the folder of a comparison inside the folder of a run or study, whose ``report/`` is the report on that."""


def build_report(config: ReportConfig) -> tuple[Path, list[str]]:
    """Writes the report of a config.

    Returns:
        Its folder, and the names of the files in it, the page first.

    Raises:
        InputError: there is no run, it cannot be read, or the folder cannot be used.
        RunFault: there is no room for the report.
    """
    out = report_folder(config)
    try:
        if config.run is not None:
            return out, _report_on_run(config, Path(config.run).expanduser(), out)
        if config.study is not None:
            content = read_study(Path(config.study).expanduser())
            with staged(out) as stage:
                return out, content.write(stage)
        found = find_runs(config.patterns, skip=out)
        for entry in found.entries:
            if entry.run.kind == "training":
                entry.counts = training_counts(entry.run.config, entry.run.folder)
        with staged(out) as stage:
            return out, write_comparison(found, stage, key=config.key, seen_from=out)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = RunFault if is_full_disk(error) else InputError
        raise kind(f"out={out}: {error.filename or 'a file'} cannot be written ({reason})") from None


def report_folder(config: ReportConfig) -> Path:
    """Returns the folder of the report.

    Raises:
        InputError: a folder of that name is a link, or one with something else in it.
    """
    if config.out is not None:
        out = Path(config.out).expanduser()
    elif (folder_of_one := config.run or config.study) is not None:
        out = Path(folder_of_one).expanduser() / REPORT
    else:
        folder = common_folder(config.patterns)
        out = folder / (COMPARISON if is_run(folder) or (folder / STUDY).is_file() else REPORT)
    # A run folder may be untrusted, and its report/ may lead anywhere.
    if config.out is None and out.is_symlink():
        raise InputError(f"{out}: is a link, which is not written through; name a folder with out=")
    if out.exists() and not out.is_dir():
        raise InputError(f"out={out}: is no folder; take another one")
    return out


def _report_on_run(config: ReportConfig, folder: Path, out: Path) -> list[str]:
    run = read_run(folder)
    sizes: Sequence[tuple[str, str]]
    sizes = search_sizes(run.config, run.cells) if run.kind == "search" else training_sizes(run.config, folder)
    with staged(out) as stage:
        return write_run_page(run, stage, sizes=sizes, with_animation=config.animation)
