"""The options -q and -v of the programs that run for long.

Hydra knows settings only, and options of its own; so the two are turned into ``run.verbosity`` before it looks.
"""

import sys

_OPTIONS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}


def say_how_much() -> None:
    """Replaces -q and -v on the command line by the setting that they stand for; a setting given beside them wins."""
    chosen = [_OPTIONS[word] for word in sys.argv[1:] if word in _OPTIONS]
    if not chosen:
        return
    words = [word for word in sys.argv[1:] if word not in _OPTIONS]
    if not any(word.startswith("run.verbosity=") for word in words):
        words.append(f"run.verbosity={chosen[-1]}")
    sys.argv[1:] = words
