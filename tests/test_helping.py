"""The help of a program: each setting with its meaning and unit."""

from collections.abc import Callable

import pytest

from autodisp.cli.helping import with_meanings


def test_settings_get_their_meaning_and_nothing_else_does() -> None:
    page = "a: 1\nSettings (key=value):\n\na: 1\nb:\n  a: [2, 3]\n  c: null\n- 3\nd: x\nExamples:\na: 1\n"
    said = with_meanings(page, {"a": "pixels", "b.a": "metres", "b.d": "seconds"})
    assert said == page.replace("\n\na: 1\n", f"\n\n{'a: 1':<26}  # pixels\n").replace(
        "  a: [2, 3]\n", f"{'  a: [2, 3]':<26}  # metres\n"
    )
    assert with_meanings("no page at all", {"a": "pixels"}) == "no page at all"


def test_help_lists_the_groups_that_programs_share(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("check", "--help") == 0
    page = capsys.readouterr().out
    assert "(group=choice):\n\ndataset: cifar10, cifar100, cityscapes, flyingthings3d, flyingthings3d_flow," in page
    assert "sintel, sintel_flow, svhn, voc\ntask: own\n\nSettings" in page


def test_help_tells_units(call: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("predict", "--help") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "focal: null # pixels; with baseline= for depth and point clouds", "baseline: null # metres",
        "device: auto # auto (a GPU if available), cpu, cuda, cuda:1",
        "docs/config.md lists all settings with their units and limits.",
    ):  # fmt: skip
        assert line in lines
