"""Errors that are shown as one line on the console instead of a traceback."""

import errno
import re
from collections.abc import Iterator


class InputError(ValueError):
    """A config, file, checkpoint or command line that cannot be used.

    The message is one line that names the value, the constraint and the remedy. The programs print it
    and exit with code 2; other exceptions keep their traceback.
    """


class WrongSetting(InputError):
    """A setting that cannot be used, rather than a file or the machine.

    A run keeps its settings, so resuming it would repeat the error.
    """


class UnusableState(InputError):
    """A saved state from which its run cannot be resumed."""


class RunFault(RuntimeError):
    """A failure of the environment: full disk, missing folder, killed worker, out of memory.

    The message is one line with the failure and the remedy. The programs print it and exit with code 1.
    """


class Interrupted(Exception):
    """A run has saved its state and stopped on request."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_NO_MEMORY = ("can't allocate memory", "out of memory", "bad allocation", "std::bad_alloc")


def is_lack_of_memory(error: BaseException) -> bool:
    """Returns True for an error of numpy or torch for which there was too little memory, on any device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )


def is_full_disk(error: BaseException) -> bool:
    """Returns True for an error of a file that could not be written because the disk is full, read-only, or failing."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def first_line(error: Exception) -> str:
    """First line of the message of an exception; the name of its type if there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def in_one_line(text: object, *, at_most: int = 200) -> str:
    """Text of a file or a library as one line, with line ends and control characters replaced.

    Text of more than ``at_most`` characters is cut and ends in "...".
    """
    words = re.sub(r"[\t-\r]+ *", " ", str(text)).strip()
    shown = words if len(words) <= at_most else f"{words[:at_most]}..."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error, the one that it was raised from or for, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
