"""What every reader of stereo files does: lists, incomplete frames, groups, halving."""

from pathlib import Path
from typing import Unpack

import pytest
import torch

from autodisp.datasets.layout import NotThere, tree_of
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_files import Options, StereoFiles
from autodisp.errors import InputError
from tests.programs import same


class Rig(StereoFiles):
    """Views a/l/*.png and a/r/*.png, whose content is never looked at."""

    def __init__(self, root: Path, **options: Unpack[Options]) -> None:
        trees = [tree_of(root, f"{{scene}}/{side}/{{stem}}.png", ["a", "b"]) for side in "lr"]
        super().__init__(root, trees, empty="holds nothing", **options)

    def _read(self, *files: Path) -> StereoSample:
        views = [torch.full((3, 4, 6), float(path.stem) / 9) for path in files]
        mask = torch.ones(1, 4, 6, dtype=torch.bool)
        return StereoSample(*views, torch.full((1, 4, 6), 3.0), mask, ~mask, ~mask)


NAMES = ["a/1", "a/2", "b/1"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        for side in "lr":
            path = tmp_path / name.replace("/", f"/{side}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".png").touch()
    return tmp_path


def test_frames_in_order_with_their_files(root: Path) -> None:
    data = Rig(root)
    assert (data.names, data.groups, len(data), data.incomplete) == (NAMES, NAMES, 3, {})
    assert data.paths(1) == [root / "a/l/2.png", root / "a/r/2.png"]
    assert same(halve(data[1]), Rig(root, half_resolution=True)[1])


def test_a_row_of_pixels_is_not_halved(root: Path) -> None:
    class Row(Rig):
        def _read(self, *files: Path) -> StereoSample:
            return StereoSample(*(plane[:, :1] for plane in super()._read(*files)))

    with pytest.raises(InputError, match=r"a/l/1\.png: a sample of 6x1 cannot be halved; set dataset\.half_resol"):
        Row(root, half_resolution=True)[0]


def test_a_list_leaves_frames_out(root: Path) -> None:
    listed = root / "list.txt"
    listed.write_text("a/2\n# and\nb/1 # dark")
    assert Rig(root, exclude=listed).names == ["a/1"]
    listed.write_text("b/2")
    with pytest.raises(InputError, match=r"'b/2', names no sample.* named like a/1"):
        Rig(root, exclude=listed)
    listed.write_text("\n".join(NAMES))
    with pytest.raises(NotThere, match=r"dataset\.exclude=.*list\.txt: leaves no frame of .*, not even a/1: take"):
        Rig(root, exclude=listed)
    with pytest.raises(NotThere, match=r"dataset\.root=.*none: holds nothing"):
        Rig(root / "none")


def test_incomplete_frames_are_refused_or_described(root: Path) -> None:
    (root / "a/r/2.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 frames are incomplete: a/r/2\.png missing while a/l/2\.png is there"):
        Rig(root)
    data = Rig(root, strict=False)
    assert data.names == ["a/1", "b/1"]
    assert list(data.incomplete) == ["a/2"]
    assert data.paths(1)[0] == root / "b/l/1.png"
    (root / "list.txt").write_text("a/2")
    excluded = Rig(root, exclude=root / "list.txt")
    assert (excluded.names, excluded.incomplete) == (data.names, {})
