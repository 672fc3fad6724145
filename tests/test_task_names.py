"""Outside tasks/ and datasets/ no code names a task, nor asks which class something of a task is."""

import ast
from pathlib import Path

import pytest

from autodisp.tasks.kit import TaskKit
from autodisp.tasks.registry import KITS

ROOT = Path(__file__).parent.parent / "autodisp"
OWN_PLACE = ("tasks", "datasets", "cells", "configs")
PUBLISHED_THRESHOLDS = ROOT / "evaluation" / "stereo_metrics.py"
"""The metric of stereo, which only the kit imports, shares the thresholds of bad-n and D1 with the task."""
NAMES = frozenset(name for kit in KITS.values() for name in (kit.name, *kit.networks, *kit.datasets)) - {"own"}
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in OWN_PLACE]


def naming(source: str) -> list[str]:
    """Lines that compare, look up or import a task, a network or a dataset by its name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
            found.append(f"{node.lineno}: {node.value!r}")
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = node.module.split(".")
            if parts[:2] == ["autodisp", "tasks"] and len(parts) > 2 and parts[2] in NAMES:
                found.append(f"{node.lineno}: {node.module}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[path.relative_to(ROOT).as_posix() for path in FILES])
def test_no_code_names_a_task(path: Path) -> None:
    assert path == PUBLISHED_THRESHOLDS or naming(path.read_text(encoding="utf-8")) == []


def test_what_the_search_for_names_finds() -> None:
    assert naming('if task.name == "disparity":\n    pass') == ["1: 'disparity'"]
    assert naming('x = {"cifar10": 1}') == ["1: 'cifar10'"]
    assert naming("from autodisp.tasks.classification import ClassificationTask") == [
        "1: autodisp.tasks.classification"
    ]
    assert naming('"""Of disparity."""\nfrom autodisp.tasks.registry import KITS') == []


@pytest.mark.parametrize("kit", KITS.values(), ids=list(KITS))
def test_a_kit_and_its_task_agree(kit: TaskKit) -> None:
    assert kit.name == kit.task.name
    assert kit.name in kit.networks
    assert all("train" in entry.splits for entry in kit.datasets.values())
    assert kit.inherited == tuple(kit.missing)
