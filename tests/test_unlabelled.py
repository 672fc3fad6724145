"""Pairs without ground truth: how they are named, paired and refused."""

import re
from pathlib import Path

import pytest
import torch

from autodisp.datasets.images import write_png
from autodisp.datasets.unlabelled import UnlabelledPairs
from autodisp.errors import InputError
from autodisp.tasks.disparity.kit import DATASETS
from autodisp.tasks.disparity.sections import PairsConfig


def write(path: Path, value: int, size: tuple[int, int] = (8, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, torch.full((3, *size), value / 255))


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    for number in range(3):
        write(tmp_path / f"left/{number}.png", 10 * number)
        write(tmp_path / f"right/{number}.png", 10 * number + 1)
    return tmp_path


def opened(*, strict: bool = True, **settings: object) -> UnlabelledPairs:
    section = PairsConfig(**{key: str(value) for key, value in settings.items()})  # type: ignore[arg-type]
    dataset = DATASETS["pairs"].build(section, seed=0, split="train", strict=strict)
    assert isinstance(dataset, UnlabelledPairs)
    return dataset


def views(dataset: UnlabelledPairs) -> dict[str, tuple[int, int]]:
    """Value of both views by name."""
    found = {}
    for index, name in enumerate(dataset.names):
        sample = dataset[index]
        found[name] = (round(float(sample.left[0, 0, 0]) * 255), round(float(sample.right[0, 0, 0]) * 255))
    return found


def test_one_folder_or_two_or_patterns(rig: Path) -> None:
    expected = [(0, 1), (10, 11), (20, 21)]
    assert views(opened(root=rig)) == dict(zip(["left/0", "left/1", "left/2"], expected, strict=True))
    by_folders = opened(left=rig / "left", right=rig / "right")
    assert views(by_folders) == dict(zip(["0", "1", "2"], expected, strict=True))
    assert views(opened(left=rig / "left" / "[12].png", right=rig / "right" / "[12].png")) == {
        "1": (10, 11),
        "2": (20, 21),
    }


def test_a_sample_has_no_ground_truth(rig: Path) -> None:
    dataset = opened(root=rig)
    sample = dataset[1]
    assert sample.left.shape == sample.right.shape == (3, 8, 10)
    assert not any(plane.any() for plane in sample[2:])
    assert [plane.dtype for plane in sample[2:]] == [torch.float32, torch.bool, torch.bool, torch.bool]
    assert not dataset.has_occlusion
    assert dataset.groups == dataset.names
    assert dataset.paths(1) == [rig / "left/1.png", rig / "right/1.png"]


def test_a_pair_is_halved(rig: Path) -> None:
    section = PairsConfig(root=str(rig), half_resolution=True)
    assert DATASETS["pairs"].build(section, seed=0, split="train", strict=True)[0].left.shape == (3, 4, 5)


def test_samples_are_left_out_by_name(rig: Path) -> None:
    (rig / "list.txt").write_text("left/1\n")
    assert opened(root=rig, exclude=rig / "list.txt").names == ["left/0", "left/2"]
    (rig / "list.txt").write_text("left/7\n")
    with pytest.raises(InputError, match=r"line 1, 'left/7', names no sample"):
        opened(root=rig, exclude=rig / "list.txt")


def test_a_view_without_a_partner_is_named(rig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig / "right/1.png").unlink()
    lonely = str(rig / "left/1.png")
    with pytest.raises(InputError, match=rf"^{re.escape(lonely)}: has no partner .*\. Complete the pairs"):
        opened(root=rig)
    dataset = opened(root=rig, strict=False)
    assert (dataset.names, list(dataset.incomplete)) == (["left/0", "left/2"], [lonely])
    (rig / "list.txt").write_text(f"{lonely}\n")
    monkeypatch.chdir(rig)
    for root in (rig, "."):  # the list is for the same data by any path
        assert opened(root=root, exclude=rig / "list.txt").names == ["left/0", "left/2"]
    assert list(opened(root=".", strict=False).incomplete) == [lonely]
    write(rig / "left/3.png", 0)
    with pytest.raises(InputError, match=r"left/3\.png: has no partner"):
        opened(root=rig, exclude=rig / "list.txt")


def test_views_of_different_sizes_are_named(rig: Path) -> None:
    write(rig / "right/1.png", 0, (8, 12))
    with pytest.raises(InputError, match=r"right/1\.png: is 12x8 but .*left/1\.png is 10x8"):
        opened(root=rig)
    dataset = opened(root=rig, strict=False)
    with pytest.raises(InputError, match=r"right/1\.png: is 12x8 but .*left/1\.png is 10x8"):
        dataset[1]
    (rig / "list.txt").write_text("left/1\n")
    assert opened(root=rig, exclude=rig / "list.txt").names == ["left/0", "left/2"]


def test_a_view_that_is_no_image_is_named(rig: Path) -> None:
    (rig / "right/1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"right/1\.png: is not a readable image"):
        opened(root=rig)
    assert len(opened(root=rig, strict=False)) == 3


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"left": "left", "right": "nowhere"}, "^dataset=pairs: nowhere: there is no such file or folder"),
        ({"left": "left/*.png", "right": "none/*.png"}, "^dataset=pairs: none/.*matches no image"),
        ({"left": "b"}, "^dataset.right=null: must be given along with the other views"),
    ],
)
def test_what_is_refused(settings: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "left/0.png", 0)
    with pytest.raises(InputError, match=says):
        opened(**settings)
