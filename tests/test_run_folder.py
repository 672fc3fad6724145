"""The claim on the folder of a run, an evaluation or a check."""

from pathlib import Path

import pytest
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from autodisp import run_lock
from autodisp.cli import evaluate as program
from autodisp.cli.run_folder import claimed
from autodisp.errors import InputError
from autodisp.run_lock import LOCK
from tests.programs import composed


def named(folder: Path) -> DictConfig:
    return OmegaConf.create({"out": str(folder)})


def test_what_a_dead_process_left_of_its_claim_is_no_content(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 7 on another-machine\n")
    with claimed(tmp_path, named(tmp_path), key="out"):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("locks", [True, False])
def test_of_two_claims_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    """Also in one process, and where the file system has no locks."""
    if not locks:
        monkeypatch.setattr(run_lock, "fcntl", None)
    folder = tmp_path / "run"
    with claimed(folder, named(folder), key="out"):
        second = claimed(folder, named(folder), key="out")
        with pytest.raises(InputError, match=r"^out=.*run: another run has claimed it"), second:
            pass
        assert (folder / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_empty_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, kept in (("new/and/deep", False), ("there", True)):
        with pytest.raises(ZeroDivisionError), claimed(tmp_path / name, named(tmp_path / name), key="out"):
            raise ZeroDivisionError
        assert (tmp_path / name).is_dir() == kept
    with claimed(tmp_path / "run", named(tmp_path / "run"), key="out") as folder:
        (folder / "metrics.jsonl").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "there"]


def test_names_of_one_second_are_numbered(tmp_path: Path) -> None:
    setup_globals()
    base = tmp_path / "2026_seed0"
    for name in ("2026_seed0", "2026_seed0_2", "2026_seed0_3"):
        tree = OmegaConf.create({"run": {"folder": f"{tmp_path}/${{now:2026}}_seed0"}})
        with claimed(base, tree) as folder:
            (folder / "metrics.jsonl").touch()
        assert folder == tmp_path / name == Path(tree.run.folder)
    with pytest.raises(InputError, match="is not empty"), claimed(base, named(base), key="out"):
        pass


def test_an_evaluation_overwrites_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That began while this one was at work, when its folder held nothing yet."""
    measured = program.run_evaluation

    def slowly(*words: object, **more: object) -> object:
        with pytest.raises(InputError, match="another run has claimed it"):
            program.evaluate(tree.copy())
        return measured(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(program, "run_evaluation", slowly)
    words = [
        "baseline=constant",
        "dataset.limit=1",
        "dataset.height=32",
        "dataset.width=64",
        "dataset.max_disparity=16",
    ]
    tree = composed("evaluate", *words, "dataset.max_disparity=16", f"out={tmp_path / 'out'}")
    assert program.evaluate(tree) == tmp_path / "out"
