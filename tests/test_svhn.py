"""SVHN on MATLAB files written here in the official format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from autodisp.datasets.svhn import SVHN
from autodisp.errors import InputError


def put(path: Path, labels: list[float], *, dtype: str = "uint8", **changes: object) -> np.ndarray:
    images = np.random.default_rng(len(labels)).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    content = {"X": images, "y": np.array(labels, dtype).reshape(-1, 1)} | changes
    savemat(path, {name: value for name, value in content.items() if value is not None}, do_compression=True)
    return images


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("split", ["train", "test", "extra"])
def test_images_and_labels(tmp_path: Path, split: str, dtype: str) -> None:
    labels = [1, 10, 9, 5, 10, 2, 3, 4, 6, 7, 8]
    stored = put(tmp_path / f"{split}_32x32.mat", labels, dtype=dtype)
    data = SVHN(tmp_path, split=split)
    assert data.images.dtype == torch.uint8
    assert data.images.shape == (11, 3, 32, 32)
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == [1, 0, 9, 5, 0, 2, 3, 4, 6, 7, 8]
    assert tuple(data.classes) == tuple("0123456789")
    for n, channel, y, x in ((0, 0, 0, 0), (3, 2, 31, 7), (10, 1, 4, 30)):
        assert int(data.images[n, channel, y, x]) == stored[y, x, channel, n]
        assert float(data[n].image[channel, y, x]) == pytest.approx(stored[y, x, channel, n] / 255, rel=1e-7)
    assert data[1].label == 0


def test_a_single_image(tmp_path: Path) -> None:
    stored = put(tmp_path / "train_32x32.mat", [3])
    put(tmp_path / "test_32x32.mat", [3], X=stored[..., 0])
    assert torch.equal(SVHN(tmp_path).images, SVHN(tmp_path, split="test").images)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": [1, 0]}, "label 0.*1 to 10"),
        ({"labels": [1, 11]}, "label 11"),
        ({"labels": [1, 2.5], "dtype": "float64"}, "label 2.5"),
        ({"labels": [1, np.nan], "dtype": "float64"}, "label nan"),
        ({"labels": [1, 2], "y": np.array([[1], [2], [3]])}, "one label.*2 images.*found 3"),
        ({"labels": [1, 2], "y": None}, "one label"),
        ({"labels": [1, 2], "X": None}, "images X.*none"),
        ({"labels": [1, 2], "X": np.zeros((2, 32, 32, 3), np.uint8)}, r"32x32x3xN.*\(2, 32, 32, 3\)"),
        ({"labels": [1, 2], "X": np.zeros((32, 32, 3, 2))}, "uint8.*float64"),
        ({"labels": [], "X": np.zeros((32, 32, 3, 0), np.uint8)}, "0 images"),
    ],
)
def test_wrong_content_is_named(tmp_path: Path, changes: dict, says: str) -> None:
    path = tmp_path / "train_32x32.mat"
    put(path, changes.pop("labels"), **changes)
    with pytest.raises(InputError, match=f"{path}.*{says}"):
        SVHN(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 127, 200, 2000])
def test_truncated_files_are_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "train_32x32.mat"
    put(path, [1, 2, 3])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=str(path)):
        SVHN(tmp_path)


def test_wrong_settings(tmp_path: Path) -> None:
    put(tmp_path / "train_32x32.mat", [1])
    for root, split in ((None, "train"), (tmp_path, "test"), (tmp_path / "none", "train")):
        with pytest.raises(InputError, match=rf"dataset\.root.*{split}_32x32\.mat.*ufldl\.stanford\.edu.*shapes3d"):
            SVHN(root, split=split)
    with pytest.raises(InputError, match=r"split='val'.*train, test, extra"):
        SVHN(tmp_path, split="val")


def test_a_list_leaves_images_out(tmp_path: Path) -> None:
    put(tmp_path / "train_32x32.mat", [1, 2, 3])
    (tmp_path / "list.txt").write_text("train/00001\ntest/00700\n")
    assert SVHN(tmp_path, exclude=tmp_path / "list.txt").labels.tolist() == [1, 3]
