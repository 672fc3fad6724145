"""What a ``.pt2`` archive may hold: a table of what computes and what would do something else."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autodisp.errors import InputError
from autodisp.prediction.archives import refuse_code


class Network(nn.Module):
    """With free sides, so that there is arithmetic on them."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        height, width = left.shape[-2:]
        padded = nn.functional.pad(left - right, (0, -width % 4, 0, -height % 4))
        return nn.functional.avg_pool2d(padded, 2)[..., : height // 2, :]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    free = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    views = (torch.rand(1, 3, 9, 14), torch.rand(1, 3, 9, 14))
    program = torch.export.export(Network(), views, dynamic_shapes=(free, free))
    program.example_inputs = None
    path = tmp_path_factory.mktemp("pt2") / "a.pt2"
    torch.export.save(program, path)
    return path.read_bytes()


def changed(good: bytes, change: Callable[[dict[str, Any]], Any], packing: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(packed, "w", packing) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("models/model.json"):
                tree = json.loads(content)
                change(tree)
                content = json.dumps(tree).encode()
            new.writestr(name, content)
    return packed.getvalue()


def nothing(tree: dict[str, Any]) -> None:
    """No change."""


def test_a_program_with_free_sides_passes(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    for data in (good, changed(good, nothing)):
        path.write_bytes(data)
        refuse_code(path)
    with zipfile.ZipFile(path) as archive:
        text = archive.read("a/models/model.json").decode()
    assert "FloorDiv(" in text or "Mod(" in text, "there is no arithmetic in it to look through"


OPERATORS = {
    "torch.ops.aten.conv2d.default": True,
    "torch.ops.aten.__and__.Tensor": True,
    "torch.ops.aten.sym_size.int": True,
    "_operator.floordiv": True,
    "math.ceil": True,
    "torch.sym_max": True,
    "torch.os.system": False,
    "torch.load": False,
    "torch.hub.load": False,
    "torch.ops.load_library": False,
    "torch.ops.aten.from_file.default": False,
    "torch.ops.aten.save.default": False,
    "torch.ops.aten.add": False,
    "torch.ops.aten.add.nothing": False,
    "torch.ops.aten.nothing.default": False,
    "torch.ops.aten.__class__.mro": False,
    "torch.ops.aten.add.__class__": False,
    "torch.ops.prim.Print.default": False,
    "_operator.attrgetter": False,
    "_operator.methodcaller": False,
    "_operator.pow": False,
    "_operator.add.__call__": False,
    "#namespace:name": False,
    "torch.ops.aten.add.Tensor\n": False,
    "": False,
}
SIZES = {
    "Symbol('s1', positive=True, integer=True)": True,
    "Mul(Integer(4), FloorDiv(Add(Symbol('s1'), Integer(-31)), Integer(32)))": True,
    "s1": True,
    "Max(1, s1)": True,
    "open('x', 'w')": False,
    "__import__('os').system('true')": False,
    "().__class__.__base__.__subclasses__()": False,
    "[x for x in (1,)]": False,
    "(lambda: 1)()": False,
    "Symbol('a b; import os')": False,
    "Pow(Integer(10), Integer(10000000000))": False,
    "10**10**10": False,
    "S('open(1)')": False,
    "f'{open(1)}'": False,
}
CONTAINERS = {
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]': True,
    '[1, {"type": "builtins.dict", "context": "[]", "children_spec": []}]': True,
    '[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]': False,
    '[1, {"type": "builtins.tuple", "children_spec": [{"type": "collections.namedtuple"}]}]': False,
    '[1, {"type": ["x"]}]': False,
}


def with_operator(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda tree: tree["graph_module"]["graph"]["nodes"][0].update(target=text)


def with_size(text: str) -> Callable[[dict[str, Any]], None]:
    size = {"as_expr": {"expr_str": text, "hint": None}}
    return lambda tree: tree["graph_module"]["graph"]["tensor_values"]["left"]["sizes"].append(size)


def with_container(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda tree: tree["graph_module"]["module_call_graph"][0]["signature"].update(in_spec=text)


CASES = [
    *(pytest.param(with_operator(text), passes, "operator", id=text) for text, passes in OPERATORS.items()),
    *(pytest.param(with_size(text), passes, "size", id=text) for text, passes in SIZES.items()),
    *(pytest.param(with_container(text), passes, "container", id=text) for text, passes in CONTAINERS.items()),
]


@pytest.mark.parametrize(("change", "passes", "what"), CASES)
def test_what_a_program_may_say(
    good: bytes, tmp_path: Path, change: Callable[[dict[str, Any]], None], passes: bool, what: str
) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(changed(good, change))
    if passes:
        refuse_code(path)
        return
    with pytest.raises(
        InputError, match=rf"a\.pt2: holds a/models/model\.json with the {what} .*autodisp-export"
    ) as caught:
        refuse_code(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["as_operator", "as_graph", "as_custom_obj"])
def test_arguments_are_numbers_and_tensors(good: bytes, tmp_path: Path, key: str) -> None:
    def change(tree: dict[str, Any]) -> None:
        tree["graph_module"]["graph"]["nodes"][0]["inputs"][0]["arg"] = {key: "torch.os.system"}

    (tmp_path / "a.pt2").write_bytes(changed(good, change))
    with pytest.raises(InputError, match=r"with the operator 'torch\.os\.system'"):
        refuse_code(tmp_path / "a.pt2")


def test_other_archives_are_refused(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_bytes(changed(good, nothing, zipfile.ZIP_DEFLATED))
    with pytest.raises(InputError, match=r"a\.pt2: holds compressed parts"):
        refuse_code(path)
    torch.save({"x": torch.ones(2)}, path)
    with pytest.raises(InputError, match=r"a\.pt2: holds a/data\.pkl, which"):
        refuse_code(path)
    for content in (b"", good[:-30], pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pt2: no readable \.pt2 archive"):
            refuse_code(path)
