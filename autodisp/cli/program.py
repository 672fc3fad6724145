"""What all programs share: exit codes, and one clear line for whatever the user got wrong.

0: done. 2: the input was wrong, one line on standard error. 1: a fault of ours, with its traceback.
"""

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from autodisp.cli.memory import keep_freed_memory
from autodisp.config.parsing import one_line
from autodisp.errors import InputError

WRONG_INPUT = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def run_program(hydra_main: Callable[[], None]) -> None:
    """Runs a function decorated by ``hydra.main`` and leaves with the exit code that its end deserves."""
    # Hydra would print its own message and leave with 1; with this it lets exceptions through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    keep_freed_memory()
    with wrong_input_leaves():
        try:
            hydra_main()
        except KeyboardInterrupt:
            print(f"{program_name()}: interrupted", file=sys.stderr)  # noqa: T201
            sys.exit(INTERRUPTED)
        except ValueError as error:
            # Hydra's own, of group=null
            if not str(error).startswith("Config group override must be"):
                raise
            given = next((text for text in sys.argv[1:] if text.lower().endswith(("=null", "=none"))), "a group=null")
            help_text = f"`{program_name()} --help` lists them"
            raise InputError(f"{given}: a group needs one of its choices; {help_text}") from None


@contextmanager
def wrong_input_leaves() -> Iterator[None]:
    """Turns an error of the user's into one line and exit code 2.

    Also to be used inside the job: Hydra announces on standard error whatever exception leaves it, but not an exit.
    """
    try:
        yield
    except (InputError, HydraException, OmegaConfBaseException) as error:
        print(f"{program_name()}: {explain(find_input_error(error) or error)}", file=sys.stderr)  # noqa: T201
        sys.exit(WRONG_INPUT)


def program_name() -> str:
    """As the user called it."""
    return os.path.basename(sys.argv[0])


def find_input_error(error: BaseException | None) -> InputError | None:
    """Our own error, if that is what a library's error wraps."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def explain(error: Exception) -> str:
    """One line: the value, the constraint, the remedy."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        near = difflib.get_close_matches(choice, error.options, n=1, cutoff=0.5)
        hint = f"did you mean {group}={near[0]}? " if near else ""
        return f"{group}={choice}: no such choice; {hint}{group} is one of {', '.join(error.options)}"
    message = str(error)
    if found := re.search(r"Could not override '([^']+)'", message):
        return f"{found[1]}: no such setting; `{program_name()} --cfg job` shows all of them"
    if isinstance(error, OverrideParseException):
        return (
            f"'{error.override}' cannot be read as a setting; write group=choice or section.key=value, and for a value "
            "with spaces or commas \"section.key='a value'\""
        )
    return one_line(error)
