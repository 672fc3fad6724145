"""A class of the user's own becomes a dataset, or is refused in a line that says what is wrong with it."""

import multiprocessing
import pickle
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from autodisp.cli.run_folder import keep_config
from autodisp.datasets.checking import NEGATIVE, NON_FINITE, SIZES, UNREADABLE, Inspector
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.layout import DifferentSizes
from autodisp.datasets.own import Own
from autodisp.datasets.resolution import halve
from autodisp.errors import InputError, WrongSetting
from autodisp.tasks.disparity.kit import DATASETS
from autodisp.tasks.disparity.sections import OwnConfig
from tests.programs import same

READER = """
import torch
from autodisp.datasets.samples import StereoSample

class Rig:
    has_occlusion = False
    names = ["a", "b", "c"]
    groups = ["x", "x", "y"]

    def __init__(self, root=None):
        self.root = root

    def __len__(self):
        return 3

    def __getitem__(self, index):
        left, right = torch.full((3, 32, 48), 0.25 * index), torch.zeros(3, 32, 48)
        disparity = torch.full((1, 32, 48), float(index))
        valid = torch.ones(1, 32, 48, dtype=torch.bool)
        hidden = torch.zeros_like(valid)
        CHANGE
        return StereoSample(left, right, disparity, valid, hidden, hidden)
"""


def rig(folder: Path, change: str = "pass", *, source: str = READER, name: str = "rig.py") -> str:
    """A file with a reader, as dataset.factory names it."""
    (folder / name).write_text(source.replace("CHANGE", change))
    return f"{folder / name}:Rig"


def test_it_is_read_as_it_is(tmp_path: Path) -> None:
    data = Own(rig(tmp_path), tmp_path)
    assert (data.names, data.groups, len(data), data.has_occlusion) == (["a", "b", "c"], ["x", "x", "y"], 3, False)
    assert float(data[2].disparity.mean()) == 2
    assert bool(data[2].valid.all())


def test_listed_samples_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("b\n")
    data = Own(rig(tmp_path), tmp_path, exclude=tmp_path / "list.txt")
    assert (data.names, data.groups) == (["a", "c"], ["x", "y"])
    assert float(data[1].disparity.mean()) == 2
    (tmp_path / "list.txt").write_text("d\n")
    with pytest.raises(WrongSetting, match="names no sample of this data"):
        Own(rig(tmp_path), tmp_path, exclude=tmp_path / "list.txt")


def test_it_can_be_halved(tmp_path: Path) -> None:
    whole, half = (Own(rig(tmp_path), None, half_resolution=halved)[2] for halved in (False, True))
    assert half.left.shape == (3, 16, 24)
    assert same(half, halve(whole))


def test_what_is_no_disparity_counts_nowhere_and_is_told_by_a_check(tmp_path: Path) -> None:
    data = Own(rig(tmp_path, "disparity[0, 0, :3] = torch.tensor([float('nan'), float('inf'), -1.0])"), tmp_path)
    sample = data[1]
    assert sample.valid[0, 0, :4].tolist() == [False, False, False, True]
    assert sample.disparity[0, 0, :4].tolist() == [0, 0, 0, 1]
    assert data.flaws(1) == DisparityFlaws(non_finite=2, negative=1)
    found = Inspector(data)(1).found
    assert [(note.kind, note.is_note) for note in found] == [(NON_FINITE, True), (NEGATIVE, True)]


def test_a_file_may_import_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_the_rig.py").write_text("NAMES = ['p', 'q', 'r']\n")
    source = "from neighbour_of_the_rig import NAMES\n" + READER.replace('["a", "b", "c"]', "NAMES")
    assert Own(rig(tmp_path, source=source), None).names == ["p", "q", "r"]
    assert str(tmp_path) not in sys.path


def test_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    first = Own(rig(tmp_path / "one"), None)
    second = Own(rig(tmp_path / "two", source=READER.replace('["a", "b", "c"]', '["d", "e", "f"]')), None)
    assert (first.names, second.names) == (["a", "b", "c"], ["d", "e", "f"])
    assert pickle.loads(pickle.dumps(first)).names == ["a", "b", "c"]


