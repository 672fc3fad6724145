"""The commands that a report offers: what the programs take."""

import shlex
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from autodisp.report.next_steps import next_commands
from autodisp.report.reading import read_run
from autodisp.tasks.registry import dataset_entries
from tests.made_runs import config_of, record_of, write_run, write_search, write_training


def commands(folder: Path) -> list[list[str]]:
    """Each as a shell and Hydra take it apart."""
    found = [shlex.split(command) for _, command in next_commands(read_run(folder))]
    return [[program, *map(unquoted, words)] for program, *words in found]


def unquoted(word: str) -> str:
    """As Hydra reads it, without the quotes that only it needs."""
    override = OverridesParser.create().parse_override(word)
    value = override.value()
    return f"{override.key_or_group}={value}" if isinstance(value, str) else word


def test_after_a_search(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "a run", dataset={"name": "cifar10", "root": "/my data"})
    assert commands(folder) == [
        [
            "autodisp-train", "task=classification", "dataset=cifar10", "dataset.root=/my data",
            f"genotype={folder}/genotype.json",
        ],
        ["autodisp-export", f"run={folder}"],
    ]  # fmt: skip


def test_on_the_samples_that_the_run_had(tmp_path: Path) -> None:
    data = {"name": "flyingthings3d", "root": "/data", "exclude": "runs/my check/excluded.txt"}
    folder = write_search(tmp_path / "run", task="disparity", space="autodispnet", dataset=data)
    assert commands(folder)[0][1:4] == [
        "dataset=flyingthings3d", "dataset.root=/data", "dataset.exclude=runs/my check/excluded.txt",
    ]  # fmt: skip


def test_of_a_disparity_search_in_a_space_of_ones_own(tmp_path: Path) -> None:
    space = {"name": "mine", "file": "/spaces/mine.json"}
    folder = write_search(tmp_path / "run", task="disparity", space="autodispnet")
    write_run(folder, [record_of(0)], config=config_of(task="disparity") | {"space": space})
    assert commands(folder)[0][1:3] == ["dataset=shapes3d", "space_file=/spaces/mine.json"]


def test_a_search_on_the_way_can_be_exported(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "run", finished=False)
    assert commands(folder) == [["autodisp-export", f"run={folder}"]]


def test_nothing_before_the_first_epoch(tmp_path: Path) -> None:
    assert commands(write_search(tmp_path / "run", epochs=0, finished=False)) == []


def test_after_a_training(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    assert commands(folder) == []
    best = folder / "best.safetensors"
    best.write_bytes(b"")
    assert commands(folder) == [
        ["autodisp-evaluate", f"checkpoint={best}", "dataset=cifar10", "dataset.root=/data"],
        ["autodisp-export", f"checkpoint={best}"],
    ]


def test_after_a_training_that_could_not_be_validated(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "run")
    (folder / "last.safetensors").write_bytes(b"")
    assert [words[1] for words in commands(folder)] == [f"checkpoint={folder / 'last.safetensors'}"] * 2


def test_a_network_is_evaluated_on_what_it_was_not_trained_on(tmp_path: Path) -> None:
    data = {"name": "kitti2015", "root": "/data", "exclude": "bad.txt"}
    folder = write_training(tmp_path / "run", task={"name": "disparity"}, dataset=data)
    for name in ("best.safetensors", "trained_on.txt"):
        (folder / name).write_bytes(b"")
    assert commands(folder)[0][2:] == [
        "dataset=kitti2015", "dataset.root=/data", f"dataset.exclude={folder / 'trained_on.txt'}",
    ]  # fmt: skip


def test_a_network_is_measured_at_the_resolution_that_it_was_trained_at(tmp_path: Path) -> None:
    data = {"name": "flyingthings3d", "root": "/data", "half_resolution": True}
    folder = write_training(tmp_path / "run", task={"name": "disparity"}, dataset=data)
    (folder / "best.safetensors").write_bytes(b"")
    evaluation, prediction, _ = commands(folder)
    assert evaluation[2:] == ["dataset=flyingthings3d", "dataset.root=/data", "dataset.half_resolution=true"]
    assert prediction[0] == "autodisp-predict"


def test_a_training_takes_the_data_as_the_search_had_it(tmp_path: Path) -> None:
    usual = {"render_pass": "cleanpass", "subsets": ["A", "B", "C"], "half_resolution": True, "max_disparity": 96}
    for number, (changed, words) in enumerate(
        (
            ({"crop": [64, 64], "limit": 8}, []),
            ({"half_resolution": False, "max_disparity": 192},
             ["dataset.half_resolution=false", "dataset.max_disparity=192"]),
            ({"subsets": ["A", "B"], "render_pass": "finalpass"},
             ["dataset.render_pass=finalpass", "dataset.subsets=[A,B]"]),
        )
    ):  # fmt: skip
        data = {"name": "flyingthings3d", "root": "/data"} | usual | changed
        folder = write_search(tmp_path / str(number), task="disparity", space="autodispnet", dataset=data)
        assert commands(folder)[0][1:-1] == ["dataset=flyingthings3d", "dataset.root=/data", *words]


def test_repeated_settings_are_settings_of_the_dataset() -> None:
    for name, entry in dataset_entries().items():
        assert {*entry.identity, *entry.training_identity} <= {field.name for field in fields(entry.section)}, name


def test_of_an_unknown_dataset_little_is_said(tmp_path: Path) -> None:
    for number, name in enumerate(("mine", "../search", "a b")):
        data = {"name": name, "root": "/data", "half_resolution": True}
        folder = write_search(tmp_path / str(number), task="disparity", space="autodispnet", dataset=data)
        assert commands(folder)[0][1:-1] == [f"dataset={name}", "dataset.root=/data"]


def test_a_class_of_the_users_own_is_named_again(tmp_path: Path) -> None:
    data = {"name": "own", "factory": "my rig.py:Rig", "root": "/data"}
    folder = write_training(tmp_path / "run", task={"name": "disparity"}, dataset=data)
    (folder / "best.safetensors").write_bytes(b"")
    assert commands(folder)[0][2:] == ["dataset=own", "dataset.factory=my rig.py:Rig", "dataset.root=/data"]
    data |= {"crop": [64, 128], "max_disparity": 64, "half_resolution": True}
    folder = write_search(tmp_path / "search", task="disparity", space="autodispnet", dataset=data)
    assert commands(folder)[0][1:-1] == [
        "dataset=own", "dataset.factory=my rig.py:Rig", "dataset.root=/data", "dataset.half_resolution=true",
        "dataset.max_disparity=64", "dataset.crop=[64,128]",
    ]  # fmt: skip
