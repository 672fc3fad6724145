"""autodisp-study: many searches, trainings and evaluations that belong together, on one machine or many."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from autodisp.assembly.studies import STUDY, build_results, cluster_of, stored_study, write_files
from autodisp.atomic import replacing
from autodisp.cli.console import build_console, say
from autodisp.cli.program import GAVE_WAY, WRONG_INPUT
from autodisp.cli.run_folder import keep_command
from autodisp.cli.studied_run import perform
from autodisp.cli.study_plan import Kind, check_runs, kind_of, measured_seconds, time_left, unmeasured
from autodisp.cli.study_progress import StudyProgress
from autodisp.commands import command
from autodisp.config.study import StudyConfig, parse
from autodisp.errors import InputError, RunFault
from autodisp.run_files import COMMAND
from autodisp.run_lock import LOCK, locked
from autodisp.studies.endings import Ending
from autodisp.studies.graph import RUNS, Run, endings_of, in_order
from autodisp.studies.provenance import PROVENANCE, provenance, read_provenance
from autodisp.tracking import in_time

_FIXED = ("study.name", "task.name", "study.dataset", "study.space", "budget.name")
"""Settings of a folder of a study; others only add runs."""


def run(tree: DictConfig) -> None:
    """Runs the program with its composed config.

    Raises:
        SystemExit: a run failed.
    """
    if code := study(tree):
        sys.exit(code)


def study(tree: DictConfig) -> int:
    """Runs what is missing of the study of a composed config; returns the exit code: 0, or that of a failed run.

    Raises:
        InputError: a setting or the folder cannot be used, or another study is in the folder.
    """
    config = parse(tree)
    folder = Path(config.folder)
    built, results = build_results(config, folder)
    runs, console = list(in_order(results.runs)), build_console()
    if not runs:
        built.findings(results)  # of other runs, which must be there
    endings: Mapping[str, Ending] = endings_of(runs, folder)
    if config.cluster.name == "local":
        check_runs(runs, endings)
    if config.plan:
        _show_plan(config, runs, endings)
        return 0
    cluster = None if all(ending.is_done for ending in endings.values()) else cluster_of(config)
    _check_folder(tree, folder)
    with locked(folder):
        _keep(config, tree, runs, folder)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            endings = endings if cluster is None else _execute(cluster, runs, folder, console)
        except KeyboardInterrupt:
            say(console, "stopped: the same command resumes the runs that were in progress, and runs the others")
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
        files = write_files(built, results)
    _show_summary(runs, endings, folder, files, console)
    failed = {ending.exit_code for ending in endings.values() if ending.state == "failed"}
    return GAVE_WAY if GAVE_WAY in failed else WRONG_INPUT if failed else 0


def _execute(
    cluster: AbstractContextManager[Any], runs: Sequence[Run], folder: Path, console: Console
) -> Mapping[str, Ending]:
    with cluster as client, StudyProgress(console, runs) as progress:
        from autodisp.studies.execute import execute

        if client.dashboard_link:
            progress.note(f"dashboard of Dask: {client.dashboard_link}")
        return execute(
            runs, folder, client, perform, watch=lambda endings: progress.show(endings, len(client.nthreads()))
        )


def _check_folder(tree: DictConfig, folder: Path) -> None:
    """Creates the folder of a study, or checks that it has the same one, perhaps with fewer runs.

    Raises:
        InputError: it has another study or other files, or cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / STUDY).is_file():
            if any(entry.name != LOCK for entry in folder.iterdir()):
                raise InputError(f"folder={folder}: is not empty, and has no study; take another folder")
            return
    except OSError as error:
        raise InputError(f"folder={folder}: cannot be used ({error.strerror}); take another one") from None
    before = stored_study(folder, key="folder", remedy="take another folder")
    for key in _FIXED:
        had, wanted = (OmegaConf.select(one, key) for one in (before, tree))
        if had != wanted:
            raise InputError(f"folder={folder}: has a study with {key}={had}, not {wanted}; take another folder")
    had, wanted = (OmegaConf.select(one, "study.samples") for one in (before, tree))
    if wanted is not None and (had is None or had > wanted) and OmegaConf.select(tree, "study.name") == "table":
        words = "all" if had is None else had
        raise InputError(f"study.samples={wanted}: {folder} has a table of {words}: it can be raised, not lowered")


