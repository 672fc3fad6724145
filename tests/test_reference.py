"""docs/config.md is what the schema says today, and lacks no setting."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from autodisp import configs
from autodisp.config.notes import read_notes
from autodisp.config.reference import PROGRAMS, main
from tests.programs import composed

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "config.md"
AT_LEAST_0 = "at least 0 and finite"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("docs") / "config.md"
    main([str(path)])
    return path.read_text(encoding="utf-8")


def rows(text: str) -> dict[str, list[str]]:
    """The tables of a part of the page: for each setting its cells."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            key, *cells = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            found[key.strip("`")] = cells
    return found


def section(text: str, program: str) -> str:
    return text.split(f"## autodisp-{program}\n")[1].split("\n## ")[0]


def test_committed_page_is_up_to_date(page: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == page, "run make docs"


def keys(tree: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in tree:
        inner = tree._get_node(name)
        if isinstance(inner, DictConfig) and not inner._is_none():
            yield from keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_setting_of_the_yaml_is_told(page: str, program: str) -> None:
    tree = composed(program)
    told = rows(section(page, program)).keys() | rows(section(page, "search")).keys()
    chosen = {f"{group}.name" for group in configs.groups(program)}  # by the choice of a group
    assert set(keys(tree)) - chosen <= told


@pytest.mark.slow
def test_every_setting_has_a_type_a_default_and_a_meaning(page: str) -> None:
    for program in PROGRAMS:
        for key, cells in rows(section(page, program)).items():
            kind, default, _, meaning = cells
            assert kind, key
            assert default != "``", key
            assert meaning, f"{program}: {key} has no comment in the YAML: write one"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "key", "kind", "default", "wanted"),
    [
        ("search", "seed", "whole number", "`0`", "at least 0 and below 2^32; 0 is usual"),
        ("search", "optimizer.alphas.order", "text", "`first`", "one of first, exact, finite_difference"),
        ("search", "regularization.delta", "whole number or null", "`null`", "at least 1, or null for the rule's own"),
        ("search", "curvature.tolerance", "number", "`0.001`", "between 0 and 1"),
        ("search", "optimizer.alphas.learning_rate", "number", "`0.003` (adamw); `0.0003` (sgd)", AT_LEAST_0),
        ("search", "plan", "true or false", "`false`", ""),
        ("train", "optimizer.name", "text", "`adamw`", "one of sgd, adam, adamw"),
        ("train", "task.auxiliary_weight", "number", "`0.4`", AT_LEAST_0),
        ("predict", "out", "text", "`predictions`", "a path to a folder for the predictions, such as predictions"),
    ],
)  # fmt: skip
def test_a_row_says_what_the_schema_says(
    page: str, program: str, key: str, kind: str, default: str, wanted: str
) -> None:
    assert rows(section(page, program))[key][:3] == [kind, default, wanted]


@pytest.mark.parametrize(
    ("text", "head", "settings"),
    [
        ("# What it is.\nname: a\n", "What it is.", {}),
        ("# @package _global_\n# Two\n# lines.\na: 1  # one\n", "Two lines.", {"a": "one"}),
        ("a:\n  b: 1   # of b\n  c:\n    d: [1, 2]  # of d\ne: x\n", "", {"a.b": "of b", "a.c.d": "of d"}),
        ("a: 1\nhydra:\n  b: 1  # none of ours\n", "", {}),
        ("a: runs/${now:%Y}_x   # with a # in it\n", "", {"a": "with a # in it"}),
    ],
)  # fmt: skip
def test_notes_of_a_yaml(text: str, head: str, settings: dict[str, str]) -> None:
    found = read_notes(text)
    assert (found.head, found.settings) == (head, settings)
