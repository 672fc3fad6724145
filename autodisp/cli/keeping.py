"""What surrounds a run that takes long: one process a folder, a stop that saves, faults that say how to go on."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from autodisp.cli.program import program_name
from autodisp.cli.signals import StopSignals
from autodisp.commands import command
from autodisp.errors import InputError, Interrupted, RunFault, WrongSetting
from autodisp.run_files import CHECKPOINTS
from autodisp.run_lock import locked

_NO_MEMORY = ("can't allocate memory", "out of memory", "bad allocation", "std::bad_alloc")


@contextmanager
def kept_run(folder: Path, *, memory: Sequence[str]) -> Iterator[StopSignals]:
    """Keeps a run in its folder from getting lost.

    Args:
        folder: of the run, which exists.
        memory: settings, with their values, that decide how much memory it takes.

    Yields:
        What the run asks whether it is to stop.

    Raises:
        InputError: another process is at work there; or the run's own, with the command that resumes it. Where it is
            a WrongSetting, which resuming would repeat, it says to start another run.
        RunFault: the disk, the folder or the memory gave way.
        SystemExit: it was stopped by a signal.
    """
    resuming = command(program_name(), ("resume", folder))
    with locked(folder), StopSignals() as signals:
        try:
            yield signals
        except (Interrupted, InputError, RunFault) as error:
            # SIGTERM may reach the loaders' workers as well, and end the step that waits for them
            if isinstance(error, Interrupted) or (isinstance(error, RunFault) and signals()):
                print(f"{program_name()}: stopped; go on with: {resuming}", file=sys.stderr, flush=True)  # noqa: T201
                sys.exit(signals.exit_code)
            if isinstance(error, WrongSetting):
                raise WrongSetting(f"{error}; a run keeps its settings: start another one with that") from error
            kind = RunFault if isinstance(error, RunFault) else InputError
            raise kind(f"{error}{_how_to_go_on(folder, resuming)}") from error
        except (MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
            raise RunFault(
                f"out of memory; what decides how much is taken: {', '.join(memory)}; lower one of them in a new run "
                f"(plan=true says what it takes), or free some{_how_to_go_on(folder, resuming)}"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EACCES,
                                   errno.EIO, errno.EPERM, errno.ESTALE, errno.EMFILE):  # fmt: skip
                raise
            raise RunFault(
                f"{error.filename or folder}: cannot be used ({error.strerror}){_how_to_go_on(folder, resuming)}"
            ) from error


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


def _how_to_go_on(folder: Path, resuming: str) -> str:
    if not folder.is_dir():
        return "; the run folder is gone, and with it the run"
    if any((folder / CHECKPOINTS).glob("*.pt")):
        return f"; the state before is saved: when that is mended, `{resuming}`"
    return f"; no state was saved yet: when that is mended, `{resuming}` begins it again"
