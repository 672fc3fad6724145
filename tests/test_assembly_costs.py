"""The cost table of a search: measured, given, or that of the resumed run, and refused where it does not fit."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp.assembly.costs import build_costs, build_deployment, given_costs
from autodisp.assembly.search import build_data
from autodisp.config.search import SearchConfig, parse
from autodisp.errors import InputError
from autodisp.run_files import CHECKPOINTS, COSTS
from autodisp.search.costs import load
from tests.programs import composed
from tests.test_plan import SMALL


def config_of(*words: str) -> SearchConfig:
    return parse(composed("search", "run.folder=unused", *SMALL, "cost_penalty=macs", *words))


@contextmanager
def refused(*words: str) -> Iterator[None]:
    with pytest.raises(InputError) as caught:
        yield
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table of a search."""
    folder = tmp_path_factory.mktemp("costs")
    config = config_of()
    table = build_costs(config, build_data(config), folder)
    assert table == load(folder / COSTS)
    return folder


def test_a_table_that_fits_is_used(made: Path, tmp_path: Path) -> None:
    config = config_of(f"cost_penalty.table={made / COSTS}")
    data = build_data(config)
    table = load(made / COSTS)
    other = dataclasses.replace(table, rest=table.rest + 1000)
    other.save(tmp_path / "other.json")
    given = config_of(f"cost_penalty.table={tmp_path / 'other.json'}")
    assert build_costs(given, data, tmp_path) == other == load(tmp_path / COSTS)
    assert build_costs(config, data, tmp_path, resume=True) == other, "of the run, whatever is given"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["network.channels=8"], ["network.channels is 2 there and 8 here", "make one with plan=true"]),
        (["cost_penalty.size=[64,64]"], ["inputs is", "[1, 3, 64, 64]"]),
        (["dataset.height=64"], ["inputs is"]),
        (["cost_penalty=parameters"], ["has the quantity macs, but cost_penalty=parameters"]),
    ],
)
def test_a_table_of_another_search_is_refused(made: Path, words: list[str], said: list[str]) -> None:
    config = config_of(*words, f"cost_penalty.table={made / COSTS}")
    data = build_data(config)
    with refused(f"cost_penalty.table={made / COSTS}: ", *said):
        given_costs(config, data)


def test_a_table_that_lacks_a_cell_of_the_network_is_refused(made: Path, tmp_path: Path) -> None:
    table, path = load(made / COSTS), tmp_path / "lacking.json"
    dataclasses.replace(table, cells=table.cells[1:]).save(path)
    config = config_of(f"cost_penalty.table={path}")
    lost = table.cells[0]
    with refused(f"cost_penalty.table={path}: its cells are", f"those of the network {lost.name} ({lost.kind}), "):
        given_costs(config, build_data(config))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    config = config_of(f"cost_penalty.table={tmp_path / 'none.json'}")
    data = build_data(config)
    with refused(f"cost_penalty.table={tmp_path / 'none.json'}: cannot be read"):
        given_costs(config, data)
    (tmp_path / "none.json").write_text("{}")
    with refused(f"cost_penalty.table={tmp_path / 'none.json'}: no cost table"):
        given_costs(config, data)


def test_a_resumed_run_does_not_measure_again(tmp_path: Path) -> None:
    config = config_of()
    data = build_data(config)
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / "epoch_0000.pt").write_bytes(b"")
    with refused(f"{tmp_path / COSTS}: cannot be read"):
        build_costs(config, data, tmp_path, resume=True)


def test_the_input_is_one_sample_of_the_validation() -> None:
    config = config_of("cost_penalty.size=[40,48]")
    data = build_data(config)
    deployment = build_deployment(config, data)
    assert [tuple(image.shape) for image in deployment.inputs] == [(1, 3, 40, 48)] * 2
    assert deployment.style.affine
    whole: Any = build_deployment(config_of(), data).inputs
    batch = next(iter(data.validation))
    assert torch.equal(whole[0], batch.left[:1])