def test_a_function_may_make_it(tmp_path: Path) -> None:
    source = READER.replace("class Rig", "class Reader") + "def Rig(root):\n    return Reader(root)\n"
    assert len(Own(rig(tmp_path, source=source), tmp_path)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_it(tmp_path: Path, method: str) -> None:
    data = Own(rig(tmp_path), tmp_path)
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply(mean_disparity, (data, 2))
    assert found == 2


def mean_disparity(data: Own, index: int) -> float:
    return float(data[index].disparity.mean())


def test_views_with_a_graph_lose_it_and_unknown_masks_are_empty(tmp_path: Path) -> None:
    sample = Own(rig(tmp_path, "left.requires_grad_(); hidden[:] = True"), tmp_path)[1]
    assert not sample.left.requires_grad
    assert not sample.occluded.any()
    assert not sample.out_of_frame.any()


def test_a_module_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig(tmp_path, name="an_installed_reader.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert Own("an_installed_reader:Rig", None).names == ["a", "b", "c"]
    with pytest.raises(WrongSetting, match=r"builtins:list: called with dataset\.root=.*, raised TypeError"):
        Own("builtins:list", tmp_path)
    with pytest.raises(WrongSetting, match=r"autodisp\.datasets\.shapes3d:Shapes3D: called with .* raised TypeError"):
        Own("autodisp.datasets.shapes3d:Shapes3D", tmp_path)
    with pytest.raises(WrongSetting, match=r"No module named 'no_such'; for a file write FILE\.py:CLASS"):
        Own("no_such:Rig", tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("left = left * 255 + 255", "left goes from 318.75 to 318.75; views must lie in 0..1"),
        ("right[0] = float('nan')", "right goes from nan to nan; views must lie in 0..1"),
        ("left = left.permute(1, 2, 0)", r"left is (32, 48, 3) torch.float32 on cpu; it must be a tensor (3, H, W)"),
        ("disparity = disparity[0]", r"disparity is (32, 48) torch.float32 on cpu; it must be a tensor (1, H, W)"),
        ("disparity = disparity.double()", "disparity is (1, 32, 48) torch.float64 on cpu; it must be"),
        ("valid = valid.float()", "valid is (1, 32, 48) torch.float32 on cpu; it must be a tensor (1, H, W) of "),
        ("left = right = left[:, :0]", "left is (3, 0, 48) torch.float32 on cpu; it must be a tensor"),
        ("left = left.to('meta')", "left is (3, 32, 48) torch.float32 on meta; it must be a tensor"),
        ("assert False", "raised AssertionError at line 21 of "),
        ("hidden = None", "occluded is NoneType; it must be"),
        ("return left", "is a Tensor; it must be a StereoSample"),
        ("raise KeyError('p')", "raised KeyError: 'p' at line 21 of "),
        ("import sys; sys.exit('p')", "raised SystemExit: p at line 21 of "),
    ],
)
def test_a_sample_that_is_none_is_named(tmp_path: Path, change: str, says: str) -> None:
    data = Own(rig(tmp_path, change), tmp_path)
    with pytest.raises(InputError) as caught:
        data[1]
    assert "sample 'b'" in str(caught.value)
    assert says in str(caught.value)
    assert [problem.kind for problem in Inspector(data)(1).found] == [UNREADABLE]


def test_different_sizes_are_told_as_such(tmp_path: Path) -> None:
    data = Own(rig(tmp_path, "right = right[:, :30, :40]"), tmp_path)
    with pytest.raises(DifferentSizes, match=r"right is 40x30 but left is 48x32 \(width x height\)"):
        data[0]
    assert [problem.kind for problem in Inspector(data)(0).found] == [SIZES]


def test_what_numpy_finds_of_occlusion_is_a_bool(tmp_path: Path) -> None:
    source = READER.replace("has_occlusion = False", "has_occlusion = __import__('numpy').all([True])")
    assert Own(rig(tmp_path, source=source), None).has_occlusion is True


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("class Rig", "class Reg", "has no class 'Rig'"),
        ("self.root = root", "raise OSError('gone')", "raised OSError: gone at line 11 of "),
        ("groups =", "scenes =", "has no groups; docs/data.md lists what such a class needs"),
        ('groups = ["x", "x", "y"]', 'groups = ["x"]', "has 3 samples, 3 names and 1 groups"),
        ('["a", "b", "c"]', '["a", "b", "a"]', "names[0] and names[2] are both 'a'; each needs one of its own"),
        ('["a", "b", "c"]', "[1, 2, 3]", "names[0] is 1; it must be text"),
        ("has_occlusion = False", "has_occlusion = print", "has_occlusion is a builtin_function_or_method; it must be"),
        ("self.root = root", "raise SystemExit('usage: rig')", "raised SystemExit: usage: rig at line 11 of "),
        ("import torch", "raise SystemExit('usage: rig')", "importing it raised SystemExit: usage: rig at line 2 of "),
        ("import torch", "open('no_such_list.txt')", "importing it raised FileNotFoundError: [Errno 2]"),
        ("import torch", "import no_such", "importing it raised ModuleNotFoundError"),
        ("import torch", "import torch torch", "importing it raised SyntaxError"),
    ],
)
def test_a_class_that_is_no_dataset_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in READER
    with pytest.raises(WrongSetting, match=f"^dataset.factory={tmp_path}/rig.py:Rig.*{re.escape(says)}"):
        Own(rig(tmp_path, source=READER.replace(old, new)), tmp_path)


