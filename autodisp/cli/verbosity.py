"""The options -q and -v of autodisp-search and autodisp-train.

Hydra accepts settings and its own options only, so -q and -v are replaced by ``run.verbosity`` before it parses.
"""

import sys

OPTIONS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}


def take_verbosity() -> None:
    """Replaces -q and -v on the command line by their setting; an explicit setting takes precedence."""
    chosen = [OPTIONS[word] for word in sys.argv[1:] if word in OPTIONS]
    if not chosen:
        return
    words = [word for word in sys.argv[1:] if word not in OPTIONS]
    if not any(word.startswith("run.verbosity=") for word in words):
        words.append(f"run.verbosity={chosen[-1]}")
    sys.argv[1:] = words
