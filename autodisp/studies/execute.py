"""Executes the graph of a study on a cluster of Dask.

A run is a task. Its worker writes its ending next to its folder, so that a worker which dies loses at most the steps
since the last saved state: Dask gives the task to another one, which resumes the run.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from distributed import Client, Future, wait

from autodisp.errors import RunFault, in_one_line
from autodisp.studies.endings import Ending, read_ending, write_ending
from autodisp.studies.graph import RUNS, Run, endings_of

Perform = Callable[[str, Sequence[str], Path], Ending]
"""Runs a program with words of its command line in a folder, resuming what is there; it can be pickled."""
_REFRESH_SECONDS = 1.0


def execute(
    runs: Sequence[Run],
    study: Path,
    client: Client,
    perform: Perform,
    *,
    watch: Callable[[Mapping[str, Ending]], None] = lambda endings: None,
) -> dict[str, Ending]:
    """Executes what is not done yet.

    Args:
        runs: in the order of ``in_order``.
        study: the folder of the study, in a file system that all workers share.
        watch: called about once a second with the endings so far, by name.

    Returns:
        The endings of all runs by name. A failed run ends those only that need it.
    """
    (study / RUNS).mkdir(parents=True, exist_ok=True)
    endings, session = endings_of(runs, study), uuid4().hex[:8]
    futures: dict[str, Future[Ending]] = {}
    for place, run in enumerate(runs):
        if endings[run.name].is_done:
            continue
        needed = {other.name: futures.get(other.name, endings[other.name]) for other in run.needs}
        futures[run.name] = client.submit(
            _step, run, study.absolute(), os.getcwd(), perform, needed,
            key=f"{run.name}-{session}", priority=-place, pure=False,
        )  # fmt: skip
    pending = dict(futures)
    while pending:
        watch(endings)
        try:
            wait(list(pending.values()), timeout=_REFRESH_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            endings |= {name: read_ending(study / RUNS / name) for name in pending}
        for name in [name for name, future in pending.items() if future.done()]:
            endings[name] = _ending(pending.pop(name))
    for run in runs:
        lost = next((other for other in run.needs if not endings[other.name].is_done), None)
        if lost is not None and not endings[run.name].is_done:
            endings[run.name] = Ending("not run", message=f"needs {lost.name}, which is not done")
        if not endings[run.name].is_done:
            write_ending(study / RUNS / run.name, endings[run.name])
    watch(endings)
    return endings


def _step(run: Run, study: Path, at: str, perform: Perform, needed: Mapping[str, Ending]) -> Ending:
    """One task: a run, in a worker, in the current folder of the study's process for relative paths."""
    folder = study / RUNS / run.name
    before = read_ending(folder)
    if before.is_done:
        return before
    if not all(ending.is_done for ending in needed.values()):
        return Ending("not run")
    begun = Ending("running", seconds=before.seconds, attempts=before.attempts + 1, host=socket.gethostname())
    try:
        write_ending(folder, begun)
    except OSError as error:
        raise RunFault(
            f"{study}: cannot be written on {begun.host} ({error.strerror}); all workers need the folder of the study"
        ) from None
    start = time.monotonic()
    with chdir(at):
        ending = perform(run.program, run.words(study, needed), folder)
    seconds = before.seconds + time.monotonic() - start
    ending = replace(ending, seconds=seconds, attempts=begun.attempts, host=begun.host)
    write_ending(folder, ending)
    return ending


def _ending(future: Future[Ending]) -> Ending:
    if future.status == "finished":
        ending: Ending = future.result()
        return ending
    error = future.exception()
    return Ending("failed", message=f"{type(error).__name__}: {in_one_line(error)}", exit_code=1)
