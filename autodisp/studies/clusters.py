"""The Dask cluster that executes a study: processes of this machine, of Slurm, or those at an address."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster

from autodisp.errors import InputError, RunFault, in_one_line

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMCluster

_TIMEOUT = 30
"""Seconds to wait for the scheduler at an address."""
_MAY_LOAD = "DASK_DISTRIBUTED__WORKER__DAEMON=False"
"""Environment in which the runs of a worker may start loading processes of their own."""


@contextmanager
def local(workers: int) -> Iterator[Client]:
    """Starts processes of this machine, each of which has one run at a time.

    They may start loading processes of their own, and have no limit of memory: a run would be killed at one that is
    a share of the machine's.
    """
    with (
        dask.config.set({"distributed.worker.daemon": False}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield client


@contextmanager
def at_address(address: str) -> Iterator[Client]:
    """Connects to the scheduler at an address, such as tcp://10.0.0.1:8786.

    Raises:
        InputError: there is none.
    """
    try:
        client = Client(address, timeout=_TIMEOUT)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cluster.address={address}: no scheduler of Dask answers ({in_one_line(error)}); start one by "
            f"`dask scheduler`, and workers by `{_MAY_LOAD} dask worker ADDRESS --nthreads 1 --memory-limit 0`"
        ) from None
    with client:
        yield client


@contextmanager
def slurm(workers: int, cores: int, options: Mapping[str, Any]) -> Iterator[Client]:
    """Starts a Slurm job for each worker, see ``slurm_cluster``.

    Raises:
        RunFault: Slurm refuses the jobs.
    """
    with slurm_cluster(cores, options) as cluster, Client(cluster) as client:
        try:
            cluster.scale(jobs=workers)
        except (OSError, RuntimeError) as error:
            raise RunFault(f"cluster=slurm: the jobs cannot be submitted ({in_one_line(error)})") from None
        yield client


def check_slurm(options: Mapping[str, Any]) -> None:
    """Checks the names of options, see ``slurm_cluster``.

    Raises:
        InputError: an option is unknown.
    """
    from dask_jobqueue.core import Job, JobQueueCluster
    from dask_jobqueue.slurm import SLURMJob

    known = {name for part in (SLURMJob, Job, JobQueueCluster) for name in signature(part.__init__).parameters}
    known -= {"self", "cores", "processes", "base_class_kwargs", "job_cls", "job_kwargs"}
    if unknown := options.keys() - known:
        raise InputError(
            f"cluster.options: {', '.join(sorted(unknown))}: must be options of dask_jobqueue.SLURMCluster other than "
            "cores and processes, such as queue, walltime, memory, account, job_extra_directives"
        )


def slurm_cluster(cores: int, options: Mapping[str, Any]) -> "SLURMCluster":
    """Builds a cluster without jobs, whose worker has one run at a time on all cores of its job.

    Args:
        cores: of a job.
        options: arguments of ``dask_jobqueue.SLURMCluster``, such as queue and walltime.
    """
    from dask_jobqueue.slurm import SLURMCluster

    lines = options.get("job_script_prologue") or []
    prologue = [f"export {_MAY_LOAD}", *([lines] if isinstance(lines, str) else lines)]
    usual = {"memory": "16GB", "job_cpu": cores, "scheduler_options": {"dashboard_address": ":0"}}
    return SLURMCluster(cores=1, processes=1, **{**usual, **options, "job_script_prologue": prologue})
