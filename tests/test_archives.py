"""A ``.pt2`` archive may hold nothing that torch would unpickle."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autodisp.errors import InputError
from autodisp.prediction.archives import refuse_pickles


class Network(nn.Module):
    """With a weight, and a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.scale * (left - right)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    program = torch.export.export(Network(), (torch.rand(1, 3, 9, 14), torch.rand(1, 3, 9, 14)))
    program.example_inputs = None
    path = tmp_path_factory.mktemp("pt2") / "a.pt2"
    torch.export.save(program, path)
    return path.read_bytes()


def rewritten(good: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return packed.getvalue()


def test_what_autodisp_export_writes_passes(good: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(good)
    refuse_pickles(tmp_path / "a.pt2")


def test_a_pickled_part_is_refused(good: bytes, tmp_path: Path) -> None:
    def pickled(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true')

    def sample(name: str, content: bytes) -> bytes:
        return pickle.dumps([1]) if name.endswith("sample_inputs/model.pt") else content

    path = tmp_path / "a.pt2"
    path.write_bytes(rewritten(good, pickled))
    with pytest.raises(InputError, match=r"a\.pt2: holds \S+_config\.json with a pickled part, which autodisp-export"):
        refuse_pickles(path)
    path.write_bytes(rewritten(good, sample))
    with pytest.raises(InputError, match=r"a\.pt2: holds \S+sample_inputs/model\.pt, which autodisp-export"):
        refuse_pickles(path)


def test_other_archives_are_refused(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    torch.save({"x": torch.ones(2)}, path)
    with pytest.raises(InputError, match=r"a\.pt2: holds a/data\.pkl, which"):
        refuse_pickles(path)
    for content in (b"", good[:-30], pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.pt2: no readable \.pt2 archive"):
            refuse_pickles(path)
