"""A short crash test: a search with roll-backs, killed and resumed; `make crash-test` is the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_killed_searches_end_like_those_left_alone(tmp_path: Path) -> None:
    words = ["--kills", "2", "--tasks", "classification", "--policies", "ada", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.crashing", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all ended bit for bit as the ones left alone" in done.stdout
    assert " 2 kills" in done.stdout
    assert " 0 in a roll-back" not in done.stdout
