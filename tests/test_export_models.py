"""What is exported computes what the network computes, whatever the images' size, and is not kept otherwise."""

import itertools
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from imageio.v3 import imwrite
from torch import Tensor, nn

import autodisp
from autodisp import model_file
from autodisp.cells.genotype import Genotype, load
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.errors import InputError, RunFault
from autodisp.export import models, programs
from autodisp.export.models import ExportedModel, export_model
from autodisp.export.programs import Comparison, traced
from autodisp.model_file import ModelCard, card_of
from autodisp.networks.refinement import RefinementNetwork
from autodisp.prediction.image_models import ImageClassifier
from autodisp.tasks.base import Task
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.segmentation import SegmentationTask

pytestmark = pytest.mark.export

SMALL = {"channels": 2, "stem_scale": 2.0, "encoder_cells": 2, "decoder_cells": 2, "max_displacement": 3}
MATCHING = DisparityTask(**SMALL, head="matching", max_disparity=16, aggregation=1)  # type: ignore[arg-type]
REFINED = DisparityTask(**SMALL, head="refined", max_disparity=16, aggregation=1, groups=1, refinement=2)  # type: ignore[arg-type]
REGRESSION = DisparityTask(**SMALL)  # type: ignore[arg-type]
STACK = DisparityTask(**SMALL, stages=2, to_full_resolution=True)  # type: ignore[arg-type]
"""Stride 16; few operations, since tracing and above all reading a ``.pt2`` take seconds for a hundred of them."""
IMAGES = ClassificationTask(channels=2, layers=3, classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), auxiliary=True)
CLASSES = SegmentationTask(classes=4, channels=2, stem_scale=2.0, encoder_cells=3, decoder_cells=2)
STEREO_SIZES = [(32, 48), (33, 47), (5, 90), (16, 16), (3, 27), (1, 1)]


def card(task: Task) -> ModelCard:
    """Published cells for images, designed cells (no genotype) for matching and the stack, else skips."""
    about = {"dataset": "shapes3d", "classes": ["a", "b", "c", "d"]}
    if task is IMAGES:
        return card_of(task, Style("darts", affine=True), load("darts_v2"), SPACES["darts"], about)
    space = SPACES["autodispnet"]
    skips = {
        kind: tuple(
            tuple(("skip_connect", edge.source) for edge in node[:keep])
            for node, keep in zip(cell.nodes, cell.keep, strict=True)
        )
        for kind, cell in space.cells.items()
    }
    genotype = Genotype(space.name, skips) if task in (REGRESSION, REFINED, CLASSES) else None
    return card_of(task, Style("dense", affine=True), genotype, space if genotype else None, about)


def built(task: Task) -> nn.Module:
    """With weights of which none is zero."""
    torch.manual_seed(1)
    network = card(task).build()[1].eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


def checkpoint(folder: Path, task: Task) -> Path:
    path = folder / "tiny.safetensors"
    model_file.save(path, card(task), built(task).state_dict())
    return path


def exported(folder: Path, task: Task) -> list[ExportedModel]:
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra [export]")
    return list(export_model(checkpoint(folder, task), folder / "out", ["onnx", "pt2"]))


