"""Supervises a long run: locking, signal handling, and error lines with the command that resumes it."""

import errno
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from rich.table import Table

from autodisp import distributed, torchrun
from autodisp.cli.console import build_console, say
from autodisp.cli.program import program_name
from autodisp.cli.signals import StopSignals
from autodisp.commands import command
from autodisp.errors import InputError, Interrupted, RunFault, UnusableState, WrongSetting, is_lack_of_memory
from autodisp.run_files import CHECKPOINTS
from autodisp.run_lock import locked
from autodisp.tracking import ConsoleProgress


@contextmanager
def supervised_run(folder: Path, *, memory: Sequence[str]) -> Iterator[StopSignals]:
    """Supervises a run in its folder.

    Args:
        memory: settings, with their values, that determine how much memory it takes.

    Yields:
        The signals that stop the run.

    Raises:
        InputError: another process uses the folder; or the run's own, with the command that resumes it. For a
            WrongSetting, which resuming would repeat, the remedy is another run; an UnusableState has its own.
        RunFault: the disk, the folder or the memory failed.
        SystemExit: it was stopped by a signal.
    """
    resuming = _resuming(folder)
    with ExitStack() as held, StopSignals() as signals:
        distributed.on_first(lambda: held.enter_context(locked(folder)))
        try:
            yield signals
        except (Interrupted, InputError, RunFault) as error:
            # SIGTERM may reach the loaders' workers as well, and end the step that waits for them
            if isinstance(error, Interrupted) or (isinstance(error, RunFault) and signals()):
                if distributed.is_first():
                    print(f"{program_name()}: stopped; resume with: {resuming}", file=sys.stderr, flush=True)  # noqa: T201
                sys.exit(signals.exit_code)
            if isinstance(error, WrongSetting):
                raise WrongSetting(f"{error}; a run keeps its settings: start another one with that") from error
            if isinstance(error, UnusableState):
                raise
            kind = RunFault if isinstance(error, RunFault) else InputError
            raise kind(f"{error}{_how_to_resume(folder, resuming)}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_lack_of_memory(error):
                raise
            raise RunFault(
                f"out of memory; settings that determine it: {', '.join(memory)}; lower one of them in a new run "
                f"(plan=true estimates it), or free some{_how_to_resume(folder, resuming)}"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EACCES,
                                   errno.EIO, errno.EPERM, errno.ESTALE, errno.EMFILE):  # fmt: skip
                raise
            raise RunFault(
                f"{error.filename or folder}: cannot be used ({error.strerror}){_how_to_resume(folder, resuming)}"
            ) from error


def run_console(config: Any, *, unit: str = "epoch") -> ConsoleProgress:
    """Builds the console of a run, with the verbosity of its config."""
    return ConsoleProgress(unit=unit, verbosity=config.run.verbosity)


def memory_settings(config: Any, *keys: str) -> list[str]:
    """Returns the settings that the config has, with their values."""
    values = {key: reduce(lambda part, name: getattr(part, name, None), key.split("."), config) for key in keys}
    return [f"{key}={list(value) if isinstance(value, tuple) else value}" for key, value in values.items() if value]


def print_summary(table: Table, lines: Iterable[str]) -> None:
    """Prints the table, and lines with paths below it, which the table would wrap or cut."""
    console = build_console()
    console.print(table)
    say(console, *lines)


def _resuming(folder: Path) -> str:
    """Returns the command that resumes a run, with as many processes of this machine as now."""
    resuming = command(program_name(), ("resume", folder))
    if torchrun.processes() == 1:
        return resuming
    words = resuming.removeprefix(program_name()).strip()
    return f'torchrun --nproc-per-node={torchrun.local_processes()} "$(which {program_name()})" {words}'


def _how_to_resume(folder: Path, resuming: str) -> str:
    if not folder.is_dir():
        return "; the run folder is gone, and with it the run"
    if any((folder / CHECKPOINTS).glob("*.pt")):
        return f"; the state before is saved: once that is fixed, `{resuming}`"
    return f"; no state was saved yet: once that is fixed, `{resuming}` starts it again"
