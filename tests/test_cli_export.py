"""autodisp-export from its config to its exit codes; the files themselves have tests of their own."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from autodisp.assembly.export import build_out
from autodisp.cells.genotype import Genotype, load
from autodisp.cells.spaces import SPACES
from autodisp.cli import export as program
from autodisp.config.export import parse
from autodisp.errors import InputError
from autodisp.export import models
from autodisp.tasks.classification import ClassificationTask
from tests.made_models import write_model
from tests.programs import composed

SPACE = SPACES["autodispnet"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a search that is going."""
    folder = tmp_path / "a run"
    (folder / "genotypes").mkdir(parents=True)
    Genotype(SPACE.name, SPACE.sample(1)).save(folder / "genotypes" / "epoch_0003.json")
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    task = ClassificationTask(channels=2, layers=3, classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    (tmp_path / "training").mkdir()
    return write_model(tmp_path / "training" / "best.safetensors", task, "darts_v2")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_gives_cells_in_words_files_and_the_next_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = program.export(composed("export", f"run='{run}'"))
    assert folder == run / "export"
    assert files(folder) == ["cells.png", "cells.svg", "genotype.json"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("note: the search has not come to its end: these are the cells after epoch 3 ")
    assert "\n".join(lines[1:4]) == load(folder / "genotype.json").in_words()
    assert lines[-2] == f"files: {folder}/ (genotype.json, cells.svg, cells.png)"
    assert shlex.split(lines[-1]) == ["next:", "autodisp-train", f"genotype={folder}/genotype.json"]


def test_cells_of_a_run_are_trained_on_its_data(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "config.yaml").write_text("task: {name: disparity}\ndataset: {name: flyingthings3d, root: /my data}\n")
    program.export(composed("export", f"run='{run}'"))
    assert shlex.split(capsys.readouterr().out.splitlines()[-1]) == [
        "next:", "autodisp-train", "dataset=flyingthings3d", "dataset.root=/my data",
        f"genotype={run}/export/genotype.json",
    ]  # fmt: skip


def test_cells_for_images_are_trained_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    program.export(composed("export", "genotype=darts_v2"))
    assert files(tmp_path) == [f"export/darts_v2/{name}" for name in ("cells.png", "cells.svg", "genotype.json")]
    command = "next:  autodisp-train task=classification dataset.root=PATH genotype=export/darts_v2/genotype.json"
    assert capsys.readouterr().out.splitlines()[-1] == command


def test_files_are_replaced_only_where_asked(run: Path) -> None:
    tree = composed("export", f"run='{run}'")
    program.export(tree)
    (run / "export" / "cells.svg").write_text("mine")
    with pytest.raises(InputError, match=r"genotype\.json: exists already; take another folder with out="):
        program.export(tree)
    assert (run / "export" / "cells.svg").read_text() == "mine"
    program.export(composed("export", f"run='{run}'", "overwrite=true"))
    assert (run / "export" / "cells.svg").read_text() != "mine"


@pytest.mark.slow
def test_a_checkpoint_gives_a_file_and_lines_that_run_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = program.export(
        composed("export", f"checkpoint={checkpoint}", "format=pt2", f"out={tmp_path / 'out'}", "threads=1")
    )
    assert files(folder) == ["best.pt2"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{checkpoint}: classification, ")
    assert lines[1].startswith(f"{folder}/best.pt2: ")
    assert "from PyTorch on random images of " in lines[1]
    assert lines[2:4] == [
        "    import imageio.v3 as imageio, torch",
        f"    program = torch.export.load('{folder}/best.pt2').module()",
    ]


def test_a_file_in_the_place_of_the_folder_is_refused_first(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match=r"^out=.*taken: cannot be used \(File exists\); take another folder$"):
        program.export(composed("export", f"checkpoint={checkpoint}", "format=pt2", f"out={tmp_path / 'taken'}"))
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        (["run=runs/a"], "runs/a/export"),
        (["checkpoint=runs/b/best.safetensors"], "runs/b/export"),
        (["genotype=runs/a/genotype.json"], "runs/a/export"),
        (["genotype=autodispnet"], "export/autodispnet"),
        (["genotype=autodispnet", "out=here"], "here"),
        (["run='~/a'"], "HOME/a/export"),
        (["run=a", "out='~/b'"], "HOME/b"),
    ],
)
def test_where_files_go(overrides: list[str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "HOME")
    assert build_out(parse(composed("export", *overrides))) == Path(folder)


@pytest.mark.parametrize(
    ("format", "formats"), [("null", ("onnx", "pt2")), ("pt2", ("pt2",)), ("[pt2,onnx]", ("pt2", "onnx"))]
)
def test_formats(format: str, formats: tuple[str, ...]) -> None:
    assert parse(composed("export", "checkpoint=a", f"format={format}")).formats == formats


@pytest.mark.slow
def test_exit_codes(
    checkpoint: Path,
    run: Path,
    tmp_path: Path,
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("export", f"run='{run}'", "out=cells") == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(models, "TOLERANCE", -1.0)
    assert call("export", f"checkpoint={checkpoint}", "format=[pt2]", "out=models") == 1
    message = capsys.readouterr().err
    assert message.startswith("autodisp-export: models/best.pt2: would differ from PyTorch by ")
    assert message.count("\n") == 1
    assert not (tmp_path / "models").exists()
