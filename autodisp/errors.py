"""The errors that end in one line on the console instead of a traceback."""

import re


class InputError(ValueError):
    """A config, file, checkpoint or command line that cannot be used.

    The message is one line that names the value, the constraint and the remedy. The programs print it
    and leave with exit code 2; every exception but these keeps its traceback.
    """


class WrongSetting(InputError):
    """A setting is what cannot be used, not a file or the machine.

    Only another run has other settings: to resume this one would repeat the error.
    """


class RunFault(RuntimeError):
    """What a run stands on gave way: the disk is full, its folder is gone, a worker was killed, memory ran out.

    The message is one line that says what and what to do. The programs print it and leave with exit code 1.
    """


class Interrupted(Exception):
    """A run that was asked to stop has saved its state and stopped."""


def in_one_line(text: object, *, at_most: int = 200) -> str:
    """What a file or a library says, made fit for a message: its line ends and control characters do no harm.

    Args:
        text: anything.
        at_most: characters; what is longer ends in "...".
    """
    words = re.sub(r"[\t-\r]+ *", " ", str(text)).strip()
    shown = words if len(words) <= at_most else f"{words[:at_most]}..."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)
