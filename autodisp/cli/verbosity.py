"""The options -q and -v of the long-running programs.

Hydra accepts settings and its own options only, so -q and -v are replaced by ``run.verbosity`` before it parses.
"""

import sys

_OPTIONS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}


def take_verbosity() -> None:
    """Replaces -q and -v on the command line by their setting; an explicit setting takes precedence."""
    chosen = [_OPTIONS[word] for word in sys.argv[1:] if word in _OPTIONS]
    if not chosen:
        return
    words = [word for word in sys.argv[1:] if word not in _OPTIONS]
    if not any(word.startswith("run.verbosity=") for word in words):
        words.append(f"run.verbosity={chosen[-1]}")
    sys.argv[1:] = words
