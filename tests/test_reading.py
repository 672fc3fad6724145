"""Reading a run folder, in every state that one can be found in."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from autodisp.errors import InputError
from autodisp.report.reading import checked_cells, is_run, read_run
from tests.made_runs import config_of, plain_cells, record_of, training_record, write_run, write_search, write_training


def test_a_complete_search(tmp_path: Path) -> None:
    run = read_run(write_search(tmp_path / "run"))
    assert (run.kind, run.finished, run.notes) == ("search", True, [])
    assert (run.figure.name, run.figure.direction, run.figure.unit) == ("accuracy", "max", "%")
    assert [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3]
    assert run.start == {"constant": 10.0, "valid/accuracy": 11.0}
    assert run.chosen is run.epochs[3]
    assert {kind: [list(map(list, node)) for node in nodes] for kind, nodes in run.cells.items()} == plain_cells(
        "s2", seed=1
    )
    assert run.space is not None
    assert run.space.name == "s2"


def test_a_search_that_was_killed_over_a_line(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "run", finished=False)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "train/lo')
    run = read_run(folder)
    assert len(run.epochs) == 4
    assert not run.finished
    assert any("unfinished" in note for note in run.notes)
    assert run.cells == run.epochs[-1].cells


def test_a_search_before_its_first_epoch(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "config.yaml").write_text("search: {epochs: 3}\ntask: {name: disparity}\n")
    run = read_run(folder)
    assert (run.kind, list(run.epochs), run.chosen, dict(run.cells)) == ("search", [], None, {})
    assert run.figure.name == "epe"


def test_what_a_roll_back_undid_does_not_count(tmp_path: Path) -> None:
    records = [record_of(epoch) for epoch in range(4)]
    records += [{"event": "restart", "decided_epoch": 3, "returned_epoch": 1, "weight_decay": 3e-3, "ratio": 1.5}]
    records += [record_of(epoch, restart=1) for epoch in (2, 3)]
    run = read_run(write_run(tmp_path / "run", records, config=config_of(policy="ada")))
    assert [(epoch.epoch, epoch.restart) for epoch in run.kept] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    assert [event["event"] for event in run.events] == ["restart"]


@pytest.mark.parametrize("genotype", [None, {"schema": "autodisp/genotype", "cells": {}}])
def test_early_stopping_returns_its_epoch(tmp_path: Path, genotype: Any) -> None:
    records = [
        *(record_of(epoch) for epoch in range(4)),
        {"event": "early_stop", "decided_epoch": 3, "returned_epoch": 1},
    ]
    run = read_run(write_run(tmp_path / "run", records, config=config_of(policy="es"), genotype=genotype))
    assert run.chosen is not None
    assert run.chosen.epoch == 1
    assert run.cells == run.epochs[1].cells


def test_a_training_chooses_its_best_interval(tmp_path: Path) -> None:
    figures = [40.0, math.nan, 55.0, 50.0]
    records = [training_record(i, **{"valid/accuracy": value}) for i, value in enumerate(figures)]
    folder = write_training(tmp_path / "run")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    run = read_run(folder)
    assert run.kind == "training"
    assert run.chosen is run.epochs[2]
    assert run.finished


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2", "damaged"),
        ("- 1\n- 2\n", "no settings"),
        ("[" * 1500, "damaged"),
        ("\x00\x01", "damaged"),
    ],
)
def test_a_damaged_config_is_a_note(tmp_path: Path, text: str, words: str) -> None:
    folder = write_search(tmp_path / "run")
    (folder / "config.yaml").write_text(text)
    run = read_run(folder)
    assert run.config == {}
    assert run.kind == "search"
    assert run.figure.name == "accuracy"
    assert sum(words in note for note in run.notes) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"schema": "autodisp/genotype"}']
)
def test_a_damaged_genotype_is_a_note(tmp_path: Path, content: bytes) -> None:
    folder = write_search(tmp_path / "run")
    (folder / "genotype.json").write_bytes(content)
    run = read_run(folder)
    assert run.found == {}
    assert run.cells == run.epochs[-1].cells
    assert any("genotype.json" in note for note in run.notes)


@pytest.mark.parametrize(
    "entries",
    [
        {"epoch": "three"},
        {"epoch": None},
        {"epoch": -1},
        {"epoch": math.nan},
        {"epoch": 10**400},
    ],
)
def test_records_without_an_epoch_are_passed_over(tmp_path: Path, entries: dict[str, Any]) -> None:
    folder = write_run(tmp_path / "run", [record_of(0), {**record_of(1), **entries}, record_of(2)], config=config_of())
    run = read_run(folder)
    assert [epoch.epoch for epoch in run.epochs] == [0, 2]
    assert any("1 of 3 records" in note for note in run.notes)


def test_values_are_numbers_that_can_be_drawn(tmp_path: Path) -> None:
    strange = {
        "eigenvalue": 1e300, "valid/loss": "low", "train/loss": 10**400, "restart": math.inf, "step": -5,
        "spectrum": [1, "a"], "alphas": {"normal": [1.0, None], "other": [1.0]}, "seconds": True,
    }  # fmt: skip
    run = read_run(write_run(tmp_path / "run", [record_of(0, **strange)], config=config_of()))
    epoch = run.epochs[0]
    assert epoch.values["eigenvalue"] == math.inf
    assert not {"valid/loss", "train/loss", "restart", "step", "seconds"} & set(epoch.values)
    assert (epoch.restart, epoch.alphas, epoch.spectrum) == (0, {}, ())


@pytest.mark.parametrize(
    "cells",
    [
        [],
        {"other": [[["skip_connect", 0]]]},
        {"normal": []},
        {"normal": [[["skip_connect", 2]]]},
        {"normal": [[["skip_connect", -1]]]},
        {"normal": [[["skip_connect", True]]]},
        {"normal": [[["<script>", 0]]]},
        {"normal": [[["skip_connect"]]]},
        {"normal": [[[1, 0]]]},
        {"normal": ["skip"]},
        {"normal": [[["skip_connect", 0]]] * 33},
        {"normal": [[["skip_connect", 0]] * 65]},
    ],
)
def test_cells_that_cannot_be_drawn(cells: Any) -> None:
    assert checked_cells(cells) is None


def test_a_node_reads_the_nodes_before_it() -> None:
    cells = {"normal": [[["skip_connect", 1]], [["none", 2]]]}
    assert checked_cells(cells) == {"normal": ((("skip_connect", 1),), (("none", 2),))}


def test_folders_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run=.*gone: no such folder"):
        read_run(tmp_path / "gone")
    with pytest.raises(InputError, match=r"is not the folder of a run: it has no metrics\.jsonl"):
        read_run(tmp_path)
    (tmp_path / "metrics.jsonl").mkdir()
    assert not is_run(tmp_path)


def test_a_task_of_ones_own(tmp_path: Path) -> None:
    record = {"epoch": 0, "valid/miou": 0.5, "valid_discrete/miou": 0.3, "discretisation_drop": 0.2, "alphas": {}}
    run = read_run(write_run(tmp_path / "run", [record], config={"task": {"name": "segmentation"}}))
    assert (run.kind, run.figure.name, run.figure.direction) == ("search", "miou", "max")


def test_a_damaged_model_is_a_note(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    (folder / "best.safetensors").write_bytes(b"\x00" * 20)
    run = read_run(folder)
    assert run.cells == {}
    assert any("best.safetensors" in note for note in run.notes)


def test_a_space_of_a_file_is_named_by_it(tmp_path: Path) -> None:
    """The name in the config is that of a built-in space, which was not searched."""
    config = config_of() | {"space": {"name": "darts", "file": "/spaces/mine.json"}}
    run = read_run(write_run(tmp_path / "run", [record_of(0)], config=config))
    assert run.setting("space.name") == "mine.json"
