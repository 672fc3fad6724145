"""The options -q and -v.

Hydra accepts settings and its own options only, so they are replaced by a setting before it parses.
"""

import sys

OPTIONS = {"-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose"}
TAKEN_BY = {"quiet": ("search", "train", "evaluate", "predict", "check", "export"), "verbose": ("search", "train")}
"""The programs that have each of the two values."""


def take_verbosity(program: str) -> None:
    """Replaces those that the program has on the command line by its setting; an explicit setting takes precedence."""
    known = {option: value for option, value in OPTIONS.items() if program in TAKEN_BY[value]}
    chosen = [known[word] for word in sys.argv[1:] if word in known]
    if not chosen:
        return
    key = "verbosity" if program == "export" else "run.verbosity"
    words = [word for word in sys.argv[1:] if word not in known]
    if not any(word.startswith(f"{key}=") for word in words):
        words.append(f"{key}={chosen[-1]}")
    sys.argv[1:] = words
