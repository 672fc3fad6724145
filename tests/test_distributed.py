"""Two processes that share every batch, against one that has it whole."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from autodisp import distributed
from autodisp.config.search import parse
from autodisp.datasets.streams import EndlessBatches
from autodisp.errors import InputError
from tests import shared_runs
from tests.programs import composed

NUMBERS = ("weights", "alphas", "eigenvalues", "metrics")


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    """The variables that torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def launch(scenario: str, folder: Path) -> list[dict[str, Any] | None]:
    """Runs a scenario in two processes; returns their results, None for one that has left none."""
    port = free_port()
    words = [sys.executable, shared_runs.__file__, scenario, str(folder)]
    processes = [subprocess.Popen(words, env={**os.environ, **environment(rank, 2, port)}) for rank in range(2)]
    for process in processes:
        process.wait(timeout=300)
    paths = [folder / f"result_{rank}.pt" for rank in range(2)]
    return [torch.load(path, weights_only=False) if path.exists() else None for path in paths]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("shared")
    return folder, launch("share_all", folder)


@pytest.mark.slow
@pytest.mark.parametrize("order", shared_runs.ORDERS)
def test_two_processes_find_what_one_finds(shared: tuple[Path, list[Any]], order: str, tmp_path: Path) -> None:
    one = shared_runs.whole(tmp_path, order)
    for found in shared[1]:
        for name in NUMBERS:
            torch.testing.assert_close(found[order][name], one[name], rtol=1e-6, atol=1e-9, msg=f"{name} differs")
        assert found[order]["genotypes"] == one["genotypes"]


@pytest.mark.slow
def test_synchronised_normalisation_makes_two_processes_find_what_one_finds(
    shared: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    one = shared_runs.whole(tmp_path, "exact", normalised=True)
    for found in shared[1]:
        for name in ("weights", "alphas", "eigenvalues"):
            torch.testing.assert_close(found["normalised"][name], one[name], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(shared: tuple[Path, list[Any]], tmp_path: Path) -> None:
    one = shared_runs.trained(tmp_path)
    for found in shared[1]:
        for name in ("weights", "metrics"):
            torch.testing.assert_close(found["trained"][name], one[name], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_processes_stay_equal_bit_by_bit(shared: tuple[Path, list[Any]]) -> None:
    first, second = shared[1]
    for order in shared_runs.ORDERS:
        assert all(torch.equal(first[order][name], second[order][name]) for name in NUMBERS)


@pytest.mark.slow
def test_a_stop_of_one_process_stops_all_and_resumes_bit_by_bit(shared: tuple[Path, list[Any]]) -> None:
    for found in shared[1]:
        assert found["stopped"].startswith("Interrupted")
        assert all(torch.equal(found["resumed"][name], found["first"][name]) for name in ("weights", "alphas"))


@pytest.mark.slow
def test_one_process_resumes_the_run_of_two(shared: tuple[Path, list[Any]]) -> None:
    folder, results = shared
    found = shared_runs.resumed(folder / "damaged")  # its state is the one before the batch that could not be read
    for name in ("weights", "alphas", "eigenvalues"):
        torch.testing.assert_close(found[name], results[0]["first"][name], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_sample_that_one_process_cannot_read_ends_all_with_its_message(shared: tuple[Path, list[Any]]) -> None:
    for found in shared[1]:
        assert found["damaged"].startswith("InputError: sample ")


@pytest.mark.slow
def test_a_lost_process_ends_the_run_with_its_state(tmp_path: Path) -> None:
    first, second = launch("lose_one", tmp_path)
    assert first is not None
    assert second is None
    assert first["lost"] == "RunFault: one of the 2 processes has ended; its own message, if any, is above"
    assert [path.name for path in (tmp_path / "lost" / "checkpoints").iterdir()] == ["epoch_0000_at_000002.pt"]
    found = shared_runs.resumed(tmp_path / "lost")
    one = shared_runs.whole(tmp_path / "one", "first")
    for name in ("weights", "alphas", "eigenvalues"):
        torch.testing.assert_close(found[name], one[name], rtol=1e-6, atol=1e-9)


@pytest.fixture
def four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_processes", distributed._Processes(rank=1, world=4))


@pytest.mark.usefixtures("four_processes")
def test_shares_make_up_the_batch() -> None:
    shares = EndlessBatches(20, 8, seed=0)
    with distributed.alone():
        batch = EndlessBatches(20, 8, seed=0).batch(3)
    assert shares.batch(3) == batch[1::4]


@pytest.mark.usefixtures("four_processes")
def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(InputError, match="batch_size=6: is divided among 4 processes: take a multiple of that"):
        EndlessBatches(20, 6, seed=0)


def test_it_is_refused_before_the_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (("TORCHELASTIC_RUN_ID", "test"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(variable, value)
    config = composed("search", "run.folder=unused", "search.batch_size=6")
    with pytest.raises(InputError, match=r"search\.batch_size=6: must be a multiple of the number of processes of"):
        parse(config)


def test_one_process_keeps_what_it_has() -> None:
    tensors = [torch.ones(2), torch.zeros(3)]
    with distributed.joined():
        assert [id(tensor) for tensor in distributed.mean(tensors)] == [id(tensor) for tensor in tensors]
        assert distributed.is_first()
        assert distributed.on_first(lambda: 3) == 3
