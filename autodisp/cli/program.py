"""Exit codes and one-line error messages of all programs.

0: done. 2: the input was wrong, one line on standard error. 1: the environment failed, such as a full disk, one line;
or a bug, with its traceback. 130, 143, 138, 140: stopped by SIGINT, SIGTERM, SIGUSR1, SIGUSR2, with the state saved.
For a sweep (-m) see ``sweeping``.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigSource
from omegaconf.errors import OmegaConfBaseException

import autodisp
from autodisp import torchrun
from autodisp.cli.helping import print_help
from autodisp.cli.hydra_errors import (
    group_without_choice,
    in_one_line,
    refuse_unknown_options,
    unreadable_config,
    unusable,
)
from autodisp.cli.malloc import keep_freed_memory
from autodisp.errors import InputError, RunFault, causes, first_line, is_full_disk, is_lack_of_memory

WRONG_INPUT, GAVE_WAY = 2, 1
INTERRUPTED = 130
"""128 + SIGINT, as in shells."""
PIPE_CLOSED = 141
"""128 + SIGPIPE."""


def run_program(hydra_main: Callable[[], None], name: str | None = None) -> None:
    """Runs a function decorated by ``hydra.main`` with the configs of that name, and exits with its status code."""
    # Hydra would print its own message and exit with 1; this makes it propagate exceptions.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ["MPLBACKEND"] = "agg"  # a notebook sets its own, which matplotlib refuses where it is not installed
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # closed, as by a daemon
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # such as a dash in a locale without it, after hours of work
    keep_freed_memory()
    _pass_over_byte_order_marks()
    with wrong_input_leaves():
        try:
            if "--version" in sys.argv[1:]:  # Hydra would print its own
                print(f"{program_name()} {autodisp.__version__}")  # noqa: T201
                return
            if hasattr(hydra_main, "__wrapped__"):
                refuse_unknown_options(program_name())
            if name is not None and {"--help", "-h"} & set(sys.argv[1:]):
                print_help(hydra_main, program=name)
            else:
                hydra_main()
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of the output, such as `head`, has closed the pipe; nothing more can be printed.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)
        except KeyboardInterrupt:
            print(f"{program_name()}: interrupted", file=sys.stderr)  # noqa: T201
            sys.exit(INTERRUPTED)
        except (InputError, HydraException, OmegaConfBaseException):
            raise
        except (ValueError, OSError, yaml.YAMLError) as error:  # not classes of Hydra's own
            explained = (
                group_without_choice(error, program=program_name()) or unreadable_config(error) or unusable(error)
            )
            if explained is None:
                raise
            raise explained from None


def _pass_over_byte_order_marks() -> None:
    """Makes Hydra find ``# @package`` after a byte order mark, which Windows editors write."""
    read = ConfigSource._get_header_dict
    ConfigSource._get_header_dict = staticmethod(lambda text: read(text.removeprefix("\ufeff")))  # type: ignore[assignment,method-assign]


@contextmanager
def wrong_input_leaves() -> Iterator[None]:
    """Turns an error of the user into one line and exit code 2.

    Used inside the job too: Hydra prints every exception that leaves the job on standard error, but not an exit.
    """
    try:
        yield
    except Exception as error:
        if (ending := explained(error)) is None:
            raise
        code, line = ending
        if code == GAVE_WAY or not torchrun.rank():  # all processes of torchrun meet the same wrong input
            print(f"{program_name()}: {line}", file=sys.stderr)  # noqa: T201
        sys.exit(code)


def explained(error: Exception) -> tuple[int, str] | None:
    """Returns exit code and line of an error of the user or of the environment; None for a bug."""
    if isinstance(error, RunFault):
        return GAVE_WAY, str(error)
    if is_lack_of_memory(error):
        return GAVE_WAY, f"out of memory ({first_line(error)}); take smaller images or a smaller network, or free some"
    if isinstance(error, OSError) and is_full_disk(error):
        return (
            GAVE_WAY,
            f"{error.filename or 'a file'}: cannot be written ({error.strerror}); make room, or write elsewhere",
        )
    if isinstance(error, InputError | HydraException | OmegaConfBaseException):
        wrapped = next((cause for cause in causes(error) if isinstance(cause, InputError)), error)
        return WRONG_INPUT, explain(wrapped)
    return None


def program_name() -> str:
    """Returns the name under which the user called the program."""
    return os.path.basename(sys.argv[0])


def explain(error: Exception) -> str:
    """Returns an error as one line: value, constraint, remedy."""
    return in_one_line(error, program=program_name())
