"""A relaxation of the user's own: the documented example searches, and what is wrong is said in one line."""

import os
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from autodisp.assembly.relaxation import build_relaxation
from autodisp.cells.architecture import Architecture
from autodisp.cells.genotype import load
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.cli.search import search
from autodisp.config.search import RelaxationConfig
from autodisp.errors import InputError, WrongSetting
from autodisp.search.relaxations import Relaxation
from tests.programs import composed
from tests.test_methods import CURVATURE, SHAPES

DOCS = Path(__file__).parents[1] / "docs" / "concepts.md"


def example(folder: Path) -> Path:
    """The documented class, in a file."""
    (code,) = re.findall(r"```python\n(\"\"\"sharpened.py.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(code.splitlines()) < 40
    file = folder / "sharpened.py"
    file.write_text(code, encoding="utf-8")
    return file


def opened(factory: str) -> Relaxation:
    return build_relaxation(RelaxationConfig(name="own", factory=factory))


def test_the_documented_relaxation_sharpens(tmp_path: Path) -> None:
    relaxation = opened(f"{example(tmp_path)}:Sharpened")
    architecture = Architecture(SPACES["s2"], scale=1.0)
    alphas = architecture.alphas["normal"].view(14, 2)
    torch.testing.assert_close(relaxation.mean(architecture)["normal"], torch.softmax(alphas, -1))
    late = relaxation.weights(architecture, "alphas", 0.5)["normal"]
    torch.testing.assert_close(late, torch.softmax(alphas / 0.55, -1))


@pytest.mark.slow
def test_it_searches_and_is_named_as_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example(tmp_path)
    monkeypatch.chdir(tmp_path)
    own = ["relaxation=own", "relaxation.factory=sharpened.py:Sharpened", "search.epochs=1", "search.steps_per_epoch=1"]
    own += ["optimizer.alphas.order=first"]
    folder = search(composed("search", "run.folder=run", "experiment=smoke", *SHAPES, *CURVATURE, *own))
    assert folder is not None
    assert load(folder / "genotype.json").provenance["relaxation"] == "own"
    kept = OmegaConf.load(folder / "config.yaml").relaxation.factory
    assert kept == f"{os.path.realpath(tmp_path)}/sharpened.py:Sharpened"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("class Other: pass", "has no class 'Mine'; write FILE.py:CLASS"),
        (
            "class Mine: moves_alphas = True",
            "has no weights, mean, penalty; see autodisp.search.relaxations.Relaxation",
        ),
        ("class Mine:\n    def __init__(self, x): pass", "constructing it raised TypeError"),
        (
            "import nothing_of_the_kind",
            "constructing it raised ModuleNotFoundError: No module named 'nothing_of_the_kind'",
        ),
        (
            "from autodisp.search.relaxations import Softmax\nclass Mine(Softmax): moves_alphas = False",
            "its moves_alphas is False, must be True; without alphas take relaxation=frozen",
        ),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(code: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code)
    with pytest.raises(WrongSetting, match=f"^relaxation.factory={file}:Mine: .*{re.escape(says)}"):
        opened(f"{file}:Mine")


def test_a_factory_names_file_and_class() -> None:
    with pytest.raises(InputError, match=r"relaxation\.factory=sharpened\.py: must be a file and a class in it"):
        RelaxationConfig(name="own", factory="sharpened.py")


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("return Mixture(tables)", "return tables", "weights returns .* must be a Mixture"),
        ("return Mixture(tables)", "pass", "weights returns None, must be a Mixture"),
        ("dim=-1)", "dim=-1)[:1]", r"weights returns {'normal': \(1, 2\), .* must be tables {'normal': \(14, 2\), "),
        ("dim=-1)", "dim=-1).detach()", "weights returns constant tables, must be differentiable in the alphas"),
        ("return None", "return 0.1", "penalty returns 0.1, must be a scalar tensor or None"),
    ],
)
def test_what_it_returns_is_checked(tmp_path: Path, right: str, wrong: str, line: str) -> None:
    file = example(tmp_path)
    file.write_text(file.read_text().replace(right, wrong))
    relaxation, architecture = opened(f"{file}:Sharpened"), Architecture(SPACES["s2"])
    with pytest.raises(InputError, match=rf"^relaxation\.factory={file}:Sharpened: {line}"):
        relaxation.weights(architecture, "alphas", 0.5), relaxation.penalty(architecture, 0.5)


def test_weights_of_operations_that_an_edge_lacks_are_refused(tmp_path: Path) -> None:
    """Those of its operations would not add up to 1, and entropies would be too large, without any sign of it."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom autodisp.cells.mixture import Mixture\nfrom autodisp.search.relaxations import Softmax\n"
        "class Mine(Softmax):\n"
        "    def mean(self, architecture):\n"
        "        tables = {k: architecture.table(k, a, 0.0) for k, a in architecture.alphas.items()}\n"
        "        return Mixture({kind: torch.softmax(table, -1) for kind, table in tables.items()})\n"
    )
    opened(f"{file}:Mine").mean(Architecture(SPACES["s2"]))  # two operations on each edge
    nodes = [[[0, ["skip_connect"]], [1, ["skip_connect", "sep_conv_3x3"]]]]
    data = {"name": "mine", "flavour": "darts", "cells": {"normal": {"keep": [2], "nodes": nodes}}}
    with pytest.raises(InputError, match="mean returns weights in columns that an edge lacks, must be 0 there, as"):
        opened(f"{file}:Mine").mean(Architecture(SearchSpace.from_json(data, file="space.json")))
