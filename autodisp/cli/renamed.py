"""Names of settings and choices that have changed since version 0.1: the old ones are taken, with a line on the new."""

import sys

_SETTINGS = {
    "predict": {"device": "run.device", "threads": "run.threads"},
    "evaluate": {"device": "run.device", "threads": "run.threads"},
    "check": {"workers": "run.workers"},
}
"""By program."""
_CHOICES = {"network": {"autodispnet_C": "autodispnet_large", "autodispnet_c": "autodispnet_small"}}
"""By group."""


def take_old_names(program: str) -> None:
    """Replaces old names on the command line, and says so on standard error.

    Args:
        program: its name without the prefix, such as predict.
    """
    for place, word in enumerate(sys.argv[1:], start=1):
        key, equals, value = word.partition("=")
        key = _SETTINGS.get(program, {}).get(key, key)
        value = ",".join(_CHOICES.get(key, {}).get(choice, choice) for choice in value.split(","))
        if (new := f"{key}{equals}{value}") != word:
            sys.argv[place] = new
            print(f"autodisp-{program}: {word} is written {new} now", file=sys.stderr)  # noqa: T201
