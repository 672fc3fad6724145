"""CIFAR-10 and CIFAR-100 on files written here in both official layouts."""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from autodisp.datasets.cifar import CIFAR10, CIFAR100
from autodisp.datasets.layout import DamagedFiles
from autodisp.errors import InputError

NAMES10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def pixels_of(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def put_binary(path: Path, labels: Sequence[Sequence[int]], pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(label) + image.tobytes() for label, image in zip(labels, pixels, strict=True)))


@pytest.fixture
def binary10(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    for i in range(1, 6):
        put_binary(folder / f"data_batch_{i}.bin", [[(i + j) % 10] for j in range(i)], pixels_of(i, i))
    put_binary(folder / "test_batch.bin", [[9], [0]], pixels_of(2, 0))
    (folder / "batches.meta.txt").write_text("\n".join(NAMES10) + "\n\n")
    return tmp_path


def test_binary_cifar10(binary10: Path) -> None:
    for root in (binary10, str(binary10), binary10 / "cifar-10-batches-bin"):
        data = CIFAR10(root)
        assert len(data) == 15
        assert data.images.shape == (15, 3, 32, 32)
        assert data.images.dtype == torch.uint8
        assert data.labels.tolist() == [(i + j) % 10 for i in range(1, 6) for j in range(i)]
        assert data.labels.dtype == torch.int64
        assert tuple(data.classes) == NAMES10
        stored = np.concatenate([pixels_of(i, i) for i in range(1, 6)])
        for i in (0, 1, 7, 14):
            # A record holds the red plane first, each plane row by row.
            image = data[i].image
            assert image.dtype == torch.float32
            assert float(image[2, 3, 5]) == pytest.approx(stored[i][2 * 1024 + 3 * 32 + 5] / 255, rel=1e-7)
            assert torch.equal((image * 255).round().to(torch.uint8), data.images[i])
            assert data[i].label == int(data.labels[i])
            assert type(data[i].label) is int
    assert CIFAR10(binary10, split="test").labels.tolist() == [9, 0]
    with pytest.raises(IndexError):
        data[15]


def test_binary_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    put_binary(folder / "train.bin", [[19, 99], [0, 0], [7, 42]], pixels_of(3, 1))
    put_binary(folder / "test.bin", [[1, 2]], pixels_of(1, 2))
    data = CIFAR100(tmp_path)
    assert data.labels.tolist() == [99, 0, 42]
    assert data.images[2].flatten().tolist() == pixels_of(3, 1)[2].tolist()
    assert len(set(data.classes)) == 100
    (folder / "fine_label_names.txt").write_text("\n".join(f"name {i}" for i in range(100)))
    data = CIFAR100(folder, split="test")
    assert data.labels.tolist() == [2]
    assert data.classes[2] == "name 2"


def test_class_names_are_checked_and_may_be_absent(binary10: Path) -> None:
    names = binary10 / "cifar-10-batches-bin" / "batches.meta.txt"
    names.write_text("cat\ndog\n")
    with pytest.raises(InputError, match=f"{names}: has 2 class names.*10"):
        CIFAR10(binary10)
    names.write_text("\ufeff" + "\n".join(NAMES10), encoding="utf-8")
    assert CIFAR10(binary10).classes == NAMES10
    names.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=str(names)):
        CIFAR10(binary10)
    names.unlink()
    assert tuple(CIFAR10(binary10).classes) == NAMES10


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (bytes(3072), "3072 bytes.*3073"),
        (bytes(3074 * 2), "6148 bytes.*3073"),
        (bytes(3073) + b"\n", "3074 bytes.*3073"),
        (bytes(3073) + bytes([10]) + bytes(3072), "record 1 has the label 10.*10 classes"),
        (bytes([255]) + bytes(3072), "record 0 has the label 255"),
    ],
)
def test_malformed_binary_files_are_named(binary10: Path, data: bytes, says: str) -> None:
    path = binary10 / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path}.*{says}"):
        CIFAR10(binary10)
    assert len(CIFAR10(binary10, split="test")) == 2


@pytest.mark.parametrize(("labels", "says"), [([20, 5], "label 20.*20 classes"), ([5, 100], "label 100.*100 classes")])
def test_both_labels_of_cifar100_are_checked(tmp_path: Path, labels: list[int], says: str) -> None:
    put_binary(tmp_path / "cifar-100-binary" / "train.bin", [labels], pixels_of(1, 0))
    with pytest.raises(InputError, match=f"train.bin.*{says}"):
        CIFAR100(tmp_path)


def test_missing_files_are_named(binary10: Path) -> None:
    path = binary10 / "cifar-10-batches-bin" / "data_batch_4.bin"
    path.unlink()
    with pytest.raises(InputError, match=str(path)):
        CIFAR10(binary10)


