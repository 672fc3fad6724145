"""Names from archives, JSON files and folders of strangers: none leads out of the folder that is written to."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autodisp.assembly.export import build_found, build_out
from autodisp.atomic import staged
from autodisp.cells.genotype import from_json, load
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.cli.program import explain
from autodisp.config.checks import need_path
from autodisp.config.export import ExportConfig
from autodisp.errors import InputError
from autodisp.prediction.outputs import PredictionWriter

SIZE = (4, 6)
OUTSIDE = ["../x", "..", ".", "", "/x", "a/../../x", "a/..", "../out/../x", "a\0b", "./..", "//x"]
ODD = ["a\nb", "c:d*?", ".hidden", "a b", "-rf", "é", "...", "a\x1b[2Jb", "con", "a\\b", "~", "$(x)"]


def settings(**given: Any) -> ExportConfig:
    nothing: dict[str, Any] = {
        "run": None, "checkpoint": None, "genotype": None, "space_file": None, "format": None, "out": None,
        "overwrite": False, "threads": None,
    }  # fmt: skip
    return ExportConfig(**{**nothing, **given})


def write(writer: PredictionWriter, name: str) -> list[Path]:
    return writer.write(name, np.ones(SIZE, np.float32), torch.zeros(3, *SIZE)).files


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_prediction_stays_below_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="it must be a path below the folder"):
        write(PredictionWriter(tmp_path / "out", ["pfm"]), name)
    assert below(tmp_path) == set()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_is_a_name(tmp_path: Path, name: str) -> None:
    assert write(PredictionWriter(tmp_path / "out", ["pfm"]), name) == [tmp_path / "out" / f"{name}-disparity.pfm"]
    assert below(tmp_path) == {"out", f"out/{name}-disparity.pfm"}


def test_a_linked_folder_among_the_predictions_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to("../elsewhere")
    with pytest.raises(InputError, match=r"a/b-disparity\.pfm: a link leads out of"):
        write(PredictionWriter(tmp_path / "out", ["pfm"], overwrite=True), "a/b")
    assert below(tmp_path / "elsewhere") == set()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    write(PredictionWriter(tmp_path / "out", ["pfm"]), "a/b")
    assert below(tmp_path / "disk") == {"a", "a/b-disparity.pfm"}


def test_a_linked_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out" / "a-disparity.pfm").symlink_to("../precious")
    write(PredictionWriter(tmp_path / "out", ["pfm"], overwrite=True), "a")
    assert (tmp_path / "precious").read_text() == "kept"
    assert not (tmp_path / "out" / "a-disparity.pfm").is_symlink()


@pytest.mark.parametrize("kind", ["../x", "/x", "normal/../../x", "normal\0", "normal\n", "", ".", "NORMAL"])
def test_a_kind_of_cell_is_one_of_ours(kind: str) -> None:
    data = load("darts_v2").to_json()
    data["cells"][kind] = data["cells"].pop("normal")
    with pytest.raises(InputError) as caught:
        from_json(data, origin="genotype.json")
    assert explain(caught.value).startswith("genotype.json: cell kind '")


@pytest.mark.parametrize("name", ["../../x", "/x", "a\nb", ".."])
def test_the_name_of_a_space_is_no_name_of_a_file(tmp_path: Path, name: str) -> None:
    space = {**SPACES["tiny81"].to_json(), "name": name}
    (tmp_path / "space.json").write_text(json.dumps(space))
    genotype = {**load("darts_v2").to_json(), "space": name}
    genotype["cells"] = {
        kind: [[list(choice) for choice in node] for node in nodes]
        for kind, nodes in SearchSpace.load(tmp_path / "space.json").sample(0).items()
    }
    (tmp_path / "genotype.json").write_text(json.dumps(genotype))
    config = settings(genotype=str(tmp_path / "genotype.json"), space_file=str(tmp_path / "space.json"))
    found = build_found(config)
    with staged(build_out(config)) as stage:
        found.write(stage)
    made = {"genotype.json", "space.json", "cells.svg", "cells.png"}
    assert below(tmp_path) == {"space.json", "genotype.json", "export", *(f"export/{file}" for file in made)}


def test_an_export_does_not_follow_a_link_in_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "export").symlink_to("../elsewhere")
    with pytest.raises(InputError, match=r"run/export: is a link to .*elsewhere; name a folder .* out="):
        build_out(settings(run=str(tmp_path / "run")))
    assert build_out(settings(run=str(tmp_path / "run"), out=str(tmp_path / "elsewhere"))) == tmp_path / "elsewhere"


def test_an_export_replaces_a_linked_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "out" / "genotype.json").symlink_to("../precious")
    with staged(tmp_path / "out") as stage:
        (stage / "genotype.json").write_text("new")
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "out" / "genotype.json").read_text() == "new"


def test_a_folder_in_the_way_of_an_export_is_said(tmp_path: Path) -> None:
    (tmp_path / "out" / "genotype.json").mkdir(parents=True)
    with (
        pytest.raises(InputError, match=r"genotype\.json: cannot be replaced \(Is a directory\)"),
        staged(tmp_path / "out") as stage,
    ):
        (stage / "genotype.json").write_text("new")
    assert below(tmp_path / "out") == {"genotype.json"}


@pytest.mark.parametrize("name", ["", " ", "a\0b", "a\nb", "a\x1bb", "a\x7fb", 256 * "a", f"a/{128 * 'é'}/b"])
def test_what_can_be_no_path_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^run\.folder=.*a path to a folder$") as caught:
        need_path("run.folder", name, what="a folder")
    assert explain(caught.value).isprintable()


@pytest.mark.parametrize("name", [None, "../x", "/x", "~/x", "a b", "a\u00a0b", "é", "\udc80", 255 * "a", "a/" * 400])
def test_what_can_be_a_path_passes(name: str | None) -> None:
    need_path("run.folder", name, what="a folder")


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\rb", "a\u2028b", "a\udc80b"])
def test_what_goes_to_the_terminal_is_text(text: str) -> None:
    line = explain(InputError(f"{text}: no such file"))
    assert line.isprintable()
    assert line.startswith("a\\")
    assert os.linesep not in line
