"""Exported files open as modules; whatever autodisp-export did not write is refused before torch unpickles it."""

import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.errors import InputError
from autodisp.prediction.exported import OnnxNetwork, open_exported
from tests.test_fuzz import Trap

CPU = torch.device("cpu")
DESCRIPTION = {"schema": "autodisp/model", "version": 1, "task": "disparity", "about": {"steps": 3}}


class Difference(nn.Module):
    """Stands for a network: its output is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([2.0]), requires_grad=False)
        self.register_buffer("shift", torch.arange(5.0))
        self.register_buffer("thirds", torch.full((1, 3, 1, 1), 1 / 3))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        made = torch.arange(5.0, device=left.device)
        mean = functional.conv2d(left - right, self.thirds).to(torch.float32)  # under autocast of another dtype before
        return self.scale * mean + self.shift + made


def views(batch: int) -> tuple[Tensor, Tensor]:
    left, right = torch.rand(2, batch, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return left, right


def write_pt2(path: Path, description: Any = DESCRIPTION) -> Path:
    program = torch.export.export(Difference(), views(1))
    program.example_inputs = None
    extra = {} if description is None else {"autodisp.json": json.dumps(description)}
    torch.export.save(program, path, extra_files=extra)
    return path


def write_onnx(path: Path, description: Any = DESCRIPTION) -> Path:
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra [export]")
    onnx = pytest.importorskip("onnx", reason="ONNX needs the extra [export]")
    shape = [1, 3, 4, 5]
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["left", "right"], ["difference"]),
            helper.make_node("ReduceMean", ["difference", "axes"], ["mean"]),
            helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["disparity"]),
        ],
        "difference",
        [helper.make_tensor_value_info(name, real, shape) for name in ("left", "right")],
        [helper.make_tensor_value_info("disparity", real, [1, 1, 4, 5])],
        [
            helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1]),
            helper.make_tensor("scale", real, [1], [2.0]),
            helper.make_tensor("shift", real, [5], [0.0, 2.0, 4.0, 6.0, 8.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if description is not None:
        helper.set_model_props(model, {"autodisp": json.dumps(description)})
    onnx.save(model, path)
    return path


WRITERS = {".pt2": write_pt2, ".onnx": write_onnx}


@pytest.mark.parametrize("suffix", [".pt2", ".onnx", ".PT2", ".ONNX"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_is_called_on_any_number_of_pairs(tmp_path: Path, suffix: str, batch: int) -> None:
    network, card = open_exported(WRITERS[suffix.lower()](tmp_path / f"a{suffix}"), device=CPU)
    assert card == DESCRIPTION
    torch.testing.assert_close(network(*views(batch)), Difference()(*views(batch)))


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_autocast_does_not_reach_into_a_file(tmp_path: Path, suffix: str) -> None:
    network, _ = open_exported(WRITERS[suffix](tmp_path / f"a{suffix}"), device=CPU)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(*views(1))
    torch.testing.assert_close(found, Difference()(*views(1)))


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_model_with_other_inputs_is_refused(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}", {**DESCRIPTION, "task": "segmentation"})
    with pytest.raises(InputError, match=r"has 2 input\(s\), but a model of segmentation has 1 \(images\); export it"):
        open_exported(path, device=CPU)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_outputs_that_are_not_of_the_task_are_refused(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}", {**DESCRIPTION, "task": "flow"})
    network, _ = open_exported(path, device=CPU)
    with pytest.raises(
        InputError, match=r"output 0 is torch.float32 of \(1, 1, 4, 5\) for images of .* of \(1, 2, 4, 5\)"
    ):
        network(*views(2))


def test_an_onnx_file_for_another_size(tmp_path: Path) -> None:
    network, _ = open_exported(write_onnx(tmp_path / "a.onnx"), device=CPU)
    with pytest.raises(InputError, match=r"a\.onnx: onnxruntime cannot run it on float32 of \(1, 3, 8, 5\) and"):
        network(*torch.rand(2, 1, 3, 8, 5))


def test_a_program_moves_to_another_device_with_the_tensors_that_it_makes(tmp_path: Path) -> None:
    meta = torch.device("meta")  # the one other device that every machine has
    network, _ = open_exported(write_pt2(tmp_path / "a.pt2"), device=meta)
    result = network(*(view.to(meta) for view in views(2)))
    assert result.device == meta
    assert result.shape == (2, 1, 4, 5)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_without_a_description_a_file_is_refused(tmp_path: Path, suffix: str) -> None:
    def refusal(description: Any) -> str:
        path = WRITERS[suffix](tmp_path / f"a{suffix}", description)
        with pytest.raises(InputError) as caught:
            open_exported(path, device=CPU)
        assert str(caught.value).startswith(f"{path}: ")
        return str(caught.value)

    assert "has no model card" in refusal(None)
    assert "its description is damaged (KeyError)" in refusal({"schema": "autodisp/model"})
    assert "its description is damaged (TypeError)" in refusal([1])
    assert "a task that this program does not know" in refusal(DESCRIPTION | {"task": "depth"})
    assert "a task that this program does not know" in refusal(DESCRIPTION | {"schema": "autodisp/other"})


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
@pytest.mark.parametrize("part", [0, 1, 100, -10])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, suffix: str, part: int) -> None:
    path = WRITERS[suffix](tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(InputError, match=rf"a{suffix}: .*is it cut off\?"):
        open_exported(path, device=CPU)


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("absent", "folder"):
        with pytest.raises(InputError, match=f"{name}{suffix}: no such file; autodisp-export"):
            open_exported(tmp_path / f"{name}{suffix}", device=CPU)


def test_damaged_numbers_are_found_by_their_checksum(tmp_path: Path) -> None:
    path = write_pt2(tmp_path / "a.pt2")
    content = path.read_bytes()
    numbers = torch.arange(5.0).numpy().tobytes()
    assert content.count(numbers) == 1
    path.write_bytes(content.replace(numbers, numbers[::-1]))
    with pytest.raises(InputError, match=r"a\.pt2: is damaged in a/data/weights/weight_\d"):
        open_exported(path, device=CPU)


def rewritten(path: Path, change: Callable[[str, bytes], dict[str, bytes]], more: dict[str, bytes]) -> None:
    """The archive with each entry replaced by what it is changed to, and more."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            for new_name, new_content in change(name, content).items():
                archive.writestr(new_name, new_content)
        for name, content in more.items():
            archive.writestr(name, content)