def test_what_its_file_changes_ends_with_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    change = "import os, torch; os.chdir('..'); torch.set_grad_enabled(False)"
    Own(rig(tmp_path, source=READER.replace("import torch", change)), tmp_path)
    assert Path.cwd() == tmp_path / "here"
    assert torch.is_grad_enabled()


def test_no_samples(tmp_path: Path) -> None:
    source = READER.replace('["a", "b", "c"]', "[]").replace('["x", "x", "y"]', "[]").replace("return 3", "return 0")
    with pytest.raises(WrongSetting, match="has no sample"):
        Own(rig(tmp_path, source=source), tmp_path)
    with pytest.raises(WrongSetting, match=r"there is no file .*none\.py; write FILE\.py:CLASS"):
        Own(f"{tmp_path}/none.py:Rig", tmp_path)
    with pytest.raises(WrongSetting, match=r"dataset\.factory is not set"):
        Own(None, tmp_path)
    with pytest.raises(WrongSetting, match=r"dataset\.root=' ': must be what .* is called with, or null"):
        Own(rig(tmp_path), " ")


def test_what_is_too_small_to_be_halved(tmp_path: Path) -> None:
    change = "left, right, disparity, valid, hidden = (x[:, :1] for x in (left, right, disparity, valid, hidden))"
    assert Own(rig(tmp_path, change), tmp_path)[0].left.shape == (3, 1, 48)
    with pytest.raises(InputError, match="48x1 cannot be halved"):
        Own(rig(tmp_path, change), tmp_path, half_resolution=True)[0]


def test_where_it_lies_does_not_depend_on_where_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = OwnConfig(factory="rig.py:Rig", root="data")
    assert (config.factory, config.root) == (f"{tmp_path}/rig.py:Rig", f"{tmp_path}/data")
    given = OmegaConf.create({"dataset": {"name": "own", "factory": "rig.py:Rig", "root": "data"}})
    keep_config(tmp_path, given, SimpleNamespace(dataset=config))
    kept = OmegaConf.load(tmp_path / "config.yaml")
    assert kept == {"dataset": {"name": "own", "factory": config.factory, "root": config.root}}
    config = OwnConfig(factory="package.module:Rig")
    assert (config.factory, config.root) == ("package.module:Rig", None)


def test_the_programs_make_it_of_their_section(tmp_path: Path) -> None:
    config = OwnConfig(factory=rig(tmp_path), root=str(tmp_path))
    assert DATASETS["own"].build(config, seed=0, split="train", strict=True).names == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"dataset\.factory=rig\.py: must be a file and a class in it"):
        OwnConfig(factory="rig.py")