@pytest.fixture(scope="module", params=[REFINED, REGRESSION], ids=["refined", "regression"])
def stereo(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[ExportedModel]:
    return exported(tmp_path_factory.mktemp("stereo"), request.param)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[ExportedModel]:
    return exported(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> list[ExportedModel]:
    return exported(tmp_path_factory.mktemp("segmented"), CLASSES)


def beside(model: ExportedModel) -> Path:
    """The checkpoint that it was made of."""
    return model.path.parent.parent / "tiny.safetensors"


def pair(size: tuple[int, int], batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    left, right = torch.rand(2, batch, 3, *size, generator=generator)
    return left, right


def test_stereo_files_are_the_network_at_any_size(stereo: list[ExportedModel]) -> None:
    assert [model.path.name for model in stereo] == ["tiny.onnx", "tiny.pt2"]
    network: Any = autodisp.load(beside(stereo[0]))
    opened: list[Any] = [autodisp.load(model.path) for model in stereo]
    assert [call.max_disparity for call in opened] == [network.max_disparity] * 2
    for size, batch in itertools.product(STEREO_SIZES, (1, 2)):
        expected = network(*pair(size, batch))
        assert expected.shape == (batch, 1, *size)
        assert size == (1, 1) or expected.std() > 0
        for call in opened:
            torch.testing.assert_close(call(*pair(size, batch)), expected, atol=1e-4, rtol=0)


def test_a_matching_network_and_its_confidence(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra [export]")
    path = checkpoint(tmp_path, MATCHING)
    network = autodisp.load(path)
    for model in export_model(path, tmp_path, ["onnx", "pt2"], confidence=True):
        assert "disparity, confidence = program" in model.usage()
        opened = autodisp.load(model.path)
        assert opened.has_confidence
        for size, batch in itertools.product(STEREO_SIZES, (1, 2)):
            views = pair(size, batch)
            found, expected = (made.with_confidence(*views) for made in (opened, network))
            assert found.shape == expected.shape == (batch, 2, *size)
            torch.testing.assert_close(found[:, :1], expected[:, :1], atol=1e-4, rtol=0)
            assert ((found - expected)[:, 1].abs() > 1e-3).float().mean() < 0.02
            torch.testing.assert_close(opened(*views), found[:, :1])


def test_a_model_without_confidence_is_not_exported_with_one(tmp_path: Path) -> None:
    for task in (REGRESSION, IMAGES):
        with pytest.raises(InputError, match="confidence=true: this model has none"):
            next(export_model(checkpoint(tmp_path, task), tmp_path / "out", ["pt2"], confidence=True))
    assert not (tmp_path / "out").exists()


def test_a_confidence_that_differs_is_not_kept() -> None:
    models._check({(1, 1): Comparison(0.0, 1.0, 0.02)}, Path("a.onnx"), "px")
    with pytest.raises(RunFault, match=r"the confidence of 4\.0% of the pixels would differ"):
        models._check({(1, 1): Comparison(0.0, 1.0, 0.04)}, Path("a.onnx"), "px")


@pytest.mark.parametrize(("task", "sizes"), [("images", [(32, 32), (33, 47), (1, 1)]), ("segmented", STEREO_SIZES)])
def test_files_for_single_images_are_the_network_at_any_size_and_batch(
    task: str, sizes: list[tuple[int, int]], request: pytest.FixtureRequest
) -> None:
    models = request.getfixturevalue(task)
    network = autodisp.load(beside(models[0]))
    for model in models:
        opened = autodisp.load(model.path)
        assert isinstance(opened, ImageClassifier)
        assert opened.classes == ["a", "b", "c", "d"]
        for size, batch in itertools.product(sizes, (1, 3)):
            views = pair(size, batch)[0]
            expected = network(views)
            assert expected.shape == ((batch, 4) if task == "images" else (batch, 4, *size))
            torch.testing.assert_close(opened(views), expected, atol=1e-5, rtol=0)


def test_the_figures_are_those_of_the_files(stereo: list[ExportedModel]) -> None:
    """The differences were taken at a multiple of the stride, an odd size and one below the stride."""
    for model in stereo:
        sizes = list(model.differences)
        assert any(height % 16 == width % 16 == 0 for height, width in sizes)
        assert any(height % 2 == width % 2 == 1 and min(height, width) > 16 for height, width in sizes)
        assert any(max(size) < 16 for size in sizes)
        assert max(found.difference for found in model.differences.values()) < 1e-3
        assert min(found.largest for found in model.differences.values()) > 0
        assert "px from PyTorch on random images of 32x48, " in model.in_words()


def test_the_printed_lines_run_on_pictures(
    stereo: list[ExportedModel],
    images: list[ExportedModel],
    segmented: list[ExportedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    pictures = {name: draw.integers(0, 256, (19, 37, 3), dtype=np.uint8) for name in ("left", "right", "image")}
    for name, picture in pictures.items():
        imwrite(tmp_path / f"{name}.png", picture)
    views = {name: torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 for name, picture in pictures.items()}
    onnx_of_stereo = stereo[0]  # reading its .pt2 once more would take longer than all else here
    for model in (onnx_of_stereo, *images, *segmented):
        names: dict[str, Any] = {}
        exec(model.usage(), names)
        _, task, network = model_file.load_network(beside(model))
        inputs = ("left", "right") if task.name == "disparity" else ("image",)
        with torch.no_grad():
            expected = network(*(views[name] for name in inputs))[0]
        result = torch.as_tensor(names["disparity" if task.name == "disparity" else "logits"])
        torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


def test_the_onnx_file_says_what_it_is(
    stereo: list[ExportedModel], images: list[ExportedModel], segmented: list[ExportedModel]
) -> None:
    onnx = pytest.importorskip("onnx", reason="ONNX needs the extra [export]")
    for model, inputs, output in (
        (stereo[0], {name: [1, 3, "height", "width"] for name in ("left", "right")}, [1, 1, "height", "width"]),
        (images[0], {"images": ["batch", 3, "height", "width"]}, ["batch", 4]),
        (segmented[0], {"images": ["batch", 3, "height", "width"]}, ["batch", 4, "height", "width"]),
    ):
        proto = onnx.load(model.path)
        onnx.checker.check_model(proto)
        shapes = {
            entry.name: [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim]
            for entry in (*proto.graph.input, *proto.graph.output)
        }
        assert shapes == inputs | {"disparity" if model is stereo[0] else "logits": output}
        (entry,) = (entry for entry in proto.metadata_props if entry.key == "autodisp")
        assert json.loads(entry.value) == json.loads(json.dumps(model_file.load(beside(model))[0].to_json()))


def test_the_pt2_file_says_what_it_is(stereo: list[ExportedModel]) -> None:
    with zipfile.ZipFile(stereo[1].path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/extra/autodisp.json"))
        text = archive.read(name)
    assert json.loads(text) == json.loads(json.dumps(model_file.load(beside(stereo[1]))[0].to_json()))


def test_a_stack_is_traced_and_left_as_it_is() -> None:
    network = built(STACK).requires_grad_(True)
    last: Any = network.stages[1]  # type: ignore[index]
    assert isinstance(last, RefinementNetwork)
    layouts = [parameter.stride() for parameter in network.parameters()]
    program = traced(network, "disparity").module()
    assert [parameter.stride() for parameter in network.parameters()] == layouts
    assert all(parameter.requires_grad for parameter in network.parameters())
    for size in [(32, 48), (33, 47), (7, 3)]:
        left, right = pair(size)
        with torch.no_grad():
            torch.testing.assert_close(program(left, right), network(left, right).disparity, atol=1e-3, rtol=0)


def test_what_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path, IMAGES)

    def another(network: Any, task: str, **options: Any) -> Any:
        other = built(IMAGES)
        with torch.no_grad():
            other.classifier.bias += 0.01  # type: ignore[union-attr,operator]
        return traced(other, task)

    monkeypatch.setattr(models, "traced", another)
    with pytest.raises(RunFault, match=r"tiny\.pt2: would differ from PyTorch by 0\.01 on 32x48 images"):
        list(export_model(path, tmp_path / "new" / "out", ["pt2"]))
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.safetensors"]


@pytest.mark.parametrize(
    ("difference", "largest", "kept"),
    [
        (0.0, 0.0, True),
        (1e-3, 1.0, True),
        (1.1e-3, 1.0, False),
        (1.1e-3, 256.0, False),
        (3.9e-3, 1024.0, True),  # float32 counts in steps of 1.2e-4 there
        (4.1e-3, 1024.0, False),
        (float("nan"), float("nan"), False),
        (float("nan"), 1.0, False),
        (float("inf"), 1.0, False),
    ],
)
def test_the_tolerance_is_a_thousandth_and_grows_beyond_256(difference: float, largest: float, kept: bool) -> None:
    found = {(1, 1): Comparison(0.0, 1.0), (2, 3): Comparison(difference, largest)}
    if kept:
        models._check(found, Path("a.onnx"), "px")
        return
    with pytest.raises(RunFault, match=r"a\.onnx: would differ from PyTorch by .* px on 2x3 images, more than "):
        models._check(found, Path("a.onnx"), "px")


def test_files_in_the_way_and_missing_packages_are_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "absent.safetensors"
    (tmp_path / "absent.pt2").touch()
    with pytest.raises(InputError, match=r"absent\.pt2: exists already"):
        next(export_model(path, tmp_path, ["pt2"]))
    with pytest.raises(InputError, match=r"absent\.safetensors: no such file"):
        next(export_model(path, tmp_path, ["pt2"], overwrite=True))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"format=onnx: needs onnx\w*, .*pip install 'autodisp\[export\]'"):
        next(export_model(path, tmp_path, ["onnx"]))


def test_every_format_has_its_packages() -> None:
    assert set(programs.PACKAGES) == set(programs.WRITERS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
def test_a_full_disk_does_not_abort_the_process() -> None:
    program = torch.export.export(nn.Identity(), (torch.zeros(1),))
    with pytest.raises(OSError, match="No space left on device"):
        programs.write_pt2(program, card(IMAGES), Path("/dev/full"))
