"""The README: short, its links and pictures there, its command lines such as the programs take; so for each help."""

import importlib.resources
import re
import shlex
from pathlib import Path

import pytest
import yaml

from autodisp.errors import InputError
from tests.readme.commands import BY_NAME, README, of_help, of_readme, parse

ROOT = README.parent
LINES = of_readme()
OPTIONS = {"--help", "-m", "-q", "-v"}
EXAMPLES = [(program, words) for program in BY_NAME for words in of_help(program)]


@pytest.mark.parametrize("words", LINES, ids=shlex.join)
def test_each_command_is_one_that_a_program_takes(words: list[str]) -> None:
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(words[1:]) <= set(targets)
        return
    assert {word for word in words if word.startswith("-")} <= OPTIONS
    parse(words)


@pytest.mark.parametrize(("program", "words"), EXAMPLES, ids=[shlex.join(words) for _, words in EXAMPLES])
def test_each_example_of_a_help_is_one_that_a_program_takes(program: str, words: list[str]) -> None:
    assert words[0] in BY_NAME
    assert {word for word in words if word.startswith("-")} <= OPTIONS
    parse(words)


@pytest.mark.parametrize("program", BY_NAME)
def test_each_help_names_the_reference(program: str) -> None:
    kind = program.removeprefix("autodisp-")
    config = importlib.resources.files(f"autodisp.configs.{kind}") / f"{kind}.yaml"
    assert "docs/config.md" in yaml.safe_load(config.read_text(encoding="utf-8"))["hydra"]["help"]["footer"]


@pytest.mark.parametrize("program", BY_NAME)
def test_each_help_has_five_examples(program: str) -> None:
    assert sum(words[0] == program for words in of_help(program)) >= 5


@pytest.mark.parametrize(
    "line",
    ["autodisp-search dataset=cifar10", "autodisp-train training.steps=-1", "autodisp-export checkpoint=a run=b"],
)
def test_what_a_program_would_refuse_is_found(line: str) -> None:
    with pytest.raises(InputError):
        parse(line.split())


def test_all_programs_are_shown() -> None:
    assert {words[0] for words in LINES} >= set(BY_NAME)


def test_completion_is_installed_for_all_programs() -> None:
    [first, others] = re.findall(
        r"`eval \"\$\((autodisp-\w+) -sc install=bash\) autodisp-\{(.*)\}\"`", README.read_text(encoding="utf-8")
    )[0]
    assert {first, *(f"autodisp-{name}" for name in others.split(","))} == set(BY_NAME)


def test_commands_are_read_as_a_shell_reads_them() -> None:
    text = "```bash\na b='c d'   # why\n\ne \\\n  f\n```\ntext\n```text\nnot this\n```\n"
    assert of_readme(text) == [["a", "b=c d"], ["e", "f"]]


def test_it_is_short_and_its_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 250
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert len(targets) > 8
    assert [target for target in targets if not (ROOT / target).is_file()] == []


def test_its_pictures_are_small() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(pictures) == 2
    assert all(Path(ROOT / picture).stat().st_size < 200_000 for picture in pictures)
