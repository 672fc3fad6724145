"""The right cells are found in a run folder, whatever state it is in, and come out as JSON and one drawing."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from autodisp.cells.genotype import Genotype, load
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.errors import InputError
from autodisp.export.found_cells import Found, of_run

SPACE = SPACES["autodispnet"]


def sampled(seed: int, space: SearchSpace = SPACE) -> Genotype:
    return Genotype(space.name, space.sample(seed), {"seed": seed})


def make_run(folder: Path, epochs: dict[int, int], *, records: list[int] | None = None) -> Path:
    """A run folder with a genotype an epoch, by seed, and the epochs in the order in which they were recorded."""
    (folder / "genotypes").mkdir(parents=True)
    for epoch, seed in epochs.items():
        sampled(seed).save(folder / "genotypes" / f"epoch_{epoch:04d}.json")
    if records is not None:
        lines = [json.dumps({"epoch": epoch}) for epoch in records] + ['{"event": "restart", "epoch": 99}', '{"epo']
        (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def test_a_finished_run_gives_its_cells(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {0: 1, 1: 2}, records=[0, 1])
    sampled(3).save(run / "genotype.json")
    found = of_run(run)
    assert found.genotype == sampled(3)
    assert found.genotype.provenance == {"seed": 3}
    assert found.notes == ()
    assert found.space is None


@pytest.mark.parametrize(
    ("records", "epoch"),
    [
        (None, 11),  # without records the highest number
        ([0, 9, 11], 11),
        ([0, 9, 11, 9], 9),  # went back to an earlier epoch; 11 is of the first attempt
        ([], 11),
    ],
)
def test_an_unfinished_run_gives_its_newest_cells_and_says_so(
    tmp_path: Path, records: list[int] | None, epoch: int
) -> None:
    epochs = {0: 1, 9: 2, 11: 3}
    found = of_run(make_run(tmp_path / "run", epochs, records=records))
    assert found.genotype == sampled(epochs[epoch])
    assert len(found.notes) == 1
    assert f"not come to its end: these are the cells after epoch {epoch} " in found.notes[0]


def test_numbers_beyond_four_digits_count_as_numbers(tmp_path: Path) -> None:
    assert of_run(make_run(tmp_path / "run", {9999: 1, 10000: 2})).genotype == sampled(2)


def test_a_file_that_was_being_written_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {0: 1, 1: 2}, records=[0])
    (run / "genotypes" / "epoch_0001.json").write_text('{"schema": "autodisp/geno')
    (run / "genotype.json").write_text("")
    (run / "genotypes" / "epoch_0002.json.tmp").write_text("")
    found = of_run(run)
    assert found.genotype == sampled(1)
    assert [note.split(":")[0] for note in found.notes] == ["passed over", "the search has not come to its end"]


def test_when_nothing_can_be_read_the_newest_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {0: 1, 1: 2})
    for path in run.glob("genotypes/*"):
        path.write_text("{}")
    with pytest.raises(InputError, match=r"epoch_0001\.json: not a genotype"):
        of_run(run)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run=.*none: no such folder"):
        of_run(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds neither genotype\.json nor genotypes/epoch_\*\.json"):
        of_run(tmp_path)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(InputError, match=r"is the folder of a training; checkpoint=.*/best\.safetensors exports"):
        of_run(tmp_path)


def own_space(path: Path) -> SearchSpace:
    space = SearchSpace.from_json(SPACE.to_json() | {"name": "mine"}, file="mine")
    path.write_text(json.dumps(space.to_json()))
    return space


def test_a_space_of_ones_own_is_found_through_the_config(tmp_path: Path) -> None:
    space = own_space(tmp_path / "mine.json")
    run = make_run(tmp_path / "run", {})
    sampled(4, space).save(run / "genotype.json")
    with pytest.raises(InputError, match="names space 'mine'"):
        of_run(run)
    assert of_run(run, space=space).genotype == sampled(4, space)
    (run / "config.yaml").write_text(f"space:\n  name: autodispnet\n  file: {tmp_path / 'mine.json'}\n")
    found = of_run(run)
    assert found.space == space
    found.write(tmp_path)
    assert load(tmp_path / "genotype.json", space=SearchSpace.load(tmp_path / "space.json")) == sampled(4, space)
    (tmp_path / "mine.json").unlink()
    with pytest.raises(InputError, match=r"was a search in a space of its own, but .*mine\.json: .*; give space_file="):
        of_run(run)


@pytest.mark.parametrize("text", ["space: {", "space: 3", "", "- 1"])
def test_a_config_that_says_nothing_of_a_space_is_no_matter(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run", {0: 1})
    (run / "config.yaml").write_text(text)
    assert of_run(run).genotype == sampled(1)


@pytest.mark.parametrize("name", ["autodispnet", "darts_v2"])
def test_json_and_drawing(tmp_path: Path, name: str) -> None:
    found = Found(load(name), None)
    found.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(found.files)
    assert load(tmp_path / "genotype.json") == load(name)
    drawn = (tmp_path / "cells.svg").read_text()
    cells = found.genotype.cells
    for kind in ("normal", "reduce", "upsample"):
        operations = sum(len(node) for node in cells.get(kind, ()))
        assert (
            sum(re.search(f'id="{kind}-edge-{number}-[a-z0-9_]+"', drawn) is not None for number in range(99))
            == operations
        )
    picture = imread(tmp_path / "cells.png")
    assert picture.shape[1] > 2 * picture.shape[0]  # side by side
