"""autodisp.load opens a model by its form and hands out what its task needs; images come in as users have them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import autodisp
from autodisp import model_file
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.errors import InputError
from autodisp.prediction.image_models import ImageClassifier, ImageModel
from autodisp.prediction.inference import StereoMatcher
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.sections import SCENES_TEST_SEED
from tests.made_models import write_model

DISPARITY = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3)
IMAGES = ClassificationTask(channels=2, layers=3, classes=4, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
CLASSES = ["a", "b", "c", "d"]


def test_a_disparity_model_is_called_on_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "a.safetensors", DISPARITY, "autodispnet")
    matcher = autodisp.load(path)
    assert isinstance(matcher, StereoMatcher)
    left, right = torch.rand(2, 1, 3, 20, 30)
    _, _, network = model_file.load_network(path)
    with torch.no_grad():
        expected = network(left, right).disparity
    torch.testing.assert_close(matcher(left, right), expected)
    monkeypatch.setattr(model_file, "SHIPPED", path)
    torch.testing.assert_close(autodisp.load()(left, right), expected)
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.testing.assert_close(autodisp.load("~/a.safetensors")(left, right), expected)


def test_a_classification_model_is_called_on_images(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.safetensors", IMAGES, "darts_v2", classes=CLASSES)
    classifier = autodisp.load(str(path))
    assert isinstance(classifier, ImageClassifier)
    assert classifier.classes == CLASSES
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    _, _, network = model_file.load_network(path)
    with torch.no_grad():
        expected = network(images / 255).logits.softmax(dim=1)
    torch.testing.assert_close(classifier(images), expected)
    torch.testing.assert_close(classifier(images / 255), expected)
    torch.testing.assert_close(classifier(images.permute(0, 2, 3, 1).numpy()), expected)
    torch.testing.assert_close(classifier(images.numpy().astype(np.uint16).transpose(0, 2, 3, 1) * 257), expected)
    torch.testing.assert_close(classifier(images[0]), expected[:1])


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 4)


def test_an_array_of_an_image_may_be_read_only() -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    image.flags.writeable = False  # as of np.asarray(PIL image)
    assert ImageClassifier(Constant())(image).shape == (1, 4)


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        *(
            (np.zeros(shape, np.float32), ValueError, r"images (has the shape|holds no pixel)")
            for shape in ((3, 8, 10), (2, 3, 8, 10), (8, 10, 4), (1, 1, 8, 10, 3), (0, 10, 3))
        ),
        (np.zeros((8, 10, 3), np.int64), TypeError, r"must be uint8, uint16, or floating in 0\.\.1"),
        (np.zeros((8, 10, 3), np.bool_), TypeError, r"must be uint8, uint16, or floating in 0\.\.1"),
        (np.full((8, 10, 3), 255.0, np.float32), ValueError, r"floating colours must be in 0\.\.1"),
        (Image.new("RGB", (10, 8)), TypeError, r"images is a Image: must be a numpy array or a tensor, such as"),
        (np.full((8, 10, 3), np.nan, np.float32), ValueError, r"floating colours must be in 0\.\.1"),
    ],
)
def test_other_images_are_refused(images: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        ImageClassifier(Constant())(images)


def test_as_many_images_as_the_network_takes() -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    with pytest.raises(TypeError, match=r"2 images: the network takes 1; np\.stack makes a batch"):
        ImageClassifier(Constant())(image, image)
    with pytest.raises(TypeError, match="1 images: the network takes 2"):
        ImageModel(Constant(), inputs=2)(image)


def test_the_result_takes_part_in_autograd() -> None:
    result = ImageClassifier(Constant())(torch.zeros(1, 3, 8, 8))
    weight = torch.ones(4, requires_grad=True)
    (result * weight).sum().backward()
    torch.testing.assert_close(weight.grad, torch.full((4,), 0.25))


def test_a_missing_model_says_which_program_writes_it(tmp_path: Path) -> None:
    for name, program in (
        ("a.safetensors", "autodisp-train"),
        ("a.onnx", "autodisp-export"),
        ("a.pt", "autodisp-train"),
    ):
        with pytest.raises(InputError, match=f"{name}: no such file; {program}"):
            autodisp.load(tmp_path / name)


def test_the_shipped_network_is_small_free_of_foreign_data_and_matches() -> None:
    assert model_file.SHIPPED.stat().st_size < 5_000_000
    card, _ = model_file.load(model_file.SHIPPED)
    assert (card.task, card.about["dataset"], card.about["init"]) == ("disparity", "shapes3d", None)
    matcher = autodisp.load()
    held_out = Shapes3D(length=2, seed=SCENES_TEST_SEED, height=192, width=384, max_disparity=96)
    errors, constant = [], []
    for sample in (held_out[0], held_out[1]):
        disparity = matcher(sample.left, sample.right)
        errors.append(float((disparity[0] - sample.disparity).abs().mean()))
        constant.append(float((sample.disparity - sample.disparity.median()).abs().mean()))
    assert np.mean(errors) < np.mean(constant) / 3


def test_the_shipped_model_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "a.safetensors", DISPARITY, "autodispnet")
    monkeypatch.setattr(model_file, "SHIPPED", path)
    assert model_file.model_path("shipped") == model_file.model_path(None) == path
    assert isinstance(autodisp.load("shipped"), StereoMatcher)
    monkeypatch.setattr(model_file, "SHIPPED", tmp_path / "absent")
    with pytest.raises(InputError, match="ships no weights: name a model"):
        autodisp.load("shipped")
