"""-q and -v: what Hydra is given, and what a search then says."""

import sys
from collections.abc import Callable

import pytest
import torch

from autodisp.cli import entry
from autodisp.cli.verbosity import take_verbosity

SMALL = [
    "experiment=smoke", "search.epochs=1", "search.steps_per_epoch=2", "search.batch_size=1", "dataset.length=8",
    "dataset.height=64", "dataset.width=64", "dataset.max_disparity=16", "optimizer.alphas.order=first",
    "regularization=none", "curvature.tolerance=0.3", "run.folder=found", "run.workers=0",
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "becomes"),
    [
        (["seed=1"], ["seed=1"]),
        (["-q", "seed=1"], ["seed=1", "run.verbosity=quiet"]),
        (["seed=1", "--quiet"], ["seed=1", "run.verbosity=quiet"]),
        (["-v"], ["run.verbosity=verbose"]),
        (["-q", "--verbose"], ["run.verbosity=verbose"]),
        (["-q", "run.verbosity=normal"], ["run.verbosity=normal"]),
        (["--version"], ["--version"]),
    ],
)
def test_options_become_a_setting(words: list[str], becomes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["autodisp-search", *words])
    take_verbosity()
    assert sys.argv == ["autodisp-search", *becomes]


@pytest.mark.parametrize("program", [entry.search, entry.train])
def test_both_long_programs_take_them(program: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["program", "-q"])
    monkeypatch.setattr(entry, "run_program", lambda *_: seen.append(sys.argv[1:]))
    program()
    assert seen == [["run.verbosity=quiet"]]


@pytest.mark.slow
def test_a_quiet_search_prints_its_summary_alone(
    call: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    assert call("search", "-q", *SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "search of disparity on shapes3d"
    assert lines[-2].startswith("next:  autodisp-train ")
    assert lines[-1] == "experiment=smoke: the data works: each part of a search ran on it"
    assert not any(line.startswith(("epoch", "run folder")) for line in lines)
    assert call("search", "resume=found") == 0
    assert capsys.readouterr().out.startswith("run folder: found")
