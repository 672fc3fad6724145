"""Accepts old names of settings and choices on the command line, with a message about the new names."""

import sys

from autodisp.config.renamed import CHOICES, EVERYWHERE, SETTINGS


def take_old_names(program: str) -> None:
    """Replaces old names on the command line, and reports each on standard error."""
    settings = {**EVERYWHERE, **SETTINGS.get(program, {})}
    for place, word in enumerate(sys.argv[1:], start=1):
        key, equals, value = word.partition("=")
        bare = key.lstrip("+~")
        key = key.removesuffix(bare) + settings.get(bare, bare)
        value = ",".join(CHOICES.get(key, {}).get(choice, choice) for choice in value.split(","))
        if (new := f"{key}{equals}{value}") != word:
            sys.argv[place] = new
            print(f"autodisp-{program}: {word} is now {new}", file=sys.stderr)  # noqa: T201
