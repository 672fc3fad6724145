"""One file rebuilds the network: bit for bit, whatever the task and space; what is no such file is refused by name."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autodisp import model_file
from autodisp.cells.genotype import Genotype, load
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.errors import InputError
from autodisp.model_file import ModelCard, card_of
from autodisp.tasks.base import Task, channels_last
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask

DISPARITY = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3,
                          head="matching", max_disparity=16)  # fmt: skip
IMAGES = ClassificationTask(channels=2, layers=3, classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), auxiliary=True)


def card(task: Task, name: str, flavour: Any = "dense") -> ModelCard:
    genotype = load(name)
    style = Style(flavour=flavour, affine=True)
    return card_of(task, style, genotype, SPACES[genotype.space], {"dataset": "shapes3d", "steps": 3})


CARDS = {"disparity": card(DISPARITY, "autodispnet"), "classification": card(IMAGES, "darts_v2", "darts")}


def saved(path: Path, which: str = "disparity") -> tuple[ModelCard, torch.nn.Module]:
    torch.manual_seed(1)
    _, network = CARDS[which].build()
    model_file.save(path, CARDS[which], network.state_dict())
    return CARDS[which], network


@pytest.mark.parametrize("which", CARDS)
def test_a_network_comes_back(tmp_path: Path, which: str) -> None:
    expected, network = saved(tmp_path / "a.safetensors", which)
    found, task, again = model_file.load_network(tmp_path / "a.safetensors")
    assert found == expected
    assert found.about == expected.about
    assert task.settings == expected.settings
    assert not again.training
    assert {name: tuple(value.shape) for name, value in again.state_dict().items()} == {
        name: tuple(value.shape) for name, value in network.state_dict().items()
    }
    inputs = (torch.rand(1, 3, 32, 32),) * (2 if which == "disparity" else 1)
    with torch.no_grad():
        same_layout = channels_last(network.eval())
        first, second = same_layout(*inputs)[0], again(*inputs)[0]
    assert torch.equal(first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_model_keeps_the_wiring_it_was_trained_with(tmp_path: Path) -> None:
    """Cards of before say nothing of it: their upsampling cells read the normal cells."""
    path, inputs = tmp_path / "a.safetensors", (torch.rand(1, 3, 32, 64), torch.rand(1, 3, 32, 64))
    _, network = saved(path)
    said = {}
    for support in ("reduce", "normal"):
        task = DisparityTask(**{**DISPARITY.settings, "support": support})
        wired = channels_last(task.build_network(CARDS["disparity"].cells())).eval()
        wired.load_state_dict(network.state_dict())
        said[support] = wired(*inputs).disparity
    assert not torch.equal(said["reduce"], said["normal"])
    assert CARDS["disparity"].settings["support"] == "reduce"
    assert torch.equal(model_file.load_network(path)[2](*inputs).disparity, said["reduce"])
    change(path, lambda data: data["settings"].pop("support"))
    card, task, again = model_file.load_network(path)
    assert torch.equal(again(*inputs).disparity, said["normal"])
    assert task.settings["support"] == "normal"
    model_file.save(path, card, network.state_dict())
    assert torch.equal(model_file.load_network(path)[2](*inputs).disparity, said["normal"])


def test_the_former_stage_at_full_resolution_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)

    def former(data: dict[str, Any]) -> None:
        data["settings"].update(stages=2, to_full_resolution=True)
        del data["settings"]["support"]

    change(path, former)
    with pytest.raises(InputError, match=r"a\.safetensors: a last stage at full resolution .* earlier autodisp"):
        model_file.load_network(path)


def test_a_space_of_ones_own_is_inside(tmp_path: Path) -> None:
    data = SPACES["autodispnet"].to_json() | {"name": "mine"}
    space = SearchSpace.from_json(data, file="mine.json")
    genotype = Genotype("mine", load("autodispnet").cells)
    mine = card_of(DISPARITY, Style(flavour="dense", affine=True), genotype, space, {})
    model_file.save(tmp_path / "a.safetensors", mine, mine.build()[1].state_dict())
    found, _ = model_file.load(tmp_path / "a.safetensors")
    assert found.space == space
    assert found.genotype == genotype
    assert CARDS["disparity"].space is None


def change(path: Path, edit: Any) -> None:
    """Rewrites the description in a file."""
    tensors = load_file(path)
    data = CARDS["disparity"].to_json()
    data = json.loads(json.dumps(data))
    edit(data)
    save_file(tensors, path, metadata={"autodisp": json.dumps(data)})


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda data: data.update(version=2), "version 2, but this program reads version 1; update autodisp"),
        (lambda data: data.update(task="depth"), "is for task 'depth', but there are classification, disparity"),
        (lambda data: data.pop("settings"), "its description is damaged (KeyError: 'settings')"),
        (lambda data: data.update(about=None), "its description is damaged (TypeError"),
        (lambda data: data["settings"].update(colour=3), "its description is damaged (TypeError"),
        (lambda data: data["settings"].update(encoder_cells=3), "its description is damaged (ValueError"),
        (lambda data: data["style"].update(flavour="fine"), "flavour is 'fine'"),
        (lambda data: data["genotype"].update(space="none"), "names space 'none', which is none of"),
        (lambda data: data["settings"].update(channels=3), "weight "),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, edit: Any, says: str) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    change(path, edit)
    with pytest.raises(InputError, match=f"^{path}: .*{re.escape(says)}"):
        model_file.load_network(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no such file"):
        model_file.load(path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").touch()
    with pytest.raises(InputError, match=r"run: is a folder; name .*run/best\.safetensors"):
        model_file.load(tmp_path / "run")
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="holds weights but not what they are for"):
        model_file.load(path)
    for content in (b"", b"PK\x03\x04 a zip", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.safetensors: no readable safetensors"):
            model_file.load(path)
    saved(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="no readable safetensors"):
        model_file.load(path)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    wide = dataclasses.replace(CARDS["disparity"], settings={**CARDS["disparity"].settings, "channels": 3})
    _, weights = saved(tmp_path / "a.safetensors")[0], saved(tmp_path / "a.safetensors")[1].state_dict()
    with pytest.raises(InputError, match=r"x\.safetensors: weight '.*' is .* in the file but .* in the network"):
        model_file.compare(wide.build()[1], weights, origin="x.safetensors")
    less = dict(list(weights.items())[:-1])
    with pytest.raises(InputError, match="is absent in the file"):
        model_file.compare(CARDS["disparity"].build()[1], less, origin="x")
    with pytest.raises(InputError, match=r"'more' is 1 in the file but absent in the network"):
        model_file.compare(CARDS["disparity"].build()[1], {**weights, "more": torch.zeros(1)}, origin="x")


@pytest.mark.parametrize(
    ("which", "settings", "says"),
    [
        ("classification", {"layers": 60_000}, "a larger network than the"),
        ("classification", {"layers": 10**9}, "layers is beyond 65536"),
        ("classification", {"channels": 0}, "UserWarning: Initializing zero-element tensors"),
        ("classification", {"mean": [[0.1], 0.2, 0.3]}, "its description is damaged"),
        ("disparity", {"encoder_cells": 10**12}, "encoder_cells is beyond 65536"),
        ("disparity", {"encoder_cells": 50_000}, "its description is damaged"),
        ("disparity", {"stages": 50_000}, "a larger network than the"),
        ("disparity", {"stem_scale": 1e308}, "OverflowError"),
        ("disparity", {"stem_scale": "a\nb"}, "its description is damaged"),
    ],
)
def test_a_description_of_a_network_that_the_weights_are_not_for_is_refused_before_it_is_built(
    tmp_path: Path, which: str, settings: dict[str, Any], says: str
) -> None:
    path = tmp_path / "a.safetensors"
    saved(path, which)
    data = json.loads(json.dumps(CARDS[which].to_json()))
    data["settings"] |= settings
    save_file(load_file(path), path, metadata={"autodisp": json.dumps(data)})
    with pytest.raises(InputError, match=rf"a\.safetensors: .*{says}") as caught:
        model_file.load_network(path)
    assert str(caught.value).isprintable()


def test_weights_that_no_network_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    weights = {name: value.to(torch.complex64) for name, value in load_file(path).items()}
    save_file(weights, path, metadata={"autodisp": json.dumps(CARDS["disparity"].to_json())})
    with pytest.raises(InputError, match=r"a\.safetensors: weight '\S+' is torch\.complex64 but torch\.float32 in the"):
        model_file.load_network(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    card, weights = model_file.load(path)
    name = next(name for name, weight in weights.items() if weight.is_floating_point())
    model_file.save(path, card, {**weights, name: torch.full_like(weights[name], value)})
    with pytest.raises(InputError, match=rf"a\.safetensors: weight '{re.escape(name)}' is not finite everywhere; take"):
        model_file.load(path)
