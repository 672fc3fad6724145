"""Wrong settings of every program, each with the line it gets: the value, the constraint, the remedy; nothing is made.

They stand in wrong_settings, a file a program, and commands.txt for what Hydra refuses. A command line stands at the
margin, the line that it gets below it, or behind it where that begins with its last word; [...] is whatever comes
between. Programs as they are called, in a process of their own, are the matter of test_program.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from autodisp.config import predict
from autodisp.config.parsing import dotted
from autodisp.errors import InputError
from autodisp.prediction.outputs import CLASS_OUTPUTS, FLOW_OUTPUTS, OUTPUTS
from autodisp.tasks.registry import KITS
from tests.programs import composed

PROGRAMS = ("search", "train", "evaluate", "predict", "export", "report", "check", "study")
ENOUGH = {"evaluate": ["baseline=sgbm"], "predict": ["left=a"], "export": ["run=a"], "report": ["run=a"]}
"""What a program needs at least."""
BESIDES = {"search": ["run.folder=x"], "train": ["run.folder=x"], "evaluate": ["out=x"], "check": ["out=x"]}
"""Settings of a program that are drawn from the clock."""


def entries(name: str) -> Iterator[tuple[list[str], str]]:
    """The words of each command line, and the line that it gets."""
    table = (Path(__file__).parent / "wrong_settings" / f"{name}.txt").read_text(encoding="utf-8")
    for command, line in re.findall(r"^(\S.*)\n(?: +(.*)\n)?", table, re.MULTILINE):
        if not line:
            command, _, rest = command.partition(": ")
            (last,) = re.findall(r"(?:\S+=\[[^=]*|\S+)$", command)  # a list is shown with spaces
            line = f"{last}: {rest}"
            command = command.replace(", ", ",")
        words = [word.replace("NUL", "\0").replace("LONG", 300 * "a") for word in shlex.split(command)]
        yield [word for word in words if word != "NOTHING"], line.replace("SHOWN", 80 * "a")


SETTINGS = [(program, words, line) for program in PROGRAMS for words, line in entries(program)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs are called; whatever folder they would make is a failure at once, not a run."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / "damaged_study").mkdir()
    (tmp_path / "damaged_study" / "study.yaml").write_text("- 1\n")
    (tmp_path / "file").write_text("text")
    make = os.mkdir

    def refuse(path: str, *args: Any, **kwargs: Any) -> None:
        if not os.path.exists(path) and not os.path.isfile(os.path.dirname(path)):
            pytest.fail(f"made {path}")
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def assert_is(said: str, line: str) -> None:
    first, *others = line.split(" [...] ")
    assert said.startswith(first)
    assert said.endswith(others[0] if others else first)
    assert others or said == first
    assert "\n" not in said


@pytest.mark.parametrize(("program", "words", "line"), SETTINGS)
def test_a_wrong_setting_gets_its_line(
    program: str, words: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = composed(program, *BESIDES.get(program, []), *words)
    before = left_in(folder)
    with pytest.raises(InputError) as caught:
        getattr(import_module(f"autodisp.cli.{program}"), program)(tree, *([words] if program == "check" else []))
    assert_is(str(caught.value), line)
    assert capsys.readouterr() == ("", "")
    assert left_in(folder) == before


@pytest.mark.parametrize(("words", "line"), list(entries("commands")))
def test_what_hydra_refuses_gets_its_line(
    words: list[str], line: str, folder: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = left_in(folder)
    assert call(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("\n")
    assert_is(said.err[:-1], f"autodisp-{words[0]}: {line}")
    assert left_in(folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("program", ["search", "train", "evaluate", "predict"])
def test_a_device_that_is_not_there(
    program: str, folder: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(program, *ENOUGH.get(program, []), "run.device=cuda") == 2
    says = f"autodisp-{program}: run.device=cuda: this machine has no usable GPU; take run.device=cpu or auto\n"
    assert capsys.readouterr().err == says


VARIANTS = [
    *((program, ENOUGH.get(program, [])) for program in PROGRAMS),
    ("search", ["dataset=flyingthings3d", "regularization=ada", "optimizer=sgd"]),
    ("search", ["dataset=kitti2015"]),
    ("search", ["task=segmentation", "dataset=voc"]),
    ("train", ["task=classification"]),
    ("evaluate", ["baseline=sgbm", "dataset=middlebury2006"]),
]


def variant(program: str, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """The settings of a variant, and the keys of the sections in which it differs from the program's defaults."""
    tree, plain = (
        composed(program, *BESIDES.get(program, []), *words) for words in (overrides, ENOUGH.get(program, []))
    )
    changed = [name for name in tree if tree == plain or tree[name] != plain[name]]
    return tree, [key for key in dotted(tree) if key.partition(".")[0] in changed]


def parse(program: str, tree: DictConfig) -> None:
    import_module(f"autodisp.config.{program}").parse(tree)


def refused(program: str, tree: DictConfig, key: str, value: object) -> str:
    """The line that a setting of that value gets."""
    before = OmegaConf.select(tree, key)
    OmegaConf.update(tree, key, value, merge=False)
    with pytest.raises(InputError) as caught:
        parse(program, tree)
    OmegaConf.update(tree, key, before, merge=False)
    return str(caught.value)


@pytest.mark.parametrize(("program", "overrides"), VARIANTS, ids=str)
def test_no_setting_takes_a_section_or_a_list_of_sections(program: str, overrides: list[str]) -> None:
    tree, keys = variant(program, overrides)
    parse(program, tree)
    leaves = [key for key in keys if not isinstance(OmegaConf.select(tree, key), DictConfig)]
    assert len(leaves) >= 7
    for key in leaves:
        for value in ({"a": 1}, [{"a": 1}]):
            line = refused(program, tree, key, value)
            assert line.startswith((f"{key}=", f"{key.removesuffix('.name')}="))
            assert "must be" in line
            assert "\n" not in line


@pytest.mark.parametrize(("program", "overrides"), VARIANTS, ids=str)
@pytest.mark.parametrize("value", [float("nan"), -1e30, -1, "x", 10**20])
def test_no_number_takes_what_cannot_be_meant(program: str, overrides: list[str], value: float | str) -> None:
    tree, keys = variant(program, overrides)
    numbers = [key for key in keys if type(OmegaConf.select(tree, key)) in (int, float)]
    for key in numbers:
        is_float = (
            isinstance(OmegaConf.select(tree, key), float) or key == "timeout"
        )  # of which the YAML has a whole one
        as_large_as_you_like = is_float and value == 10**20
        if as_large_as_you_like or (key == "doffs" and value != "x" and value == value):
            continue
        line = refused(program, tree, key, value)
        assert key in line
        assert "\n" not in line


def test_the_outputs_are_those_that_can_be_written() -> None:
    assert set(predict.OUTPUTS) == {*OUTPUTS, *CLASS_OUTPUTS, *FLOW_OUTPUTS}
    for task, outputs in (("disparity", OUTPUTS), ("segmentation", CLASS_OUTPUTS), ("flow", FLOW_OUTPUTS)):
        prediction = KITS[task].prediction
        assert prediction is not None
        assert prediction.outputs is outputs
