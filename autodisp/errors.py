"""The one error that means "the user's input was wrong"."""


class InputError(ValueError):
    """A config, file, checkpoint or command line that cannot be used.

    The message is one line that names the value, the constraint and the remedy. The programs print it
    and leave with exit code 2; every other exception is a fault of ours and keeps its traceback.
    """
