"""The command lines that the README and the programs' help show."""

import importlib.resources
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals

from autodisp.config.reference import PROGRAMS
from tests.programs import composed

README = Path(__file__).parent.parent.parent / "README.md"
BY_NAME = {f"autodisp-{program}": program for program in PROGRAMS}


def of_readme(text: str | None = None) -> list[list[str]]:
    """Every line of its bash blocks, as a shell takes it apart, without its comment."""
    text = README.read_text(encoding="utf-8") if text is None else text
    blocks = re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return list(_commands("".join(blocks)))


def of_help(program: str) -> list[list[str]]:
    """The examples of its ``--help``."""
    kind = program.removeprefix("autodisp-")
    config = importlib.resources.files(f"autodisp.configs.{kind}") / f"{kind}.yaml"
    footer = yaml.safe_load(config.read_text(encoding="utf-8"))["hydra"]["help"]["footer"]
    return list(_commands(footer.partition("Examples:")[2].partition("\n\n")[0]))


def _commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def parse(words: list[str]) -> None:
    """Composes the config of a command line and holds it to the program's schema.

    Of a sweep (-m) the first two values of each setting count. Raises what the program would refuse the line for, or
    KeyError where there is no such program.
    """
    program = BY_NAME[words[0]]
    words = [word for word in words[1:] if not word.startswith("-")]
    setup_globals()  # the resolver ``now``
    for overrides in zip(*(islice(cycle(swept(word)), 2) for word in words), strict=True):
        import_module(f"autodisp.config.{program}").parse(composed(program, *overrides))


def swept(word: str) -> list[str]:
    """The first two of a setting's values, as words each; the word itself where it is not swept."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return [word]
    return [f"{override.key_or_group}={value}" for value in islice(override.sweep_string_iterator(), 2)]
