"""The documents agree with the code: links lead somewhere, commands and settings exist, examples are read."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import autodisp
from autodisp.cells.genotype import zoo_names
from autodisp.cells.spaces import SearchSpace
from autodisp.cli.resuming import FREE
from autodisp.datasets.disparity_png import write_disparity_png
from autodisp.records import JsonLines
from tests.readme.commands import parse

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                yield page, target


@pytest.mark.parametrize(
    ("page", "target"), [pytest.param(*link, id=f"{link[0].name}-{link[1]}") for link in sorted(set(links()))]
)
def test_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    there = page.parent / path if path else page
    assert there.exists()
    assert not anchor or anchor in anchors(there)


def test_the_reader_of_ground_truth_in_data_md(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "disparity").mkdir()
    stored = torch.tensor([[[0.5, 3.25, torch.nan]]])
    write_disparity_png(tmp_path / "disparity/0001.png", stored)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["disparity"].tolist() == [[[0.5, 3.25, 0.0]]]
    assert found["valid"].tolist() == [[[True, True, False]]]


def commands() -> Iterator[str]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^    (autodisp-.*)$", text, flags=re.MULTILINE)
        yield from (*blocks, *re.findall(r"`(autodisp-\w+ [^`]*)`", text))


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_command_is_understood(command: str) -> None:
    parse([re.sub(r"=(.*\*.*)", r"='\1'", word) for word in shlex.split(command)])


def test_settings_that_are_mentioned_exist() -> None:
    known = set(
        re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "config.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    sections = {key.split(".")[0] for key in known if "." in key}
    for page in PAGES:
        for words in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
            for key in re.findall(r"(?<![\w./])(\w+(?:\.\w+)+)(?==|$)", words):
                is_file = key.endswith((".json", ".yaml", ".md", ".gif", ".mp4"))
                assert key.split(".")[0] not in sections or key in known or is_file, f"{page.name}: {key}"


def examples(heading: str) -> list[str]:
    """The indented blocks under a heading of files.md."""
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    under = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", under, re.MULTILINE)
    ]


def test_example_of_a_space_is_one() -> None:
    (example,) = examples("Spaces")
    space = SearchSpace.from_json(json.loads(example), file="files.md")
    assert space.to_json() == json.loads(example)


def test_example_of_a_metrics_record_is_what_is_written(tmp_path: Path) -> None:
    JsonLines(tmp_path / "metrics.jsonl").append({"eigenvalue": float("nan")})
    assert f"`{(tmp_path / 'metrics.jsonl').read_text().strip()}`" in (ROOT / "docs" / "files.md").read_text()


def test_what_may_differ_in_a_resumed_run_is_named() -> None:
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    sentence = text.split("its config: only ")[1].split(" may differ")[0]
    assert set(re.findall(r"`([\w.]+)`", sentence)) == set(FREE) - {"resume"}


def test_zoo_is_named() -> None:
    assert f"({', '.join(f'`{name}`' for name in zoo_names())})" in (ROOT / "docs" / "files.md").read_text()


def test_contributing_names_every_target_and_fits_on_a_screen() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([\w-]+)", text))
    assert {"test", "lint", "format", "docs", "fuzz", "crash-test", "browser-test", "bench"} <= named <= targets
    assert len(text.splitlines()) <= 50


def citation() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return loaded


def test_citation_has_what_the_format_demands() -> None:
    found = citation()
    assert {"cff-version", "message", "title", "authors"} <= found.keys()
    assert (found["cff-version"], found["type"]) == ("1.2.0", "software")
    for work in (found, *found["references"]):
        assert work["authors"]
        for author in work["authors"]:
            assert author.keys() in ({"name"}, {"family-names", "given-names"})
    for work in found["references"]:
        assert {"type", "title", "authors", "year", "conference"} <= work.keys()


def test_citation_is_of_this_version_and_of_the_papers() -> None:
    found, project = citation(), tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (found["version"], found["license"]) == (project["version"], project["license"])
    assert found["version"] == autodisp.__version__
    works = {
        (work["authors"][0]["family-names"], work["title"].split(":")[0], work["year"]) for work in found["references"]
    }
    assert works == {
        ("Zela", "Understanding and Robustifying Differentiable Architecture Search", 2020),
        ("Saikia", "AutoDispNet", 2019),
        ("Liu", "DARTS", 2019),
    }


def test_changelog_is_in_order() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert releases[0] == "[Unreleased]"
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"
    }  # fmt: skip


def test_no_equation_or_section_is_cited_by_number() -> None:
    """A number recalled without the paper at hand is worse than none."""
    numbered = re.compile(r"\b(?:equations?|eqs?\.|sections?|chapters?)\s+\d", re.IGNORECASE)
    cited = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for folder in ("autodisp", "cells", "datasets", "benchmarks", "docs")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".yaml") and (found := numbered.search(path.read_text(encoding="utf-8")))
    ]
    assert cited == []
