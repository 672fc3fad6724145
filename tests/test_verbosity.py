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
    ("program", "words", "becomes"),
    [
        ("search", ["seed=1"], ["seed=1"]),
        ("search", ["-q", "seed=1"], ["seed=1", "run.verbosity=quiet"]),
        ("search", ["seed=1", "--quiet"], ["seed=1", "run.verbosity=quiet"]),
        ("train", ["-v"], ["run.verbosity=verbose"]),
        ("train", ["-q", "--verbose"], ["run.verbosity=verbose"]),
        ("search", ["-q", "run.verbosity=normal"], ["run.verbosity=normal"]),
        ("search", ["--version"], ["--version"]),
        ("evaluate", ["-q"], ["run.verbosity=quiet"]),
        ("evaluate", ["-v"], ["-v"]),
        ("export", ["-q", "run=runs/a"], ["run=runs/a", "verbosity=quiet"]),
        ("study", ["-q"], ["-q"]),
    ],
)
def test_options_become_a_setting(
    program: str, words: list[str], becomes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["autodisp", *words])
    take_verbosity(program)
    assert sys.argv == ["autodisp", *becomes]


@pytest.mark.parametrize("program", [entry.search, entry.train, entry.evaluate, entry.predict, entry.check])
def test_programs_take_them(program: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", ["program", "-q"])
    monkeypatch.setattr(entry, "run_program", lambda *_: seen.append(sys.argv[1:]))
    program()
    assert seen == [["run.verbosity=quiet"]]


@pytest.mark.parametrize(
    ("words", "beginnings"),
    [
        (["evaluate", "baseline=constant", "dataset.limit=2", "out=a"], {"files:"}),
        (["check", "dataset=shapes3d", "dataset.length=2", "out=b"], set()),
        (["export", "genotype=autodispnet", "out=c"], {"next:"}),
    ],
)
def test_other_programs_print_their_results_alone(
    words: list[str], beginnings: set[str], call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for more in ([], ["-q"]):
        changed = [f"{word}{'_quiet' if more and word.startswith('out=') else ''}" for word in words]
        assert call(*changed, *more) == 0
        said.append({line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()})
    assert said[0] - said[1] == beginnings


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