def _keep(config: StudyConfig, tree: DictConfig, runs: Sequence[Run], folder: Path) -> None:
    """Writes the config and the command of the study, and its provenance unless all runs are done."""
    kept = tree.copy()
    kept.root = config.root
    try:
        with replacing(folder / STUDY) as path:  # a study whose settings were cut off could not be continued
            OmegaConf.save(kept, path, resolve=True)
        keep_command(folder)
        path = folder / PROVENANCE
        if not _is_known(folder) or not all(ending.is_done for ending in endings_of(runs, folder).values()):
            command = (folder / COMMAND).read_text(encoding="utf-8").strip()
            path.write_text(json.dumps(provenance(command), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFault(f"{folder}: cannot be written ({error.strerror})") from None


def _is_known(folder: Path) -> bool:
    """Returns True if the provenance of a study can be read."""
    try:
        return bool(read_provenance(folder))
    except InputError:
        return False


def _show_plan(config: StudyConfig, runs: Sequence[Run], endings: Mapping[str, Ending]) -> None:
    console = build_console(width=160)
    table = Table(title=f"plan of study={config.study.name}, budget={config.budget.name}")
    for head in ("run", "of", "state"):
        table.add_column(head)
    for run in runs:
        words = ", ".join(f"{key} {value}" for key, value in run.labels.items())
        table.add_row(run.name, words, endings[run.name].state)
    if runs:
        console.print(table)
    counts = Counter(run.program for run in runs if not endings[run.name].is_done)
    console.print(f"to run: {', '.join(f'{count} x {program}' for program, count in counts.items()) or 'nothing'}")
    say(console, f"time:   {_time_in_words(runs, endings, console)}")


def _time_in_words(runs: Sequence[Run], endings: Mapping[str, Ending], console: Console) -> str:
    measured = dict[Kind, float]()
    for run in unmeasured(runs, endings):
        words = " ".join(word for word in kind_of(run) if word)
        console.print(f"        measuring a few steps of: {words}", markup=False)
        measured[kind_of(run)] = measured_seconds(run)
        console.print(f"        {in_time(measured[kind_of(run)])} a run", markup=False)
    # evaluations are short, and need a model to be measured
    evaluations = [run for run in runs if run.program == "evaluate"]
    evaluated = not evaluations or any(endings[run.name].is_done for run in evaluations)
    counted = [run for run in runs if evaluated or run.program != "evaluate"]
    left = time_left(counted, endings, 1, measured=measured)
    if left is None:
        return "unknown"
    return f"{in_time(left)} of one worker{'' if evaluated else ', evaluations not included'}"


def _show_summary(
    runs: Sequence[Run], endings: Mapping[str, Ending], folder: Path, files: Sequence[str], console: Console
) -> None:
    states = Counter(ending.state for ending in endings.values())
    told = [f"study: {states['done']} of {len(runs)} runs done"]
    failed = dict[str, list[Run]]()
    for run in runs:
        if endings[run.name].state == "failed":
            failed.setdefault(endings[run.name].message, []).append(run)
    for message, (first, *others) in failed.items():
        words = " ".join(f"{key}={value}" for key, value in first.labels.items())
        told.append(f"  {first.name} ({words}): failed: {message}")
        told.append(f"    log: {folder / RUNS / first.name}.log")
        if others:
            told.append(f"    the same message: {', '.join(run.name for run in others)}")
    if states["not run"]:
        told.append(f"  not run, since they need runs that failed: {states['not run']}")
    told.append(f"files: {folder}/ ({', '.join([*files, *(['runs/'] if runs else [STUDY])])})")
    told.append(f"look:  {command('autodisp-report', ('study', folder))}")
    say(console, *told)