def test_wrong_settings(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "none", tmp_path / "cifar-10-batches-py"):
        with pytest.raises(InputError, match=r"-batches-py or cifar-10-batches-bin.*kriz/cifar\.html.*shapes3d"):
            CIFAR10(root)
    with pytest.raises(InputError, match=r"split='val'.*train, test"):
        CIFAR10(tmp_path, split="val")


def put_pickle(path: Path, content: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def pickled10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    train = []
    for i in range(1, 6):
        content = {"data": pixels_of(i, i), "labels": [(i + j) % 10 for j in range(i)]}
        train.append([f"data_batch_{i}", put_pickle(folder / f"data_batch_{i}", content)])
    test = put_pickle(folder / "test_batch", {"data": pixels_of(2, 0), "labels": [9, 0]})
    meta = put_pickle(folder / "batches.meta", {"label_names": list(NAMES10)})
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", [["test_batch", test]])
    monkeypatch.setattr(
        torchvision.datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": meta}
    )
    return tmp_path


def test_both_layouts_give_the_same(pickled10: Path, binary10: Path) -> None:
    assert pickled10 == binary10
    for split in ("train", "test"):
        pickled = CIFAR10(pickled10, split=split)
        assert torch.equal(CIFAR10(pickled10 / "cifar-10-batches-py", split=split).images, pickled.images)
        binary = CIFAR10(binary10 / "cifar-10-batches-bin", split=split)
        assert torch.equal(pickled.images, binary.images)
        assert torch.equal(pickled.labels, binary.labels)
        assert pickled.labels.dtype == torch.int64
        assert tuple(pickled.classes) == tuple(binary.classes)


def test_a_relative_root_may_be_the_pickle_folder(pickled10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pickled10 / "cifar-10-batches-py")
    assert len(CIFAR10(".")) == 15


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle of unknown origin was opened",))


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_an_altered_pickle_is_named_and_never_opened(pickled10: Path, name: str) -> None:
    path = pickled10 / "cifar-10-batches-py" / name
    put_pickle(path, Bomb())
    with pytest.raises(InputError, match=f"{path}.*md5"):
        CIFAR10(pickled10)
    path.unlink()
    with pytest.raises(InputError, match=f"{path}: is missing"):
        CIFAR10(pickled10)


def test_the_official_md5_are_asked_for(tmp_path: Path) -> None:
    put_pickle(tmp_path / "cifar-100-python" / "train", Bomb())
    with pytest.raises(InputError, match=r"train: is not the official file.*16019d7e3df5f24257cddd939b257f8d"):
        CIFAR100(tmp_path)


def test_the_shared_images_have_the_published_statistics(genuine: Callable[[str], Path]) -> None:
    data = CIFAR10(genuine("cifar10_small"))
    assert torch.bincount(data.labels).tolist() == [100] * 10
    channels = data.images.double().div(255).permute(1, 0, 2, 3).flatten(1)
    # Means of 1,000 images, each of standard deviation about 0.12, scatter by 0.004.
    assert channels.mean(1).tolist() == pytest.approx(data.mean, abs=0.012)
    assert channels.std(1).tolist() == pytest.approx(data.std, abs=0.012)


def test_a_list_leaves_images_out(binary10: Path) -> None:
    whole = CIFAR10(binary10)
    assert whole.names[:2] == ["train/00000", "train/00001"]
    assert len(whole.names) == 15
    listed = binary10 / "list.txt"
    listed.write_text("train/00002  # of the second file\ntrain/00014\ntest/00001\nextra/00000\n")
    data = CIFAR10(binary10, exclude=listed)
    kept = [index for index in range(15) if index not in (2, 14)]
    assert torch.equal(data.images, whole.images[kept])
    assert torch.equal(data.labels, whole.labels[kept])
    assert data.names == [f"train/{index:05d}" for index in kept], "a name stays, whatever else is left out"
    assert CIFAR10(binary10, split="test", exclude=listed).names == ["test/00000"]
    for slip in ("train/00015", "train/2", "valid/00000", "00002"):
        listed.write_text(slip)
        with pytest.raises(InputError, match=f"'{slip}', names no sample of this data"):
            CIFAR10(binary10, exclude=listed)
    listed.write_text("\n".join(whole.names))
    with pytest.raises(InputError, match="leaves no image of the train split"):
        CIFAR10(binary10, exclude=listed)


def test_all_damaged_files_are_told(binary10: Path) -> None:
    folder = binary10 / "cifar-10-batches-bin"
    for number in (2, 5):
        (folder / f"data_batch_{number}.bin").write_bytes(b"0")
    with pytest.raises(DamagedFiles, match=r"data_batch_2\.bin: has 1 bytes.*; 1 more file\(s\)") as caught:
        CIFAR10(binary10)
    assert [message.split(": ")[0] for message in caught.value.messages] == [
        str(folder / "data_batch_2.bin"),
        str(folder / "data_batch_5.bin"),
    ]
