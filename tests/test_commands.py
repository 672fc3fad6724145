"""Printed commands: a shell and Hydra read the same path back, whatever a folder is called."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from autodisp.checkpoints import Checkpoints
from autodisp.cli.run_folder import claimed
from autodisp.cli.supervision import supervised_run
from autodisp.commands import command, existing_paths_quoted, setting
from autodisp.errors import InputError, Interrupted, WrongSetting
from autodisp.report.next_steps import (
    evaluation_command,
    next_commands,
    prediction_command,
    report_command,
    training_command,
)
from autodisp.report.reading import read_run
from autodisp.run_files import CHECKPOINTS
from autodisp.tasks.registry import KITS
from tests.made_runs import write_search

NAMES = [
    "lr=0.1,seed=1", "epoch=3", "od#d (1)", "#1", "a(b", "a)b", "[1]", "a]b", "{a}", "a}b", "a,b", "a;b", "a&b", "~",
    "~root", "a~b", "it's", "''", 'say "a"', "$HOME", "${x}", "\\${x}", "\\", "a\\'b\\\\", "-x", "a b", " a ", "größe",
    "日本", "null", "1e3", "true", "inf", "-1", "a!b", "`a`", "a|b>c", "%n", ":star:", "100%", "a*?", "@a",
]  # fmt: skip


def read_back(line: str) -> dict[str, Any]:
    """The settings of a command line as its program gets them."""
    found = {}
    for word in shlex.split(line)[1:]:
        override = OverridesParser.create().parse_override(word)
        found[override.key_or_group] = override.value()
    container = OmegaConf.to_container(OmegaConf.create(found), resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def printed(run: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, str, Path]]:
    """Commands of every module that prints some, with the setting that names the run or a file in it."""
    config = {"dataset": {"name": "own", "factory": f"{run}/rig.py:Rig", "root": str(run)}}
    best = run / "best.safetensors"
    yield report_command(run), "run", run
    yield training_command(config, run / "genotype.json"), "genotype", run / "genotype.json"
    yield training_command(config, run / "genotype.json"), "dataset.root", run
    yield evaluation_command(config, run), "checkpoint", best
    yield prediction_command(run, KITS["disparity"].prediction), "checkpoint", best
    for _, line in next_commands(read_run(run)):
        yield (line, "run", run) if "run" in read_back(line) else (line, "genotype", run / "genotype.json")
    with pytest.raises(SystemExit), supervised_run(run, memory=[]):
        raise Interrupted
    yield capsys.readouterr().err.split("resume with: ")[1].rstrip("\n"), "resume", run
    with pytest.raises(InputError) as caught, supervised_run(run, memory=[]):
        raise InputError("a file is damaged")
    yield str(caught.value).split("fixed, `")[1].rsplit("` starts", 1)[0], "resume", run
    (run / "checkpoints").mkdir()
    tree = OmegaConf.create({"run": {"folder": str(run)}})
    with pytest.raises(InputError) as caught, claimed(run, tree, resumes_with="autodisp-search"):
        raise AssertionError
    yield str(caught.value).split("resume it by `")[1].rsplit("`, or", 1)[0], "resume", run


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_command_names_the_folder(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["autodisp-search"])
    run = write_search(Path(name))
    for line, key, path in printed(run, capsys):
        value = read_back(line)[key]
        assert isinstance(value, str), line
        assert value == name if key == "dataset.root" else Path(value).expanduser().absolute() == path.absolute(), line


@given(st.text(st.sampled_from("a1e =#()[]{},;&~'\"$\\-+/.:@é`{}\\'${"), min_size=1, max_size=8))
def test_any_text_comes_back(text: str) -> None:
    assert read_back(command("p", ("key", text))) == {"key": text}
    assert read_back(command("p", ("key", [text, "b"]))) == {"key": [text, "b"]}


def test_other_values_keep_their_type() -> None:
    values = {"a": True, "b": None, "c": 3, "d": 1e-05, "e": [[0.5, 1], ["null", "x"]], "f": "true"}
    assert read_back(command("p", *values.items())) == values
    assert setting("key", [64, 128]) == "key=[64,128]"
    assert command("p", "a=b", ("run", Path("runs/2026-11-26_10-08"))) == "p a=b run=runs/2026-11-26_10-08"


def test_no_run_is_resumed_with_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(WrongSetting) as caught, supervised_run(tmp_path, memory=[]):
        raise WrongSetting("lower optimizer.learning_rate")
    assert str(caught.value) == "lower optimizer.learning_rate; a run keeps its settings: start another one with that"


def test_no_run_is_resumed_from_a_state_that_cannot_be_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / CHECKPOINTS)
    checkpoints.folder.mkdir()
    checkpoints.path(3).write_bytes(b"PK")
    with pytest.raises(InputError) as caught, supervised_run(tmp_path, memory=[]):
        checkpoints.newest(lambda line: None)
    assert str(caught.value).endswith("put one back from a copy, or start the run again in another folder")


def test_only_this_module_quotes() -> None:
    for folder in ("autodisp", "cells", "datasets", "benchmarks", "examples"):
        for path in (Path(__file__).parents[1] / folder).rglob("*.py"):
            assert path.name == "commands.py" or not re.search(r"\bshlex\b", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", ["3_space=s2,seed=1", "a b", "[1]", "${x}", "plain"])
def test_an_existing_path_may_be_typed_without_quotes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [f"run={name}", "seed=1,2", f"left='{name}'", "-q", "x=[1,2]"]
    assert existing_paths_quoted(words) == words, "nothing is there"
    Path(name).mkdir()
    first, *others = existing_paths_quoted(words)
    assert read_back(command("autodisp-report", first))["run"] == name
    assert others == words[1:]
