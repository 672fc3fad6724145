"""Old names on the command line: taken, with a line on the new one."""

import sys

import pytest

from autodisp.cli.renamed import take_old_names
from tests.readme.commands import parse


@pytest.mark.parametrize(
    ("program", "words", "becomes"),
    [
        ("predict", ["left=a.png", "threads=1", "device=cpu"], ["left=a.png", "run.threads=1", "run.device=cpu"]),
        ("evaluate", ["threads=1", "baseline=sgbm"], ["run.threads=1", "baseline=sgbm"]),
        ("check", ["workers=2"], ["run.workers=2"]),
        ("train", ["network=autodispnet_C"], ["network=autodispnet_large"]),
        ("search", ["run.threads=1", "network=autodispnet_c"], ["run.threads=1", "network=autodispnet_small"]),
        ("search", ["-m", "network=disparity,autodispnet_C", "seed=1"], None),
        ("search", ["curvature.weight_decay=true"], ["curvature.with_weight_decay=true"]),
        ("check", ["dataset=flyingthings3d", "++dataset.excluded=a"],
         ["dataset=flyingthings3d", "++dataset.official_exclusions=a"]),
        ("export", ["genotype=darts_v2", "threads=1"], ["genotype=darts_v2", "threads=1"]),
    ],
)  # fmt: skip
def test_old_names(
    program: str,
    words: list[str],
    becomes: list[str] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    becomes = becomes or ["-m", "network=disparity,autodispnet_large", "seed=1"]
    monkeypatch.setattr(sys, "argv", [program, *words])
    take_old_names(program)
    assert sys.argv[1:] == becomes
    said = [f"autodisp-{program}: {old} is now {new}" for old, new in zip(words, becomes, strict=True) if old != new]
    assert capsys.readouterr().err.splitlines() == said
    parse([f"autodisp-{program}", *becomes])