def same(name: str, content: bytes) -> dict[str, bytes]:
    return {name: content}


def test_an_archive_that_was_written_anew_is_fine(tmp_path: Path) -> None:
    path = write_pt2(tmp_path / "a.pt2")
    rewritten(path, same, {})
    network, _ = open_exported(path, device=CPU)
    torch.testing.assert_close(network(*views(1)), Difference()(*views(1)))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    bomb = pickle.dumps(Trap(sprung))

    def in_samples(name: str, content: bytes) -> dict[str, bytes]:
        return {name: bomb if name.endswith("sample_inputs/model.pt") else content}

    def in_weights(name: str, content: bytes) -> dict[str, bytes]:
        if name.endswith("model_weights_config.json"):
            content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            assert b'"use_pickle": true' in content
        return {name: bomb if name.endswith("weight_0") else content}

    def without_config(name: str, content: bytes) -> dict[str, bytes]:
        return {} if name.endswith("_weights_config.json") else {name: content}

    cases = [
        (in_samples, {}, "sample_inputs/model.pt"),
        (in_weights, {}, "model_weights_config.json with a pickled part"),
        (without_config, {"a/data/weights/model.pt": bomb}, "data/weights/model.pt"),
        (same, {"a/data/constants/opaque_obj_0": bomb}, "opaque_obj_0"),
        (same, {"a/models/other.json": b"{}"}, "models/other.json"),
        (same, {"a/data/aotinductor/model/a.so": b"ELF"}, "aotinductor/model/a.so"),
        (same, {"version": b"8.1", "serialized_state_dict.json": bomb}, "version"),
    ]
    for change, more, says in cases:
        path = write_pt2(tmp_path / "a.pt2")
        rewritten(path, change, more)
        with pytest.raises(InputError, match=rf"a\.pt2: holds \S*{says}, which autodisp-export does not write"):
            open_exported(path, device=CPU)
        assert not sprung.exists()
    pickle.loads(bomb).close()
    assert sprung.exists(), "the trap itself does not work"


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"config": 3}', b'{"config": {"x": {}}}'])
def test_a_damaged_table_of_weights_is_refused(tmp_path: Path, text: bytes) -> None:
    path = write_pt2(tmp_path / "a.pt2")
    rewritten(path, lambda name, old: {name: text if name.endswith("weights_config.json") else old}, {})
    with pytest.raises(InputError, match=r"a\.pt2: no readable \.pt2 archive"):
        open_exported(path, device=CPU)


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    path = write_pt2(tmp_path / "a.pt2")
    rewritten(path, lambda name, old: {name: b"{}" if name.endswith("model.json") else old}, {})
    with pytest.raises(InputError, match=r"a\.pt2: torch cannot read it"):
        open_exported(path, device=CPU)


def test_onnx_without_onnxruntime_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"a\.onnx: needs onnxruntime: pip install 'autodisp\[export\]'"):
        open_exported(tmp_path / "a.onnx", device=CPU)


def test_onnx_runs_on_as_many_threads_as_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    session = OnnxNetwork(write_onnx(tmp_path / "a.onnx")).session
    assert session.get_session_options().intra_op_num_threads == 3
