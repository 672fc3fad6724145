"""Parameters and MACs, against networks that were really built and counted by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from autodisp import model_file
from autodisp.assembly.network_sizes import count_macs, search_sizes, training_counts, training_sizes
from autodisp.assembly.networks import build_style
from autodisp.assembly.search import build_space
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import FoundCells, MixedCells
from autodisp.cells.genotype import Genotype, load
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.config.search import parse
from autodisp.model_file import card_of
from autodisp.tasks.classification import ClassificationTask
from tests.programs import composed

SMALL = ["experiment=smoke", "dataset.height=64", "dataset.width=128", "dataset.max_disparity=16"]


def config_of(*overrides: str) -> dict[str, Any]:
    tree = composed("search", *overrides)
    config = OmegaConf.to_container(tree, resolve=False)
    assert isinstance(config, dict)
    config["run"]["folder"] = "somewhere"
    return {str(key): value for key, value in config.items()}


def test_macs_of_a_network_counted_by_hand() -> None:
    with FakeTensorMode():
        network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4 * 6, 5))
        wrapped = WithoutWeights(network)
        counted = count_macs("classification", wrapped, (4, 6))
    assert counted == 4 * 6 * 8 * 3 * 9 + 8 * 4 * 6 * 5


class WithoutWeights(nn.Module):
    """Takes edge weights, as all networks do, and needs none."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, edge_weights: object) -> torch.Tensor:
        result: torch.Tensor = self.network(image)
        return result


@pytest.mark.slow
def test_a_disparity_search() -> None:
    config = config_of(*SMALL)
    space = SPACES["autodispnet"]
    cells = space.sample(0)
    rows = dict(search_sizes(config, cells))
    typed = parse(OmegaConf.create(config))
    assert build_space(typed) == space
    assert rows["alphas of the search"] == str(sum(values.numel() for values in Architecture(space).parameters()))
    task, style = typed.kit.build_task(typed.task, typed.network, typed.dataset), build_style(typed.network, space)
    for name, factory in (
        ("supernet", MixedCells(space, style=style)),
        ("found network, as wide", FoundCells(Genotype(space.name, cells), style=style)),
    ):
        network = task.build_network(factory)  # type: ignore[arg-type]
        assert rows[f"{name}: parameters"] == f"{sum(p.numel() for p in network.parameters()):,}"
        assert f"{name}: MACs at 128x64, one sample" in rows


def test_a_classification_search_knows_its_classes_without_the_data() -> None:
    config = config_of("experiment=smoke", "task=classification", "dataset=cifar10", "dataset.root=/gone", "space=s2")
    names = [name for name, _ in search_sizes(config, {})]
    assert names == ["alphas of the search", "supernet: parameters", "supernet: MACs at 32x32, one sample"]


@pytest.mark.parametrize(
    "config",
    [{}, {"search": 3}, {"task": {"name": "disparity"}}, {"seed": "${oc.env:HOME}"}, {"space": {"file": "/gone"}}],
)
def test_what_is_not_known_is_left_out(config: dict[str, Any]) -> None:
    assert search_sizes(config, {}) == []


@pytest.mark.slow
def test_cells_of_another_space_are_left_out() -> None:
    assert search_sizes(config_of(*SMALL), {"normal": ((("skip_connect", 0),),)}) == []


def test_a_training(tmp_path: Path) -> None:
    task = ClassificationTask(channels=2, layers=3, classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    card = card_of(task, Style("darts", affine=True), load("darts_v2"), SPACES["darts"], {})
    network = card.build()[1]
    model_file.save(tmp_path / "last.safetensors", card, network.state_dict())
    rows = dict(training_sizes({"dataset": {"name": "cifar10"}}, tmp_path))
    assert rows["network: parameters"] == f"{sum(p.numel() for p in network.parameters()):,}"
    assert "network: MACs at 32x32, one sample" in rows
    assert list(dict(training_sizes({}, tmp_path))) == ["network: parameters"]
    with FakeTensorMode():
        macs = count_macs("classification", card.build()[1], (32, 32))
    counts = {"parameters": sum(p.numel() for p in network.parameters()), "macs": macs}
    assert training_counts({"dataset": {"name": "cifar10"}}, tmp_path) == counts


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 100])
def test_a_training_without_a_model(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "best.safetensors").write_bytes(content)
    assert training_sizes({}, tmp_path) == []
    assert training_counts({}, tmp_path) == {}
