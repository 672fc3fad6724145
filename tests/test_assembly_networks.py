"""The device of a run, and the style that a config gives to the operations of a space."""

import json
from pathlib import Path

import pytest
import torch

from autodisp.assembly.networks import build_device, build_style
from autodisp.assembly.search import build_space
from autodisp.cells.operations import build_operation
from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError
from tests.programs import search_config


@pytest.mark.parametrize("norm", [True, False])
def test_batch_normalisation_can_be_left_out_of_the_dense_flavour(norm: bool) -> None:
    config = search_config(f"network.batch_norm={norm}")
    style = build_style(config.network, build_space(config))
    layers = build_operation("sep_conv_3x3", channels=2, style=style).modules()
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in layers) == norm


@pytest.mark.parametrize(
    ("name", "gpu", "expected"),
    [
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cuda", True, "cuda"),
    ],
)
def test_devices(name: str, gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
    assert build_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "gpus", "ranks", "line"),
    [
        ("cuda", 0, 1, r"^run\.device=cuda: .*no usable GPU; take run\.device=cpu or auto$"),
        ("cuda:2", 2, 1, r"^run\.device=cuda:2: there is no GPU 2, the last is 1; take run\.device=cuda:1$"),
        ("cuda:1", 2, 2, r"^run\.device=cuda:1: 2 processes need a GPU each; take run\.device=cuda$"),
        ("cuda", 1, 2, r"^run\.device=cuda: there is no GPU 1, .*; take run\.device=cpu, or fewer processes$"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(
    name: str, gpus: int, ranks: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if ranks > 1:
        for variable, value in (("TORCHELASTIC_RUN_ID", "test"), ("WORLD_SIZE", ranks), ("LOCAL_RANK", ranks - 1)):
            monkeypatch.setenv(variable, str(value))
    with pytest.raises(InputError, match=line):
        build_device(name)


def test_the_darts_flavour_always_normalises(tmp_path: Path) -> None:
    space = SPACES["autodispnet"].to_json() | {"flavour": "darts", "name": "mine"}
    (tmp_path / "space.json").write_text(json.dumps(space))
    config = search_config(f"space.file={tmp_path / 'space.json'}", "network.batch_norm=false")
    with pytest.raises(InputError, match=r"network\.batch_norm=false: space 'mine' is of the darts flavour"):
        build_style(config.network, build_space(config))
